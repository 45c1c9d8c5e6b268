//! Reading an object: its record, and its bytes by ranges.

use std::ops::Range;

use crate::blob::slice;
use crate::codec::keys;
use crate::codec::object::decode_page;
use crate::commit::{RESTARTS_MAX, Turn, check_size, note};
use crate::condition::{Conditions, RangeRequest, decide_read, resolve_range};
use crate::error::{Error, Missing};
use crate::object::{At, Bucket, Extent, HistoryEntry, Manifest, Version, Versioning};
use crate::plan::{Placed, Plan};
use crate::put::check_tags;
use crate::{Action, ByteStream, Cx, Result, Store, VersionRef};

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
    pub async fn head(&self, cx: &Cx, get: GetObject) -> Result<Found> {
        let actions = (Action::GetObject, Action::GetObjectVersion);
        let (bucket, version, _) = self.version_at(cx, &get.at, get.version, actions).await?;
        select(bucket.value.versioning, version.value, &get)
    }

    /// The record and a stream over the selected bytes. The blobs stay while the stream lives; a damaged one ends it
    /// with an error.
    ///
    /// # Errors
    /// As [`Store::head`], and `Corrupt` when a blob is in quarantine.
    pub async fn get(&self, cx: &Cx, get: GetObject) -> Result<(Found, ByteStream)> {
        for _ in 0..RESTARTS_MAX {
            let found = self.head(cx, get.clone()).await?;
            let all = 0..found.version.size_bytes;
            if let Some(bytes) = self.read(&found.version, found.range.clone().unwrap_or(all)).await? {
                return Ok((found, bytes));
            }
            // the version was replaced and swept between its record and its bytes: read the record again
        }
        Err(Error::Corrupt { what: "a version refers to a blob that is not there".into() })
    }

    /// The version whose tags are asked for (`GetObjectTagging`); the tags are in its attributes.
    pub async fn tags(&self, cx: &Cx, at: At, version: Option<VersionRef>) -> Result<Found> {
        let actions = (Action::GetObjectTagging, Action::GetObjectVersionTagging);
        let (bucket, found, _) = self.version_at(cx, &at, version, actions).await?;
        Ok(found_whole(found.value, bucket.value.versioning))
    }

    /// Replaces a version's tags; an empty list deletes them (`PutObjectTagging`, `DeleteObjectTagging`).
    ///
    /// # Errors
    /// As [`Store::head`], `Invalid { what: "tags" }` (over 10, a key over 128 or a value over 256 characters, twice).
    pub async fn set_tags(
        &self,
        cx: &Cx,
        at: At,
        version: Option<VersionRef>,
        tags: Vec<(String, String)>,
    ) -> Result<Found> {
        check_tags(&tags)?;
        let action = if tags.is_empty() { Action::DeleteObjectTagging } else { Action::PutObjectTagging };
        let note = note(cx, if tags.is_empty() { "DeleteObjectTagging" } else { "PutObjectTagging" }, &at);
        let mut tries = self.inner.turns.tries(Vec::new());
        loop {
            tries.begin().await;
            let actions = (action, Action::PutObjectVersionTagging);
            let (bucket, old, is_current) = self.version_at(cx, &at, version, actions).await?;
            let mut new = old.value.clone();
            new.attributes.tags.clone_from(&tags);
            check_size(&new)?;
            let mut plan = Plan::new(&bucket);
            plan.replace(&at.key, &old, &new, is_current, &[]);
            match self.commit(&at.bucket, plan, Some(&note)).await? {
                Turn::Done(_) => return Ok(found_whole(new, bucket.value.versioning)),
                Turn::Lost(row) => tries.lost(row)?,
            }
        }
    }

    /// The version meant, if the caller may do this to it: `actions` without and with a version named.
    pub(crate) async fn version_at(
        &self,
        cx: &Cx,
        at: &At,
        which: Option<VersionRef>,
        actions: (Action, Action),
    ) -> Result<(Placed<Bucket>, Placed<Version>, bool)> {
        let bucket = self.find_bucket(&at.bucket).await?;
        let key = &at.key;
        let action = if which.is_some() { actions.1 } else { actions.0 };
        let Some(found) = self.find_entry(&bucket.value, key, which).await? else {
            let missing =
                if which.is_some() { Missing::Version(key.clone()) } else { Missing::Key(key.clone()) };
            return Err(self.missing(cx, &bucket.value, key, missing));
        };
        match found.entry.value {
            HistoryEntry::DeleteMarker(marker) => {
                let missing = Missing::DeleteMarker(key.clone(), marker.id);
                Err(self.missing(cx, &bucket.value, key, missing))
            }
            HistoryEntry::Version(version) => {
                self.ask(cx, action, &bucket.value, Some(key), Some(&version))?;
                Ok((bucket, Placed { value: *version, position: found.entry.position }, found.is_current))
            }
        }
    }

    /// A stream over a range of a version's bytes; `None`: a row of its content has gone.
    pub(crate) async fn read(&self, version: &Version, range: Range<u64>) -> Result<Option<ByteStream>> {
        let Some(extents) = self.extents(version, range).await? else { return Ok(None) };
        self.inner.blobs.read(self.inner.kv(), extents).await
    }

    /// The extents of a range of a version's bytes; `None`: a page of its manifest has gone.
    pub(crate) async fn extents(&self, version: &Version, range: Range<u64>) -> Result<Option<Vec<Extent>>> {
        let (id, pages) = match &version.manifest {
            Manifest::Inline(extents) => return Ok(Some(slice(extents, range))),
            Manifest::Paged { id, pages } => (*id, *pages),
        };
        let mut extents = Vec::new();
        let mut begin = 0;
        for page in 0..pages {
            if begin >= range.end {
                break;
            }
            let row = keys::manifest_page(id, page);
            let Some(entry) = self.inner.kv().get(&row).await? else { return Ok(None) };
            let page = decode_page(&entry.value)?;
            let end = begin + page.iter().map(|extent| extent.len).sum::<u64>();
            let within = range.start.max(begin)..range.end.min(end).max(begin);
            extents.extend(slice(&page, within.start.min(within.end) - begin..within.end - begin));
            begin = end;
        }
        Ok(Some(extents))
    }
}

fn found_whole(version: Version, versioning: Versioning) -> Found {
    Found { version, versioning, range: None, parts_count: None }
}

/// Applies a read's conditions and range to what was found.
fn select(versioning: Versioning, version: Version, get: &GetObject) -> Result<Found> {
    decide_read(&get.conditions, &version)?;
    let range = match get.range {
        None => None,
        Some(range) => resolve_range(range, version.size_bytes, version.parts.as_ref())?,
    };
    let parts_count = match (get.range, &version.parts) {
        (Some(RangeRequest::Part(_)), Some(parts)) => Some(parts.count()),
        _ => None,
    };
    Ok(Found { version, versioning, range, parts_count })
}
