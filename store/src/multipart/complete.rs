//! Ending an upload: completing it to a version, or aborting it (S3 CompleteMultipartUpload, AbortMultipartUpload).
//!
//! Completing is one commit: the version by `make_current`, the manifest's pages if it needs any, the references
//! handed over, and every row of the upload gone. It copies no bytes. The version's id is the upload's: who completes
//! again finds at the head whether that has happened, and the parts file keeps its owner.

use std::collections::{BTreeMap, BTreeSet};

use coffre_kv::{Check, KvExt, Scan, Write};

use super::compose::{Composed, Rule, compose, etag_of};
use super::part::signed;
use super::record::{PartRecord, UploadRecord, parse_part, part_commits, parts_from};
use super::{CompletePart, CompleteUpload, CreateUpload, Upload, UploadChecksum};
use crate::codec::keys;
use crate::codec::object::encode_page;
use crate::commit::{RESTARTS_MAX, Turn, counts_for, note};
use crate::condition::Conditions;
use crate::digest::{Algorithm, ETag, Sha256};
use crate::error::{Error, Missing, Result};
use crate::hasher::Wanted;
use crate::incoming::{Extend, Incoming};
use crate::name::PART_NUMBER_MAX;
use crate::object::{
    At, BlobId, Bucket, BuiltIn, Digest, EXTENTS_INLINE_MAX, Extent, Manifest, ObjectIds, Version,
};
use crate::pending::hash_stream;
use crate::plan::{Placed, Plan};
use crate::put::{Stored, check_tags};
use crate::{Action, Cx, PartNumber, Store, UploadId, VersionId};

/// Extents of one manifest page (design §2.3).
const PAGE_EXTENTS: usize = 1_000;
/// Up to this size a completion in `files` and `media` is hashed before it is answered (design §2.3): filing shows
/// the SHA-256.
const HASHED_BYTES_MAX: u64 = 1 << 30;
/// References let go of in one commit of an abort, well under a commit's limits; the rest follows in further ones.
const ABORT_REFERENCES_MAX: usize = 10_000;

/// An upload with all its parts, and what has to hold for that to be all.
struct Gathered {
    upload: Placed<UploadRecord>,
    /// Commits of parts when they were read.
    commits: i64,
    parts: BTreeMap<PartNumber, PartRecord>,
}

impl Gathered {
    /// The parts up to this number, as who completes names them.
    fn named(&self, total: u16) -> Vec<CompletePart> {
        let parts = self.parts.iter().take_while(|(number, _)| number.get() <= total);
        let named = |(number, part): (&PartNumber, &PartRecord)| {
            let etag = ETag::of_md5(part.md5);
            CompletePart { number: *number, etag, checksum: None }
        };
        parts.map(named).collect()
    }
}

impl Store {
    /// Begins an upload. Durable on return.
    ///
    /// # Errors
    /// `NotFound(Bucket)`, `Denied`, `Invalid` (tags; a checksum that cannot cover the object so).
    pub async fn create_upload(&self, cx: &Cx, create: CreateUpload) -> Result<Upload> {
        let CreateUpload { at, attributes, checksum } = create;
        check_tags(&attributes.tags)?;
        check_checksum(checksum)?;
        let id = UploadId(self.inner.options.ids.next());
        let note = note(cx, "CreateMultipartUpload", &at);
        let mut tries = self.inner.turns.tries(Vec::new());
        loop {
            tries.begin().await;
            let admitted = self.admit(cx, &at, &Conditions::default(), !attributes.tags.is_empty()).await?;
            let bucket = admitted.bucket;
            let record = UploadRecord {
                initiator: cx.principal.user(),
                organisation: counts_for(cx, &bucket.value, &at.key),
                created_ms: self.now_ms(),
                attributes: attributes.clone(),
                checksum,
                slot: None,
                unknown: Vec::new(),
            };
            let row = keys::upload(bucket.value.id, &at.key, id);
            let mut plan = Plan::new(&bucket);
            plan.checks.push(Check::Absent(row.clone()));
            plan.writes.push(Write::Put(row, record.encode()));
            match self.commit(&at.bucket, plan, Some(&note)).await? {
                Turn::Done(_) => return Ok(record.upload(id, at)),
                Turn::Lost(row) => tries.lost(row)?,
            }
        }
    }

