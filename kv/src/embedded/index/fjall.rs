//! fjall 3 as the index. Only here and in `fjall/` it is named.
//!
//! One keyspace holds everything, and a group of changes is one batch: after the death of the process it is there whole
//! or not at all. fjall's own journal only has to survive that death, so a batch is handed to the system and not synced.
//!
//! Its traits and what stands beside them: an empty key makes it panic (see [`stored`]); before a memtable is written out
//! it syncs its journal while it holds up every write, which is short when a checkpoint has synced the journal already
//! (here by a descriptor of our own, which holds up nobody); it panics where it should answer (caught; a panic or an
//! error on its own threads makes every later batch fail); a damaged count in its files ends the process (`fjall/archives.rs`
//! looks first); a damaged filter block shows in a point read only, not in the scan that an opening adds up (`mod.rs`,
//! `failed`).

mod archives;

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::range::{self, Meet, Rows};
use super::{Failed, Index, RowChange, Visit, guarded, open_unlocked};
use crate::{Direction, Error, Result};

/// Written once when a database is made.
pub(super) const IDENTITY: &str = "version";
const KEYSPACE: &str = "rows";
const JOURNAL_EXTENSION: &str = "jnl";

/// Rows gathered in memory before they are written out. With the ones being written out (four at most, then writes
/// wait) it bounds the memory beside the cache.
const MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;
/// fjall's least. What it replays after the death of the process, about, beside a memtable.
const JOURNALS_BYTES: u64 = 64 * 1024 * 1024;
/// One thread writes memtables out, another compacts.
const WORKERS: usize = 2;
/// Tables are 64 MiB each; more than this many are opened again when needed.
const OPEN_FILES: usize = 256;

pub(super) struct FjallIndex {
    // Declared before the database, whose end waits for its threads.
    rows: Keyspace,
    db: Database,
    dir: PathBuf,
}

impl From<fjall::Error> for Failed {
    fn from(error: fjall::Error) -> Self {
        Self(match error {
            fjall::Error::Io(source) | fjall::Error::Storage(fjall::LsmError::Io(source)) => source,
            other => io::Error::other(other),
        })
    }
}

/// The key as fjall takes it. The empty one, which is the engine's mark, becomes a zero byte, and keys that begin with a
/// zero byte get another in front: the order stays.
fn stored(key: &[u8]) -> Cow<'_, [u8]> {
    match key.first() {
        None | Some(0) => [&[0], key].concat().into(),
        Some(_) => key.into(),
    }
}

/// The key as it was before [`stored`].
fn given(stored: &[u8]) -> &[u8] {
    stored.strip_prefix(&[0]).unwrap_or(stored)
}

impl FjallIndex {
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Self> {
        let open = || {
            Database::builder(dir)
                .cache_size(cache_bytes)
                .worker_threads(WORKERS)
                .max_cached_files(Some(OPEN_FILES))
                .max_journaling_size(JOURNALS_BYTES)
                .open()
        };
        guarded("opening the index", || {
            archives::check(dir)?;
            let db = open_unlocked(open, |error| matches!(error, fjall::Error::Locked))?;
            let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
            let rows = db.keyspace(KEYSPACE, options)?;
            Ok::<_, fjall::Error>(Self { rows, db, dir: dir.to_owned() })
        })
    }

    /// Syncs the journals without holding up writes.
    fn sync_journals(&self) -> io::Result<()> {
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == JOURNAL_EXTENSION) {
                match File::open(path) {
                    Ok(journal) => journal.sync_data()?,
                    // Its rows are all in tables by now.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(e),
                }
            }
        }
        Ok(())
    }
}

const SCANNING: &str = "scanning the index";

impl Rows for fjall::Iter {
    fn step(&mut self, direction: Direction, meet: &mut Meet<'_>) -> Result<bool> {
        let next = guarded(SCANNING, || {
            let next = match direction {
                Direction::Forward => self.next(),
                Direction::Backward => self.next_back(),
            };
            next.map(fjall::Guard::into_inner).transpose()
        })?;
        let Some((key, row)) = next else { return Ok(false) };
        meet(given(&key), &row)?;
        Ok(true)
    }
}

impl Index for FjallIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let found = guarded("reading the index", || self.rows.get(stored(key)))?;
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
            let (lower, above) = (Bound::Included(stored(lower)), above.map(stored));
            guarded(SCANNING, || Ok::<_, fjall::Error>(self.rows.range((lower, above))))
        })
    }

    fn apply(&self, changes: &mut dyn Iterator<Item = RowChange<'_>>) -> Result<()> {
        guarded("writing the index", || {
            let mut batch = self.db.batch().durability(Some(PersistMode::Buffer));
            for (key, row) in changes {
                match row {
                    Some(row) => batch.insert(&self.rows, &*stored(key), row),
                    None => batch.remove(&self.rows, &*stored(key)),
                }
            }
            batch.commit()
        })
    }

    fn checkpoint(&self) -> Result<()> {
        // Every batch was handed to the system: this tells whether a thread of fjall's has failed.
        guarded("flushing the index", || self.db.persist(PersistMode::Buffer))?;
        self.sync_journals().map_err(|e| Error::Io { doing: "syncing the index", source: e })
    }
}
