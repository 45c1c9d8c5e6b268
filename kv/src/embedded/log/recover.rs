//! Finding the end of the log after whatever happened, and making it fit to go on.
//!
//! The log ends at the first place where no whole frame stands that continues it. Frames behind that place were never
//! promised and are dropped, unless one of them says that the missing position was durable when it was written: then
//! promised bytes are gone, and that is `Corrupt`, never a shorter log.

use std::collections::VecDeque;

use coffre_disk::DiskFileExt;

use super::frame::{FRAME_ALIGN, FRAME_HEADER, Header, Kind, Place, may_begin};
use super::segment::{Frame, FrameReader, SEGMENT_HEADER, Segments};
use crate::{Error, Position, Result};

/// What reading the log to its end found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where the log ends.
    pub(crate) end: Place,
    /// The last commit.
    pub(crate) position: Position,
    /// Highest epoch met.
    pub(crate) epoch: u64,
    /// Where, in the last segment, frames begin that no later frame calls synced.
    pub(crate) unsynced_from: Option<u64>,
}

/// Frames that nobody has called synced yet.
struct Unsynced(VecDeque<Unproven>);

/// Where a frame stands and which `synced` proves it durable.
struct Unproven {
    place: Place,
    proof: u64,
}

impl Unsynced {
    fn note(&mut self, frame: &Frame) {
        while self.0.front().is_some_and(|oldest| oldest.proof <= frame.header.synced.0) {
            self.0.pop_front();
        }
        // Starts and moves share the position of the commit before them; only a later commit's sync speaks for them.
        let after = u64::from(frame.header.kind != Kind::Commit);
        self.0.push_back(Unproven { place: frame.place, proof: frame.header.position.0 + after });
    }
}

/// Reads the log from `from`, where commit `after` was the last, to its end. Nothing is changed.
///
/// # Errors
/// [`Error::Corrupt`] when promised frames are missing; what `visit` answers.
pub(crate) fn read_log(
    segments: &Segments,
    from: Place,
    after: Position,
    visit: &mut dyn FnMut(&Frame) -> Result<()>,
) -> Result<Found> {
    let mut found = Found { end: from, position: after, epoch: 0, unsynced_from: None };
    let mut unsynced = Unsynced(VecDeque::new());
    if let Some(mut reader) = reader_at(segments, from)? {
        read_segment(&mut reader, &mut found, &mut unsynced, visit)?;
    }
    while let Some(mut reader) = continuation(segments, &found)? {
        let before = found.end;
        read_segment(&mut reader, &mut found, &mut unsynced, visit)?;
        if found.end == before {
            // A segment that says it goes on here and then does not is behind the end.
            break;
        }
    }
    let first = unsynced.0.iter().find(|frame| frame.place.segment == found.end.segment);
    found.unsynced_from = first.map(|frame| frame.place.offset);
    refuse_lost(segments, &found)?;
    Ok(found)
}

/// A reader where a checkpoint or snapshot says that the log goes on; `None` for the very beginning.
fn reader_at(segments: &Segments, from: Place) -> Result<Option<FrameReader>> {
    if from.segment == 0 {
        return Ok(None);
    }
    let missing = || Error::Corrupt { what: format!("log segment {} is missing or too short", from.segment) };
    let segment = segments.get(from.segment).ok_or_else(missing)?;
    let len_bytes = segment.file.len_bytes().map_err(|e| Error::io("reading the log", e))?;
    if len_bytes < from.offset {
        return Err(missing());
    }
    Ok(Some(FrameReader::new(&segment, segments.store, from.offset)))
}

