//! Multipart uploads: create, parts (also by copying ranges), lists, completion without copying bytes, abort.
//!
//! Owns the upload and part rows (`record`). Promises: the last commit of a number wins; a completion sees all parts
//! that were answered before it and none that were not; completing copies no bytes, and parts of one size become one
//! plain file; what is aborted or not named goes with the next sweeps. What an upload completes to is decided purely
//! (`compose`).

pub mod chunk;
mod complete;
mod compose;
mod list;
mod part;
pub(crate) mod record;
mod recount;

#[cfg(test)]
mod tests;

use crate::condition::{Conditions, RangeRequest};
use crate::digest::{Algorithm, Checksum, ETag};
use crate::object::{At, Attributes};
use crate::put::Claims;
use crate::{BucketName, ByteStream, PartNumber, UploadId, UserId, VersionRef};

pub(crate) use complete::{manifest_of, page_writes};
pub(crate) use compose::joined;
pub(crate) use recount::{Unfinished, unfinished};

/// Smallest part but the last, bytes (S3).
pub const PART_BYTES_MIN: u64 = 5 * 1024 * 1024;
/// Largest part, bytes (S3).
pub const PART_BYTES_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// How the checksum of a completed upload covers its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadChecksum {
    /// Of all bytes (CRCs only).
    FullObject,
    /// Of the parts' checksums.
    Composite,
}

/// Begins an upload.
#[derive(Clone, Debug)]
pub struct CreateUpload {
    /// Where the object will be.
    pub at: At,
    /// What goes with it.
    pub attributes: Attributes,
    /// Which checksum the parts carry and how they combine (`x-amz-checksum-algorithm`, `-type`).
    pub checksum: Option<(Algorithm, UploadChecksum)>,
}

/// An upload that is under way.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Its id.
    pub id: UploadId,
    /// Where the object will be.
    pub at: At,
    /// Who began it.
    pub initiator: Option<UserId>,
    /// When, ms since 1970.
    pub created_ms: u64,
    /// What goes with the object.
    pub attributes: Attributes,
    /// As in [`CreateUpload`].
    pub checksum: Option<(Algorithm, UploadChecksum)>,
}

/// A part on its way in.
pub struct PutPart {
    /// The upload's object; has to be the one it was begun for.
    pub at: At,
    /// The upload.
    pub upload: UploadId,
    /// The part's number.
    pub number: PartNumber,
    /// The bytes.
    pub body: ByteStream,
    /// How many are announced.
    pub size_bytes: Option<u64>,
    /// What the client claims of them.
    pub claims: Claims,
}

/// A part made of a range of an object that is there (UploadPartCopy).
#[derive(Clone, Debug)]
pub struct CopyPart {
    /// The upload's object.
    pub at: At,
    /// The upload.
    pub upload: UploadId,
    /// The part's number.
    pub number: PartNumber,
    /// From.
    pub source: At,
    /// Which version of it.
    pub source_version: Option<VersionRef>,
    /// What has to hold of the source.
    pub source_conditions: Conditions,
    /// Which bytes; `None`: all.
    pub range: Option<RangeRequest>,
}

/// A part that is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its number.
    pub number: PartNumber,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// MD5 in hex.
    pub etag: ETag,
    /// When it came, ms since 1970.
    pub modified_ms: u64,
    /// Its checksum in the upload's algorithm, verified or computed.
    pub checksum: Option<Checksum>,
}

/// One line of a completion.
#[derive(Clone, Debug)]
pub struct CompletePart {
    /// Which part.
    pub number: PartNumber,
    /// The ETag the client got.
    pub etag: ETag,
    /// The checksum the client got, if it says.
    pub checksum: Option<Checksum>,
}

/// Completes an upload.
#[derive(Clone, Debug)]
pub struct CompleteUpload {
    /// The upload's object.
    pub at: At,
    /// The upload.
    pub upload: UploadId,
    /// The parts, ascending; those not named are dropped.
    pub parts: Vec<CompletePart>,
    /// The checksum the client claims of the whole.
    pub claim: Option<Checksum>,
    /// The size the client claims of the whole (`x-amz-mp-object-size`).
    pub size_bytes: Option<u64>,
    /// What has to hold of what is at the key.
    pub conditions: Conditions,
}

/// A page of parts.
#[derive(Clone, Debug)]
pub struct PartsPage {
    /// The upload.
    pub upload: Upload,
    /// Its parts, ascending.
    pub parts: Vec<Part>,
    /// What to give as `after` for the next page; `None`: no more.
    pub next_after: Option<PartNumber>,
}

/// What to list of a bucket's uploads.
#[derive(Clone, Debug)]
pub struct ListUploads {
    /// Of which bucket.
    pub bucket: BucketName,
    /// Only keys that begin so.
    pub prefix: String,
    /// As in `list::List`.
    pub delimiter: String,
    /// Begin after this key (or common prefix).
    pub after_key: String,
    /// With `after_key`: begin after this upload of that key; `None`: after all of them.
    pub after_upload: Option<UploadId>,
    /// At most this many.
    pub limit: usize,
}

/// A page of uploads.
#[derive(Clone, Debug, Default)]
pub struct UploadsPage {
    /// By key, then by age.
    pub uploads: Vec<Upload>,
    /// Common prefixes, in order.
    pub common_prefixes: Vec<String>,
    /// Key marker and upload marker of the next page; `None`: no more.
    pub next: Option<(String, Option<UploadId>)>,
}
