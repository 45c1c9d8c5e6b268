//! The ordered index behind the log: a trait of five functions, and its default, sled.
//!
//! The only file that names sled. What is asked of an index: `get` and `scan` see what `apply` finished; after
//! `checkpoint` the rows applied before it survive the death of the process. It is *not* asked to survive a power cut:
//! the log is the promise, and an index that may be wrong is thrown away and built again (`open.rs`).
//!
//! sled's known faults and what stands against them: `flush` does not reach the device (own `fdatasync` on its files
//! and directory), a left-over `snap.*.generating` keeps it from opening (deleted first), it panics where it should
//! answer (caught, and a hook notices its own threads), values inlined in it never give their space back (rows here
//! are small and few), its batches are slow and stop readers (sorted single inserts).

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};

use crate::{Direction, Error, Result};

/// One change of the index: the key, and its row or its end.
pub(crate) type RowChange<'a> = (&'a [u8], Option<&'a [u8]>);

/// What a scan's visitor wants next.
pub(crate) enum Onward {
    Next,
    /// Start again: forward at or after this key, backward at or before it.
    Seek(Vec<u8>),
    Stop,
}

/// Called with each key and row of a scan.
pub(crate) type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<Onward> + 'a;

/// An ordered map of rows. Keys are never empty; the empty key is the engine's own mark.
pub(crate) trait Index: Send + Sync + 'static {
    /// The row of a key.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Visits the rows with `start ≤ key < end` in order.
    fn scan(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<()>;
    /// Applies changes in the order given (sorted by key is fastest) and tells `replaced` each row that ended.
    fn apply(
        &self,
        changes: &mut dyn Iterator<Item = RowChange<'_>>,
        replaced: &mut dyn FnMut(&[u8]),
    ) -> Result<()>;
    /// Makes everything applied survive the death of the process.
    fn checkpoint(&self) -> Result<()>;
}

/// Opens the default index in a directory of its own, making it if it is missing.
pub(crate) fn open(dir: &Path, cache_bytes: u64) -> Result<Arc<dyn Index>> {
    Ok(Arc::new(SledIndex::open(dir, cache_bytes)?))
}

/// Syncs every file of an index and the directories' names: what a clean end needs.
pub(crate) fn sync_files(dir: &Path) -> Result<()> {
    let io = |e| Error::Io { doing: "syncing the index", source: e };
    sync_tree(dir).map_err(io)?;
    dir.parent().map_or(Ok(()), |parent| File::open(parent).and_then(|dir| dir.sync_all())).map_err(io)
}

/// The file whose identity tells whether an index is the one a checkpoint speaks of.
pub(crate) fn identity_file(dir: &Path) -> PathBuf {
    dir.join("db")
}

/// sled's threads that panicked, in the whole process.
static SLED_PANICS: AtomicU64 = AtomicU64::new(0);
/// What sled's own threads are called (its threadpool.rs).
const SLED_THREAD_PREFIX: &str = "sled-";
/// How long an open waits for a sled just dropped in this process: its threads let go of the file a little later.
const LOCK_WAIT: Duration = Duration::from_secs(3);

struct SledIndex {
    // Declared before the descriptors, so that sled's last flush is over when they close.
    db: sled::Db,
    data: File,
    dir: File,
    panics_at_open: u64,
}

/// A panic on a thread of sled's would otherwise be a line on stderr and an index that has stopped working.
fn watch_for_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().name().is_some_and(|name| name.starts_with(SLED_THREAD_PREFIX)) {
                SLED_PANICS.fetch_add(1, Ordering::SeqCst);
            }
            before(info);
        }));
    });
}

fn failed(doing: &'static str, error: sled::Error) -> Error {
    match error {
        sled::Error::Io(source) => Error::Io { doing, source },
        other => Error::Io { doing, source: io::Error::other(other) },
    }
}

/// Runs a call of sled's with its panics turned into errors. The state behind is not looked at again: every error of
/// the index stops the engine.
fn guarded<T>(doing: &'static str, call: impl FnOnce() -> sled::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|e| failed(doing, e)),
        Err(_) => Err(Error::Io { doing, source: io::Error::other("the index panicked") }),
    }
}

