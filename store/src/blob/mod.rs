//! Immutable bytes on disk: staging, publishing, reading, removing.
//!
//! Owns the directories `blobs/00` … `blobs/ff`, `staging/` and `quarantine/`, and every name in them.
//! Promises: what [`Blobs::take_in`] returned was received whole and agrees with all claims; after
//! [`Blobs::publish`] bytes and name survive a power cut; nothing published is ever written again (a parts file only
//! in slots that no part has, `parts.rs`); names are never used twice, because they carry the epoch of this opening.
//! Leaves out: who refers to what (`refs.rs` decides, rows say), and when bytes go (`upkeep/gc.rs`).
//!
//! Blocking work runs on tokio's blocking pool behind one semaphore; async threads read only what is in memory.

mod buffer;
mod dirs;
mod draft;
#[cfg(test)]
mod faults;
mod growing;
mod parts;
mod pins;
mod pipeline;
mod place;
mod read;
#[cfg(test)]
pub(crate) mod rig;
mod stage;
#[cfg(test)]
mod tests;
mod together;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use coffre_disk::{Disk, DiskFile};
use tokio::sync::Semaphore;

pub(crate) use draft::Draft;
pub(crate) use growing::{Growing, Grown, NewFile, SYNC_STEP_BYTES, Turn};
pub(crate) use parts::{PartContent, Slot, StagedPart};
pub(crate) use pins::{Claim, Pin, Pins};
pub(crate) use place::{Place, parse_name};
pub(crate) use read::{Found, slice};
pub(crate) use stage::{Staged, Wants};

use crate::epoch::Epoch;
use crate::object::BlobId;
use crate::{Error, Result};

/// Blocking operations at a time. Enough to keep a device's queue full; far below tokio's 512 threads.
const BLOCKING_MAX: usize = 64;
/// From this size on blobs are written past the page cache (design §2.3).
const DIRECT_BYTES_MIN: u64 = 8 * 1024 * 1024;

/// What `[storage]` says about blobs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlobOptions {
    /// Largest blob that stays in the rows, bytes.
    pub(crate) inline_max: u64,
    /// Past the page cache from 8 MiB on.
    pub(crate) direct_io: bool,
    /// Free space kept back, bytes.
    pub(crate) reserve_bytes: u64,
}

/// The blobs of a store. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Blobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: BlobOptions,
    epoch: Epoch,
    /// Numbers the names of this epoch.
    next: AtomicU64,
    blocking: Arc<Semaphore>,
    runtime: tokio::runtime::Handle,
    buffers: Arc<buffer::Buffers>,
    together: together::Together,
    reads: buffer::ReadBuffers,
    dirs: dirs::Dirs,
    parts: parts::PartsFiles,
    pins: Pins,
    open_files: Mutex<read::OpenFiles>,
    /// Files published whose commit's outcome nobody saw; the sweep judges them against the rows.
    doubtful: Mutex<HashMap<String, BlobId>>,
    /// Removals under way that nobody waits for.
    soon: AtomicU64,
    /// One sweep at a time; whether orphans have been looked for since opening.
    sweeping: Arc<tokio::sync::Mutex<bool>>,
    /// A sync failed in a way that leaves names in doubt: refuse writes until opened again.
    stopped: AtomicBool,
}

