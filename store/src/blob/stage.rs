//! Bytes on their way in: received, hashed, verified, durable, and then published under a name of their own.
//!
//! Up to `inline_max` they stay in memory, above they go to a file in `staging/`. A staging file is synced before
//! [`Blobs::take_in`] returns; [`Blobs::publish`] renames it and syncs the directory, before its commit is queued.
//! Dropped unpublished the file goes at once. Dropped published, while nobody knows whether the commit happened, it
//! is left to the sweep, which compares it with the rows: removing it here could lose an acknowledged write.

use std::path::Path;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use coffre_disk::Open;
use futures_util::StreamExt;

use super::buffer::{ALIGNMENT, BLOCK_BYTES, Block};
use super::pipeline::{End, Pipeline, Target};
use super::place::{Place, stem};
use super::{Blobs, DIRECT_BYTES_MIN, File, Inner};
use crate::digest::{Checksum, Sha256};
use crate::hasher::{self, Digests, Wanted};
use crate::object::BlobId;
use crate::put::Claims;
use crate::refs::NewBlob;
use crate::{ByteStream, Error, Result};

/// How many of the first bytes are kept for telling the type.
const HEAD_BYTES: usize = 4096;
/// Up to this many bytes are hashed where they are: a trip to the pool and back costs as much.
const HASH_HERE_BYTES_MAX: usize = 16 * 1024;

/// What the caller wants computed beside what the claims need.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wants {
    /// MD5, for an ETag.
    pub(crate) md5: bool,
}

/// Bytes that are not a blob yet: received whole, verified, durable (inline ones become so with the commit).
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) sha256: Sha256,
    /// When wanted or claimed.
    pub(crate) md5: Option<[u8; 16]>,
    pub(crate) crc64nvme: u64,
    /// Those claimed or announced, all verified or computed, full object.
    pub(crate) checksums: Vec<Checksum>,
    pub(crate) size_bytes: u64,
    /// The first 4 KiB.
    pub(crate) head: Bytes,
    content: Held,
}

/// Owns the staged bytes until they are settled.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) blobs: Blobs,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Inline(Bytes),
    /// In `staging/` under this name.
    Staging(String),
    /// In `blobs/` under this name, or on its way there.
    Published {
        name: String,
        blob: BlobId,
    },
    /// Somebody else's now.
    Settled,
}

impl Drop for Held {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.content, Content::Settled) {
            Content::Inline(_) | Content::Settled => {}
            Content::Staging(unique) => self.blobs.remove_soon(move |inner| inner.remove_staging(&unique)),
            Content::Published { name, blob } => self.blobs.doubt(name, blob),
        }
    }
}

impl Staged {
    /// The blob these bytes are.
    pub(crate) fn blob(&self) -> BlobId {
        BlobId::Content(self.sha256)
    }

    /// The blob and what a commit needs to make a row for it; `None` before [`Blobs::publish`] and for no bytes.
    pub(crate) fn new_blob(&self) -> Option<(BlobId, NewBlob)> {
        let (place, inline) = match &self.content.content {
            Content::Inline(bytes) if bytes.is_empty() => return None,
            Content::Inline(bytes) => (Place::Inline, Some(bytes.clone())),
            Content::Published { name, .. } => (self.file_place(name), None),
            Content::Staging(_) | Content::Settled => return None,
        };
        Some((self.blob(), NewBlob { place, size_bytes: self.size_bytes, inline, stretch: None }))
    }

    /// Says how the commit ended, once it is known: whether a row names this place now. If none does its file is
    /// removed. Not called when the outcome is unknown.
    pub(crate) fn settle(mut self, used: bool) {
        let content = std::mem::replace(&mut self.content.content, Content::Settled);
        match content {
            Content::Published { name, .. } if !used => {
                self.content.blobs.remove_soon(move |inner| inner.remove_file(&name).map(drop));
            }
            Content::Staging(_) if !used => self.content.content = content,
            Content::Inline(_) | Content::Staging(_) | Content::Published { .. } | Content::Settled => {}
        }
    }

    fn file_place(&self, name: &str) -> Place {
        Place::File { name: name.to_owned(), offset: 0, len: self.size_bytes }
    }

    fn new(blobs: &Blobs, digests: Digests, size_bytes: u64, head: Bytes, content: Content) -> Self {
        let Digests { sha256, md5, crc64nvme, checksums } = digests;
        let content = Held { blobs: blobs.clone(), content };
        Self { sha256, md5, crc64nvme, checksums, size_bytes, head, content }
    }
}

/// A body that is held to its announced length.
pub(super) struct Body {
    stream: ByteStream,
    announced: Option<u64>,
    pub(super) received: u64,
}

impl Body {
    pub(super) fn new(stream: ByteStream, announced: Option<u64>) -> Self {
        Self { stream, announced, received: 0 }
    }

