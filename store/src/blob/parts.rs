//! Parts of one upload in one file: part n of an upload whose parts have `slot` bytes lies at (n − 1)·slot.
//!
//! So a completed upload is one plain file although its parts came in any order (design §2.3). Promises: the bytes of
//! a part are durable before it is committed; a slot is written once. What makes the second true is memory: only the
//! process that made a parts file writes to it, and it remembers each number it gave a slot. A number that comes
//! again, a part that does not fit, and every part after a restart gets a file of its own.
//! Bytes of parts that were replaced or not named at completion stay until the file goes.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use coffre_disk::Open;

use super::buffer::ALIGNMENT;
use super::pipeline::{End, Pipeline, Target};
use super::place::{Place, stem};
use super::stage::{Body, Staged, Wants};
use super::{Blobs, DIRECT_BYTES_MIN, File, Inner, lock};
use crate::digest::{Checksum, Sha256};
use crate::hasher::{self, Wanted};
use crate::object::{BlobId, Extent};
use crate::put::Claims;
use crate::refs::{NewBlob, Stretch};
use crate::{ByteStream, Error, PartNumber, Result, UploadId};

/// Parts files open at a time; the least recently used is closed to new parts beyond. One descriptor each.
const PARTS_FILES_MAX: usize = 512;
/// Where a parts file may end at most: ext4's limit is 16 TiB.
const PARTS_FILE_BYTES_MAX: u64 = 8 << 40;

/// What is known of the size of an upload's slots before a part comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// It is kept with the upload.
    Is(u64),
    /// No part of it was committed to a shared file. The first one makes the file, if it has so many bytes.
    AtLeast(u64),
}

/// The parts files of this process.
#[derive(Debug, Default)]
pub(super) struct PartsFiles {
    files: Mutex<HashMap<UploadId, Arc<PartsFile>>>,
    uses: AtomicU64,
}

#[derive(Debug)]
struct PartsFile {
    slot: u64,
    /// Made by the first part that needs it, its name durable.
    file: tokio::sync::OnceCell<(String, File)>,
    taken: Mutex<BTreeSet<u16>>,
    /// One sync at a time: the kernel tells a write-back error to one of several callers only, so the next one has
    /// to see that it happened.
    broken: Mutex<bool>,
    last_use: AtomicU64,
    /// Where the last durable part ends.
    end: AtomicU64,
    upload: UploadId,
    blobs: Weak<Inner>,
}

/// A slot of a parts file, kept from the others while anything may write to it, and for good once its part is
/// durable.
#[derive(Debug)]
pub(crate) struct SlotClaim {
    parts: Arc<PartsFile>,
    number: u16,
    keeps: AtomicBool,
}

impl SlotClaim {
    /// Makes the file's bytes durable.
    pub(super) fn sync(&self, file: &File) -> std::io::Result<()> {
        let mut broken = lock(&self.parts.broken);
        if *broken {
            return Err(std::io::Error::other("an earlier sync of the parts file failed"));
        }
        file.sync_data().inspect_err(|_| *broken = true)
    }
}

impl Drop for SlotClaim {
    fn drop(&mut self) {
        if !self.keeps.load(Ordering::Acquire) {
            lock(&self.parts.taken).remove(&self.number);
        }
    }
}

/// A part that is durable and not committed yet.
#[derive(Debug)]
pub(crate) struct StagedPart {
    pub(crate) sha256: Sha256,
    pub(crate) md5: [u8; 16],
    pub(crate) crc64nvme: u64,
    /// As [`Staged::checksums`].
    pub(crate) checksums: Vec<Checksum>,
    pub(crate) size_bytes: u64,
    /// The first 4 KiB.
    pub(crate) head: Bytes,
    pub(crate) content: PartContent,
}

/// Where a part's bytes went.
#[derive(Debug)]
pub(crate) enum PartContent {
    /// Into the upload's parts file.
    Shared {
        upload: UploadId,
        /// The file's name.
        name: String,
        /// The upload's slot, bytes.
        slot: u64,
        /// Where they begin.
        offset: u64,
        /// Keeps the file from the sweep until the commit's outcome is in the rows.
        #[expect(dead_code, reason = "held, not read")]
        claim: Arc<SlotClaim>,
    },
    /// They are a blob like any other; already published. `None` for no bytes.
    Own(Option<Staged>),
}

impl StagedPart {
    /// The part's bytes as an extent; `None` when it has none.
    pub(crate) fn extent(&self) -> Option<Extent> {
        let (blob, offset) = match &self.content {
            PartContent::Shared { upload, offset, .. } => (BlobId::Parts(*upload), *offset),
            PartContent::Own(staged) => (staged.as_ref()?.blob(), 0),
        };
        Some(Extent { blob, offset, len: self.size_bytes })
    }