    /// Makes the parts the current version. Durable on return; copies no bytes. Completing twice with the same parts
    /// gives the same answer while the version is current.
    ///
    /// # Errors
    /// `NotFound(Upload)`, `BadParts`, `ChecksumMismatch`, `Precondition`, as [`Store::put`].
    pub async fn complete_upload(&self, cx: &Cx, complete: CompleteUpload) -> Result<Stored> {
        self.complete_by(cx, complete, Rule::Parts).await
    }

    /// The same by other rules than S3's.
    pub(super) async fn complete_by(
        &self,
        cx: &Cx,
        mut complete: CompleteUpload,
        rule: Rule,
    ) -> Result<Stored> {
        let (at, id) = (complete.at.clone(), complete.upload);
        let at = &at;
        for _ in 0..RESTARTS_MAX {
            let key = Some(at.key.as_str());
            let bucket = self.allowed_bucket(cx, &at.bucket, Action::PutObject, key, None).await?.value;
            let Some(gathered) = self.gather(cx, Action::PutObject, &bucket, at, id).await? else {
                return self.completed(cx, &complete, rule).await;
            };
            if let Rule::Chunks { total } = rule {
                complete.parts = gathered.named(total);
            }
            match self.try_complete(cx, &complete, &bucket, gathered, rule).await {
                // parts came meanwhile, another completion was faster, or the bucket has changed
                Err(Error::Busy) => {}
                other => return other,
            }
        }
        Err(Error::Busy)
    }

    async fn try_complete(
        &self,
        cx: &Cx,
        complete: &CompleteUpload,
        bucket: &Bucket,
        gathered: Gathered,
        rule: Rule,
    ) -> Result<Stored> {
        let (at, id) = (&complete.at, complete.upload);
        let (gathered, mut composed) = composed(gathered, complete.clone(), rule).await?;
        let upload = &gathered.upload.value;
        let has_tags = !upload.attributes.tags.is_empty();
        let admitted = self.admit(cx, at, &complete.conditions, has_tags).await?;
        let sha256 = match rule {
            Rule::Parts => self.digest_extents(bucket, &composed.extents, composed.size_bytes).await?,
            Rule::Chunks { .. } => {
                let sha256 = self.hash_extents(&composed.extents).await?;
                composed.etag = ETag::of_sha256(&sha256);
                Digest::Known(sha256)
            }
        };
        let size_bytes = composed.size_bytes;
        let place = match sha256 {
            Digest::Known(sha256) if size_bytes > 0 => {
                self.known_place(&composed.extents, sha256, id.0).await?
            }
            Digest::Known(_) | Digest::Pending => None,
        };
        let in_file = composed.extents.iter().filter(|e| e.blob == BlobId::Parts(id));
        let in_file = in_file.map(|e| e.offset + e.len).max();
        if let Some(place) = &place {
            composed.extents = place.extents(size_bytes);
        }
        let extents = composed.extents.clone();
        let version = version_of(id, upload, composed, sha256);
        let has_pages = matches!(version.manifest, Manifest::Paged { .. });
        let upload_row = keys::upload(bucket.id, &at.key, id);
        let mut writes = vec![Write::Delete(upload_row.clone()), Write::Delete(part_commits(id))];
        writes.extend(gathered.parts.keys().map(|number| Write::Delete(keys::part(id, *number))));
        let mut checks = vec![
            Check::At(upload_row, gathered.upload.position),
            Check::AtMost(part_commits(id), gathered.commits),
        ];
        if has_pages {
            checks.push(Check::Absent(keys::manifest_page(id, 0)));
            writes.extend(page_writes(id, &extents));
        }
        let extend = |plan: &mut Plan| {
            hand_over(plan, id, &gathered, &extents, has_pages);
            if let Some(place) = &place {
                place.plan(plan, size_bytes);
            }
            let bytes: u64 = gathered.parts.values().map(|part| part.size_bytes).sum();
            plan.count_unfinished(upload.initiator, upload.organisation, -signed(bytes));
        };
        let incoming = Incoming {
            at,
            version,
            blobs: Vec::new(),
            conditions: &complete.conditions,
            note: note(cx, "CompleteMultipartUpload", at),
            checks,
            writes,
            extend: Some(Extend(Box::new(extend))),
        };
        let (stored, _) = self.make_current(cx, admitted, incoming).await?;
        self.inner.blobs.forget_parts(id, in_file);
        Ok(stored)
    }