fn read_segment(
    reader: &mut FrameReader,
    found: &mut Found,
    unsynced: &mut Unsynced,
    visit: &mut dyn FnMut(&Frame) -> Result<()>,
) -> Result<()> {
    while let Some(frame) = reader.next()? {
        let continues = match frame.header.kind {
            Kind::Commit => frame.header.position.0 == found.position.0 + 1,
            Kind::Move => frame.header.position == found.position,
            Kind::Start => frame.place.offset == SEGMENT_HEADER && frame.header.position == found.position,
        };
        if !continues || frame.header.epoch < found.epoch {
            return Ok(());
        }
        unsynced.note(&frame);
        visit(&frame)?;
        found.end = Place { segment: frame.place.segment, offset: frame.end() };
        found.position = frame.header.position;
        found.epoch = frame.header.epoch;
    }
    Ok(())
}

/// The segment whose first frame says that it goes on where the log ends so far.
fn continuation(segments: &Segments, found: &Found) -> Result<Option<FrameReader>> {
    for segment in segments.after(found.end.segment) {
        let start = segments.start(&segment)?;
        if start.is_some_and(|start| start.previous == found.end && start.position == found.position) {
            return Ok(Some(FrameReader::new(&segment, segments.store, SEGMENT_HEADER)));
        }
    }
    Ok(None)
}

/// Looks behind the end for a frame that was written when the missing position was durable.
fn refuse_lost(segments: &Segments, found: &Found) -> Result<()> {
    let missing = Position(found.position.0 + 1);
    if let Some(segment) = segments.get(found.end.segment) {
        let reader = FrameReader::new(&segment, segments.store, found.end.offset);
        search(reader, segments, segment.number, missing)?;
    }
    for segment in segments.after(found.end.segment) {
        // Refuses a newer version's segment before anything is removed.
        segments.epoch(&segment)?;
        let reader = FrameReader::new(&segment, segments.store, SEGMENT_HEADER);
        search(reader, segments, segment.number, missing)?;
    }
    Ok(())
}

/// Frames begin at multiples of 8, so a damaged one does not hide those behind it.
fn search(mut reader: FrameReader, segments: &Segments, segment: u64, missing: Position) -> Result<()> {
    let mut offset = reader.offset().next_multiple_of(FRAME_ALIGN);
    while let Some(begin) = reader.bytes(offset, 4)? {
        if may_begin(begin)
            && let Some(header) = reader.bytes(offset, FRAME_HEADER)?.and_then(Header::parse)
            && header.synced >= missing
        {
            let bytes = reader.bytes(offset, FRAME_HEADER + header.body_len)?;
            let body = bytes.and_then(|bytes| bytes.get(FRAME_HEADER..));
            if body.is_some_and(|body| header.matches(&segments.store, Place { segment, offset }, body)) {
                return Err(Error::Corrupt {
                    what: format!("the log ends before position {}, which was durable", missing.0),
                });
            }
        }
        offset += FRAME_ALIGN;
    }
    Ok(())
}

/// Makes the end found the real end, durably, before the first new frame: frames nobody called synced are written again
/// (after a failed sync the system may hold them in memory and call them clean), the tail is cut, later segments go.
pub(crate) fn settle(segments: &Segments, found: &Found) -> Result<()> {
    let io = |e| Error::Io { doing: "settling the end of the log", source: e };
    if let Some(segment) = segments.get(found.end.segment) {
        if let Some(from) = found.unsynced_from {
            let len = usize::try_from(found.end.offset - from)
                .map_err(|_| io(std::io::ErrorKind::FileTooLarge.into()))?;
            let mut bytes = vec![0; len];
            segment.file.read_exact_at(&mut bytes, from).map_err(io)?;
            segment.file.write_all_at(&bytes, from).map_err(io)?;
        }
        segment.file.set_len(found.end.offset).map_err(io)?;
        segment.file.sync_data().map_err(io)?;
        segment.capacity.store(found.end.offset, std::sync::atomic::Ordering::Relaxed);
    }
    for segment in segments.after(found.end.segment) {
        tracing::info!(segment = segment.number, "dropping a log segment behind the end");
        segments.remove(segment.number)?;
    }
    segments.sync_dir()
}
