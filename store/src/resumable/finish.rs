//! Ending an upload that has all its bytes.
//!
//! One commit makes the version current as any put does (conditions apart), takes the upload's bytes out of the
//! unfinished ones, and marks its row as done. The file becomes the blob of its digest by a row; where that blob is
//! there already, or the bytes are few enough to stand in the rows, it goes with the next sweeps. A piece ends as a blob
//! that its row holds.

use coffre_kv::{Check, Write};
use futures_util::TryStreamExt;

use super::hash::Whole;
use super::line::Turn;
use super::record::{Record, State};
use super::{Kind, Resumable};
use crate::blob::{Place, slice};
use crate::codec::keys;
use crate::commit::{self, RESTARTS_MAX, note};
use crate::condition::Conditions;
use crate::digest::ETag;
use crate::error::{Error, Missing, Result};
use crate::incoming::{Extend, Incoming};
use crate::object::{BlobId, Digest, Extent, Manifest, ObjectIds, PartSizes, Version};
use crate::pending::Known;
use crate::plan::{Placed, Plan};
use crate::refs::NewBlob;
use crate::sniff::sniff;
use crate::{Cx, ObjectKey, Store, UploadId, VersionId, refs};

/// How many of the first bytes tell the type.
const HEAD_BYTES: u64 = 4096;

/// Where the bytes of a whole upload go.
struct Settled {
    extents: Vec<Extent>,
    /// Bytes that go into the rows.
    blobs: Vec<(BlobId, NewBlob)>,
    place: Option<Known>,
    size_bytes: u64,
}

impl Settled {
    /// What the commit does about the upload's file.
    fn plan(&self, plan: &mut Plan, id: UploadId) {
        let parts = BlobId::Parts(id);
        if self.size_bytes > 0 && self.extents.iter().all(|extent| extent.blob != parts) {
            plan.refs.remove(parts, id.0);
        }
        if let Some(place) = &self.place {
            place.plan(plan, self.size_bytes);
        }
    }
}