    /// The next bytes; `None` at the end, which has to come where it was announced.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>> {
        let incomplete = |source: crate::BodyError| Error::IncompleteBody { source };
        let Some(bytes) = self.stream.next().await.transpose().map_err(incomplete)? else {
            return match self.announced {
                Some(n) if n != self.received => {
                    Err(incomplete(format!("the body ended after {} of {n} bytes", self.received).into()))
                }
                Some(_) | None => Ok(None),
            };
        };
        self.received += bytes.len() as u64;
        match self.announced {
            Some(n) if self.received > n => {
                Err(incomplete(format!("the body has more than the {n} bytes announced").into()))
            }
            Some(_) | None => Ok(Some(bytes)),
        }
    }

    /// Bytes up to the end, or until more than `max` have come; whether that was the end.
    pub(super) async fn gather(&mut self, max: u64) -> Result<(Bytes, bool)> {
        let Some(first) = self.next().await? else { return Ok((Bytes::new(), true)) };
        if self.received > max {
            return Ok((first, false));
        }
        // Most small bodies are one frame: no copy.
        let Some(second) = self.next().await? else { return Ok((first, true)) };
        let announced = usize::try_from(self.announced.unwrap_or_default().min(max)).unwrap_or_default();
        let mut bytes = BytesMut::with_capacity(announced.max(first.len() + second.len()));
        bytes.extend_from_slice(&first);
        bytes.extend_from_slice(&second);
        while self.received <= max {
            let Some(more) = self.next().await? else { return Ok((bytes.freeze(), true)) };
            bytes.extend_from_slice(&more);
        }
        Ok((bytes.freeze(), false))
    }
}

impl Blobs {
    /// Receives a body, hashes it, holds it to its announced size and its claims, and makes it durable in staging.
    /// Dropped before it returns, or on any error, nothing is left.
    ///
    /// # Errors
    /// `IncompleteBody`, `ChecksumMismatch`, `Invalid` (trailer), `NoSpace`, `Stopped`.
    pub(crate) async fn take_in(
        &self,
        body: ByteStream,
        size_bytes: Option<u64>,
        claims: Claims,
        wants: Wants,
    ) -> Result<Staged> {
        self.check_running()?;
        let wanted = Wanted::of(&claims, wants.md5);
        let mut body = Body::new(body, size_bytes);
        let inline_max = self.inner.options.inline_max;
        let (bytes, whole) = match size_bytes {
            Some(n) if n > inline_max => (Bytes::new(), false),
            Some(_) | None => body.gather(inline_max).await?,
        };
        if whole && bytes.len() as u64 <= inline_max {
            let digests = self.digest(&wanted, &bytes).await?;
            hasher::verify(&digests, claims)?;
            let head = bytes.slice(..bytes.len().min(HEAD_BYTES));
            return Ok(Staged::new(self, digests, bytes.len() as u64, head, Content::Inline(bytes)));
        }
        let (digests, head, content) = match size_bytes {
            Some(n) if n < BLOCK_BYTES as u64 => self.stage_block(&mut body, bytes, &wanted).await?,
            Some(_) | None => self.stage_file(&mut body, bytes, &wanted).await?,
        };
        // Made a Staged first, so that a claim that does not hold removes the file.
        let staged = Staged::new(self, digests, body.received, head, content);
        let digests = Digests {
            sha256: staged.sha256,
            md5: staged.md5,
            crc64nvme: staged.crc64nvme,
            checksums: staged.checksums.clone(),
        };
        hasher::verify(&digests, claims)?;
        Ok(staged)
    }

    async fn digest(&self, wanted: &Wanted, bytes: &Bytes) -> Result<Digests> {
        if bytes.len() <= HASH_HERE_BYTES_MAX {
            return Ok(hasher::digest(wanted, bytes));
        }
        let (wanted, bytes) = (wanted.clone(), bytes.clone());
        self.blocking("hashing", move |_| Ok(hasher::digest(&wanted, &bytes))).await
    }

    /// A body that fits one block: one trip to the pool does everything.
    async fn stage_block(
        &self,
        body: &mut Body,
        gathered: Bytes,
        wanted: &Wanted,
    ) -> Result<(Digests, Bytes, Content)> {
        let allowance = self.inner.buffers.allowance();
        let mut block = allowance.block().await;
        block.fill(&gathered);
        while let Some(bytes) = body.next().await? {
            if block.fill(&bytes) < bytes.len() {
                return Err(Error::Invalid { what: "size" });
            }
        }
        let wanted = wanted.clone();
        // Travels with the work: dropped with it, after the file was made, when nobody waits any more.
        let held = self.hold_staging();
        let (digests, head, held) = self
            .blocking("staging a blob", move |inner| {
                inner.check_room(block.bytes().len() as u64)?;
                let file = inner.open_new(&inner.staging().join(held.staging_name()), Open::Create)?;
                file.write_all_at(block.bytes(), 0)?;
                file.start_writeback(0, block.bytes().len() as u64);
                let digests = hasher::digest(&wanted, block.bytes());
                file.set_read_only()?;
                file.sync_data()?;
                Ok((digests, head_of(&block), held))
            })
            .await?;
        Ok((digests, head, held.into_content()))
    }

