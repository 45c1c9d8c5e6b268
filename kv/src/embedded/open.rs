//! Opening: which index may be believed, replaying the log into it, or building it again.
//!
//! Believed is an index after a clean close, or after a death of the process in the same boot (its file being the one
//! the checkpoint speaks of), when its own mark is neither behind the checkpoint nor ahead of the log. Everything else,
//! any error or panic of the index included, leads to a new index: a snapshot's rows and the log since, merged by key
//! within bounded memory, inserted in order. An index after a power cut may be wrong without saying so.
//!
//! What is believed is verified too: its rows are added up. In the boot that wrote them that is left to the committer,
//! before its first commit, and reads are served meanwhile (`verify.rs`); otherwise it is done here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use coffre_disk::{Disk, DiskExt, DiskFile, Open, RealDisk};

use super::Options;
use super::checkpoint::{Checkpoint, IndexIdentity};
use super::committer::logged_row;
use super::group::count_live;
use super::index::{self, Index};
use super::log::frame::{Kind, Place, StoreId, parse_commit, parse_moves};
use super::log::recover::{Found, read_log, settle};
use super::log::segment::{Frame, Segments};
use super::mark::{self, Mark, Sum};
use super::merge::Sorter;
use super::shared::Head;
use super::snapshot::{self, Snapshot};
use super::verify;
use crate::codec::crc32c;
use crate::{Error, Position, Result};

const STORE_NAME: &str = "store";
const STORE_MAGIC: &[u8; 8] = b"COFFREID";
const STORE_VERSION: u32 = 1;
const LOCK_NAME: &str = "lock";
/// Rows applied to the index at once.
const CHUNK_ROWS: usize = 4096;
/// Rows of a replay gathered before they are applied, sorted.
const REPLAY_BYTES: usize = 16 * 1024 * 1024;

/// The index in use.
pub(super) fn current(index_dir: &Path) -> PathBuf {
    index_dir.join("current")
}

/// What opening found and made.
pub(super) struct Opened {
    pub(super) lock: StoreLock,
    pub(super) segments: Arc<Segments>,
    pub(super) index: Arc<dyn Index>,
    /// What all its rows have to add up to.
    pub(super) sum: Sum,
    /// Whether they are known to.
    pub(super) is_verified: bool,
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) head: Head,
    pub(super) epoch: u64,
    pub(super) next_segment: u64,
    pub(super) how: &'static str,
}

/// Opens everything up to the point where commits can be taken.
pub(super) fn open(options: &Options) -> Result<Opened> {
    let io = |e| Error::io("opening the store", e);
    let disk = &options.disk;
    let log_dir = options.dir.join("log");
    for dir in [&options.dir, &log_dir, &snapshot::dir(&options.dir)] {
        disk.create_dir_all(dir).map_err(io)?;
    }
    std::fs::create_dir_all(&options.index_dir).map_err(io)?;
    let lock = lock(&**disk, &options.dir)?;
    let (store, is_new) = identify(options, &log_dir)?;
    let segments = Arc::new(Segments::open(Arc::clone(disk), log_dir, store)?);
    let checkpoint = Checkpoint::read(&**disk, &options.dir, &store)?;
    let snapshots = snapshot::list(&**disk, &options.dir, &store)?;
    let mut epoch = 0;
    for segment in segments.all() {
        epoch = epoch.max(segments.epoch(&segment)?.unwrap_or(0));
    }
    let next_segment = segments.all().last().map_or(1, |segment| segment.number + 1);

    let opening = Opening { options, segments: &segments, snapshots: &snapshots, store };
    let believed = match &checkpoint {
        Some(checkpoint) if opening.may_believe(checkpoint) => opening.replay(checkpoint)?,
        _ => None,
    };
    let (ready, how) = if let Some(ready) = believed {
        let is_clean = checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.is_clean);
        if is_clean {
            // Who wanted to look at the old one has had a whole run of the store to do so.
            remove_aside(&options.index_dir).map_err(io)?;
        }
        (ready, if is_clean { "clean" } else { "replayed" })
    } else {
        (opening.rebuild(checkpoint.as_ref())?, if is_new { "new" } else { "rebuilt" })
    };
    let Ready { index, found, sum, is_verified } = ready;
    settle(&segments, &found)?;
    let head = Head { position: found.position, place: found.end };
    finish_index(&*index, &store, head, sum)?;
    opening.mark(head)?;
    Ok(Opened {
        lock,
        segments,
        index,
        sum,
        is_verified,
        snapshots,
        head,
        epoch: epoch.max(found.epoch) + 1,
        next_segment,
        how,
    })
}