impl Blobs {
    /// Makes the directories, durably, and removes what an earlier opening left in staging. `epoch` has to be larger
    /// than at every earlier opening.
    pub(crate) async fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        options: BlobOptions,
        epoch: Epoch,
    ) -> Result<Self> {
        let inner = Inner {
            disk,
            dir,
            options,
            epoch,
            next: AtomicU64::new(1),
            blocking: Arc::new(Semaphore::new(BLOCKING_MAX)),
            runtime: tokio::runtime::Handle::current(),
            buffers: Arc::default(),
            together: together::Together::new(),
            reads: buffer::ReadBuffers::default(),
            dirs: dirs::Dirs::new(),
            parts: parts::PartsFiles::default(),
            pins: Pins::default(),
            open_files: Mutex::default(),
            doubtful: Mutex::default(),
            soon: AtomicU64::new(0),
            sweeping: Arc::default(),
            stopped: AtomicBool::new(false),
        };
        let blobs = Self { inner: Arc::new(inner) };
        blobs.blocking("making the blob directories", Inner::make_dirs).await?;
        Ok(blobs)
    }

    /// The epoch of this opening.
    pub(crate) fn epoch(&self) -> u64 {
        self.inner.epoch.number()
    }

    /// Waits until names may carry the epoch.
    pub(crate) async fn named(&self) -> Result<()> {
        self.inner.epoch.noted().await
    }

    /// The guards that keep blobs from the sweep.
    pub(crate) fn pins(&self) -> &Pins {
        &self.inner.pins
    }

    /// Largest blob that stays in the rows, bytes.
    pub(crate) fn inline_max(&self) -> u64 {
        self.inner.options.inline_max
    }

    /// Refuses writes after a sync failed.
    fn check_running(&self) -> Result<()> {
        if self.inner.stopped.load(Ordering::Acquire) { Err(Error::Stopped) } else { Ok(()) }
    }

    /// Runs `work` on the blocking pool, within its limit. Runs to its end even when the future is dropped.
    async fn blocking<T, F>(&self, doing: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Inner) -> std::io::Result<T> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        let permit = Arc::clone(&inner.blocking).acquire_owned().await.map_err(|_| Error::Stopped)?;
        let task = inner.runtime.clone().spawn_blocking(move || {
            let result = work(&inner);
            drop(permit);
            result
        });
        match task.await {
            Ok(result) => result.map_err(|e| Error::io(doing, e)),
            Err(e) => Err(Error::Internal { doing, source: e.into() }),
        }
    }

    /// Removes a file; one that is gone already is fine. The caller has made sure that no row names it. How many
    /// bytes it had.
    pub(crate) async fn remove_file(&self, name: &str) -> Result<u64> {
        let name = name.to_owned();
        self.blocking("removing a blob", move |inner| inner.remove_file(&name)).await
    }

    /// Names and lengths of the files in `blobs/{n}`.
    pub(crate) async fn files_in(&self, n: u8) -> Result<Vec<(String, u64)>> {
        self.blocking("listing blobs", move |inner| {
            let files = inner.disk.list(&inner.dir.join("blobs").join(hex::encode([n])))?;
            Ok(files
                .into_iter()
                .filter(|entry| !entry.is_dir)
                .map(|entry| (entry.name, entry.len_bytes))
                .collect())
        })
        .await
    }

    /// Moves a file to `quarantine/`; one that is missing is fine.
    pub(crate) async fn set_aside(&self, name: &str) -> Result<()> {
        let name = name.to_owned();
        self.blocking("moving a blob to quarantine", move |inner| {
            lock(&inner.open_files).forget(&name);
            match inner.disk.rename(&inner.path_of(&name), &inner.quarantine().join(&name)) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
                Ok(()) | Err(_) => inner.disk.sync_dir(&inner.quarantine()),
            }
        })
        .await
    }

    /// Adds up to `len` bytes of a file to a hash; how many there were.
    pub(crate) async fn hash_step(
        &self,
        file: &File,
        offset: u64,
        len: u64,
        mut hasher: sha2::Sha256,
    ) -> Result<(u64, sha2::Sha256)> {
        let file = Arc::clone(file);
        self.blocking("scrubbing a blob", move |inner| {
            let mut buffer = inner.reads.buffer(usize::try_from(len).unwrap_or(usize::MAX));
            let n = file.read_at(buffer.bytes_mut(), offset)?;
            sha2::Digest::update(&mut hasher, buffer.bytes_mut().get(..n).unwrap_or_default());
            Ok((n as u64, hasher))
        })
        .await
    }

    /// Waits until nothing runs on the pool for these blobs.
    #[cfg(test)]
    pub(crate) async fn idle(&self) {
        let all = u32::try_from(BLOCKING_MAX).unwrap();
        while self.inner.soon.load(Ordering::Acquire) > 0 {
            tokio::task::yield_now().await;
        }
        drop(self.inner.blocking.acquire_many(all).await.unwrap());
    }

    /// The most blocks that were out at a time, and how many are kept.
    #[cfg(test)]
    fn blocks(&self) -> (usize, usize) {
        self.inner.buffers.figures()
    }

    /// Held by a sweep; says whether orphans have been looked for since opening.
    pub(crate) fn sweeping(&self) -> Arc<tokio::sync::Mutex<bool>> {
        Arc::clone(&self.inner.sweeping)
    }

    /// The directories that hold published and quarantined files.
    pub(crate) fn dirs(&self) -> Vec<PathBuf> {
        let blobs = self.inner.dir.join("blobs");
        (0..=255u8).map(|n| blobs.join(hex::encode([n]))).chain([self.inner.quarantine()]).collect()
    }

    /// The names of the files in one of them.
    pub(crate) async fn list(&self, dir: &std::path::Path) -> Result<Vec<String>> {
        let dir = dir.to_owned();
        self.blocking("listing blobs", move |inner| {
            let files = inner.disk.list(&dir)?.into_iter().filter(|entry| !entry.is_dir);
            Ok(files.map(|entry| entry.name).collect())
        })
        .await
    }

    /// Takes the files whose commit's outcome nobody saw.
    pub(crate) fn take_doubtful(&self) -> Vec<(String, BlobId)> {
        lock(&self.inner.doubtful).drain().collect()
    }

    /// Gives a file back that could not be judged now.
    pub(crate) fn doubt(&self, name: String, blob: BlobId) {
        lock(&self.inner.doubtful).insert(name, blob);
    }
}

