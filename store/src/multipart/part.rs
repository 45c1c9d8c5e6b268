//! Parts coming in: from a body, or by reference from an object (S3 UploadPart, UploadPartCopy).
//!
//! Order: authorise, find the upload, make the bytes durable, then one commit that replaces the number's row, its
//! references and its usage. The last commit of a number wins. Dropped before the commit, nothing is kept.

use std::ops::Range;

use coffre_kv::{Check, Write};

use super::compose::Rule;
use super::record::{PartRecord, UploadRecord, part_commits, part_owner};
use super::{CopyPart, PART_BYTES_MAX, PART_BYTES_MIN, Part, PutPart};
use crate::blob::{PartContent, Slot, StagedPart};
use crate::codec::keys;
use crate::commit::{Committed, RESTARTS_MAX, Turn, note};
use crate::condition::{RangeRequest, resolve_range};
use crate::copy::Source;
use crate::digest::{Algorithm, Checksum, ChecksumKind};
use crate::error::{Error, Missing, Result};
use crate::hasher::Wanted;
use crate::object::{At, BlobId, Bucket, Extent, Version};
use crate::pending::hash_stream;
use crate::plan::{Placed, Plan};
use crate::put::Claims;
use crate::refs::NewBlob;
use crate::sniff::sniff;
use crate::watch::Note;
use crate::{Action, ByteStream, Cx, ObjectKey, PartNumber, Store, UploadId, VersionRef};

/// Most extents of one part: its row is one value. A range that lies in more pieces is copied into one blob, which is
/// also what readers of the object are better served with.
const EXTENTS_MAX: usize = 1_000;

/// A part whose bytes are durable, on its way to its row.
struct NewPart {
    record: PartRecord,
    /// The slot to remember with the upload, when the bytes are in its parts file.
    slot: Option<u64>,
    /// A blob that this commit makes known.
    blob: Option<(BlobId, NewBlob)>,
}

impl Store {
    /// Stores a part; a number used before is replaced. Durable on return.
    ///
    /// # Errors
    /// `NotFound(Upload)`, and as [`Store::put`].
    pub async fn put_part(&self, cx: &Cx, part: PutPart) -> Result<Part> {
        self.put_part_by(cx, part, Rule::Parts).await
    }

    /// The same by other rules than S3's.
    pub(super) async fn put_part_by(&self, cx: &Cx, part: PutPart, rule: Rule) -> Result<Part> {
        let PutPart { at, upload, number, body, size_bytes, mut claims } = part;
        let key = Some(at.key.as_str());
        let bucket = self.allowed_bucket(cx, &at.bucket, Action::PutObject, key, None).await?.value;
        let record = self.allowed_upload(cx, Action::PutObject, &bucket, &at.key, upload).await?.value;
        check_part_size(size_bytes.unwrap_or(0))?;
        if let Some((algorithm, _)) = record.checksum {
            if claims.checksums.iter().any(|claim| claim.algorithm != algorithm) {
                return Err(Error::Invalid { what: "checksum algorithm" });
            }
            claims.compute.push(algorithm);
        }
        let note = note(cx, "UploadPart", &at);
        let staged = self.take_in_part(&record, (upload, number), body, size_bytes, claims, rule).await?;
        let modified_ms = self.now_ms();
        let new = new_part(&record, &staged, &at.key, modified_ms);
        match self.commit_part(&at, upload, number, &new, &note).await {
            Ok(Some(committed)) => {
                let used = new.blob.as_ref().is_some_and(|(blob, _)| committed.refs.used(blob));
                staged.settle(used);
                Ok(new.record.part(number))
            }
            Ok(None) => {
                staged.settle(false);
                Err(Error::Busy)
            }
            Err(error) => {
                if !error.leaves_doubt() {
                    staged.settle(false);
                }
                Err(error)
            }
        }
    }