/// Brings the index's own mark to the log's end and makes all of it survive.
fn finish_index(index: &dyn Index, store: &StoreId, head: Head, sum: Sum) -> Result<()> {
    Mark::write_settled(index, store, head, sum)?;
    index.checkpoint()
}

/// The lock of a store, given back when this is dropped: two processes in one store would write the same log.
pub(super) struct StoreLock(pub(super) Arc<dyn DiskFile>);

impl Drop for StoreLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that another thread is just starting has every file of this process
        // open until it runs its own program, and a lock taken by `flock` stays with the last of them.
        if let Some(Err(error)) = self.0.std_file().map(std::fs::File::unlock) {
            tracing::warn!(%error, "the store's lock was not given back");
        }
    }
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<StoreLock> {
    let io = |e| Error::io("locking the store", e);
    let path = dir.join(LOCK_NAME);
    let file = match disk.open(&path, Open::Write) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => disk.open(&path, Open::Create).map_err(io)?,
        other => other.map_err(io)?,
    };
    // A model of a disk has one process only.
    if let Some(real) = file.std_file() {
        match real.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(Error::InUse),
            Err(std::fs::TryLockError::Error(e)) => return Err(io(e)),
        }
    }
    Ok(StoreLock(file))
}

/// Reads the store's id, or gives one to a new store.
fn identify(options: &Options, log_dir: &Path) -> Result<(StoreId, bool)> {
    let io = |e| Error::io("reading the store's id", e);
    let disk = &options.disk;
    let damaged = || Error::Corrupt { what: "the store's id".into() };
    if let Some(bytes) = disk.read_whole(&options.dir.join(STORE_NAME)).map_err(io)? {
        let (head, id) = bytes.split_at_checked(16).ok_or_else(damaged)?;
        let id: StoreId = id.try_into().map_err(|_| damaged())?;
        if head == store_head(&id) {
            return Ok((id, false));
        }
        return Err(damaged());
    }
    // Bytes of a store without its id could not be told from another's.
    if disk.list(log_dir).map_err(io)?.iter().any(|entry| entry.len_bytes > 0) {
        return Err(Error::Corrupt { what: "the store's id is missing".into() });
    }
    let id: StoreId = rand::random();
    let mut bytes = store_head(&id);
    bytes.extend_from_slice(&id);
    if let Some(parent) = options.dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        disk.sync_dir(parent).map_err(io)?;
    }
    disk.replace_whole(&options.dir, STORE_NAME, &bytes).map_err(io)?;
    Ok((id, true))
}

fn store_head(id: &StoreId) -> Vec<u8> {
    let mut head = STORE_MAGIC.to_vec();
    head.extend_from_slice(&STORE_VERSION.to_le_bytes());
    head.extend_from_slice(&crc32c(id).to_le_bytes());
    head
}

/// Hands a frame's writes, as rows of the index, to `put`.
fn frame_rows(frame: &Frame, put: &mut dyn FnMut(Bytes, Option<Vec<u8>>) -> Result<()>) -> Result<()> {
    let writes = match frame.header.kind {
        Kind::Start => return Ok(()),
        Kind::Commit => parse_commit(&frame.body, frame.header.position).map(|(_, writes)| writes),
        Kind::Move => parse_moves(&frame.body),
    };
    for write in writes.ok_or_else(|| Error::Corrupt { what: "a frame of the log".into() })? {
        let row =
            write.value.map(|value| logged_row(write.position, frame.place, write.value_offset, &value));
        put(write.key, row)?;
    }
    Ok(())
}

/// Hands a frame's rows to a sorter.
pub(super) fn put_frame_rows(frame: &Frame, sorter: &mut Sorter) -> Result<()> {
    frame_rows(frame, &mut |key, row| sorter.put(&key, row.as_deref()))
}

