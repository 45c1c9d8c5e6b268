//! Storing an object: authorise, stage, publish, commit.

use std::collections::BTreeSet;

use crate::blob::{Staged, Wants};
use crate::commit::{Committed, note};
use crate::condition::Conditions;
use crate::digest::{Algorithm, Checksum, ETag, Sha256};
use crate::incoming::{Admitted, Incoming};
use crate::object::{At, Attributes, Digest, Door, Extent, Manifest, ObjectIds, Version, Versioning};
use crate::sniff::sniff;
use crate::{ByteStream, Cx, Error, ObjectKey, Result, Store, VersionId};

/// Checksums a client claims for a body. All are verified; a mismatch stores nothing.
#[derive(Default)]
pub struct Claims {
    /// `Content-MD5`.
    pub md5: Option<[u8; 16]>,
    /// The SHA-256 that the request was signed with.
    pub signed_sha256: Option<[u8; 32]>,
    /// `x-amz-checksum-*`: verified and kept with the version.
    pub checksums: Vec<Checksum>,
    /// Algorithms announced by `x-amz-trailer` or `x-amz-sdk-checksum-algorithm`: computed along the way and kept.
    pub compute: Vec<Algorithm>,
    /// Called once the body has ended: the checksums that came in its trailer, verified like the others.
    pub trailer: Option<Box<dyn FnOnce() -> Result<Vec<Checksum>> + Send>>,
}

/// A whole object on its way in.
pub struct PutObject {
    /// Where to.
    pub at: At,
    /// What goes with it.
    pub attributes: Attributes,
    /// The bytes.
    pub body: ByteStream,
    /// How many are announced; fewer or more is `IncompleteBody`.
    pub size_bytes: Option<u64>,
    /// What the client claims of them.
    pub claims: Claims,
    /// What has to hold of the object that is there.
    pub conditions: Conditions,
}

/// Bytes that were received whole and have no place yet. Dropped, they go. Small ones are in memory.
#[derive(Debug)]
pub struct StagedObject(pub(crate) Staged);

impl StagedObject {
    /// How many there are.
    pub fn size_bytes(&self) -> u64 {
        self.0.size_bytes
    }

    /// Their SHA-256.
    pub fn sha256(&self) -> Sha256 {
        self.0.sha256
    }

    /// The first 4 KiB: what tells the type.
    pub fn head(&self) -> &bytes::Bytes {
        &self.0.head
    }
}

/// What a write left behind.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The new current version.
    pub version: Version,
    /// The bucket's versioning: with `Off` doors show no version id.
    pub versioning: Versioning,
}

impl Store {
    /// Stores an object and makes it the current version. Durable on return; dropped before, nothing is stored.
    ///
    /// # Errors
    /// `Denied`, `NotFound(Bucket)`, `Precondition`, `ChecksumMismatch`, `IncompleteBody`, `TooLarge`,
    /// `QuotaExceeded`, `NoSpace`.
    pub async fn put(&self, cx: &Cx, put: PutObject) -> Result<Stored> {
        let PutObject { at, attributes, body, size_bytes, claims, conditions } = put;
        check_tags(&attributes.tags)?;
        let admitted = self.admit(cx, &at, &conditions, !attributes.tags.is_empty()).await?;
        let staged = self.take_in(cx, body, size_bytes, claims).await?;
        self.make_staged_current(cx, admitted, at, attributes, staged, &conditions).await
    }

    /// Receives an object's bytes before it is known where it will be: a form may say so behind them. `at` is a place
    /// like that one, for the question whether they may. Dropped, nothing is stored.
    ///
    /// # Errors
    /// As [`Store::put`] until its bytes are there.
    pub async fn stage(
        &self,
        cx: &Cx,
        at: &At,
        body: ByteStream,
        size_bytes: Option<u64>,
        claims: Claims,
    ) -> Result<StagedObject> {
        self.admit(cx, at, &Conditions::default(), false).await?;
        self.take_in(cx, body, size_bytes, claims).await.map(StagedObject)
    }

