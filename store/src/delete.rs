//! Deleting: a version for good, or the key by a delete marker.

use crate::condition::Conditions;
use crate::object::{At, Versioning};
use crate::{BucketName, Cx, ObjectKey, Result, Store, VersionId, VersionRef};

/// What to delete.
#[derive(Clone, Debug)]
pub struct DeleteObject {
    /// Which object.
    pub at: At,
    /// A version for good; `None`: the key, which with versioning leaves a delete marker.
    pub version: Option<VersionRef>,
    /// What has to hold of the current version (`If-Match` and kin).
    pub conditions: Conditions,
}

/// What a delete did. Deleting what is not there is fine and does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// The version removed, or the delete marker made; `None` without versioning.
    pub version: Option<VersionId>,
    /// It is the `null` version.
    pub is_null: bool,
    /// A delete marker was made, or the version removed was one.
    pub is_delete_marker: bool,
    /// The bucket's versioning.
    pub versioning: Versioning,
}

/// One of many (`DeleteObjects`).
#[derive(Clone, Debug)]
pub struct DeleteOne {
    /// Which key.
    pub key: ObjectKey,
    /// As in [`DeleteObject`].
    pub version: Option<VersionRef>,
    /// As in [`DeleteObject`].
    pub conditions: Conditions,
}

impl Store {
    /// Deletes a version or the key. Durable on return.
    ///
    /// # Errors
    /// `NotFound(Bucket)`, `Denied`, `Hidden`, `Precondition`, `Retained`.
    pub async fn delete(&self, _cx: &Cx, _delete: DeleteObject) -> Result<Deleted> {
        todo!("written next")
    }

    /// Deletes up to 1,000 keys of a bucket, in as few commits as fit; one answer for each, in order.
    ///
    /// # Errors
    /// `NotFound(Bucket)`, `TooLarge`; what fails for one key stands in its place.
    pub async fn delete_many(
        &self,
        _cx: &Cx,
        _bucket: &BucketName,
        _ones: Vec<DeleteOne>,
    ) -> Result<Vec<Result<Deleted>>> {
        todo!("written next")
    }
}