    async fn take_in_part(
        &self,
        record: &UploadRecord,
        (upload, number): (UploadId, PartNumber),
        body: ByteStream,
        size_bytes: Option<u64>,
        claims: Claims,
        rule: Rule,
    ) -> Result<StagedPart> {
        let blobs = &self.inner.blobs;
        let slot = match (record.slot, rule) {
            (Some(slot), _) => Slot::Is(slot),
            (None, Rule::Parts) => Slot::AtLeast(PART_BYTES_MIN),
            // what is shorter stands in the rows
            (None, Rule::Chunks { .. }) => Slot::AtLeast(blobs.inline_max() + 1),
        };
        let staged = blobs.take_in_part(upload, number, slot, body, size_bytes, claims).await?;
        if let Err(error) = check_part_size(staged.size_bytes) {
            staged.settle(false);
            return Err(error);
        }
        Ok(staged)
    }

    /// Makes a part of a range of an object by reference; no bytes move, though they may be read once to be hashed.
    /// The caller needs to read the source and write the target.
    ///
    /// # Errors
    /// As [`Store::head`] for the source and [`Store::put_part`] for the part.
    pub async fn copy_part(&self, cx: &Cx, copy: CopyPart) -> Result<(Part, Option<VersionRef>)> {
        let CopyPart { at, upload, number, source, source_version, source_conditions, range } = copy;
        let key = Some(at.key.as_str());
        let bucket = self.allowed_bucket(cx, &at.bucket, Action::PutObject, key, None).await?.value;
        let note = note(cx, "UploadPartCopy", &at);
        for _ in 0..RESTARTS_MAX {
            let record = self.allowed_upload(cx, Action::PutObject, &bucket, &at.key, upload).await?.value;
            let found = self.source(cx, &source, source_version, &source_conditions).await?;
            let range = copied_range(range, &found.version)?;
            check_part_size(range.end - range.start)?;
            // `None`: the source was replaced and swept between its record and its bytes
            let Some(extents) = self.extents(&found.version, range.clone()).await? else { continue };
            if extents.len() > EXTENTS_MAX {
                let Some(body) = self.read(&found.version, range.clone()).await? else { continue };
                let part = PutPart {
                    at: at.clone(),
                    upload,
                    number,
                    body,
                    size_bytes: Some(range.end - range.start),
                    claims: Claims::default(),
                };
                return Ok((self.put_part(cx, part).await?, found.reference()));
            }
            let Some(new) = self.hash_part(&record, &found, range, extents, &at.key).await? else { continue };
            if self.commit_part(&at, upload, number, &new, &note).await?.is_some() {
                return Ok((new.record.part(number), found.reference()));
            }
        }
        Err(Error::Busy)
    }

    /// The record of a part made by reference. Nothing is read where a whole simple object is copied whose digests
    /// are those asked for. `None`: a blob has gone.
    async fn hash_part(
        &self,
        upload: &UploadRecord,
        source: &Source,
        range: Range<u64>,
        extents: Vec<Extent>,
        key: &ObjectKey,
    ) -> Result<Option<NewPart>> {
        let version = &source.version;
        let size_bytes = range.end - range.start;
        let algorithm = upload.checksum.map(|(algorithm, _)| algorithm);
        let known = known_digests(version, algorithm).filter(|_| size_bytes == version.size_bytes);
        let (md5, crc64nvme, checksum) = if let Some(known) = known {
            known
        } else {
            let Some(body) = self.read(version, range.clone()).await? else { return Ok(None) };
            let wanted = Wanted { md5: true, algorithms: algorithm.into_iter().collect() };
            let digests = hash_stream(body, &wanted).await?;
            let md5 = digests.md5.ok_or(Error::Invalid { what: "MD5" })?;
            (md5, digests.crc64nvme, digests.checksums.into_iter().next())
        };
        let is_start = range.start == 0;
        let sniffed_type = version.sniffed_type.clone().filter(|_| is_start);
        let sniffed_type = match sniffed_type {
            Some(sniffed) => Some(sniffed),
            None => self.sniff_range(version, range, key).await?,
        };
        let record = PartRecord {
            size_bytes,
            md5,
            crc64nvme,
            modified_ms: self.now_ms(),
            checksum,
            sniffed_type,
            extents,
            unknown: Vec::new(),
        };
        Ok(Some(NewPart { record, slot: None, blob: None }))
    }

