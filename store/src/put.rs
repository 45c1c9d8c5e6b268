//! Storing an object: authorise, stage, publish, commit.

use crate::condition::Conditions;
use crate::digest::{Algorithm, Checksum};
use crate::object::{At, Attributes, Version, Versioning};
use crate::{ByteStream, Cx, Result, Store};

/// Checksums a client claims for a body. All are verified; a mismatch stores nothing.
#[derive(Default)]
pub struct Claims {
    /// `Content-MD5`.
    pub md5: Option<[u8; 16]>,
    /// `x-amz-content-sha256` where it is a digest, or another door's claim.
    pub sha256: Option<[u8; 32]>,
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
    pub async fn put(&self, _cx: &Cx, _put: PutObject) -> Result<Stored> {
        todo!("written next")
    }
}