    /// Makes staged bytes the current version. Durable on return.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn put_staged(
        &self,
        cx: &Cx,
        at: At,
        attributes: Attributes,
        staged: StagedObject,
        conditions: &Conditions,
    ) -> Result<Stored> {
        check_tags(&attributes.tags)?;
        let admitted = self.admit(cx, &at, conditions, !attributes.tags.is_empty()).await?;
        self.make_staged_current(cx, admitted, at, attributes, staged.0, conditions).await
    }

    async fn take_in(
        &self,
        cx: &Cx,
        body: ByteStream,
        size_bytes: Option<u64>,
        claims: Claims,
    ) -> Result<Staged> {
        // the mount's ETag is made of the SHA-256 (contract D40)
        let wants = Wants { md5: cx.door != Door::Mount };
        self.inner.blobs.take_in(body, size_bytes, claims, wants).await
    }

    async fn make_staged_current(
        &self,
        cx: &Cx,
        admitted: Admitted,
        at: At,
        attributes: Attributes,
        mut staged: Staged,
        conditions: &Conditions,
    ) -> Result<Stored> {
        self.inner.blobs.publish(&mut staged).await?;
        let version = self.version_of(cx, &at.key, attributes, &staged);
        let incoming = Incoming {
            at: &at,
            version,
            blobs: staged.new_blob().into_iter().collect(),
            conditions,
            note: note(cx, "PutObject", &at),
            checks: Vec::new(),
            writes: Vec::new(),
            extend: None,
        };
        let made = self.make_current(cx, admitted, incoming).await;
        settle(staged, made)
    }

    /// The record of what was staged.
    pub(crate) fn version_of(
        &self,
        cx: &Cx,
        key: &ObjectKey,
        attributes: Attributes,
        staged: &Staged,
    ) -> Version {
        let size_bytes = staged.size_bytes;
        let extent = Extent { blob: staged.blob(), offset: 0, len: size_bytes };
        Version {
            id: VersionId(self.inner.options.ids.next()),
            is_null: false,
            sequence: 0,
            ino: 0,
            ids: ObjectIds::default(),
            owner: cx.principal.user(),
            organisation: cx.principal.organisation,
            writer: cx.principal.user(),
            size_bytes,
            modified_ms: 0,
            etag: staged.md5.map_or_else(|| ETag::of_sha256(&staged.sha256), ETag::of_md5),
            sha256: Digest::Known(staged.sha256),
            crc64nvme: Some(staged.crc64nvme),
            checksums: staged.checksums.clone(),
            sniffed_type: sniff(&staged.head, key.as_str()).map(str::to_owned),
            attributes,
            manifest: Manifest::Inline(if size_bytes == 0 { Vec::new() } else { vec![extent] }),
            parts: None,
            unknown: Vec::new(),
        }
    }
}

/// Tells what was staged how its commit ended.
pub(crate) fn settle(staged: Staged, made: Result<(Stored, Committed)>) -> Result<Stored> {
    match made {
        Ok((stored, committed)) => {
            let used = committed.refs.used(&staged.blob());
            staged.settle(used);
            Ok(stored)
        }
        Err(error) => {
            if !error.leaves_doubt() {
                staged.settle(false);
            }
            Err(error)
        }
    }
}

/// Most tags of an object, longest key and value in characters (S3).
const TAGS_MAX: usize = 10;
const TAG_KEY_MAX: usize = 128;
const TAG_VALUE_MAX: usize = 256;

/// Refuses an object's tags that S3 would.
pub(crate) fn check_tags(tags: &[(String, String)]) -> Result<()> {
    if tags.len() > TAGS_MAX {
        return Err(Error::Invalid { what: "tags" });
    }
    check_tag_texts(tags)
}

/// Refuses tags whose names or values are too long, or whose names occur twice.
pub(crate) fn check_tag_texts(tags: &[(String, String)]) -> Result<()> {
    let fits = |(key, value): &(String, String)| {
        (1..=TAG_KEY_MAX).contains(&key.chars().count()) && value.chars().count() <= TAG_VALUE_MAX
    };
    let names: BTreeSet<&str> = tags.iter().map(|(key, _)| key.as_str()).collect();
    if names.len() < tags.len() || !tags.iter().all(fits) {
        return Err(Error::Invalid { what: "tags" });
    }
    Ok(())
}
