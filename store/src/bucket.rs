//! Buckets and their settings.

use crate::object::{Bucket, Versioning};
use crate::{BucketName, Cx, Result, Store};

/// A change of one setting, with the action it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Setting {
    /// `PutBucketVersioning`; never back to `Off`.
    Versioning(Versioning),
    /// `PutBucketTagging`, `DeleteBucketTagging` (empty).
    Tags(Vec<(String, String)>),
    /// `PutBucketPolicy`, `DeleteBucketPolicy` (`None`). The text is checked by who gives it.
    Policy(Option<String>),
    /// `PutPublicAccessBlock`.
    BlocksPublic(bool),
}

/// A page of buckets.
#[derive(Clone, Debug, Default)]
pub struct BucketsPage {
    /// By name.
    pub buckets: Vec<Bucket>,
    /// What to give as `after` for the next page; `None`: no more.
    pub next_after: Option<String>,
}

impl Store {
    /// Makes a bucket that belongs to the caller (`owner` for the command line).
    ///
    /// # Errors
    /// `Exists` (the error's reader asks [`Store::bucket`] whether it is the caller's own), `Denied`.
    pub async fn create_bucket(
        &self,
        _cx: &Cx,
        _name: BucketName,
        _owner: Option<crate::UserId>,
    ) -> Result<Bucket> {
        todo!("written next")
    }

    /// A bucket, for the action given (`HeadBucket` is `ListBucket`).
    ///
    /// # Errors
    /// `NotFound(Bucket)`, `Denied`, `Hidden`.
    pub async fn bucket(&self, _cx: &Cx, _name: &BucketName, _action: crate::Action) -> Result<Bucket> {
        todo!("written next")
    }

    /// The buckets the caller may list, after a name, with a prefix.
    pub async fn list_buckets(
        &self,
        _cx: &Cx,
        _prefix: &str,
        _after: &str,
        _limit: usize,
    ) -> Result<BucketsPage> {
        todo!("written next")
    }

    /// Removes an empty bucket: no versions, delete markers or uploads.
    ///
    /// # Errors
    /// `NotEmpty`, `NotFound(Bucket)`, `Denied` (also for built-in ones).
    pub async fn delete_bucket(&self, _cx: &Cx, _name: &BucketName) -> Result<()> {
        todo!("written next")
    }

    /// Changes a setting.
    pub async fn set_bucket(&self, _cx: &Cx, _name: &BucketName, _setting: Setting) -> Result<Bucket> {
        todo!("written next")
    }
}