    /// A body of more than a block: hashed in two lanes and written in a third while it comes.
    async fn stage_file(
        &self,
        body: &mut Body,
        gathered: Bytes,
        wanted: &Wanted,
    ) -> Result<(Digests, Bytes, Content)> {
        let announced = body.announced;
        let how = match announced {
            Some(n) if n >= DIRECT_BYTES_MIN && self.inner.options.direct_io => Open::CreateDirect,
            Some(_) | None => Open::Create,
        };
        let held = self.hold_staging();
        let (file, held) = self
            .blocking("making a staging file", move |inner| {
                inner.check_room(announced.unwrap_or_default())?;
                Ok((inner.open_new(&inner.staging().join(held.staging_name()), how)?, held))
            })
            .await?;
        let target = Target { file, offset: 0, len_max: u64::MAX, end: End::Whole };
        let mut pipeline = Pipeline::new(self, hasher::lanes(wanted), target);
        pipeline.take(&gathered).await?;
        while let Some(bytes) = body.next().await? {
            pipeline.take(&bytes).await?;
        }
        let (main, md5, head) = pipeline.finish().await?;
        Ok((hasher::finish(wanted, main, md5), head, held.into_content()))
    }

    /// Gives staged bytes their own name among the blobs, durably. Inline ones have no file; their bytes go with the
    /// commit. To be called before the commit is queued; twice is fine.
    ///
    /// # Errors
    /// `NoSpace`, `Stopped` and `Internal`: not published, the file goes with the [`Staged`].
    pub(crate) async fn publish(&self, staged: &mut Staged) -> Result<Place> {
        self.check_running()?;
        let unique = match &staged.content.content {
            Content::Inline(_) => return Ok(Place::Inline),
            Content::Published { name, .. } => return Ok(staged.file_place(name)),
            Content::Settled => return Err(Error::Invalid { what: "staged bytes" }),
            Content::Staging(unique) => unique.clone(),
        };
        self.named().await?;
        let blob = staged.blob();
        let name = format!("{}.{unique}", stem(&blob));
        // Said before the rename: a future dropped in the middle leaves the file to the sweep wherever it is.
        staged.content.content = Content::Published { name: name.clone(), blob };
        let target = name.clone();
        self.blocking("publishing a blob", move |inner| {
            inner.disk.rename(&inner.staging().join(unique), &inner.path_of(&target))
        })
        .await?;
        self.sync_dir_of(&name).await?;
        Ok(staged.file_place(&name))
    }

    /// A guard for a staging file to be made.
    pub(super) fn hold_staging(&self) -> Held {
        Held { blobs: self.clone(), content: Content::Staging(self.inner.unique()) }
    }

    /// Runs a removal on the pool without waiting; a failure is left for the next opening.
    pub(super) fn remove_soon<F>(&self, work: F)
    where
        F: FnOnce(&Inner) -> std::io::Result<()> + Send + 'static,
    {
        let inner = std::sync::Arc::clone(&self.inner);
        let runtime = inner.runtime.clone();
        inner.soon.fetch_add(1, Ordering::AcqRel);
        runtime.spawn_blocking(move || {
            if let Err(error) = work(&inner) {
                tracing::warn!(%error, "a file that nobody needs could not be removed");
            }
            inner.soon.fetch_sub(1, Ordering::AcqRel);
        });
    }
}

impl Held {
    pub(super) fn staging_name(&self) -> String {
        match &self.content {
            Content::Staging(unique) => unique.clone(),
            Content::Inline(_) | Content::Published { .. } | Content::Settled => String::new(),
        }
    }

    fn into_content(mut self) -> Content {
        std::mem::replace(&mut self.content, Content::Settled)
    }
}

impl Inner {
    /// Makes a file; past the page cache only when our blocks are aligned enough for the device.
    pub(super) fn open_new(&self, path: &Path, how: Open) -> std::io::Result<File> {
        let file = self.disk.open(path, how)?;
        if file.direct_alignment().is_none_or(|alignment| alignment <= ALIGNMENT) {
            return Ok(file);
        }
        drop(file);
        self.disk.remove(path)?;
        self.disk.open(path, Open::Create)
    }

    fn remove_staging(&self, unique: &str) -> std::io::Result<()> {
        match self.disk.remove(&self.staging().join(unique)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// A copy of the first bytes of a block.
pub(super) fn head_of(block: &Block) -> Bytes {
    let bytes = block.bytes();
    Bytes::copy_from_slice(bytes.get(..HEAD_BYTES).unwrap_or(bytes))
}
