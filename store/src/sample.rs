//! Plain values for unit tests to start from; `..sample::version()` leaves the fields a test does not care for.

use crate::digest::{ETag, Sha256};
use crate::name::{BucketId, VersionId};
use crate::object::{Attributes, Bucket, Digest, Manifest, ObjectIds, Version, Versioning};

/// An empty object's first version.
pub(crate) fn version() -> Version {
    Version {
        id: VersionId([7; 16]),
        is_null: true,
        sequence: 1,
        ino: 11,
        ids: ObjectIds::default(),
        owner: None,
        organisation: None,
        writer: None,
        size_bytes: 0,
        modified_ms: 1_700_000_000_000,
        etag: ETag::parse("d41d8cd98f00b204e9800998ecf8427e"),
        sha256: Digest::Known(Sha256([0; 32])),
        crc64nvme: None,
        checksums: Vec::new(),
        sniffed_type: None,
        attributes: Attributes::default(),
        manifest: Manifest::Inline(Vec::new()),
        parts: None,
        unknown: Vec::new(),
    }
}

/// A user's own bucket.
pub(crate) fn bucket() -> Bucket {
    Bucket {
        name: "bucket".parse().expect("a bucket name"),
        id: BucketId(5),
        place: None,
        owner: None,
        created_ms: 0,
        versioning: Versioning::Off,
        tags: Vec::new(),
        policy: None,
        blocks_public: false,
        unknown: Vec::new(),
    }
}