impl Inner {
    fn make_dirs(&self) -> std::io::Result<()> {
        let blobs = self.dir.join("blobs");
        let is_new = self.disk.list(&blobs).is_err();
        for n in 0..=255u8 {
            self.disk.create_dir_all(&blobs.join(hex::encode([n])))?;
        }
        self.disk.create_dir_all(&self.staging())?;
        self.disk.create_dir_all(&self.quarantine())?;
        self.disk.sync_dir(&blobs)?;
        self.disk.sync_dir(&self.dir)?;
        if let Some(above) = self.dir.parent().filter(|_| is_new) {
            self.disk.sync_dir(above)?;
        }
        for entry in self.disk.list(&self.staging())? {
            if !entry.is_dir {
                self.disk.remove(&self.staging().join(entry.name))?;
            }
        }
        Ok(())
    }

    fn staging(&self) -> PathBuf {
        self.dir.join("staging")
    }

    fn quarantine(&self) -> PathBuf {
        self.dir.join("quarantine")
    }

    /// Where a published file lies.
    fn path_of(&self, name: &str) -> PathBuf {
        self.dir.join("blobs").join(name.get(..2).unwrap_or("00")).join(name)
    }

    /// Epoch and number, which no other name has.
    fn unique(&self) -> String {
        format!("{}-{}", self.epoch.number(), self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Removes a published or quarantined file; how many bytes it had.
    fn remove_file(&self, name: &str) -> std::io::Result<u64> {
        lock(&self.open_files).forget(name);
        let mut freed = 0;
        for path in [self.path_of(name), self.quarantine().join(name)] {
            let len = self.disk.open(&path, coffre_disk::Open::Read).and_then(|file| file.len_bytes());
            match self.disk.remove(&path) {
                Ok(()) => freed += len.unwrap_or(0),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(freed)
    }

    /// Whether `size_bytes` more would leave the reserve free.
    fn check_room(&self, size_bytes: u64) -> std::io::Result<()> {
        let free = self.disk.space(&self.dir)?.free_bytes;
        if free.saturating_sub(size_bytes) < self.options.reserve_bytes {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

/// Locks a mutex whose holders never panic between two changes that belong together.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A file as the pool's threads share it.
pub(crate) type File = Arc<dyn DiskFile>;