/// Rows of a replay, applied in sorted chunks.
struct Replay<'a> {
    index: &'a dyn Index,
    store: &'a StoreId,
    sum: Sum,
    /// From where on the index needs what is read, until that is reached.
    ahead: Option<Head>,
    rows: mark::Rows,
    bytes: usize,
    /// Where the gathered frames begin and end.
    begin: Head,
    end: Head,
    /// What the index answered when it failed, apart from what reading the log answers: only then it is built again.
    failed: Option<Error>,
}

impl Replay<'_> {
    fn take(&mut self, frame: &Frame) -> Result<()> {
        let place = Place { segment: frame.place.segment, offset: frame.end() };
        let end = Head { position: frame.header.position, place };
        if !self.has_begun() {
            self.end = end;
            return Ok(());
        }
        frame_rows(frame, &mut |key, row| {
            self.bytes += key.len() + row.as_ref().map_or(0, Vec::len);
            self.rows.insert(Bytes::copy_from_slice(&key), row);
            Ok(())
        })?;
        self.end = end;
        if self.bytes >= REPLAY_BYTES { self.apply() } else { Ok(()) }
    }

    /// Whether the log was read up to where the index needs it; exactly there a frame has to end, else the index's mark
    /// speaks of another log.
    fn has_begun(&mut self) -> bool {
        if self.ahead == Some(self.end) {
            self.ahead = None;
            self.begin = self.end;
        }
        self.ahead.is_none()
    }

    fn apply(&mut self) -> Result<()> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let span = (self.begin, self.end);
        // The bytes alive in each segment are counted when all rows are added up.
        let mut replaced = |_: &[u8]| {};
        let index = self.index;
        let mut before = |key: &[u8]| index.get(key);
        let applied = mark::apply(index, self.store, &mut self.sum, span, &rows, &mut before, &mut replaced);
        self.begin = self.end;
        applied.map_err(|error| {
            self.failed = Some(error);
            Error::Stopped
        })
    }
}

struct Opening<'a> {
    options: &'a Options,
    segments: &'a Arc<Segments>,
    snapshots: &'a [Snapshot],
    store: StoreId,
}

/// An index that is at the log's end.
struct Ready {
    index: Arc<dyn Index>,
    found: Found,
    sum: Sum,
    is_verified: bool,
}

/// An index, its mark, and what its rows have to add up to.
type Believed = (Arc<dyn Index>, Mark, Sum);

