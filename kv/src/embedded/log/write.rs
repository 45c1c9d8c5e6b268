//! Appending to the log: frames gathered in memory, written once per group, synced once per group.
//!
//! Owned by the committer's thread alone. A failed write or sync is the end of this writer: what the file then holds is
//! known only after the log is read again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::frame::{Kind, Place, Stamp, frame_len, put_frame, put_start};
use super::prepare::Preparer;
use super::segment::{SEGMENT_HEADER, Segment, Segments};
use crate::{Error, Position, Result};

/// A `Start` frame's whole length: header and 16 bytes.
const START_LEN: u64 = 56;

/// Why there is no room for a frame.
pub(crate) enum NoRoom {
    /// The disk is full: an answer for this commit, nothing is wrong with the log.
    Full,
    /// The log failed.
    Failed(Error),
}

/// The log's writing end.
pub(crate) struct Writer {
    segments: Arc<Segments>,
    preparer: Preparer,
    epoch: u64,
    current: Option<Arc<Segment>>,
    /// Where the next frame will begin, behind everything pending.
    at: Place,
    pending: Vec<u8>,
    pending_at: u64,
    last: Position,
    written: Position,
    durable: Position,
    is_dirty: bool,
    /// Syncs done.
    pub(crate) syncs: u64,
    /// Bytes written since open.
    pub(crate) logged_bytes: u64,
}

impl Writer {
    /// Goes on behind `end`, where commit `last` is the last, and durable.
    pub(crate) fn new(
        segments: Arc<Segments>,
        preparer: Preparer,
        epoch: u64,
        end: Place,
        last: Position,
    ) -> Self {
        Self {
            segments,
            preparer,
            epoch,
            current: None,
            at: end,
            pending: Vec::new(),
            pending_at: end.offset,
            last,
            written: last,
            durable: last,
            is_dirty: false,
            syncs: 0,
            logged_bytes: 0,
        }
    }

    /// The last position pushed.
    pub(crate) fn last(&self) -> Position {
        self.last
    }

    /// The last position known durable.
    pub(crate) fn durable(&self) -> Position {
        self.durable
    }

    /// Whether something written waits for a sync.
    pub(crate) fn is_dirty(&self) -> bool {
        self.is_dirty || !self.pending.is_empty()
    }

    /// Where the next frame will begin if it fits.
    pub(crate) fn at(&self) -> Place {
        self.at
    }

    /// Sees to it that a frame with such a body fits where [`Writer::at`] says then.
    pub(crate) fn make_room(&mut self, body_len: usize, may_use_reserve: bool) -> Result<(), NoRoom> {
        let need = frame_len(body_len);
        if let Some(current) = &self.current
            && self.at.offset + need <= current.capacity.load(Ordering::Relaxed)
        {
            return Ok(());
        }
        let next = match self.preparer.take(START_LEN + need, may_use_reserve) {
            Ok(segment) => segment,
            Err(Error::NoSpace) => return Err(NoRoom::Full),
            Err(error) => return Err(NoRoom::Failed(error)),
        };
        self.roll(next).map_err(NoRoom::Failed)
    }

    /// Leaves the segment, durable to its end, and begins the next.
    fn roll(&mut self, next: Arc<Segment>) -> Result<()> {
        self.sync()?;
        let previous = self.at;
        self.at = Place { segment: next.number, offset: SEGMENT_HEADER };
        self.pending_at = SEGMENT_HEADER;
        self.segments.insert(Arc::clone(&next));
        self.current = Some(next);
        self.preparer.want();
        self.push(Kind::Start, self.last, |body| put_start(body, previous));
        Ok(())
    }

    /// Adds a frame; [`Writer::make_room`] came before.
    pub(crate) fn push(&mut self, kind: Kind, position: Position, body: impl FnOnce(&mut Vec<u8>)) {
        let stamp = Stamp { kind, epoch: self.epoch, position, synced: self.durable };
        put_frame(&mut self.pending, &self.segments.store, self.at, stamp, body);
        self.at.offset = self.pending_at + self.pending.len() as u64;
        self.last = position;
    }

    /// Hands everything pending to the system: it survives the death of the process.
    pub(crate) fn write(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let Some(current) = &self.current else { return Err(Error::Stopped) };
        let written = current.file.write_all_at(&self.pending, self.pending_at);
        written.map_err(|e| Error::Io { doing: "writing the log", source: e })?;
        self.pending_at += self.pending.len() as u64;
        self.logged_bytes += self.pending.len() as u64;
        self.pending.clear();
        // A commit of 32 MiB should not be held for ever.
        self.pending.shrink_to(8 * 1024 * 1024);
        self.written = self.last;
        self.is_dirty = true;
        Ok(())
    }

    /// Writes everything pending and makes all of it durable.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.write()?;
        if !self.is_dirty {
            return Ok(());
        }
        let Some(current) = &self.current else { return Err(Error::Stopped) };
        current.file.sync_data().map_err(|e| Error::Io { doing: "syncing the log", source: e })?;
        self.syncs += 1;
        self.is_dirty = false;
        self.durable = self.written;
        Ok(())
    }
}