    /// The answer to completing again: the version, while it is current and the parts named are its parts.
    async fn completed(&self, cx: &Cx, complete: &CompleteUpload, rule: Rule) -> Result<Stored> {
        let CompleteUpload { at, upload, parts, .. } = complete;
        let bucket = self.find_bucket(&at.bucket).await?.value;
        let missing = || Error::NotFound(Missing::Upload(*upload));
        let head = self.find_head(&bucket, &at.key).await?.map(|head| head.value);
        let version = head.filter(|head| head.id == VersionId(upload.0)).ok_or_else(missing)?;
        self.ask(cx, Action::PutObject, &bucket, Some(&at.key), Some(&version))?;
        if rule == Rule::Parts && etag_of(parts)? != version.etag {
            return Err(missing());
        }
        Ok(Stored { version, versioning: bucket.versioning })
    }

    /// The SHA-256 of what is composed, where it is wanted before the answer.
    pub(crate) async fn digest_extents(
        &self,
        bucket: &Bucket,
        extents: &[Extent],
        size_bytes: u64,
    ) -> Result<Digest> {
        let is_shown = matches!(bucket.place, Some(BuiltIn::Filing | BuiltIn::Media));
        let is_hashed_now = is_shown && size_bytes <= HASHED_BYTES_MAX;
        if !is_hashed_now && size_bytes > 0 {
            return Ok(Digest::Pending);
        }
        self.hash_extents(extents).await.map(Digest::Known)
    }

    async fn hash_extents(&self, extents: &[Extent]) -> Result<Sha256> {
        let body = self.inner.blobs.read(self.inner.kv(), extents.to_vec()).await?;
        Ok(hash_stream(body.ok_or(Error::Busy)?, &Wanted::default()).await?.sha256)
    }

    /// Forgets an upload and its parts; their bytes go with the next sweeps.
    ///
    /// # Errors
    /// `NotFound(Bucket, Upload)`, `Denied`, `Hidden`.
    pub async fn abort_upload(&self, cx: &Cx, at: At, upload: UploadId) -> Result<()> {
        let note = note(cx, "AbortMultipartUpload", &at);
        let mut tries = self.inner.turns.tries(Vec::new());
        loop {
            tries.begin().await;
            let (action, key) = (Action::AbortMultipartUpload, Some(at.key.as_str()));
            let bucket = self.allowed_bucket(cx, &at.bucket, action, key, None).await?;
            let gathered = self.gather(cx, action, &bucket.value, &at, upload).await?;
            let gathered = gathered.ok_or(Error::NotFound(Missing::Upload(upload)))?;
            let mut plan = Plan::new(&bucket);
            plan.may_use_reserve = true;
            let is_last = plan_abort(&mut plan, &bucket.value, &at, upload, &gathered);
            match self.commit(&at.bucket, plan, is_last.then_some(&note)).await? {
                Turn::Done(_) if is_last => break,
                Turn::Done(_) => {}
                Turn::Lost(row) => tries.lost(row)?,
            }
        }
        self.inner.blobs.forget_parts(upload, None);
        Ok(())
    }

    /// An upload with its parts; `None`: there is none that they may do this to. The counter is read first: parts
    /// that come after it make the check of it fail.
    async fn gather(
        &self,
        cx: &Cx,
        action: Action,
        bucket: &Bucket,
        at: &At,
        id: UploadId,
    ) -> Result<Option<Gathered>> {
        let kv = self.inner.kv();
        let commits = kv.counter(&part_commits(id)).await?;
        let upload = match self.allowed_upload(cx, action, bucket, &at.key, id).await {
            Ok(upload) => upload,
            Err(Error::NotFound(Missing::Upload(_))) => return Ok(None),
            Err(error) => return Err(error),
        };
        let rows = kv.rows(Scan::forward(parts_from(id, 1)), usize::from(PART_NUMBER_MAX)).await?;
        let mut parts = BTreeMap::new();
        for (row, entry) in rows {
            let (_, number) = parse_part(&row)?;
            parts.insert(PartNumber::try_from(i64::from(number))?, PartRecord::decode(&entry.value)?);
        }
        Ok(Some(Gathered { upload, commits, parts }))
    }
}

/// Composes off the async threads: combining the CRCs of 10,000 parts takes a second.
async fn composed(gathered: Gathered, complete: CompleteUpload, rule: Rule) -> Result<(Gathered, Composed)> {
    let work = move || {
        let composed = compose(&gathered.upload.value, &gathered.parts, &complete, rule)?;
        Ok((gathered, composed))
    };
    let doing = "composing an upload";
    let result = tokio::task::spawn_blocking(work).await;
    result.map_err(|error| Error::Internal { doing, source: error.into() })?
}

