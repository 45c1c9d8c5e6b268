//! Reading extents as one stream.
//!
//! Rows say where bytes are; files are read in steps of 256 KiB, on the caller's thread when they are in memory and
//! on the blocking pool when not. The blobs are pinned while the stream lives. A place is looked up when its extent
//! is reached, so a blob that moved meanwhile (healed, joined) is found where it is.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use coffre_disk::Open;
use coffre_kv::Kv;
use futures_util::stream;

use super::pins::Pin;
use super::{Blobs, File, Place, lock};
use crate::object::{BlobId, Extent};
use crate::refs::{self, BlobRow, State};
use crate::{BodyError, ByteStream, Error, Result};

/// Bytes of one step (design §3).
const STEP_BYTES: u64 = 256 * 1024;
/// Files kept open for the next reader.
const OPEN_FILES_MAX: usize = 256;

/// The extents' bytes in `range`, counted from the first extent's first byte.
pub(crate) fn slice(extents: &[Extent], range: Range<u64>) -> Vec<Extent> {
    let mut begin = 0;
    let mut found = Vec::new();
    for extent in extents {
        let end = begin + extent.len;
        let (from, to) = (range.start.max(begin), range.end.min(end));
        if from < to {
            found.push(Extent { blob: extent.blob, offset: extent.offset + (from - begin), len: to - from });
        }
        begin = end;
    }
    found
}

/// Files open for reading, by name.
#[derive(Debug, Default)]
pub(super) struct OpenFiles {
    files: HashMap<String, (File, u64)>,
    uses: u64,
}

impl OpenFiles {
    fn get(&mut self, name: &str) -> Option<File> {
        self.uses += 1;
        let (file, last_use) = self.files.get_mut(name)?;
        *last_use = self.uses;
        Some(Arc::clone(file))
    }

    fn keep(&mut self, name: &str, file: &File) {
        if self.files.len() >= OPEN_FILES_MAX {
            let oldest = self.files.iter().min_by_key(|(_, (_, last_use))| *last_use);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.files.remove(&name);
            }
        }
        self.uses += 1;
        self.files.insert(name.to_owned(), (Arc::clone(file), self.uses));
    }

    pub(super) fn forget(&mut self, name: &str) {
        self.files.remove(name);
    }
}

/// A stream's state between two steps.
struct Reader {
    blobs: Blobs,
    kv: Arc<dyn Kv>,
    rest: std::vec::IntoIter<Extent>,
    current: Option<(File, Range<u64>)>,
    _pins: Vec<Pin>,
}

/// Where a blob's bytes are, for who reads them by himself.
#[derive(Clone, Debug)]
pub(crate) enum Found {
    /// Here.
    Inline(Bytes),
    /// In a file, from this offset on.
    File(File, u64),
}

impl Blobs {
    /// Where a blob is now; `None`: it has no row. The caller has pinned it.
    ///
    /// # Errors
    /// `Corrupt` when it is in quarantine or its bytes are missing.
    pub(crate) async fn find(&self, kv: &dyn Kv, blob: &BlobId) -> Result<Option<Found>> {
        let mut again = true;
        loop {
            let Some(row) = find_row(kv, blob).await? else { return Ok(None) };
            let found = match &row.place {
                Place::Inline => match kv.get(&refs::inline_key(blob)).await? {
                    Some(entry) => return Ok(Some(Found::Inline(entry.value))),
                    None => Err(Error::Corrupt { what: "a blob's bytes are missing".into() }),
                },
                Place::File { name, offset, .. } => {
                    self.open_file(name).await.map(|file| Some(Found::File(file, *offset)))
                }
            };
            // between row and bytes the blob may have moved; the second time it is missing
            if !std::mem::take(&mut again) || found.is_ok() {
                return found;
            }
        }
    }

    /// A stream over the extents' bytes. `None`: a blob has no row (any more), the caller reads the head again.
    ///
    /// # Errors
    /// `Corrupt` when a blob is in quarantine or its file is missing. Later errors end the stream.
    pub(crate) async fn read(&self, kv: &Arc<dyn Kv>, extents: Vec<Extent>) -> Result<Option<ByteStream>> {
        if let [extent] = extents.as_slice()
            && extent.offset + extent.len <= self.inner.options.inline_max
            && let Some(entry) = kv.get(&refs::inline_key(&extent.blob)).await?
        {
            let bytes = cut(&entry.value, extent)?;
            return Ok(Some(Box::pin(stream::once(async move { Ok(bytes) }))));
        }
        let blobs: BTreeSet<BlobId> = extents.iter().map(|extent| extent.blob).collect();
        let mut pins = Vec::with_capacity(blobs.len());
        for blob in blobs {
            pins.push(self.pins().pin(blob).await);
            if find_row(&**kv, &blob).await?.is_none() {
                return Ok(None);
            }
        }
        let kv = Arc::clone(kv);
        let mut reader =
            Reader { blobs: self.clone(), kv, rest: extents.into_iter(), current: None, _pins: pins };
        // The first bytes are had here, so that what is wrong with them is an answer and not a broken stream.
        let first = match reader.next().await {
            Err(Error::Busy) => return Ok(None),
            first => first?,
        };
        let rest = stream::try_unfold(reader, |mut reader| async move {
            let bytes = reader.next().await.map_err(BodyError::from)?;
            Ok(bytes.map(|bytes| (bytes, reader)))
        });
        let first = stream::iter(first.map(Ok));
        Ok(Some(Box::pin(futures_util::StreamExt::chain(first, rest))))
    }

