//! Snapshots: the index's rows on one day, from which it is built again together with the log since.
//!
//! File `snapshots/<S>.snap` (16 hex digits): `"COFFRSNP" · version u32 · CRC-32C u32 of the rest of the header · store
//! id · S u64 · segment u64 · offset u64 · zeros` (64 bytes), then checked blocks (`codec.rs`, the header is their seed)
//! of rows (key, index row) in key order, and an end block `E u64 · rows u64`.
//!
//! The rows are read while commits go on: each is as it was at some moment between positions S and E. With the log from
//! S on they are exact; the log is synced to E before the file gets its name. Values over 1 KiB are addresses: a snapshot
//! belongs to its log and is no backup (that is the export). The two newest are kept, so that a damaged one has a
//! substitute; the log is kept from the older one on.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use coffre_disk::{Disk, DiskFile, Open};

use super::index::Onward;
use super::log::frame::{Place, StoreId};
use super::mark::FIRST_KEY;
use super::merge::{Change, Source};
use super::shared::{Head, Shared};
use crate::codec::{BlockReader, BlockWriter, Cursor, RowReader, crc32c};
use crate::{Direction, Error, Position, Result};

const MAGIC: &[u8; 8] = b"COFFRSNP";
const VERSION: u32 = 1;
const HEADER_LEN: usize = 64;
const KEPT: usize = 2;
const BUFFER_BYTES: usize = 256 * 1024;
/// Free room is looked at each time so much has been written.
const SPACE_CHECK_BYTES: u64 = 4 * 1024 * 1024;

/// A snapshot on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// S, and where the log goes on from there.
    pub(super) head: Head,
    pub(super) len_bytes: u64,
}

/// Where snapshots lie.
pub(super) fn dir(dir: &Path) -> PathBuf {
    dir.join("snapshots")
}

fn file_name(position: Position) -> String {
    format!("{:016x}.snap", position.0)
}

fn encode_header(store: &StoreId, head: Head) -> Vec<u8> {
    let mut rest = store.to_vec();
    for n in [head.position.0, head.place.segment, head.place.offset] {
        rest.extend_from_slice(&n.to_le_bytes());
    }
    rest.resize(HEADER_LEN - 16, 0);
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&crc32c(&rest).to_le_bytes());
    out.extend_from_slice(&rest);
    out
}

fn decode_header(bytes: &[u8], store: &StoreId) -> Option<Head> {
    let mut cursor = Cursor::new(bytes);
    if cursor.take(8)? != MAGIC || cursor.u32()? != VERSION {
        return None;
    }
    if cursor.u32()? != crc32c(bytes.get(16..HEADER_LEN)?) || cursor.take(16)? != store {
        return None;
    }
    let position = Position(cursor.u64()?);
    Some(Head { position, place: Place { segment: cursor.u64()?, offset: cursor.u64()? } })
}

/// Lists the snapshots whose header is whole, the oldest first, and removes half-written ones.
pub(super) fn list(disk: &dyn Disk, root: &Path, store: &StoreId) -> Result<Vec<Snapshot>> {
    let io = |e| Error::io("listing snapshots", e);
    let dir = dir(root);
    let mut found = Vec::new();
    for entry in disk.list(&dir).map_err(io)? {
        let path = dir.join(&entry.name);
        if entry.name.strip_suffix(".new").is_some() {
            disk.remove(&path).map_err(io)?;
        } else if entry.name.strip_suffix(".snap").is_some() {
            if let Some((head, _)) = read_header(disk, &path, store)? {
                found.push(Snapshot { head, len_bytes: entry.len_bytes });
            } else {
                tracing::warn!(file = entry.name, "a snapshot is damaged and is not used");
            }
        }
    }
    found.sort_by_key(|snapshot| snapshot.head.position);
    Ok(found)
}

type Header = (Head, [u8; HEADER_LEN]);

fn read_header(disk: &dyn Disk, path: &Path, store: &StoreId) -> Result<Option<Header>> {
    let io = |e| Error::io("reading a snapshot", e);
    let file = disk.open(path, Open::Read).map_err(io)?;
    let mut header = [0; HEADER_LEN];
    match (DiskStream { file, at: 0 }).read_exact(&mut header) {
        Ok(()) => Ok(decode_header(&header, store).map(|head| (head, header))),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(io(e)),
    }
}

/// The rows of a snapshot.
pub(super) struct Rows {
    reader: RowReader<BufReader<DiskStream>>,
    count: u64,
    first: Position,
    /// E, once the last row was read.
    pub(super) last: Option<Position>,
}

/// Opens a snapshot's rows.
pub(super) fn open(disk: &dyn Disk, root: &Path, store: &StoreId, snapshot: &Snapshot) -> Result<Rows> {
    let path = dir(root).join(file_name(snapshot.head.position));
    let Some((head, header)) = read_header(disk, &path, store)? else {
        return Err(Error::Corrupt { what: "the header of a snapshot".into() });
    };
    let file = disk.open(&path, Open::Read).map_err(|e| Error::io("reading a snapshot", e))?;
    let stream = BufReader::with_capacity(BUFFER_BYTES, DiskStream { file, at: HEADER_LEN as u64 });
    let reader = RowReader::new(BlockReader::new(stream, &header, "a snapshot"));
    Ok(Rows { reader, count: 0, first: head.position, last: None })
}

