//! What the engine's threads and callers share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use bytes::Bytes;
use coffre_disk::Disk as _;
use tokio::sync::{oneshot, watch};

use super::Options;
use super::index::{Index, Visit, apart};
use super::log::frame::{Place, StoreId};
use super::log::segment::Segments;
use super::queue::{Queue, Request};
use super::row::{IndexRow, Stored};
use super::snapshot::Snapshot;
use super::verify::Verified;
use crate::{Commit, Direction, Entry, Error, Position, Result, validate};

/// Places of recent commits, so that followers at the feed's end do not search a segment.
const MARKS_MAX: usize = 8192;
/// What a flush of the index may need.
const INDEX_SPACE_BYTES: u64 = 8 * 1024 * 1024;
/// A row whose value moved is read again at most so often before it counts as damaged.
const MOVED_MAX: usize = 64;

/// The last commit applied and the place behind its frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) position: Position,
    pub(super) place: Place,
}

/// See the module.
pub(super) struct Shared {
    pub(super) options: Options,
    pub(super) store: StoreId,
    pub(super) segments: Arc<Segments>,
    pub(super) queue: Queue,
    /// `None` once closed. Taken for reading by every call, for writing only at the end.
    pub(super) index: RwLock<Option<Arc<dyn Index>>>,
    pub(super) applied: watch::Sender<Position>,
    pub(super) poisoned: watch::Sender<bool>,
    pub(super) verified: watch::Sender<Verified>,
    is_stopped: AtomicBool,
    is_dropped: AtomicBool,
    head: Mutex<Head>,
    /// The last checkpoint written.
    pub(super) checkpoint: Mutex<Head>,
    /// The snapshots there are, the oldest first.
    pub(super) snapshots: Mutex<Vec<Snapshot>>,
    /// Ascending; each the place behind a group.
    marks: Mutex<VecDeque<Head>>,
    pub(super) durable: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) groups: AtomicU64,
    pub(super) syncs: AtomicU64,
    /// Bytes written to the log since open.
    pub(super) logged_bytes: AtomicU64,
    pub(super) upkeep: Upkeep,
    pub(super) running: Running,
}

/// Wakes the upkeep thread.
#[derive(Default)]
pub(super) struct Upkeep {
    pub(super) is_due: Mutex<bool>,
    pub(super) changed: Condvar,
    /// [`Shared::logged_bytes`] at which the next checkpoint is due.
    pub(super) due_at: AtomicU64,
    /// Held by who writes checkpoints, snapshots or removes segments: one at a time.
    pub(super) turn: Mutex<()>,
}

/// Counts the jobs on blocking threads, so that the end can wait for them.
#[derive(Default)]
pub(super) struct Running {
    count: Mutex<usize>,
    changed: Condvar,
}

/// One job counted.
pub(super) struct Job {
    pub(super) shared: Arc<Shared>,
}

impl Drop for Job {
    fn drop(&mut self) {
        let running = &self.shared.running;
        *running.count.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        running.changed.notify_all();
    }
}