    /// The type of a range's first bytes; a guess that is not worth an error.
    async fn sniff_range(
        &self,
        version: &Version,
        range: Range<u64>,
        key: &ObjectKey,
    ) -> Result<Option<String>> {
        use futures_util::StreamExt;
        let end = range.end.min(range.start + crate::sniff::SNIFF_BYTES as u64);
        let Some(mut body) = self.read(version, range.start..end).await? else { return Ok(None) };
        let mut head = Vec::new();
        while let Some(Ok(piece)) = body.next().await {
            head.extend_from_slice(&piece);
        }
        Ok(sniff(&head, key.as_str()).map(str::to_owned))
    }

    /// An upload's row, if they may do this to it. To others than those who may it does not exist.
    ///
    /// # Errors
    /// `NotFound(Upload)`.
    pub(super) async fn allowed_upload(
        &self,
        cx: &Cx,
        action: Action,
        bucket: &Bucket,
        key: &ObjectKey,
        id: UploadId,
    ) -> Result<Placed<UploadRecord>> {
        let upload = self.get_upload(bucket, key, id).await?;
        let asked = self.ask_upload(cx, action, bucket, key, upload.value.initiator);
        asked.map_err(|_| Error::NotFound(Missing::Upload(id)))?;
        Ok(upload)
    }

    /// An upload's row.
    ///
    /// # Errors
    /// `NotFound(Upload)`.
    pub(super) async fn get_upload(
        &self,
        bucket: &Bucket,
        key: &ObjectKey,
        id: UploadId,
    ) -> Result<Placed<UploadRecord>> {
        let entry = self.inner.kv().get(&keys::upload(bucket.id, key, id)).await?;
        let entry = entry.ok_or(Error::NotFound(Missing::Upload(id)))?;
        Ok(Placed { value: UploadRecord::decode(&entry.value)?, position: entry.position })
    }

    /// Puts a part's row in place of what stands there. `None`: a blob it refers to has gone.
    async fn commit_part(
        &self,
        at: &At,
        id: UploadId,
        number: PartNumber,
        new: &NewPart,
        note: &Note,
    ) -> Result<Option<Committed>> {
        let row = keys::part(id, number);
        let mut tries = self.inner.turns.tries(vec![row.clone()]);
        loop {
            tries.begin().await;
            let bucket = self.find_bucket(&at.bucket).await?;
            let upload = self.get_upload(&bucket.value, &at.key, id).await?;
            let old = match self.inner.kv().get(&row).await? {
                None => None,
                Some(entry) => {
                    Some(Placed { value: PartRecord::decode(&entry.value)?, position: entry.position })
                }
            };
            let mut plan = Plan::new(&bucket);
            plan_part(&mut plan, &bucket.value, &at.key, (id, &upload), number, old.as_ref(), new);
            match self.commit(&at.bucket, plan, Some(note)).await? {
                Turn::Done(committed) => return Ok(Some(committed)),
                Turn::Lost(lost) if lost.is_empty() => return Ok(None),
                Turn::Lost(lost) => tries.lost(lost)?,
            }
        }
    }
}