impl Opening<'_> {
    fn current(&self) -> PathBuf {
        current(&self.options.index_dir)
    }

    fn identity(&self) -> Option<IndexIdentity> {
        IndexIdentity::of(self.options.index, &self.current())
    }

    /// Whether what lies there is an index of the kind that is wanted, alone, and has not failed in use.
    fn is_ours(&self) -> bool {
        let (wanted, current) = (self.options.index, self.current());
        let other = index::makers(&current).find(|kind| *kind != wanted);
        if let Some(other) = other {
            tracing::warn!(
                found = other.name(),
                wanted = wanted.name(),
                "the index is of another kind: it is set aside, and one of the kind wanted is built from the log"
            );
        }
        let has_failed = index::has_failed(&current);
        if has_failed {
            tracing::warn!("the index failed when it was in use; it will be built again");
        }
        other.is_none() && !has_failed
    }

    fn may_believe(&self, checkpoint: &Checkpoint) -> bool {
        if self.options.rebuild_index {
            return false;
        }
        if !self.is_ours() {
            return false;
        }
        self.identity().is_some() && (checkpoint.is_clean || self.is_same_boot(checkpoint))
    }

    /// Whether the system has been running since the checkpoint, and the index is the one it speaks of: what the system
    /// was given then is what it gives back.
    fn is_same_boot(&self, checkpoint: &Checkpoint) -> bool {
        !self.options.boot_id.is_empty()
            && checkpoint.boot_id == self.options.boot_id
            && Some(checkpoint.index) == self.identity()
    }

    /// The checkpoint for an index that has reached `head`.
    fn mark(&self, head: Head) -> Result<()> {
        let checkpoint = Checkpoint {
            is_clean: false,
            is_doubtful: false,
            boot_id: self.options.boot_id.clone(),
            index: self.identity().unwrap_or_default(),
            head,
        };
        checkpoint.write(&*self.options.disk, &self.options.dir, &self.store)
    }

    /// Opens the index that is there and brings it to the log's end; `None` when it is not to be believed after all.
    fn replay(&self, checkpoint: &Checkpoint) -> Result<Option<Ready>> {
        let may_wait = self.is_same_boot(checkpoint) && !checkpoint.is_doubtful;
        if checkpoint.is_clean {
            // Before the index is touched: from here on a power cut may leave anything in it. A death before it is
            // verified leaves the next opening as careful as this one.
            let unclean = Checkpoint {
                is_clean: false,
                is_doubtful: !may_wait,
                boot_id: self.options.boot_id.clone(),
                index: self.identity().unwrap_or_default(),
                ..checkpoint.clone()
            };
            unclean.write(&*self.options.disk, &self.options.dir, &self.store)?;
        }
        let begun = Instant::now();
        let (index, mark, sum) = match self.believe(checkpoint) {
            Ok(Some(believed)) => believed,
            Ok(None) => {
                tracing::warn!("the index does not fit its checkpoint; it will be built again");
                return Ok(None);
            }
            Err(error) => return distrust(error),
        };
        tracing::info!(seconds = begun.elapsed().as_secs_f64(), "the index has recovered");
        let begun = Instant::now();
        // The log's end is found from the checkpoint, which is known to be of this log. The index needs less of it: its
        // rows are those of its mark, and only the mark's own group may be half applied; even below the checkpoint, if
        // the end of sled's file was lost.
        let from = if mark.begin.place < checkpoint.head.place { mark.begin } else { checkpoint.head };
        let mut replay = Replay {
            index: &*index,
            store: &self.store,
            sum,
            ahead: Some(mark.begin),
            rows: mark::Rows::new(),
            bytes: 0,
            begin: from,
            end: from,
            failed: None,
        };
        let read = read_log(self.segments, from.place, from.position, &mut |frame| replay.take(frame));
        let fits = replay.has_begun();
        let read = read.and_then(|found| replay.apply().map(|()| found));
        match (read, replay.failed) {
            (_, Some(error)) => distrust(error),
            (Err(error), None) => Err(error),
            (Ok(found), None) if !fits || mark.position > found.position => {
                tracing::warn!("the index is not of this log, or ahead of it; it will be built again");
                Ok(None)
            }
            (Ok(found), None) => {
                let sum = replay.sum;
                tracing::info!(seconds = begun.elapsed().as_secs_f64(), "the log is replayed");
                if may_wait {
                    return Ok(Some(Ready { index, found, sum, is_verified: false }));
                }
                match verify::adds_up(&*index, self.segments, sum, &|| true) {
                    Ok(Some(true)) => Ok(Some(Ready { index, found, sum, is_verified: true })),
                    Ok(_) => {
                        tracing::warn!("the rows of the index do not add up; it will be built again");
                        Ok(None)
                    }
                    Err(error) => distrust(error),
                }
            }
        }
    }

    /// Opens the index that is there, if its mark fits the checkpoint.
    fn believe(&self, checkpoint: &Checkpoint) -> Result<Option<Believed>> {
        let index = index::open(self.options.index, &self.current(), self.options.index_cache_bytes)?;
        let Some(mark) = Mark::read(&*index, &self.store)? else { return Ok(None) };
        let promised = checkpoint.head.position;
        if mark.position < promised || (checkpoint.is_clean && mark.position != promised) {
            return Ok(None);
        }
        let sum = mark.expected(&*index, self.segments, &|frame, touched| {
            frame_rows(frame, &mut |key, _| {
                touched.insert(Bytes::copy_from_slice(&key));
                Ok(())
            })
        })?;
        Ok(sum.map(|sum| (index, mark, sum)))
    }

    /// Sets the index aside and builds a new one from the newest snapshot that can be read and the log since.
    fn rebuild(&self, checkpoint: Option<&Checkpoint>) -> Result<Ready> {
        set_aside(&self.options.index_dir).map_err(|e| Error::io("setting the index aside", e))?;
        let mut first_error = None;
        for base in self.snapshots.iter().rev().map(Some).chain([None]) {
            let built = match self.rebuild_from(base, checkpoint) {
                Err(Error::NoSpace) => {
                    // What was set aside is the first to make room.
                    remove_aside(&self.options.index_dir)
                        .map_err(|e| Error::io("removing the old index", e))?;
                    self.rebuild_from(base, checkpoint)
                }
                built => built,
            };
            match built {
                Ok(ready) => return Ok(ready),
                Err(error @ Error::Corrupt { .. }) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the index cannot be built from here"
                    );
                    first_error.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(first_error.unwrap_or_else(|| Error::Corrupt { what: "nothing to build the index from".into() }))
    }

    fn rebuild_from(&self, base: Option<&Snapshot>, checkpoint: Option<&Checkpoint>) -> Result<Ready> {
        let from = base.map_or_else(Head::default, |snapshot| snapshot.head);
        let mut sorter = Sorter::new(&self.options.index_dir);
        let found = read_log(self.segments, from.place, from.position, &mut |frame| {
            put_frame_rows(frame, &mut sorter)
        })?;
        let promised = self.snapshots.iter().map(|snapshot| snapshot.head.position);
        let promised = promised.chain(checkpoint.map(|checkpoint| checkpoint.head.position)).max();
        require(found.position, promised)?;

        // A partial index has no mark of its own and is never believed.
        std::fs::remove_dir_all(self.current())
            .or_else(missing_is_fine)
            .map_err(|e| Error::io("building the index", e))?;
        let index = index::open(self.options.index, &self.current(), self.options.index_cache_bytes)?;
        for segment in self.segments.all() {
            segment.live_bytes.store(0, std::sync::atomic::Ordering::Relaxed);
        }
        let rows = base.map(|base| snapshot::open(&*self.options.disk, &self.options.dir, &self.store, base));
        let mut rows = rows.transpose()?;
        let mut chunk: Vec<(Bytes, Bytes)> = Vec::with_capacity(CHUNK_ROWS);
        let source = rows.as_mut().map(|rows| Box::new(rows) as Box<dyn super::merge::Source + '_>);
        let mut sum = Sum::default();
        sorter.merge(source, &mut |key, row| {
            count_live(self.segments, row, 1);
            sum.toggle(key, row);
            chunk.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(row)));
            if chunk.len() == CHUNK_ROWS { insert(&*index, &mut chunk) } else { Ok(()) }
        })?;
        insert(&*index, &mut chunk)?;
        require(found.position, rows.and_then(|rows| rows.last))?;
        finish_index(&*index, &self.store, Head { position: found.position, place: found.end }, sum)?;
        index::sync_files(&self.current())?;
        Ok(Ready { index, found, sum, is_verified: true })
    }
}

