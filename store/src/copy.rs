//! Copying on the server: a new version that refers to the same blobs; no bytes move.

use crate::condition::Conditions;
use crate::digest::Algorithm;
use crate::object::{At, Attributes};
use crate::put::Stored;
use crate::{Cx, Result, Store, VersionRef};

/// What to copy. The source's conditions are those of `x-amz-copy-source-if-*`.
#[derive(Clone, Debug)]
pub struct CopyObject {
    /// From.
    pub source: At,
    /// Which version of it.
    pub source_version: Option<VersionRef>,
    /// What has to hold of the source.
    pub source_conditions: Conditions,
    /// To.
    pub target: At,
    /// What has to hold of what is at the target.
    pub target_conditions: Conditions,
    /// Attributes in place of the source's (`x-amz-metadata-directive: REPLACE`); their tags are ignored.
    pub attributes: Option<Attributes>,
    /// Tags in place of the source's (`x-amz-tagging-directive: REPLACE`).
    pub tags: Option<Vec<(String, String)>>,
    /// A checksum to compute over the whole object, in place of the source's.
    pub compute: Option<Algorithm>,
}

impl Store {
    /// Copies. Durable on return. The caller needs to read the source and write the target. Onto itself it has to
    /// change something (`Invalid`).
    ///
    /// # Errors
    /// As [`Store::head`] for the source and [`Store::put`] for the target; `TooLarge` beyond 5 GiB at the S3 door
    /// only (the door checks).
    pub async fn copy(&self, _cx: &Cx, _copy: CopyObject) -> Result<(Stored, Option<VersionRef>)> {
        todo!("written next")
    }
}