/// What a part's commit checks and writes.
fn plan_part(
    plan: &mut Plan,
    bucket: &Bucket,
    key: &ObjectKey,
    (id, upload): (UploadId, &Placed<UploadRecord>),
    number: PartNumber,
    old: Option<&Placed<PartRecord>>,
    new: &NewPart,
) {
    let upload_row = keys::upload(bucket.id, key, id);
    let row = keys::part(id, number);
    if new.slot.is_some() {
        // the first part gives the file its owner; for the others this makes sure that it is the same file
        plan.refs.add(BlobId::Parts(id), id.0, new.blob.as_ref().map(|(_, file)| file.clone()));
    }
    if new.slot.is_some() && upload.value.slot.is_none() {
        let record = UploadRecord { slot: new.slot, ..upload.value.clone() };
        plan.checks.push(Check::At(upload_row.clone(), upload.position));
        plan.writes.push(Write::Put(upload_row, record.encode()));
    } else {
        plan.checks.push(Check::Present(upload_row));
    }
    match old {
        None => plan.checks.push(Check::Absent(row.clone())),
        Some(old) => {
            plan.checks.push(Check::At(row.clone(), old.position));
            for (blob, owner) in old.value.held(id, number) {
                plan.refs.remove(blob, owner);
            }
        }
    }
    let owner = part_owner(id, number);
    for (blob, _) in new.record.held(id, number) {
        let known = new.blob.as_ref().filter(|(new, _)| *new == blob).map(|(_, place)| place.clone());
        plan.refs.add(blob, owner, known);
    }
    plan.writes.push(Write::Put(row, new.record.encode()));
    plan.writes.push(Write::Add(part_commits(id), 1));
    let before = old.map_or(0, |old| old.value.size_bytes);
    let bytes = signed(new.record.size_bytes) - signed(before);
    plan.count_unfinished(upload.value.initiator, upload.value.organisation, bytes);
}

pub(super) fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn check_part_size(size_bytes: u64) -> Result<()> {
    if size_bytes > PART_BYTES_MAX {
        return Err(Error::TooLarge { what: "the part", max: PART_BYTES_MAX });
    }
    Ok(())
}

fn new_part(upload: &UploadRecord, staged: &StagedPart, key: &ObjectKey, modified_ms: u64) -> NewPart {
    let is_wanted = |checksum: &&Checksum| upload.checksum.is_some_and(|(a, _)| a == checksum.algorithm);
    let checksum = staged.checksums.iter().find(is_wanted).cloned();
    let record = PartRecord {
        size_bytes: staged.size_bytes,
        md5: staged.md5,
        crc64nvme: staged.crc64nvme,
        modified_ms,
        checksum,
        sniffed_type: sniff(&staged.head, key.as_str()).map(str::to_owned),
        extents: staged.extent().into_iter().collect(),
        unknown: Vec::new(),
    };
    let slot = if let PartContent::Shared { .. } = staged.content { staged.slot() } else { None };
    NewPart { record, slot, blob: staged.new_blob() }
}

/// The bytes of the source that become the part: S3 refuses a range that reaches beyond it.
fn copied_range(range: Option<RangeRequest>, source: &Version) -> Result<Range<u64>> {
    let size_bytes = source.size_bytes;
    let Some(request) = range else { return Ok(0..size_bytes) };
    if let RangeRequest::FromTo(_, last) = request
        && last >= size_bytes
    {
        return Err(Error::InvalidRange { size_bytes });
    }
    let range = resolve_range(request, size_bytes, source.parts.as_ref())?;
    Ok(range.unwrap_or(0..size_bytes))
}

/// MD5, CRC-64/NVME and the checksum asked for, of a whole simple object that has them all in its record.
fn known_digests(
    version: &Version,
    algorithm: Option<Algorithm>,
) -> Option<([u8; 16], u64, Option<Checksum>)> {
    let md5 = version.etag.as_md5()?;
    let crc64nvme = version.crc64nvme?;
    let checksum = match algorithm {
        None => None,
        Some(Algorithm::Crc64Nvme) => Some(Checksum {
            algorithm: Algorithm::Crc64Nvme,
            kind: ChecksumKind::FullObject,
            value: crc64nvme.to_be_bytes().to_vec(),
        }),
        Some(algorithm) => {
            let is_it = |c: &&Checksum| c.algorithm == algorithm && c.kind == ChecksumKind::FullObject;
            Some(version.checksums.iter().find(is_it)?.clone())
        }
    };
    Some((md5, crc64nvme, checksum))
}
