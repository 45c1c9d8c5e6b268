//! The default engine: a log that is the promise, and an index that may be lost.
//!
//! Owns [`Embedded`]: opening (`open`), the [`Kv`] calls, the end. What is acknowledged stands in the log
//! (`log`), synced; the index (`index`: sled, or fjall) only finds it, and is thrown away and built again whenever it might
//! be wrong. One thread decides and writes (`committer`); checkpoints, snapshots and compaction run beside it
//! (`upkeep`).
//!
//! Log, snapshots and the checkpoint lie below [`Options::dir`] and go through [`Disk`]; the index lies in
//! [`Options::index_dir`] on the real file system. `docs/format.md` has every byte.

mod checkpoint;
mod committer;
mod feed;
mod group;
mod index;
mod log;
mod mark;
mod merge;
mod open;
mod queue;
mod row;
mod scan;
mod shared;
mod snapshot;
#[cfg(test)]
mod tests;
mod transfer;
mod upkeep;
mod verify;

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use coffre_disk::Disk;
use tokio::sync::{Semaphore, watch};

use self::committer::Committer;
use self::index::Index;
pub use self::index::IndexKind;
pub use self::log::compaction::Compacted;
use self::log::prepare::{Preparer, Sizes};
use self::log::write::Writer;
use self::row::{IndexRow, Stored};
use self::shared::{Shared, bad_row};
use self::verify::Verified;
use crate::{Changes, Commit, Entry, Error, Kv, Position, Result, Scan, Stats, Visitor};

/// Scans at once; others wait.
const SCANS_MAX: usize = 16;
/// Feed readers, exports and reads from the device at once.
const JOBS_MAX: usize = 16;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// How an [`Embedded`] is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// The file system of log, snapshots and checkpoint.
    pub disk: Arc<dyn Disk>,
    /// Where they lie on it.
    pub dir: PathBuf,
    /// Where the index lies, on the real file system.
    pub index_dir: PathBuf,
    /// Which index finds the rows.
    pub index: IndexKind,
    /// Size of a log segment.
    pub segment_bytes: u64,
    /// Bytes of log between two checkpoints; what a restart replays at most, about.
    pub checkpoint_bytes: u64,
    /// Memory for the index's cache.
    pub index_cache_bytes: u64,
    /// Free space kept for commits with [`Commit::may_use_reserve`].
    pub reserve_bytes: u64,
    /// Changes whenever the machine boots; empty: every unclean end counts as a power cut.
    pub boot_id: String,
    /// Throw the index away and build it again.
    pub rebuild_index: bool,
    #[cfg(test)]
    pub(crate) pause: verify::Pause,
}

impl Options {
    /// The defaults, and this machine's boot id.
    pub fn new(disk: Arc<dyn Disk>, dir: impl Into<PathBuf>, index_dir: impl Into<PathBuf>) -> Self {
        let boot_id = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
        Self {
            disk,
            dir: dir.into(),
            index_dir: index_dir.into(),
            index: IndexKind::default(),
            segment_bytes: 64 * 1024 * 1024,
            checkpoint_bytes: 16 * 1024 * 1024,
            index_cache_bytes: 128 * 1024 * 1024,
            reserve_bytes: 64 * 1024 * 1024,
            boot_id: boot_id.trim().to_owned(),
            rebuild_index: false,
            #[cfg(test)]
            pause: verify::Pause::default(),
        }
    }
}