fn insert(index: &dyn Index, chunk: &mut Vec<(Bytes, Bytes)>) -> Result<()> {
    let mut rows = chunk.iter().map(|(key, row)| (&key[..], Some(&row[..])));
    index.apply(&mut rows)?;
    chunk.clear();
    Ok(())
}

/// A position that a checkpoint or a snapshot calls durable has to be in the log.
fn require(found: Position, promised: Option<Position>) -> Result<()> {
    match promised {
        Some(promised) if found < promised => Err(Error::Corrupt {
            what: format!("the log ends at position {}, but {} was durable", found.0, promised.0),
        }),
        _ => Ok(()),
    }
}

/// An index that fails is built again, except where a new one would fail as well.
fn distrust(error: Error) -> Result<Option<Ready>> {
    match error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => Err(Error::NoSpace),
        Error::NoSpace => Err(Error::NoSpace),
        error => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the index failed; it will be built again"
            );
            Ok(None)
        }
    }
}

fn missing_is_fine(error: std::io::Error) -> std::io::Result<()> {
    match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    }
}

fn aside(index_dir: &Path) -> PathBuf {
    index_dir.join("aside")
}

fn remove_aside(index_dir: &Path) -> std::io::Result<()> {
    let aside = aside(index_dir);
    match std::fs::symlink_metadata(&aside) {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(&aside),
        Ok(_) => std::fs::remove_file(&aside),
        Err(e) => missing_is_fine(e),
    }
}

/// Keeps the distrusted index for who wants to look at it, but only one.
fn set_aside(index_dir: &Path) -> std::io::Result<()> {
    let (current, aside) = (current(index_dir), aside(index_dir));
    if !current.exists() {
        return Ok(());
    }
    remove_aside(index_dir)?;
    RealDisk.rename(&current, &aside)?;
    RealDisk.sync_dir(index_dir)
}