    /// What the part's commit adds, the upload being the owner.
    pub(crate) fn new_blob(&self) -> Option<(BlobId, NewBlob)> {
        match &self.content {
            PartContent::Shared { upload, name, offset, .. } => {
                let place = Place::File { name: name.clone(), offset: 0, len: 0 };
                let stretch = Some(Stretch { offset: *offset, len: self.size_bytes, sha256: self.sha256 });
                Some((BlobId::Parts(*upload), NewBlob { place, size_bytes: 0, inline: None, stretch }))
            }
            PartContent::Own(staged) => staged.as_ref()?.new_blob(),
        }
    }

    /// The slot to remember with the upload.
    pub(crate) fn slot(&self) -> Option<u64> {
        match self.content {
            PartContent::Shared { slot, .. } => Some(slot),
            PartContent::Own(_) => None,
        }
    }

    /// As [`Staged::settle`].
    pub(crate) fn settle(self, used: bool) {
        if let PartContent::Own(Some(staged)) = self.content {
            staged.settle(used);
        }
    }
}

impl Blobs {
    /// Receives a part. The bytes are durable on return, in the upload's parts file where they fit, else published as
    /// a blob of their own.
    ///
    /// # Errors
    /// As [`Blobs::take_in`] and [`Blobs::publish`].
    pub(crate) async fn take_in_part(
        &self,
        upload: UploadId,
        number: PartNumber,
        slot: Slot,
        body: ByteStream,
        size_bytes: Option<u64>,
        claims: Claims,
    ) -> Result<StagedPart> {
        self.check_running()?;
        if let Some(claim) = size_bytes.and_then(|size| self.claim_slot(upload, number, slot, size)) {
            return self.take_in_slot(upload, claim, body, size_bytes, claims).await;
        }
        let mut staged = self.take_in(body, size_bytes, claims, Wants { md5: true }).await?;
        self.publish(&mut staged).await?;
        Ok(StagedPart {
            sha256: staged.sha256,
            md5: staged.md5.ok_or(Error::Invalid { what: "MD5" })?,
            crc64nvme: staged.crc64nvme,
            checksums: staged.checksums.clone(),
            size_bytes: staged.size_bytes,
            head: staged.head.clone(),
            content: PartContent::Own((staged.size_bytes > 0).then_some(staged)),
        })
    }