/// The default engine. Dropped without [`Kv::close`] it ends like a process that died: nothing acknowledged is lost,
/// and the next open replays.
pub struct Embedded {
    shared: Arc<Shared>,
    how: &'static str,
    scans: Arc<Semaphore>,
    jobs: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Held as long as the store is in use.
    lock: Mutex<Option<open::StoreLock>>,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedded")
            .field("head", &self.shared.head())
            .field("opened", &self.how)
            .finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens a store, or makes one where there is none. Blocks: until the index is replayed, or built again. In the boot
    /// that wrote it, it is verified later ([`Kv::verified`]).
    ///
    /// # Errors
    /// [`Error::InUse`]; [`Error::Corrupt`] when promised bytes are gone; [`Error::NoSpace`] and [`Error::Io`].
    pub fn open(options: Options) -> Result<Self> {
        let opened = open::open(&options)?;
        let sizes = Sizes { segment_bytes: options.segment_bytes, reserve_bytes: options.reserve_bytes };
        let preparer =
            Preparer::start(Arc::clone(&opened.segments), opened.epoch, sizes, opened.next_segment)?;
        let head = opened.head;
        let log =
            Writer::new(Arc::clone(&opened.segments), preparer, opened.epoch, head.place, head.position);
        let index = Arc::clone(&opened.index);
        let verified = if opened.is_verified { Verified::Yes } else { Verified::NotYet };
        let shared = Shared::new(options, opened.segments, opened.snapshots, index, head, verified);
        let shared = Arc::new(shared);
        if snapshot::is_overdue(&shared) {
            shared.upkeep.due_at.store(0, Ordering::Relaxed);
            shared.wake_upkeep();
        }
        let engine = Self {
            shared: Arc::clone(&shared),
            how: opened.how,
            scans: Arc::new(Semaphore::new(SCANS_MAX)),
            jobs: Arc::new(Semaphore::new(JOBS_MAX)),
            threads: Mutex::new(Vec::new()),
            lock: Mutex::new(Some(opened.lock)),
        };
        let committer = Committer::new(Arc::clone(&shared), opened.index, log, opened.sum);
        engine.spawn("kv-commit", move || committer.run())?;
        engine.spawn("kv-upkeep", move || upkeep::run(&shared))?;
        Ok(engine)
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
        let spawned = std::thread::Builder::new().name(name.into()).spawn(run);
        let thread = spawned.map_err(|e| Error::io("starting a thread", e))?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Makes what is applied now the point from which a restart replays, and tells its position. Blocks.
    pub fn checkpoint(&self) -> Result<Position> {
        let _turn = self.shared.upkeep_turn()?;
        Ok(checkpoint::take(&self.shared)?.position)
    }

    /// Writes a snapshot of the index, from which a new one can be built. Blocks.
    pub fn snapshot(&self) -> Result<()> {
        let _turn = self.shared.upkeep_turn()?;
        snapshot::take(&self.shared).map(drop)
    }

    /// Moves live values out of nearly dead log segments and removes segments that nothing needs: those below the
    /// older of two snapshots and the checkpoint. Blocks.
    pub fn compact(&self) -> Result<Compacted> {
        let _turn = self.shared.upkeep_turn()?;
        log::compaction::compact(&self.shared)
    }

    /// Turns true when log or index failed: nothing is acknowledged any more, and the process should end so that the
    /// next open finds out what is on the disk.
    pub fn poisoned(&self) -> watch::Receiver<bool> {
        self.shared.poisoned.subscribe()
    }

    /// Runs work on a thread that may block, as long as the engine runs.
    async fn blocking<T: Send + 'static>(
        &self,
        limit: &Arc<Semaphore>,
        work: impl FnOnce(&Arc<Shared>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = Arc::clone(limit).acquire_owned().await.map_err(|_| Error::Stopped)?;
        let job = self.shared.job();
        if self.shared.is_stopped() {
            return Err(Error::Stopped);
        }
        let run = tokio::task::spawn_blocking(move || {
            let result = work(&job.shared);
            drop(job);
            drop(permit);
            result
        });
        match run.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(Error::Stopped),
        }
    }
}

/// Ends the threads and lets go of the index. The committer and the upkeep have been told to stop.
fn end_threads(threads: &Mutex<Vec<JoinHandle<()>>>) {
    let threads = std::mem::take(&mut *threads.lock().unwrap_or_else(PoisonError::into_inner));
    for thread in threads {
        if thread.join().is_err() {
            tracing::error!("a thread of the store panicked at its end");
        }
    }
}

fn take_index(shared: &Shared) -> Option<Arc<dyn Index>> {
    shared.index.write().unwrap_or_else(PoisonError::into_inner).take()
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.abandon();
        self.shared.wake_upkeep_now();
        end_threads(&self.threads);
        self.shared.wait_for_jobs();
        drop(take_index(&self.shared));
    }
}

