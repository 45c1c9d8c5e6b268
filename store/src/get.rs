//! Reading an object: its record, and its bytes by ranges.

use std::ops::Range;

use crate::condition::{Conditions, RangeRequest};
use crate::object::{At, Version, Versioning};
use crate::{ByteStream, Cx, Result, Store, VersionRef};

/// What to read.
#[derive(Clone, Debug)]
pub struct GetObject {
    /// Which object.
    pub at: At,
    /// Which version; `None`: the current one.
    pub version: Option<VersionRef>,
    /// What has to hold of it.
    pub conditions: Conditions,
    /// Which bytes; `None`: all.
    pub range: Option<RangeRequest>,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The version.
    pub version: Version,
    /// The bucket's versioning: with `Off` doors show no version id.
    pub versioning: Versioning,
    /// The bytes selected, half open; `None` when all are.
    pub range: Option<Range<u64>>,
    /// How many parts the version has, when a part was asked for.
    pub parts_count: Option<u32>,
}

impl Store {
    /// The record.
    ///
    /// # Errors
    /// `NotFound(Bucket, Key, DeleteMarker, Version)`, `Hidden`, `Denied`, `NotModified`, `Precondition`,
    /// `InvalidRange`. Who may not list the bucket learns `Denied` in place of `NotFound(Key)`.
    pub async fn head(&self, _cx: &Cx, _get: GetObject) -> Result<Found> {
        todo!("written next")
    }

    /// The record and a stream over the selected bytes. The blobs stay while the stream lives; a damaged one ends it
    /// with an error.
    ///
    /// # Errors
    /// As [`Store::head`], and `Corrupt` when a blob is in quarantine.
    pub async fn get(&self, _cx: &Cx, _get: GetObject) -> Result<(Found, ByteStream)> {
        todo!("written next")
    }

    /// The version whose tags are asked for (`GetObjectTagging`); the tags are in its attributes.
    pub async fn tags(&self, _cx: &Cx, _at: At, _version: Option<VersionRef>) -> Result<Found> {
        todo!("written next")
    }

    /// Replaces a version's tags; an empty list deletes them (`PutObjectTagging`, `DeleteObjectTagging`).
    ///
    /// # Errors
    /// As [`Store::head`], `Invalid { what: "tags" }` (over 10, a key over 128 or a value over 256 characters, twice).
    pub async fn set_tags(
        &self,
        _cx: &Cx,
        _at: At,
        _version: Option<VersionRef>,
        _tags: Vec<(String, String)>,
    ) -> Result<Found> {
        todo!("written next")
    }
}
