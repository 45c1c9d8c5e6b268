//! `If-Match` and its family, and byte ranges: values and pure decisions (RFC 9110 §13, §14; S3 conditional writes).

use crate::digest::ETag;

/// Conditions on what is there already. Empty: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// `If-Match`.
    pub if_match: Option<ETagCondition>,
    /// `If-None-Match`.
    pub if_none_match: Option<ETagCondition>,
    /// `If-Modified-Since`, ms since 1970 (whole seconds on the wire).
    pub if_modified_since_ms: Option<u64>,
    /// `If-Unmodified-Since`, ms since 1970.
    pub if_unmodified_since_ms: Option<u64>,
}

/// `*` or a list of entity tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ETagCondition {
    /// `*`: whatever is there.
    Any,
    /// One of these.
    OneOf(Vec<ETag>),
}

/// Which bytes are wanted, as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeRequest {
    /// `bytes=first-last`, last included as on the wire.
    FromTo(u64, u64),
    /// `bytes=first-`.
    From(u64),
    /// `bytes=-n`: the last n.
    Last(u64),
    /// `partNumber=n`.
    Part(crate::name::PartNumber),
}