impl Source for Rows {
    fn next(&mut self) -> Result<Option<Change>> {
        if let Some((key, row)) = self.reader.next()? {
            self.count += 1;
            return Ok(Some((key, Some(row))));
        }
        let end = self.reader.end().map(|end| {
            let mut cursor = Cursor::new(end);
            (cursor.u64().map(Position), cursor.u64())
        });
        match end {
            Some((Some(last), Some(rows))) if rows == self.count && last >= self.first => {
                self.last = Some(last);
                Ok(None)
            }
            _ => Err(Error::Corrupt { what: "the end of a snapshot".into() }),
        }
    }
}

/// Writes a snapshot of the index as it is, keeps the two newest, and tells which it was. The caller has the upkeep's
/// turn.
pub(super) fn take(shared: &Shared) -> Result<Snapshot> {
    let head = shared.head();
    let newest = shared.snapshots.lock().unwrap_or_else(PoisonError::into_inner).last().cloned();
    if let Some(newest) = newest.filter(|newest| newest.head == head) {
        return Ok(newest);
    }
    let dir = dir(&shared.options.dir);
    let temporary = dir.join(format!("{}.new", file_name(head.position)));
    let begun = Instant::now();
    let written = write(shared, head, &temporary);
    let len_bytes = match written {
        Ok(len_bytes) => len_bytes,
        Err(error) => {
            if let Err(error) = shared.options.disk.remove(&temporary) {
                tracing::debug!(%error, "a half-written snapshot goes at the next open");
            }
            return Err(error);
        }
    };
    let io = |e| Error::io("naming a snapshot", e);
    shared.options.disk.rename(&temporary, &dir.join(file_name(head.position))).map_err(io)?;
    shared.options.disk.sync_dir(&dir).map_err(io)?;
    tracing::info!(bytes = len_bytes, seconds = begun.elapsed().as_secs_f64(), "snapshot written");
    let snapshot = Snapshot { head, len_bytes };
    let old = {
        let mut all = shared.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| one.head.position != head.position);
        all.push(snapshot.clone());
        let surplus = all.len().saturating_sub(KEPT);
        all.drain(..surplus).collect::<Vec<_>>()
    };
    for one in old {
        if let Err(error) = shared.options.disk.remove(&dir.join(file_name(one.head.position))) {
            tracing::warn!(%error, "an old snapshot could not be removed");
        }
    }
    Ok(snapshot)
}

fn write(shared: &Shared, head: Head, path: &Path) -> Result<u64> {
    let io = |e| Error::io("writing a snapshot", e);
    if let Err(e) = shared.options.disk.remove(path)
        && e.kind() != io::ErrorKind::NotFound
    {
        return Err(io(e));
    }
    let index = shared.index()?;
    let file = shared.options.disk.open(path, Open::Create).map_err(io)?;
    let header = encode_header(&shared.store, head);
    let stream = DiskStream { file: Arc::clone(&file), at: 0 };
    let mut buffered = BufWriter::with_capacity(BUFFER_BYTES, stream);
    buffered.write_all(&header).map_err(io)?;
    let mut blocks = BlockWriter::new(buffered, &header);
    let mut rows: u64 = 0;
    let mut bytes: u64 = 0;
    let mut checked_at: u64 = 0;
    shared.scan_index(&*index, (FIRST_KEY, None), Direction::Forward, &mut |key, row| {
        bytes += (key.len() + row.len()) as u64;
        if bytes >= checked_at {
            checked_at = bytes + SPACE_CHECK_BYTES;
            if shared.is_short_of_space() {
                return Err(Error::NoSpace);
            }
        }
        rows += 1;
        blocks.row(key, row).map_err(io)?;
        Ok(Onward::Next)
    })?;
    // Every row read above was applied, so logged, before this sync was asked for.
    let (last, _) = shared.sync_log()?;
    let mut end = last.0.to_le_bytes().to_vec();
    end.extend_from_slice(&rows.to_le_bytes());
    let buffered = blocks.finish(&end).map_err(io)?;
    let stream = buffered.into_inner().map_err(|e| io(e.into_error()))?;
    file.sync_data().map_err(io)?;
    Ok(stream.at)
}

/// Whether the log since the newest snapshot is larger than it.
pub(super) fn is_due(shared: &Shared) -> bool {
    is_behind(shared, shared.options.segment_bytes)
}

/// The same at the opening, when a checkpoint's worth has been logged too. Lives that log less than that never come to a
/// checkpoint of their own; without this the log would grow with each of them.
pub(super) fn is_overdue(shared: &Shared) -> bool {
    is_behind(shared, shared.options.segment_bytes.max(shared.options.checkpoint_bytes))
}

/// Whether the log since the newest snapshot is larger than it, and than `least`.
fn is_behind(shared: &Shared, least: u64) -> bool {
    let newest = shared.snapshots.lock().unwrap_or_else(PoisonError::into_inner).last().cloned();
    let (since, len_bytes) = newest.map_or((Place::default(), 0), |one| (one.head.place, one.len_bytes));
    let head = shared.head();
    let later =
        shared.segments.after(since.segment).into_iter().filter(|one| one.number < head.place.segment);
    let whole: u64 = later.map(|segment| segment.capacity.load(Ordering::Relaxed)).sum();
    let logged = if since.segment == head.place.segment {
        head.place.offset.saturating_sub(since.offset)
    } else {
        whole + head.place.offset
    };
    logged > len_bytes.max(least)
}

/// A file as a stream.
pub(super) struct DiskStream {
    file: Arc<dyn DiskFile>,
    at: u64,
}

impl Read for DiskStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buf, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl Write for DiskStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(buf, self.at)?;
        self.at += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
