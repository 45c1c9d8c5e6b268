//! Chunks: a file that comes in so many pieces, in any order and several at a time, each as often as it takes.
//!
//! They are the parts of an upload with other rules (contract §5.6, D31): a chunk may be as short as it likes, nobody
//! completes the upload (the chunk that is last to come does), and what they make is known by its content (D40). As
//! with parts, chunks of one size share one file, whatever their order, and a completion copies nothing.

use super::compose::Rule;
use super::record::parts_from;
use super::{CompleteUpload, PutPart};
use crate::condition::Conditions;
use crate::error::{Error, Result};
use crate::name::PART_NUMBER_MAX;
use crate::put::Stored;
use crate::{Cx, Store};

/// A chunk on its way in.
pub struct PutChunk {
    /// The chunk as the part it is, of an upload that was begun without a checksum; numbers count from 1.
    pub part: PutPart,
    /// How many chunks there are.
    pub total: u16,
}

/// What a chunk has led to.
#[derive(Clone, Debug)]
pub enum Chunked {
    /// It is stored; so many are.
    Waiting(u16),
    /// It was the last to come: the object is there.
    Complete(Box<Stored>),
}

impl Store {
    /// Stores a chunk; a number used before is replaced. When all are there the object is. Durable on return.
    ///
    /// # Errors
    /// `Invalid` (a number beyond the total), `NotFound(Upload)`: never begun, or complete; as [`Store::put_part`] and
    /// [`Store::complete_upload`].
    pub async fn put_chunk(&self, cx: &Cx, chunk: PutChunk) -> Result<Chunked> {
        let PutChunk { part, total } = chunk;
        if part.number.get() > total || total > PART_NUMBER_MAX {
            return Err(Error::Invalid { what: "chunk number" });
        }
        let (at, upload) = (part.at.clone(), part.upload);
        self.put_part_by(cx, part, Rule::Chunks { total }).await?;
        // few bytes a row: only who is last reads them all
        let scan = coffre_kv::Scan::forward(parts_from(upload, 1)).keys_only();
        let there = coffre_kv::KvExt::rows(&**self.inner.kv(), scan, usize::from(total)).await?.len();
        if there < usize::from(total) {
            return Ok(Chunked::Waiting(u16::try_from(there).unwrap_or(total)));
        }
        let complete = CompleteUpload {
            at,
            upload,
            parts: Vec::new(),
            claim: None,
            size_bytes: None,
            conditions: Conditions::default(),
        };
        let stored = self.complete_by(cx, complete, Rule::Chunks { total }).await?;
        Ok(Chunked::Complete(Box::new(stored)))
    }
}
