//! Reading an open file: from memory, its staging file and blobs, in one answer.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use coffre_disk::DiskFileExt;

use super::OpenFile;
use super::pieces::Part;
use crate::blob::Found;
use crate::error::{Error, Result};
use crate::object::Extent;

impl OpenFile {
    /// The bytes in `range` as far as the file goes: shorter at its end, empty beyond it.
    ///
    /// # Errors
    /// `Corrupt`, `Internal`.
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        // the pins live as long as their blobs are read here, whatever a commit does meanwhile
        let (parts, draft, _pins) = {
            let state = self.state();
            (state.pieces.parts(range), state.draft.clone(), Arc::clone(&state.pins))
        };
        if let [Part::Memory(bytes)] = parts.as_slice() {
            return Ok(bytes.clone());
        }
        let len: u64 = parts.iter().map(Part::len).sum();
        let mut read = vec![0; usize::try_from(len).map_err(|_| Error::Invalid { what: "range" })?];
        let mut rest = read.as_mut_slice();
        for part in parts {
            let n = usize::try_from(part.len()).unwrap_or(usize::MAX).min(rest.len());
            let (buffer, after) = rest.split_at_mut(n);
            rest = after;
            match part {
                Part::Hole(_) => {}
                Part::Memory(bytes) => buffer.copy_from_slice(&bytes),
                Part::Staged(range) => {
                    let file = draft.as_ref().ok_or(Error::Stopped)?;
                    let read = file.read_exact_at(buffer, range.start);
                    read.map_err(|e| Error::io("reading a staging file", e))?;
                }
                Part::Stored(extent) => self.read_stored(&extent, buffer).await?,
            }
        }
        Ok(read.into())
    }

    /// Fills the buffer from a blob. The caller holds its pin.
    async fn read_stored(&self, extent: &Extent, buffer: &mut [u8]) -> Result<()> {
        let inner = &self.store.inner;
        let short = || Error::Corrupt { what: "a blob is shorter than its extent".into() };
        match inner.blobs.find(&**inner.kv(), &extent.blob).await? {
            None => Err(Error::Corrupt { what: "a version refers to a blob that is not there".into() }),
            Some(Found::Inline(bytes)) => {
                let from = usize::try_from(extent.offset).map_err(|_| short())?;
                let bytes = bytes.get(from..from.saturating_add(buffer.len())).ok_or_else(short)?;
                buffer.copy_from_slice(bytes);
                Ok(())
            }
            Some(Found::File(file, offset)) => {
                file.read_exact_at(buffer, offset + extent.offset).map_err(|error| match error.kind() {
                    std::io::ErrorKind::UnexpectedEof => short(),
                    _ => Error::io("reading a blob", error),
                })
            }
        }
    }

    /// `SEEK_DATA`: the first byte at or after `offset` that is not in a hole; `None` at or beyond the end, or if only
    /// a hole follows (ENXIO). Holes that were committed count as data.
    pub fn seek_data(&self, offset: u64) -> Option<u64> {
        self.state().pieces.seek(offset, false)
    }

    /// `SEEK_HOLE`: the first byte at or after `offset` in a hole, or the file's end; `None` at or beyond the end.
    pub fn seek_hole(&self, offset: u64) -> Option<u64> {
        self.state().pieces.seek(offset, true)
    }
}