impl Shared {
    pub(super) fn new(
        options: Options,
        segments: Arc<Segments>,
        snapshots: Vec<Snapshot>,
        index: Arc<dyn Index>,
        head: Head,
        verified: Verified,
    ) -> Self {
        let upkeep = Upkeep { due_at: AtomicU64::new(options.checkpoint_bytes), ..Upkeep::default() };
        Self {
            options,
            store: segments.store,
            segments,
            queue: Queue::new(),
            index: RwLock::new(Some(index)),
            applied: watch::Sender::new(head.position),
            poisoned: watch::Sender::new(false),
            verified: watch::Sender::new(verified),
            is_stopped: AtomicBool::new(false),
            is_dropped: AtomicBool::new(false),
            head: Mutex::new(head),
            checkpoint: Mutex::new(head),
            snapshots: Mutex::new(snapshots),
            marks: Mutex::new(VecDeque::from([head])),
            durable: AtomicU64::new(head.position.0),
            commits: AtomicU64::new(0),
            groups: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            logged_bytes: AtomicU64::new(0),
            upkeep,
            running: Running::default(),
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    pub(super) fn is_dropped(&self) -> bool {
        self.is_dropped.load(Ordering::Acquire)
    }

    /// New calls are refused from now on; tells whether this call was the first.
    pub(super) fn stop(&self) -> bool {
        !self.is_stopped.swap(true, Ordering::AcqRel)
    }

    /// Like a death of the process, for the committer: nothing more is begun.
    pub(super) fn abandon(&self) {
        self.is_dropped.store(true, Ordering::Release);
        self.stop();
        self.queue.clear();
    }

    /// The engine may no longer be believed. Nothing is acknowledged from now on.
    pub(super) fn poison(&self) {
        self.stop();
        self.poisoned.send_replace(true);
        self.queue.clear();
        self.wake_upkeep_now();
    }

    /// The index, while the engine runs.
    pub(super) fn index(&self) -> Result<Arc<dyn Index>> {
        if self.is_stopped() {
            return Err(Error::Stopped);
        }
        self.index.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Error::Stopped)
    }

    /// Runs a call on the index; its failure is the engine's end.
    pub(super) fn or_poison<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error @ Error::Io { .. }) = &result {
            tracing::error!(error = error as &dyn std::error::Error, "the store has stopped");
            self.poison();
        }
        result
    }

    /// Scans the index. What `visit` answers comes back as it is; a failure of the index is the engine's end.
    pub(super) fn scan_index(
        &self,
        index: &dyn Index,
        range: (&[u8], Option<&[u8]>),
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        let mut unless_stopped =
            |key: &[u8], row: &[u8]| if self.is_stopped() { Err(Error::Stopped) } else { visit(key, row) };
        self.or_poison(apart(&mut unless_stopped, |visit| index.scan(range.0, range.1, direction, visit)))?
    }

    pub(super) fn head(&self) -> Head {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The committer has applied everything up to here.
    pub(super) fn set_head(&self, head: Head) {
        let before = {
            let mut now = self.head.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *now, head)
        };
        if head.position == before.position {
            return;
        }
        {
            let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
            if marks.len() == MARKS_MAX {
                marks.pop_front();
            }
            marks.push_back(head);
        }
        self.applied.send_replace(head.position);
    }

    /// The last mark at or before a position.
    pub(super) fn mark_before(&self, position: Position) -> Option<Head> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let after = marks.partition_point(|mark| mark.position <= position);
        marks.get(after.checked_sub(1)?).copied()
    }

    /// Whether ordinary commits have to wait for room.
    pub(super) fn is_short_of_space(&self) -> bool {
        let log = self.options.disk.space(&self.options.dir).map(|space| space.free_bytes);
        let index = coffre_disk::RealDisk.space(&self.options.index_dir).map(|space| space.free_bytes);
        // Where the room cannot be told, a full disk is met when a segment is prepared.
        [log, index].into_iter().flatten().any(|free_bytes| free_bytes < self.options.reserve_bytes)
    }

    /// Whether even the index can hardly be written: a checkpoint would fail, and with it the engine.
    pub(super) fn is_out_of_space(&self) -> bool {
        let free_bytes = coffre_disk::RealDisk.space(&self.options.index_dir).map(|space| space.free_bytes);
        free_bytes.is_ok_and(|free_bytes| free_bytes < self.options.reserve_bytes.min(INDEX_SPACE_BYTES))
    }

    /// Hands a commit to the committer.
    pub(super) async fn commit(&self, commit: Commit) -> Result<Position> {
        validate(&commit)?;
        let permit = self.queue.permit().await?;
        let (answer, answered) = oneshot::channel();
        self.queue.push(Request::Commit { commit, answer, permit })?;
        answered.await.map_err(|_| Error::Stopped)?
    }

    /// Makes the log durable; tells up to where. Blocks.
    pub(super) fn sync_log(&self) -> Result<(Position, Place)> {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        self.queue.push(Request::Sync { answer })?;
        answered.recv().map_err(|_| Error::Stopped)?
    }

    /// The value and position of a row, read from the log if it stands there. Blocks. `None`: deleted meanwhile.
    pub(super) fn load(&self, index: &dyn Index, key: &[u8], row: &[u8]) -> Result<Option<Entry>> {
        let mut row = Bytes::copy_from_slice(row);
        for _ in 0..MOVED_MAX {
            let decoded = IndexRow::decode(&row).ok_or_else(bad_row)?;
            let position = decoded.position;
            match decoded.value {
                Stored::Inline(value) => {
                    return Ok(Some(Entry { value: row.slice_ref(value), position }));
                }
                Stored::Logged(address) => {
                    if let Some(value) = self.segments.value(&address)? {
                        return Ok(Some(Entry { value, position }));
                    }
                }
            }
            match self.or_poison(index.get(key))? {
                None => return Ok(None),
                Some(again) => row = again.into(),
            }
        }
        Err(Error::Corrupt { what: "a value's log segment is missing".into() })
    }

    /// Wakes the upkeep thread when a checkpoint is due.
    pub(super) fn wake_upkeep(&self) {
        if self.logged_bytes.load(Ordering::Relaxed) >= self.upkeep.due_at.load(Ordering::Relaxed) {
            self.wake_upkeep_now();
        }
    }

    pub(super) fn wake_upkeep_now(&self) {
        *self.upkeep.is_due.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.upkeep.changed.notify_all();
    }

    /// Whoever holds the guard writes checkpoints and snapshots and removes segments: on the word of the index, so not
    /// before it is verified. Blocks.
    pub(super) fn upkeep_turn(&self) -> Result<MutexGuard<'_, ()>> {
        if *self.verified.borrow() != Verified::Yes {
            // The committer answers nobody before.
            self.sync_log()?;
        }
        Ok(self.upkeep.turn.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Counts a job.
    pub(super) fn job(self: &Arc<Self>) -> Job {
        *self.running.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Job { shared: Arc::clone(self) }
    }

    /// Waits until no job runs.
    pub(super) fn wait_for_jobs(&self) {
        let count = self.running.count.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.running.changed.wait_while(count, |count| *count > 0);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

pub(super) fn bad_row() -> Error {
    Error::Corrupt { what: "a row of the index".into() }
}