    fn claim_slot(
        &self,
        upload: UploadId,
        number: PartNumber,
        slot: Slot,
        size_bytes: u64,
    ) -> Option<Arc<SlotClaim>> {
        let files = &self.inner.parts;
        let mut map = lock(&files.files);
        let parts = match (map.get(&upload), slot) {
            (Some(parts), _) => Arc::clone(parts),
            // Its file was made by an earlier process, or closed.
            (None, Slot::Is(_)) => return None,
            // The first part says how long the parts are.
            (None, Slot::AtLeast(bytes)) if size_bytes < bytes => return None,
            (None, Slot::AtLeast(_)) => {
                let parts = Arc::new(PartsFile::new(size_bytes, upload, Arc::downgrade(&self.inner)));
                map.insert(upload, Arc::clone(&parts));
                close_least_used(&mut map);
                parts
            }
        };
        drop(map);
        parts.last_use.store(files.uses.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
        let end = parts.slot.checked_mul(u64::from(number.get()));
        let fits =
            size_bytes > 0 && size_bytes <= parts.slot && end.is_some_and(|end| end <= PARTS_FILE_BYTES_MAX);
        if !fits || *lock(&parts.broken) || !lock(&parts.taken).insert(number.get()) {
            return None;
        }
        Some(Arc::new(SlotClaim { parts, number: number.get(), keeps: AtomicBool::new(false) }))
    }

    async fn take_in_slot(
        &self,
        upload: UploadId,
        claim: Arc<SlotClaim>,
        body: ByteStream,
        size_bytes: Option<u64>,
        claims: Claims,
    ) -> Result<StagedPart> {
        let parts = Arc::clone(&claim.parts);
        let (name, file) = parts.file.get_or_try_init(|| self.make_parts_file(upload, parts.slot)).await?;
        let wanted = Wanted::of(&claims, true);
        let mut body = Body::new(body, size_bytes);
        let room = size_bytes.unwrap_or_default();
        self.blocking("looking for room", move |inner| inner.check_room(room)).await?;
        let offset = parts.slot * (u64::from(claim.number) - 1);
        let target = Target {
            file: Arc::clone(file),
            offset,
            len_max: parts.slot,
            end: End::Slot(Arc::clone(&claim)),
        };
        let mut pipeline = Pipeline::new(self, hasher::lanes(&wanted), target);
        while let Some(bytes) = body.next().await? {
            pipeline.take(&bytes).await?;
        }
        let (main, md5, head) = pipeline.finish().await?;
        let digests = hasher::finish(&wanted, main, md5);
        hasher::verify(&digests, claims)?;
        // From here on the slot may be committed: nobody writes to it again.
        claim.keeps.store(true, Ordering::Release);
        parts.end.fetch_max(offset + body.received, Ordering::AcqRel);
        Ok(StagedPart {
            sha256: digests.sha256,
            md5: digests.md5.ok_or(Error::Invalid { what: "MD5" })?,
            crc64nvme: digests.crc64nvme,
            checksums: digests.checksums,
            size_bytes: body.received,
            head,
            content: PartContent::Shared { upload, name: name.clone(), slot: parts.slot, offset, claim },
        })
    }

    async fn make_parts_file(&self, upload: UploadId, slot: u64) -> Result<(String, File)> {
        self.named().await?;
        let direct =
            self.inner.options.direct_io && slot >= DIRECT_BYTES_MIN && slot.is_multiple_of(ALIGNMENT as u64);
        let how = if direct { Open::CreateDirect } else { Open::Create };
        let (doubt, file) = self.make_file_of(upload, how).await?;
        Ok((doubt.dispel(), file))
    }

    /// Makes a file named by an upload, its name durable. Until somebody commits to it the sweep may judge it; dropped
    /// before that it has to.
    pub(super) async fn make_file_of(&self, upload: UploadId, how: Open) -> Result<(Doubt, File)> {
        let name = format!("{}.{}", stem(&BlobId::Parts(upload)), self.inner.unique());
        let path = self.inner.path_of(&name);
        let doubt = Doubt { blobs: self.clone(), name: name.clone(), upload, is_there: true };
        let file = self.blocking("making a parts file", move |inner| inner.open_new(&path, how)).await?;
        self.sync_dir_of(&name).await?;
        Ok((doubt, file))
    }

    /// Closes the parts file of an upload that has been completed (`len_bytes`: where its last part in the file
    /// ends) or aborted (`None`). To be called after that commit.
    pub(crate) fn forget_parts(&self, upload: UploadId, len_bytes: Option<u64>) {
        let Some(parts) = lock(&self.inner.parts.files).remove(&upload) else { return };
        let (Some(len), Some((_, file))) = (len_bytes, parts.file.get()) else { return };
        let (file, len) = (Arc::clone(file), len.max(parts.end.load(Ordering::Acquire)));
        // Cuts the padding behind the last part: who has the file as it is (the mount's kernel) sees its true end.
        // Nothing depends on it. Parts that were not named stay, the scrub knows them.
        self.remove_soon(move |_| {
            if file.len_bytes()? > len {
                file.set_len(len)?;
            }
            file.set_read_only()
        });
    }
}

fn close_least_used(map: &mut HashMap<UploadId, Arc<PartsFile>>) {
    if map.len() > PARTS_FILES_MAX {
        let oldest = map.iter().min_by_key(|(_, parts)| parts.last_use.load(Ordering::Relaxed));
        if let Some(upload) = oldest.map(|(upload, _)| *upload) {
            map.remove(&upload);
        }
    }
}

impl Drop for PartsFile {
    /// Nobody can write or commit to it any more: the sweep removes it when no row names it.
    fn drop(&mut self) {
        if let (Some((name, _)), Some(inner)) = (self.file.get(), self.blobs.upgrade()) {
            lock(&inner.doubtful).insert(name.clone(), BlobId::Parts(self.upload));
        }
    }
}

/// Gives a file's name to the sweep unless told otherwise.
#[derive(Debug)]
pub(crate) struct Doubt {
    blobs: Blobs,
    name: String,
    upload: UploadId,
    is_there: bool,
}

impl Doubt {
    /// The file's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Somebody committed to the file, or will see to it.
    pub(crate) fn dispel(mut self) -> String {
        self.is_there = false;
        std::mem::take(&mut self.name)
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        if self.is_there {
            self.blobs.doubt(std::mem::take(&mut self.name), BlobId::Parts(self.upload));
        }
    }
}

impl PartsFile {
    fn new(slot: u64, upload: UploadId, blobs: Weak<Inner>) -> Self {
        Self {
            slot,
            file: tokio::sync::OnceCell::new(),
            taken: Mutex::default(),
            broken: Mutex::new(false),
            last_use: AtomicU64::new(0),
            end: AtomicU64::new(0),
            upload,
            blobs,
        }
    }
}