    /// A published file, open for reading.
    pub(crate) async fn open_file(&self, name: &str) -> Result<File> {
        if let Some(file) = lock(&self.inner.open_files).get(name) {
            return Ok(file);
        }
        let wanted = name.to_owned();
        let file = self.blocking("opening a blob", move |inner| {
            match inner.disk.open(&inner.path_of(&wanted), Open::Read) {
                Ok(file) => Ok(Some(file)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(e) => Err(e),
            }
        });
        let file = file.await?.ok_or_else(|| Error::Corrupt { what: "a blob's file is missing".into() })?;
        lock(&self.inner.open_files).keep(name, &file);
        Ok(file)
    }
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some((file, range)) = &mut self.current else {
                let Some(extent) = self.rest.next() else { return Ok(None) };
                if let Some(bytes) = self.begin(extent).await? {
                    return Ok(Some(bytes));
                }
                continue;
            };
            if range.is_empty() {
                self.current = None;
                continue;
            }
            let file = Arc::clone(file);
            let (offset, want) = (range.start, (range.end - range.start).min(STEP_BYTES));
            let bytes = self.blobs.read_step(file, offset, want).await?;
            range.start += bytes.len() as u64;
            return Ok(Some(bytes));
        }
    }

    /// Goes to an extent: its bytes when they are inline, else its file becomes the current one.
    async fn begin(&mut self, extent: Extent) -> Result<Option<Bytes>> {
        let mut again = true;
        loop {
            // A parts file became content since the caller read its manifest: the manifest says so by now.
            let row = find_row(&*self.kv, &extent.blob).await?.ok_or(Error::Busy)?;
            let opened = match &row.place {
                Place::Inline => match self.kv.get(&refs::inline_key(&extent.blob)).await? {
                    Some(entry) => return cut(&entry.value, &extent).map(Some),
                    None => Err(Error::Corrupt { what: "a blob's bytes are missing".into() }),
                },
                Place::File { name, offset, .. } => match self.blobs.open_file(name).await {
                    Ok(file) => {
                        let start = offset + extent.offset;
                        self.current = Some((file, start..start + extent.len));
                        return Ok(None);
                    }
                    Err(error) => Err(error),
                },
            };
            // Between row and bytes the blob may have moved; the second time it is missing.
            if !std::mem::take(&mut again) {
                return opened;
            }
        }
    }
}

impl Blobs {
    async fn read_step(&self, file: File, offset: u64, want: u64) -> Result<Bytes> {
        let want = usize::try_from(want).unwrap_or(usize::MAX);
        let mut buffer = self.inner.reads.buffer(want);
        let here =
            file.read_at_nowait(buffer.bytes_mut(), offset).map_err(|e| Error::io("reading a blob", e))?;
        let n = match here {
            Some(n) if n > 0 => n,
            // Not in memory, or the end: the pool's thread finds out which.
            Some(_) | None => {
                let (n, back) = self
                    .blocking("reading a blob", move |_| {
                        let n = file.read_at(buffer.bytes_mut(), offset)?;
                        Ok((n, buffer))
                    })
                    .await?;
                buffer = back;
                n
            }
        };
        if n == 0 {
            return Err(Error::Corrupt { what: "a blob's file is shorter than its row says".into() });
        }
        Ok(buffer.freeze(n))
    }
}

/// The blob's row; `Corrupt` when it is in quarantine.
async fn find_row(kv: &dyn Kv, blob: &BlobId) -> Result<Option<BlobRow>> {
    let Some((row, _)) = refs::find_row(kv, blob).await? else { return Ok(None) };
    if row.state == State::Quarantined {
        return Err(Error::Corrupt { what: "a blob is in quarantine".into() });
    }
    Ok(Some(row))
}

fn cut(bytes: &Bytes, extent: &Extent) -> Result<Bytes> {
    let short = || Error::Corrupt { what: "a blob is shorter than its extent".into() };
    let from = usize::try_from(extent.offset).map_err(|_| short())?;
    let to = usize::try_from(extent.offset + extent.len).map_err(|_| short())?;
    if to > bytes.len() || from > to { Err(short()) } else { Ok(bytes.slice(from..to)) }
}
