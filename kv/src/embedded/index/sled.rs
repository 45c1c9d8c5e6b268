//! sled 0.34 as the index. The only file that names it.
//!
//! Its known faults and what stands against them: `flush` does not reach the device (own `fdatasync` on its files and
//! directory), a left-over `snap.*.generating` keeps it from opening (deleted first), it panics where it should answer
//! (caught, and a hook notices its own threads), values inlined in it never give their space back (rows here are small
//! and few), its batches are slow and stop readers (sorted single inserts).

use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

use super::range::{self, Meet, Rows};
use super::{Failed, Index, RowChange, Visit, guarded, open_unlocked, sync_files};
use crate::{Direction, Error, Result};

/// Its data file.
pub(super) const IDENTITY: &str = "db";
/// sled's threads that panicked, in the whole process.
static SLED_PANICS: AtomicU64 = AtomicU64::new(0);
/// What sled's own threads are called (its threadpool.rs).
const SLED_THREAD_PREFIX: &str = "sled-";

pub(super) struct SledIndex {
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

impl From<sled::Error> for Failed {
    fn from(error: sled::Error) -> Self {
        Self(match error {
            sled::Error::Io(source) => source,
            other => io::Error::other(other),
        })
    }
}

fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(source) if source.to_string().contains("could not acquire lock"))
}

impl SledIndex {
    pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<Self> {
        watch_for_panics();
        let io = |e| Error::io("opening the index", e);
        let is_new = !path.join(IDENTITY).exists();
        std::fs::create_dir_all(path).map_err(io)?;
        remove_generating(path).map_err(io)?;
        let panics_at_open = SLED_PANICS.load(Ordering::SeqCst);
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(cache_bytes)
            .flush_every_ms(None)
            .use_compression(false);
        let db = guarded("opening the index", || open_unlocked(|| config.open(), is_locked))?;
        let data = File::open(path.join(IDENTITY)).map_err(io)?;
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

const SCANNING: &str = "scanning the index";

impl Rows for sled::Iter {
    fn step(&mut self, direction: Direction, meet: &mut Meet<'_>) -> Result<bool> {
        let next = guarded(SCANNING, || match direction {
            Direction::Forward => self.next().transpose(),
            Direction::Backward => self.next_back().transpose(),
        })?;
        let Some((key, row)) = next else { return Ok(false) };
        meet(&key, &row)?;
        Ok(true)
    }
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
        range::scan((start, end), direction, visit, |lower, above| {
            guarded(SCANNING, || {
                Ok::<_, sled::Error>(self.db.range::<&[u8], _>((Bound::Included(lower), above)))
            })
        })?;
        self.check_health()
    }

    fn apply(&self, changes: &mut dyn Iterator<Item = RowChange<'_>>) -> Result<()> {
        guarded("writing the index", || {
            for (key, row) in changes {
                match row {
                    Some(row) => self.db.insert(key, row)?,
                    None => self.db.remove(key)?,
                };
            }
            Ok::<_, sled::Error>(())
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