/// The record of the completed version.
fn version_of(id: UploadId, upload: &UploadRecord, composed: Composed, sha256: Digest) -> Version {
    let Composed { etag, size_bytes, crc64nvme, checksum, sniffed_type, extents, parts } = composed;
    let manifest = manifest_of(id, &extents);
    Version {
        id: VersionId(id.0),
        is_null: false,
        sequence: 0,
        ino: 0,
        ids: ObjectIds::default(),
        owner: upload.initiator,
        organisation: upload.organisation,
        writer: upload.initiator,
        size_bytes,
        modified_ms: 0,
        etag,
        sha256,
        crc64nvme: Some(crc64nvme),
        checksums: checksum.into_iter().collect(),
        sniffed_type,
        attributes: upload.attributes.clone(),
        manifest,
        parts: Some(parts),
        unknown: Vec::new(),
    }
}

/// The manifest of these extents: in the record, or in pages that [`page_writes`] writes.
pub(crate) fn manifest_of(id: UploadId, extents: &[Extent]) -> Manifest {
    if extents.len() <= EXTENTS_INLINE_MAX {
        Manifest::Inline(extents.to_vec())
    } else {
        let pages = u32::try_from(extents.len().div_ceil(PAGE_EXTENTS)).unwrap_or(u32::MAX);
        Manifest::Paged { id, pages }
    }
}

pub(crate) fn page_writes(id: UploadId, extents: &[Extent]) -> Vec<Write> {
    let pages = extents.chunks(PAGE_EXTENTS).zip(0..);
    pages.map(|(page, n)| Write::Put(keys::manifest_page(id, n), encode_page(page))).collect()
}

/// Hands the parts' references over. The version's own (few extents) are added by the planner; a manifest's are
/// added here, its id being the upload's.
fn hand_over(plan: &mut Plan, id: UploadId, gathered: &Gathered, extents: &[Extent], has_pages: bool) {
    for (number, part) in &gathered.parts {
        for (blob, owner) in part.held(id, *number) {
            plan.refs.remove(blob, owner);
        }
    }
    let used: BTreeSet<BlobId> = extents.iter().map(|extent| extent.blob).collect();
    if has_pages {
        for blob in &used {
            plan.refs.add(*blob, id.0, None);
        }
    }
    if gathered.upload.value.slot.is_some() && !used.contains(&BlobId::Parts(id)) {
        plan.refs.remove(BlobId::Parts(id), id.0);
    }
}

/// Plans to forget as many parts as fit; `true`: and the upload with them.
fn plan_abort(plan: &mut Plan, bucket: &Bucket, at: &At, id: UploadId, gathered: &Gathered) -> bool {
    let upload = &gathered.upload;
    let upload_row = keys::upload(bucket.id, &at.key, id);
    plan.checks.push(Check::At(upload_row.clone(), upload.position));
    plan.checks.push(Check::AtMost(part_commits(id), gathered.commits));
    let (mut references, mut bytes, mut is_last) = (0, 0, true);
    for (number, part) in &gathered.parts {
        if references > ABORT_REFERENCES_MAX {
            is_last = false;
            break;
        }
        for (blob, owner) in part.held(id, *number) {
            plan.refs.remove(blob, owner);
            references += 1;
        }
        plan.writes.push(Write::Delete(keys::part(id, *number)));
        bytes += part.size_bytes;
    }
    plan.count_unfinished(upload.value.initiator, upload.value.organisation, -signed(bytes));
    if is_last {
        plan.writes.push(Write::Delete(upload_row));
        plan.writes.push(Write::Delete(part_commits(id)));
        if upload.value.slot.is_some() {
            plan.refs.remove(BlobId::Parts(id), id.0);
        }
    } else {
        plan.writes.push(Write::Add(part_commits(id), 1));
    }
    is_last
}

/// A CRC can be combined, a SHA cannot; CRC-64/NVME is always of the whole (S3).
fn check_checksum(checksum: Option<(Algorithm, UploadChecksum)>) -> Result<()> {
    match checksum {
        Some(
            (Algorithm::Crc64Nvme, UploadChecksum::Composite)
            | (Algorithm::Sha1 | Algorithm::Sha256, UploadChecksum::FullObject),
        ) => Err(Error::Invalid { what: "checksum type" }),
        _ => Ok(()),
    }
}