impl Store {
    /// Finishes an upload, or says what it is when that has happened. The turn is the caller's.
    pub(super) async fn finish_resumable(&self, cx: &Cx, id: UploadId, _turn: &Turn) -> Result<Resumable> {
        let missing = || Error::NotFound(Missing::Upload(id));
        for _ in 0..RESTARTS_MAX {
            let found = self.find_resumable(id).await?.ok_or_else(missing)?;
            let State::Open(state) = &found.value.state else {
                return Ok(found.value.shown(id, self.now_ms()));
            };
            let whole = state.whole(found.value.offset);
            let file = self.growing_file(id, &found.value).await?;
            let done = match found.value.kind {
                Kind::Whole => self.finish_whole(cx, id, &found, &whole).await,
                Kind::Partial => self.finish_piece(cx, id, &found, &whole).await,
                Kind::Final(_) => Err(crate::codec::corrupt("an upload composed of others is open")),
            };
            match done {
                Ok(record) => {
                    if let Some(name) = file {
                        self.inner.blobs.close_growing(name);
                    }
                    return Ok(record.shown(id, self.now_ms()));
                }
                // a blob that was to be shared has gone meanwhile
                Err(Error::Busy) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Busy)
    }

    async fn growing_file(&self, id: UploadId, record: &Record) -> Result<Option<String>> {
        if record.offset == 0 {
            return Ok(None);
        }
        let row = refs::find_row(&**self.inner.kv(), &BlobId::Parts(id)).await?;
        Ok(row.and_then(|(row, _)| row.place.file().map(str::to_owned)))
    }

    async fn finish_whole(
        &self,
        cx: &Cx,
        id: UploadId,
        found: &Placed<Record>,
        whole: &Whole,
    ) -> Result<Record> {
        let record = &found.value;
        let conditions = Conditions::default();
        let has_tags = !record.attributes.tags.is_empty();
        let admitted = self.admit(cx, &record.at, &conditions, has_tags).await?;
        let settled = self.settle(id, record.offset, whole).await?;
        let sniffed = self.sniff_extents(&own(id, record.offset), &record.at.key).await?;
        let became = Became {
            etag: ETag::of_md5(whole.md5),
            sha256: Digest::Known(whole.sha256),
            crc64nvme: Some(whole.crc64nvme),
            sniffed_type: sniffed,
            manifest: Manifest::Inline(settled.extents.clone()),
            parts: None,
        };
        let done = Record { state: State::Done, ..record.clone() };
        let row = keys::tus(id);
        let extend = |plan: &mut Plan| {
            settled.plan(plan, id);
            plan.count_unfinished(record.initiator, record.organisation, -record.unfinished_bytes());
        };
        let incoming = Incoming {
            at: &record.at,
            version: became.version(id, record),
            blobs: settled.blobs.clone(),
            conditions: &conditions,
            note: note(cx, "CompleteResumableUpload", &record.at),
            checks: vec![Check::At(row.clone(), found.position)],
            writes: vec![Write::Put(row, done.encode())],
            extend: Some(Extend(Box::new(extend))),
        };
        self.make_current(cx, admitted, incoming).await?;
        Ok(done)
    }

    /// The piece's bytes become a blob that its row holds; they stay unfinished ones.
    async fn finish_piece(
        &self,
        cx: &Cx,
        id: UploadId,
        found: &Placed<Record>,
        whole: &Whole,
    ) -> Result<Record> {
        let record = &found.value;
        let settled = self.settle(id, record.offset, whole).await?;
        let done = Record { state: State::Piece(whole.clone()), ..record.clone() };
        let bucket = self.find_bucket(&record.at.bucket).await?;
        let row = keys::tus(id);
        let mut plan = Plan::new(&bucket);
        plan.checks.push(Check::At(row.clone(), found.position));
        plan.writes.push(Write::Put(row, done.encode()));
        if let Some((blob, owner)) = done.held(id) {
            let new = settled.blobs.iter().find(|(new, _)| *new == blob).map(|(_, new)| new.clone());
            plan.refs.add(blob, owner, new);
        }
        settled.plan(&mut plan, id);
        let note = note(cx, "CompleteResumableUpload", &record.at);
        match self.commit(&record.at.bucket, plan, Some(&note)).await? {
            commit::Turn::Done(_) => Ok(done),
            commit::Turn::Lost(_) => Err(Error::Busy),
        }
    }

    /// Where the bytes of an upload go that is whole.
    async fn settle(&self, id: UploadId, size_bytes: u64, whole: &Whole) -> Result<Settled> {
        let own = own(id, size_bytes);
        let content = BlobId::Content(whole.sha256);
        let extents =
            if size_bytes == 0 { vec![] } else { vec![Extent { blob: content, offset: 0, len: size_bytes }] };
        let (mut blobs, mut place) = (Vec::new(), None);
        if size_bytes > 0 && size_bytes <= self.inner.blobs.inline_max() {
            let bytes = self.bytes_of(own).await?;
            let new = NewBlob { place: Place::Inline, size_bytes, inline: Some(bytes), stretch: None };
            blobs.push((content, new));
        } else if size_bytes > 0 {
            let known = self.known_place(&own, whole.sha256, id.0).await?;
            place = Some(known.ok_or(Error::Busy)?);
        }
        Ok(Settled { extents, blobs, place, size_bytes })
    }

    /// The MIME type that the first bytes tell.
    pub(super) async fn sniff_extents(&self, extents: &[Extent], key: &ObjectKey) -> Result<Option<String>> {
        let size_bytes: u64 = extents.iter().map(|extent| extent.len).sum();
        let head = slice(extents, 0..size_bytes.min(HEAD_BYTES));
        let head = if size_bytes == 0 { bytes::Bytes::new() } else { self.bytes_of(head).await? };
        Ok(sniff(&head, key.as_str()).map(str::to_owned))
    }

    /// A few bytes, into memory.
    async fn bytes_of(&self, extents: Vec<Extent>) -> Result<bytes::Bytes> {
        let stream = self.inner.blobs.read(self.inner.kv(), extents).await?.ok_or(Error::Busy)?;
        let pieces: Vec<bytes::Bytes> = stream.try_collect().await.map_err(crate::pending::unread)?;
        Ok(match <[_; 1]>::try_from(pieces) {
            Ok([piece]) => piece,
            Err(pieces) => pieces.concat().into(),
        })
    }
}

/// The upload's own file.
fn own(id: UploadId, size_bytes: u64) -> Vec<Extent> {
    vec![Extent { blob: BlobId::Parts(id), offset: 0, len: size_bytes }]
}

/// What an upload has become, beside what its row says.
pub(super) struct Became {
    pub(super) etag: ETag,
    pub(super) sha256: Digest,
    pub(super) crc64nvme: Option<u64>,
    pub(super) sniffed_type: Option<String>,
    pub(super) manifest: Manifest,
    pub(super) parts: Option<PartSizes>,
}

impl Became {
    /// Its record.
    pub(super) fn version(self, id: UploadId, record: &Record) -> Version {
        let Self { etag, sha256, crc64nvme, sniffed_type, manifest, parts } = self;
        Version {
            id: VersionId(id.0),
            is_null: false,
            sequence: 0,
            ino: 0,
            ids: ObjectIds::default(),
            owner: record.initiator,
            organisation: record.organisation,
            writer: record.initiator,
            size_bytes: record.offset,
            modified_ms: 0,
            etag,
            sha256,
            crc64nvme,
            checksums: Vec::new(),
            sniffed_type,
            attributes: record.attributes.clone(),
            manifest,
            parts,
            unknown: Vec::new(),
        }
    }
}