/// The clean end, after the last commit: the index kept on disk, then the mark that says so.
fn finish(shared: &Shared) -> Result<()> {
    let index = take_index(shared).ok_or(Error::Stopped)?;
    index.checkpoint()?;
    // It may write once more when it is let go of.
    drop(index);
    index::sync_files(&open::current(&shared.options.index_dir))?;
    checkpoint::write_mark(shared, shared.head(), true)
}

#[async_trait]
impl Kv for Embedded {
    async fn commit(&self, commit: Commit) -> Result<Position> {
        self.shared.commit(commit).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Entry>> {
        let index = self.shared.index()?;
        let Some(row) = self.shared.or_poison(index.get(key))? else { return Ok(None) };
        if key.is_empty() {
            return Ok(None);
        }
        let decoded = IndexRow::decode(&row).ok_or_else(bad_row)?;
        let position = decoded.position;
        match decoded.value {
            Stored::Inline(value) => {
                Ok(Some(Entry { value: bytes::Bytes::copy_from_slice(value), position }))
            }
            Stored::Logged(address) => {
                if let Some(value) = self.shared.segments.value_nowait(&address)? {
                    return Ok(Some(Entry { value, position }));
                }
                let key = key.to_vec();
                self.blocking(&self.jobs, move |shared| shared.load(&*shared.index()?, &key, &row)).await
            }
        }
    }

    async fn scan(&self, what: Scan, mut visit: Visitor) -> Result<()> {
        if what.is_short {
            let job = self.shared.job();
            return scan::scan(&job.shared, &what, &mut visit);
        }
        self.blocking(&self.scans, move |shared| scan::scan(shared, &what, &mut visit)).await
    }

    async fn changes(&self, after: Position, limit: usize) -> Result<Changes> {
        self.blocking(&self.jobs, move |shared| feed::changes(shared, after, limit)).await
    }

    fn applied(&self) -> watch::Receiver<Position> {
        self.shared.applied.subscribe()
    }

    fn stats(&self) -> Stats {
        let shared = &self.shared;
        Stats {
            applied: shared.head().position,
            durable: Position(shared.durable.load(Ordering::Acquire)),
            commits: shared.commits.load(Ordering::Relaxed),
            groups: shared.groups.load(Ordering::Relaxed),
            syncs: shared.syncs.load(Ordering::Relaxed),
            log_bytes: Some(shared.segments.total_bytes()),
            index_bytes: tree_bytes(&open::current(&shared.options.index_dir)).ok(),
            opened: Some(self.how),
        }
    }

    async fn verified(&self) -> Result<()> {
        let mut verified = self.shared.verified.subscribe();
        let known = verified.wait_for(|verified| *verified != Verified::NotYet).await;
        match known.as_deref() {
            Ok(Verified::Yes) => Ok(()),
            Ok(Verified::NotYet | Verified::Never) | Err(_) => Err(Error::Stopped),
        }
    }

    async fn export(&self, to: Box<dyn std::io::Write + Send>) -> Result<()> {
        self.blocking(&self.jobs, move |shared| transfer::export(shared, to)).await
    }

    async fn import(&self, from: Box<dyn std::io::Read + Send>) -> Result<()> {
        let runtime = tokio::runtime::Handle::current();
        self.blocking(&self.jobs, move |shared| transfer::import(shared, from, &runtime)).await
    }

    async fn close(&self) -> Result<()> {
        if !self.shared.stop() {
            return Err(Error::Stopped);
        }
        self.shared.queue.close();
        self.shared.wake_upkeep_now();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        let shared = Arc::clone(&self.shared);
        let run = tokio::task::spawn_blocking(move || {
            end_threads(&Mutex::new(threads));
            shared.wait_for_jobs();
            let finished = if *shared.poisoned.borrow() { Err(Error::Stopped) } else { finish(&shared) };
            drop(take_index(&shared));
            drop(lock);
            finished
        });
        run.await.map_err(|_| Error::Stopped)?
    }
}

/// Bytes that all files below a directory have on the disk: fjall's journals are longer than what they hold.
fn tree_bytes(dir: &std::path::Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        bytes += if meta.is_dir() { tree_bytes(&entry.path())? } else { meta.blocks() * 512 };
    }
    Ok(bytes)
}