impl SledIndex {
    fn open(path: &Path, cache_bytes: u64) -> Result<Self> {
        watch_for_panics();
        let io = |e| Error::io("opening the index", e);
        let is_new = !identity_file(path).exists();
        std::fs::create_dir_all(path).map_err(io)?;
        remove_generating(path).map_err(io)?;
        let panics_at_open = SLED_PANICS.load(Ordering::SeqCst);
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(cache_bytes)
            .flush_every_ms(None)
            .use_compression(false);
        let deadline = Instant::now() + LOCK_WAIT;
        let db = loop {
            match guarded("opening the index", || config.open()) {
                Err(Error::Io { source, .. }) if is_locked(&source) && Instant::now() < deadline => {
                    #[expect(
                        clippy::disallowed_methods,
                        reason = "sled tells nobody when it lets go of its lock"
                    )]
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => break other?,
            }
        };
        let data = File::open(identity_file(path)).map_err(io)?;
        let dir = File::open(path).map_err(io)?;
        let index = Self { db, data, dir, panics_at_open };
        if is_new {
            sync_files(path)?;
        }
        index.check_health()?;
        Ok(index)
    }

    fn check_health(&self) -> Result<()> {
        if SLED_PANICS.load(Ordering::SeqCst) == self.panics_at_open {
            return Ok(());
        }
        Err(Error::Io {
            doing: "using the index",
            source: io::Error::other("a thread of the index panicked"),
        })
    }
}

fn is_locked(error: &io::Error) -> bool {
    error.to_string().contains("could not acquire lock")
}

fn remove_generating(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Syncs every file below a directory, and the directories.
fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    File::open(dir)?.sync_all()
}

impl Index for SledIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let found = guarded("reading the index", || self.db.get(key))?;
        Ok(found.map(|row| row.to_vec()))
    }

    fn scan(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        let doing = "scanning the index";
        // Bounds as they stand after the seeks so far; `upper` is excluded unless a backward seek included it.
        let mut lower = start.to_vec();
        let mut upper = end.map(|end| (end.to_vec(), false));
        loop {
            use std::ops::Bound;
            let above = match &upper {
                None => Bound::Unbounded,
                Some((key, true)) => Bound::Included(key.as_slice()),
                Some((key, false)) => Bound::Excluded(key.as_slice()),
            };
            if upper.as_ref().is_some_and(|(key, included)| *key < lower || (*key == lower && !included)) {
                return Ok(());
            }
            let mut rows =
                guarded(doing, || Ok(self.db.range::<&[u8], _>((Bound::Included(lower.as_slice()), above))))?;
            let sought = loop {
                let next = guarded(doing, || match direction {
                    Direction::Forward => rows.next().transpose(),
                    Direction::Backward => rows.next_back().transpose(),
                })?;
                let Some((key, row)) = next else { return self.check_health() };
                match visit(&key, &row)? {
                    Onward::Next => {}
                    Onward::Stop => return Ok(()),
                    Onward::Seek(target) => match direction {
                        Direction::Forward if target[..] > key[..] => break target,
                        Direction::Backward if target[..] < key[..] => break target,
                        // Behind the row just seen: as if it were `Next`.
                        Direction::Forward | Direction::Backward => {}
                    },
                }
            };
            match direction {
                Direction::Forward => lower = sought,
                Direction::Backward => upper = Some((sought, true)),
            }
        }
    }

    fn apply(
        &self,
        changes: &mut dyn Iterator<Item = RowChange<'_>>,
        replaced: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        guarded("writing the index", || {
            for (key, row) in changes {
                let old = match row {
                    Some(row) => self.db.insert(key, row)?,
                    None => self.db.remove(key)?,
                };
                if let Some(old) = old {
                    replaced(&old);
                }
            }
            Ok(())
        })?;
        self.check_health()
    }

    fn checkpoint(&self) -> Result<()> {
        guarded("flushing the index", || self.db.flush())?;
        let io = |e| Error::Io { doing: "syncing the index", source: e };
        self.data.sync_data().map_err(io)?;
        self.dir.sync_all().map_err(io)?;
        self.check_health()
    }
}
