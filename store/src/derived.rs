//! Rows that follow from an entry and can be made again from it: the views' (`views.rs`) and the list of versions
//! whose digest is pending. Pure; the planner writes the difference, check compares, rebuild writes them anew.

use bytes::Bytes;

use crate::codec::keys;
use crate::codec::record::{Reader, Writer};
use crate::error::Result;
use crate::name::{BucketName, ObjectKey};
use crate::object::{Bucket, Digest, Version};

/// Tags of a pending row's fields.
mod tag {
    pub(super) const BUCKET: u32 = 1;
    pub(super) const KEY: u32 = 2;
}

/// The rows of an entry that stands at this key.
pub(crate) fn rows(
    bucket: &Bucket,
    key: &ObjectKey,
    version: &Version,
    is_current: bool,
) -> Vec<(Bytes, Bytes)> {
    let mut rows = if is_current { crate::views::rows(bucket, key, version) } else { Vec::new() };
    if version.sha256 == Digest::Pending {
        let mut w = Writer::new();
        w.put(tag::BUCKET, bucket.name.as_str());
        w.put(tag::KEY, key.as_str());
        rows.push((keys::pending(version.id), w.finish()));
    }
    rows
}

/// Where a pending row's version stands.
pub(crate) fn decode_pending(record: &Bytes) -> Result<(BucketName, ObjectKey)> {
    let mut r = Reader::new("pending", record)?;
    let (bucket, key): (&str, &str) = (r.need(tag::BUCKET)?, r.need(tag::KEY)?);
    let malformed = |_| crate::codec::corrupt("a pending record names no object");
    Ok((bucket.parse().map_err(malformed)?, key.parse().map_err(malformed)?))
}
