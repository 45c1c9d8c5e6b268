//! The ordered index behind the log: a trait of four functions, opened as one of two kinds.
//!
//! What is asked of an index: `get` and `scan` see what `apply` finished; after `checkpoint` the rows applied before it
//! survive the death of the process. It is *not* asked to survive a power cut: the log is the promise, and an index that
//! may be wrong is thrown away and built again (`open.rs`). Only `sled.rs` names sled, and only `fjall.rs` names fjall.
//!
//! Which of them made a directory is told by the file whose identity the checkpoint keeps ([`identity_file`]); they are
//! never mixed, because an index of another kind than the one asked for is set aside like one that may be wrong.
//!
//! An index that failed in use, or whose rows did not add up, says so in its directory (`failed`), and is not believed
//! again. The sum need not show what was wrong: a damaged block that only point reads need would end one process after the
//! other.

mod fjall;
mod range;
mod sled;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
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

/// Keeps apart what a scan can end with: outside a failure of the index, inside what the visitor answered.
pub(crate) fn apart(
    visit: &mut Visit<'_>,
    scan: impl FnOnce(&mut Visit<'_>) -> Result<()>,
) -> Result<Result<()>> {
    let mut answered = Ok(());
    scan(&mut |key, row| {
        Ok(visit(key, row).unwrap_or_else(|error| {
            answered = Err(error);
            Onward::Stop
        }))
    })?;
    Ok(answered)
}

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
    /// Applies changes in the order given: the mark first, then the rows sorted by key. A process that dies meanwhile
    /// leaves the first so many of them, or none.
    fn apply(&self, changes: &mut dyn Iterator<Item = RowChange<'_>>) -> Result<()>;
    /// Makes everything applied survive the death of the process.
    fn checkpoint(&self) -> Result<()>;
}

/// The ordered map that finds rows. Changed at will: the index of another kind is set aside, and one of this kind built
/// from snapshot and log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexKind {
    /// sled 0.34: a B-tree over a log. The default.
    #[default]
    Sled,
    /// fjall 3: a log-structured merge tree. Faster from some hundred thousand rows on.
    Fjall,
}

impl IndexKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Sled, Self::Fjall];

    /// As it is written in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Fjall => "fjall",
        }
    }
}

/// Opens an index in a directory of its own, making it if it is missing.
pub(crate) fn open(kind: IndexKind, dir: &Path, cache_bytes: u64) -> Result<Arc<dyn Index>> {
    let index: Box<dyn Index> = match kind {
        IndexKind::Sled => Box::new(sled::SledIndex::open(dir, cache_bytes)?),
        IndexKind::Fjall => Box::new(fjall::FjallIndex::open(dir, cache_bytes)?),
    };
    Ok(Arc::new(Watched { index, failed: dir.join(FAILED) }))
}

/// The file whose identity tells whether an index is the one a checkpoint speaks of. Made with the index, never replaced.
pub(crate) fn identity_file(kind: IndexKind, dir: &Path) -> PathBuf {
    dir.join(match kind {
        IndexKind::Sled => sled::IDENTITY,
        IndexKind::Fjall => fjall::IDENTITY,
    })
}

/// Who made what lies in a directory: nobody, one, or by some accident both.
pub(crate) fn makers(dir: &Path) -> impl Iterator<Item = IndexKind> {
    IndexKind::ALL.into_iter().filter(|kind| identity_file(*kind, dir).exists())
}

/// File of an index that failed in use.
const FAILED: &str = "failed";

/// Whether an index failed in use, so that it is not to be believed whatever its rows add up to.
pub(crate) fn has_failed(dir: &Path) -> bool {
    dir.join(FAILED).exists()
}

/// Notes that an index is not to be believed again.
pub(crate) fn note_failure(dir: &Path) {
    note_failure_at(&dir.join(FAILED));
}

fn note_failure_at(failed: &Path) {
    if let Err(error) = File::create(failed).and_then(|file| file.sync_all()) {
        tracing::warn!(%error, "that the index failed could not be noted");
    }
}

/// Syncs every file of an index and the directories' names: what a clean end needs.
pub(crate) fn sync_files(dir: &Path) -> Result<()> {
    let io = |e| Error::Io { doing: "syncing the index", source: e };
    sync_tree(dir).map_err(io)?;
    dir.parent().map_or(Ok(()), |parent| File::open(parent).and_then(|dir| dir.sync_all())).map_err(io)
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

/// An index whose failures leave a mark.
struct Watched {
    index: Box<dyn Index>,
    failed: PathBuf,
}

impl Watched {
    fn watch<T>(&self, result: Result<T>) -> Result<T> {
        // A full disk damages nothing.
        if let Err(Error::Io { source, .. }) = &result
            && source.kind() != io::ErrorKind::StorageFull
        {
            note_failure_at(&self.failed);
        }
        result
    }
}

impl Index for Watched {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.watch(self.index.get(key))
    }

    fn scan(
        &self,
        start: &[u8],
        end: Option<&[u8]>,
        direction: Direction,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        self.watch(apart(visit, |visit| self.index.scan(start, end, direction, visit)))?
    }

    fn apply(&self, changes: &mut dyn Iterator<Item = RowChange<'_>>) -> Result<()> {
        self.watch(self.index.apply(changes))
    }

    fn checkpoint(&self) -> Result<()> {
        self.watch(self.index.checkpoint())
    }
}

/// Runs a call of an index's with its panics turned into errors. The state behind is not looked at again: every error
/// of the index stops the engine.
fn guarded<T, E: Into<Failed>>(doing: &'static str, call: impl FnOnce() -> Result<T, E>) -> Result<T> {
    let source = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.into().0,
        Err(_) => io::Error::other("the index panicked"),
    };
    Err(Error::Io { doing, source })
}

/// What went wrong in an index, as the system would say it: a full disk has to be told from the rest.
struct Failed(io::Error);

/// How long an open waits for an index just dropped in this process: its threads let go of the files a little later.
const LOCK_WAIT: Duration = Duration::from_secs(3);

/// Opens, again and again while the last one in this process still holds the lock.
fn open_unlocked<T, E>(
    mut open: impl FnMut() -> Result<T, E>,
    is_locked: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match open() {
            Err(error) if is_locked(&error) && Instant::now() < deadline => {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "an index tells nobody when it lets go of its lock"
                )]
                std::thread::sleep(Duration::from_millis(5));
            }
            other => return other,
        }
    }
}
