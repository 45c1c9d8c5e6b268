//! Listing by seeking: prefix, delimiter, pages, versions (S3 ListObjects, ListObjectsV2, ListObjectVersions).

use crate::object::{HistoryEntry, Version};
use crate::{BucketName, Cx, Result, Store, VersionRef};

/// Most entries and common prefixes of one page (S3).
pub const PAGE_MAX: usize = 1000;

/// What to list.
#[derive(Clone, Debug)]
pub struct List {
    /// Of which bucket.
    pub bucket: BucketName,
    /// Only keys that begin so; empty: all.
    pub prefix: String,
    /// Roll keys up at the first of these after the prefix; empty: do not.
    pub delimiter: String,
    /// Begin after this: a key, or a common prefix (all of whose keys are then skipped); empty: at the beginning.
    pub after: String,
    /// Most entries and common prefixes together; over [`PAGE_MAX`] counts as that.
    pub limit: usize,
}

/// A page of current versions.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Keys and their current versions, in UTF-8 byte order.
    pub entries: Vec<(String, Version)>,
    /// Common prefixes, in order; interleaved with the entries they make up the page.
    pub common_prefixes: Vec<String>,
    /// What to give as `after` for the next page: the last entry or common prefix of this one; `None`: no more.
    pub next_after: Option<String>,
}

/// What to list of all versions.
#[derive(Clone, Debug)]
pub struct ListVersions {
    /// Bucket, prefix, delimiter, limit; `after` is the key marker.
    pub list: List,
    /// With a key marker: begin after this version of that key; `None`: after all of them.
    pub after_version: Option<VersionRef>,
}

/// A page of all versions and delete markers.
#[derive(Clone, Debug, Default)]
pub struct VersionsPage {
    /// Key, entry, whether it is the key's latest; keys ascend, a key's versions go from new to old.
    pub entries: Vec<(String, HistoryEntry, bool)>,
    /// Common prefixes, in order.
    pub common_prefixes: Vec<String>,
    /// Key marker and version marker of the next page; `None`: no more.
    pub next: Option<(String, Option<VersionRef>)>,
}

impl Store {
    /// A page of a bucket's current versions. In the built-in buckets only what the caller may read (contract D2).
    ///
    /// # Errors
    /// `NotFound(Bucket)`, `Denied`, `Hidden`.
    pub async fn list(&self, _cx: &Cx, _list: List) -> Result<Page> {
        todo!("written next")
    }

    /// A page of a bucket's versions and delete markers.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn list_versions(&self, _cx: &Cx, _list: ListVersions) -> Result<VersionsPage> {
        todo!("written next")
    }
}
