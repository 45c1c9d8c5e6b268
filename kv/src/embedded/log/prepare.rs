//! Segments made ahead of need: created, filled with zeros, synced, their name synced, and only then used.
//!
//! Filling 64 MiB takes about 200 ms, which no commit should wait for; syncs into a file already filled cost a third of
//! syncs into a fresh one (no block is allocated). A full disk is an answer here, before a commit is accepted, and
//! never a failed write of the log.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use coffre_disk::Open;

use super::segment::{SEGMENT_HEADER, Segment, Segments, encode_header, file_name};
use crate::{Error, Result};

/// Zeros are written in pieces of this size.
const ZEROS_BYTES: usize = 1024 * 1024;
/// The first segment after an open is no larger: it is what an opening waits for.
const FIRST_BYTES: u64 = 4 * 1024 * 1024;
/// What a segment has at least when room is short.
const SMALL_BYTES: u64 = 1024 * 1024;

/// How large segments are, and what stays free.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) segment_bytes: u64,
    pub(crate) reserve_bytes: u64,
}

enum State {
    Idle,
    Wanted(u64),
    Working,
    Ready(Arc<Segment>),
    Stopped,
}

struct Shared {
    segments: Arc<Segments>,
    epoch: u64,
    sizes: Sizes,
    state: Mutex<State>,
    changed: Condvar,
    next_number: Mutex<u64>,
}

/// Makes segments on a thread of its own.
pub(crate) struct Preparer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Preparer {
    /// Starts the thread, and with it the first segment; `next_number` was never used.
    pub(crate) fn start(segments: Arc<Segments>, epoch: u64, sizes: Sizes, next_number: u64) -> Result<Self> {
        let first = sizes.segment_bytes.min(FIRST_BYTES);
        let shared = Arc::new(Shared {
            segments,
            epoch,
            sizes,
            state: Mutex::new(State::Wanted(first)),
            changed: Condvar::new(),
            next_number: Mutex::new(next_number),
        });
        let inside = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("kv-prepare".into())
            .spawn(move || inside.run())
            .map_err(|e| Error::io("starting a thread", e))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// A segment with room for `need` bytes of frames.
    ///
    /// # Errors
    /// [`Error::NoSpace`], which is an answer and may be tried again; anything else is not.
    pub(crate) fn take(&self, need: u64, may_use_reserve: bool) -> Result<Arc<Segment>> {
        let need = SEGMENT_HEADER + need;
        let mut state = self.shared.lock();
        loop {
            match std::mem::replace(&mut *state, State::Working) {
                State::Ready(segment) => {
                    let grown = Shared::grow(&segment, need);
                    *state = if grown.is_ok() { State::Idle } else { State::Ready(Arc::clone(&segment)) };
                    return grown.map(|()| segment);
                }
                State::Working => {
                    state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                State::Idle | State::Wanted(_) => {
                    // The thread failed or has not begun: what is wrong is met here, where it can be answered.
                    drop(state);
                    let made = self.shared.make_fitting(need, may_use_reserve);
                    *self.shared.lock() = State::Idle;
                    return made;
                }
                State::Stopped => {
                    *state = State::Stopped;
                    return Err(Error::Stopped);
                }
            }
        }
    }

    /// Begins the next segment in the background.
    pub(crate) fn want(&self) {
        let mut state = self.shared.lock();
        if matches!(*state, State::Idle) {
            *state = State::Wanted(self.shared.sizes.segment_bytes);
            self.shared.changed.notify_all();
        }
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        {
            let mut state = self.shared.lock();
            // A segment being filled is finished first; the thread then sees the mark.
            while matches!(*state, State::Working) {
                state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            *state = State::Stopped;
            self.shared.changed.notify_all();
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that prepares log segments panicked");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.lock();
        loop {
            match *state {
                State::Stopped => return,
                State::Wanted(len_bytes) => {
                    *state = State::Working;
                    drop(state);
                    let made = self.make_with_reserve(len_bytes);
                    state = self.lock();
                    *state = match made {
                        Ok(segment) => State::Ready(segment),
                        Err(error) => {
                            tracing::warn!(%error, "no log segment could be prepared ahead");
                            State::Idle
                        }
                    };
                    self.changed.notify_all();
                }
                State::Idle | State::Working | State::Ready(_) => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// The usual size where it fits beside the reserve, else just what is needed.
    fn make_fitting(&self, need: u64, may_use_reserve: bool) -> Result<Arc<Segment>> {
        let usual = self.sizes.segment_bytes.max(need);
        let small = self.sizes.segment_bytes.min(SMALL_BYTES).max(need);
        match self.make_with_reserve(usual) {
            Err(Error::NoSpace) => {}
            other => return other,
        }
        if may_use_reserve { self.make(small) } else { self.make_with_reserve(small) }
    }

    fn make_with_reserve(&self, len_bytes: u64) -> Result<Arc<Segment>> {
        let space = self.segments.disk.space(&self.segments.dir);
        let free_bytes = space.map_err(|e| Error::io("looking for free space", e))?.free_bytes;
        if free_bytes < len_bytes.saturating_add(self.sizes.reserve_bytes) {
            return Err(Error::NoSpace);
        }
        self.make(len_bytes)
    }

    fn make(&self, len_bytes: u64) -> Result<Arc<Segment>> {
        let number = {
            let mut next = self.next_number.lock().unwrap_or_else(PoisonError::into_inner);
            let number = *next;
            *next += 1;
            number
        };
        let path = self.segments.dir.join(file_name(number));
        let made = self.fill(number, len_bytes);
        if made.is_err()
            && let Err(error) = self.segments.disk.remove(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            // Left behind empty of frames, it is removed at the next open.
            tracing::warn!(%error, segment = number, "a half-made log segment stays");
        }
        made
    }

    fn fill(&self, number: u64, len_bytes: u64) -> Result<Arc<Segment>> {
        let io = |e| Error::io("preparing a log segment", e);
        let segments = &self.segments;
        let file = segments.disk.open(&segments.dir.join(file_name(number)), Open::Create).map_err(io)?;
        file.write_all_at(&encode_header(&segments.store, number, self.epoch), 0).map_err(io)?;
        let segment = Arc::new(Segment::new(number, file, SEGMENT_HEADER));
        Self::grow(&segment, len_bytes)?;
        segments.sync_dir()?;
        Ok(segment)
    }

    /// Fills the file with zeros up to `len_bytes` and syncs it.
    fn grow(segment: &Segment, len_bytes: u64) -> Result<()> {
        let io = |e| Error::io("preparing a log segment", e);
        let mut at = segment.capacity.load(Ordering::Relaxed);
        if at >= len_bytes {
            return Ok(());
        }
        let zeros = vec![0; ZEROS_BYTES];
        while at < len_bytes {
            let piece = usize::try_from(len_bytes - at).map_or(ZEROS_BYTES, |left| left.min(ZEROS_BYTES));
            segment.file.write_all_at(zeros.get(..piece).unwrap_or_default(), at).map_err(io)?;
            at += piece as u64;
        }
        segment.file.sync_data().map_err(io)?;
        segment.capacity.store(len_bytes, Ordering::Relaxed);
        Ok(())
    }
}
