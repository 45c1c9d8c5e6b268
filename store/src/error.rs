//! The crate's one error. A variant exists when a caller acts differently; STYLE §4 has the table of what each door
//! makes of it.

use crate::name::{BucketName, ObjectKey, UploadId};

/// What is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// No such bucket.
    Bucket(BucketName),
    /// No such key, or its current version is a delete marker.
    Key(ObjectKey),
    /// The current version is a delete marker (S3 says so in a header).
    DeleteMarker(ObjectKey, crate::name::VersionId),
    /// The key has no such version.
    Version(ObjectKey),
    /// No such multipart upload: never begun, completed long ago, or aborted.
    Upload(UploadId),
    /// The bucket has no policy, tags, … of this kind.
    Setting(&'static str),
}

/// Why a list of parts cannot be completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadParts {
    /// A part named is not there, or its ETag differs.
    Missing,
    /// The numbers do not ascend.
    Order,
    /// A part but the last is smaller than 5 MiB.
    TooSmall,
    /// The list is empty or over 10,000 long.
    Count,
}

/// Why a store function did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not exist, and the caller may know.
    #[error("{0:?} does not exist")]
    NotFound(Missing),
    /// The caller may not know whether it exists.
    #[error("hidden from the caller")]
    Hidden,
    /// The caller may know of it and may not do this.
    #[error("access denied")]
    Denied,
    /// Held by retention or a legal hold.
    #[error("the version is retained")]
    Retained,
    /// The name is taken.
    #[error("the bucket {0} exists already")]
    Exists(BucketName),
    /// The bucket or directory still holds something.
    #[error("the bucket is not empty")]
    NotEmpty,
    /// A condition of the request does not hold (`If-Match` and family). Reads that answer 304 say `NotModified`.
    #[error("a precondition does not hold: {condition}")]
    Precondition {
        /// Which header's condition.
        condition: &'static str,
    },
    /// The caller's copy is current (`If-None-Match`, `If-Modified-Since`).
    #[error("not modified")]
    NotModified(Box<crate::object::Version>),
    /// Others keep changing the same thing; try again.
    #[error("a concurrent change is in the way")]
    Busy,
    /// Bytes received do not have the checksum that was claimed. Nothing was stored.
    #[error("the {algorithm} of the bytes received differs from the one claimed")]
    ChecksumMismatch {
        /// The checksum's name as S3 spells it: `MD5`, `SHA256`, `CRC32C`, …
        algorithm: &'static str,
    },
    /// Bytes received do not have the SHA-256 that the request was signed with. Nothing was stored.
    #[error("the bytes received are not the ones that were signed")]
    NotAsSigned,
    /// The body ended early, was malformed or came too slowly. Nothing was stored.
    #[error("the body was not received whole")]
    IncompleteBody {
        /// What the door's stream said.
        #[source]
        source: crate::BodyError,
    },
    /// An argument is outside what the operation takes.
    #[error("invalid {what}")]
    Invalid {
        /// The argument.
        what: &'static str,
    },
    /// The key is longer than 1,024 bytes.
    #[error("the key is longer than 1,024 bytes")]
    KeyTooLong,
    /// The range lies outside the object.
    #[error("the range is outside the object's {size_bytes} bytes")]
    InvalidRange {
        /// The object's size.
        size_bytes: u64,
    },
    /// The parts of a completion do not fit.
    #[error("the parts cannot be completed: {0:?}")]
    BadParts(BadParts),
    /// More bytes, keys or rows than one request may have.
    #[error("{what} is larger than {max}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The limit, in the unit of what.
        max: u64,
    },
    /// The owner's or bucket's quota would be exceeded.
    #[error("the quota is exceeded")]
    QuotaExceeded,
    /// The disk is full but for the reserve.
    #[error("no space left")]
    NoSpace,
    /// The store is stopping or has been poisoned by a failed sync.
    #[error("the store has stopped")]
    Stopped,
    /// Stored bytes are not what was written.
    #[error("stored data is damaged: {what}")]
    Corrupt {
        /// What; no values, no paths.
        what: String,
    },
    /// Anything else the system refused.
    #[error("while {doing}")]
    Internal {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A key that is not there.
    pub fn no_key(key: &ObjectKey) -> Self {
        Self::NotFound(Missing::Key(key.clone()))
    }

    /// Whether a commit that ended so may have happened all the same. What it would have referred to is then kept
    /// until the rows tell.
    pub(crate) fn leaves_doubt(&self) -> bool {
        matches!(self, Self::Stopped | Self::Internal { .. } | Self::Corrupt { .. })
    }

    /// Wraps an I/O error, telling a full disk from the rest.
    pub fn io(doing: &'static str, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Internal { doing, source: source.into() },
        }
    }
}

impl From<coffre_kv::Error> for Error {
    /// A conflict that reaches here was not decided again by who committed: the caller may try again.
    fn from(error: coffre_kv::Error) -> Self {
        match error {
            coffre_kv::Error::Conflict { .. } => Self::Busy,
            coffre_kv::Error::Invalid { .. } => Self::TooLarge { what: "the change", max: 100_000 },
            coffre_kv::Error::NoSpace => Self::NoSpace,
            coffre_kv::Error::Stopped | coffre_kv::Error::InUse => Self::Stopped,
            coffre_kv::Error::Corrupt { what } => Self::Corrupt { what },
            coffre_kv::Error::Io { doing, source } => Self::Internal { doing, source: source.into() },
        }
    }
}
