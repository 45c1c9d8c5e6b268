//! Store types ↔ s3s DTOs: names, times, attributes, conditions, versions. Checksums are in `convert/checksum.rs`.
//!
//! Promises that what cannot be said in a header is left out and counted (`x-amz-missing-meta`), never sent broken,
//! and that `aws-chunked` is a way of sending, not an encoding of the content. Pure.

pub(crate) mod checksum;

use std::borrow::Cow;

use coffre_store::condition::{Conditions, ETagCondition, RangeRequest};
use coffre_store::digest::ETag;
use coffre_store::object::{At, Version, Versioning};
use coffre_store::{Error, PartNumber, UserId, VersionId, VersionRef};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use s3s::dto;
use s3s::{S3Error, S3ErrorCode, S3Result, s3_error};

/// Bytes of user metadata, names and values together (S3 "User-defined object metadata").
const USER_METADATA_BYTES_MAX: usize = 2048;
/// How buckets and objects of the system name their owner (contract D2).
const SYSTEM_OWNER: &str = "coffre";
/// S3's name for the version written while versioning was not enabled.
const NULL_VERSION: &str = "null";

/// An object's place.
pub(crate) fn at(bucket: &str, key: &str) -> Result<At, Error> {
    Ok(At { bucket: bucket.parse()?, key: key.parse()? })
}

/// `versionId=`.
pub(crate) fn version_ref(text: Option<&str>) -> S3Result<Option<VersionRef>> {
    match text {
        None => Ok(None),
        Some(NULL_VERSION) => Ok(Some(VersionRef::Null)),
        Some(id) => match id.parse::<VersionId>() {
            Ok(id) => Ok(Some(VersionRef::Id(id))),
            Err(_) => Err(s3_error!(InvalidArgument, "Invalid version id specified")),
        },
    }
}

/// A version's id as shown in lists.
pub(crate) fn version_id(id: VersionId, is_null: bool) -> String {
    if is_null { NULL_VERSION.to_owned() } else { id.to_string() }
}

/// A version named in a reference, as a marker or in `x-amz-copy-source-version-id`.
pub(crate) fn version_ref_id(version: VersionRef) -> String {
    match version {
        VersionRef::Id(id) => id.to_string(),
        VersionRef::Null => NULL_VERSION.to_owned(),
    }
}

/// `x-amz-version-id`: only where versioning is or was on.
pub(crate) fn shown_version_id(version: &Version, versioning: Versioning) -> Option<String> {
    (versioning != Versioning::Off).then(|| version_id(version.id, version.is_null))
}

/// An owner's canonical id.
pub(crate) fn owner_id(owner: Option<UserId>) -> String {
    owner.map_or_else(|| SYSTEM_OWNER.to_owned(), |user| user.to_string())
}

/// An owner in lists.
pub(crate) fn owner(owner: Option<UserId>) -> dto::Owner {
    dto::Owner { id: Some(owner_id(owner)), ..dto::Owner::default() }
}

pub(crate) fn timestamp(ms: u64) -> Option<dto::Timestamp> {
    let time = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok()?;
    Some(time.into())
}

/// `Last-Modified` and kin: whole seconds.
pub(crate) fn http_date(ms: u64) -> Option<String> {
    let mut text = Vec::new();
    timestamp(ms)?.format(dto::TimestampFormat::HttpDate, &mut text).ok()?;
    String::from_utf8(text).ok()
}

pub(crate) fn from_timestamp(time: dto::Timestamp) -> u64 {
    let ms = time::OffsetDateTime::from(time).unix_timestamp_nanos() / 1_000_000;
    u64::try_from(ms).unwrap_or(0)
}

pub(crate) fn etag(etag: impl Into<String>) -> dto::ETag {
    dto::ETag::Strong(etag.into())
}

fn etag_condition(condition: dto::ETagCondition) -> ETagCondition {
    match condition {
        dto::ETagCondition::Any => ETagCondition::Any,
        dto::ETagCondition::ETag(etag) => {
            let list = etag_list(&format!("\"{}\"", etag.value()));
            ETagCondition::OneOf(list.unwrap_or_else(|| vec![ETag::parse(etag.value())]))
        }
    }
}

/// `#entity-tag` (RFC 9110 §13.1, §5.6.1): `"a", W/"b"`, with commas within a tag and empty elements. s3s takes a list
/// for one tag without its outermost quotes; what is no list, stays one, which names nothing.
fn etag_list(list: &str) -> Option<Vec<ETag>> {
    const SPACE: [char; 2] = [' ', '\t'];
    let mut tags = Vec::new();
    let mut rest = list;
    while !rest.is_empty() {
        let (tag, after) = rest.strip_prefix("W/").unwrap_or(rest).strip_prefix('"')?.split_once('"')?;
        tags.push(ETag::parse(tag));
        let after = after.trim_start_matches(SPACE);
        rest = after.trim_start_matches([' ', '\t', ',']);
        if !rest.is_empty() && !after.starts_with(',') {
            return None;
        }
    }
    Some(tags)
}

/// Conditions on what is there.
pub(crate) fn conditions(
    if_match: Option<dto::ETagCondition>,
    if_none_match: Option<dto::ETagCondition>,
    if_modified_since: Option<dto::Timestamp>,
    if_unmodified_since: Option<dto::Timestamp>,
) -> Conditions {
    Conditions {
        if_match: if_match.map(etag_condition),
        if_none_match: if_none_match.map(etag_condition),
        if_modified_since_ms: if_modified_since.map(from_timestamp),
        if_unmodified_since_ms: if_unmodified_since.map(from_timestamp),
    }
}

/// `Range` or `partNumber=`, not both.
pub(crate) fn range(range: Option<dto::Range>, part: Option<i32>) -> S3Result<Option<RangeRequest>> {
    Ok(match (range, part) {
        (Some(_), Some(_)) => {
            return Err(s3_error!(
                InvalidRequest,
                "Cannot specify both Range header and partNumber query parameter"
            ));
        }
        (None, Some(number)) => Some(RangeRequest::Part(part_number(number)?)),
        (Some(dto::Range::Int { first, last: Some(last) }), None) => Some(RangeRequest::FromTo(first, last)),
        (Some(dto::Range::Int { first, last: None }), None) => Some(RangeRequest::From(first)),
        (Some(dto::Range::Suffix { length }), None) => Some(RangeRequest::Last(length)),
        (None, None) => None,
    })
}

/// `x-amz-copy-source-range`: first and last byte, nothing else (S3 UploadPartCopy).
pub(crate) fn copy_range(text: Option<&str>) -> S3Result<Option<RangeRequest>> {
    match text.map(RangeRequest::parse) {
        None => Ok(None),
        Some(Some(range @ RangeRequest::FromTo(..))) => Ok(Some(range)),
        Some(_) => Err(s3_error!(
            InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the \
             zero-based offsets of the first and last bytes to copy"
        )),
    }
}

pub(crate) fn part_number(number: i32) -> S3Result<PartNumber> {
    PartNumber::try_from(i64::from(number)).map_err(|_| {
        s3_error!(InvalidArgument, "Part number must be an integer between 1 and 10000, inclusive")
    })
}

/// A copy's source. S3 reads this header as it reads a form, where `+` is a space and `%2B` a plus: s5cmd writes spaces
/// so, and whoever has to copy a key with a plus encodes it. s3s decodes percent signs only.
pub(crate) fn copy_source(
    headers: &HeaderMap,
    parsed: &dto::CopySource,
) -> S3Result<(At, Option<VersionRef>)> {
    let invalid = || s3_error!(InvalidArgument, "Invalid copy source");
    let text = headers.get("x-amz-copy-source").and_then(|value| value.to_str().ok());
    let spaced = match text.filter(|text| text.contains('+')) {
        Some(text) => Some(dto::CopySource::parse(&text.replace('+', "%20")).map_err(|_| invalid())?),
        None => None,
    };
    let dto::CopySource::Bucket { bucket, key, version_id } = spaced.as_ref().unwrap_or(parsed) else {
        return Err(s3_error!(NotImplemented, "Access points are not supported"));
    };
    let at = at(bucket, key).map_err(|_| invalid())?;
    Ok((at, version_ref(version_id.as_deref())?))
}

/// `Content-Encoding` without the way of sending.
pub(crate) fn content_encoding(header: Option<String>) -> Option<String> {
    let header = header?;
    let kept: Vec<&str> = header
        .split(',')
        .map(str::trim)
        .filter(|c| !c.is_empty() && !c.eq_ignore_ascii_case("aws-chunked"))
        .collect();
    (!kept.is_empty()).then(|| kept.join(","))
}

/// User metadata as the store keeps it: in order of name, lower case.
pub(crate) fn user_metadata(metadata: Option<dto::Metadata>) -> S3Result<Vec<(String, String)>> {
    let mut pairs: Vec<(String, String)> =
        metadata.into_iter().flatten().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    if pairs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > USER_METADATA_BYTES_MAX {
        return Err(S3ErrorCode::MetadataTooLarge.into());
    }
    pairs.sort();
    Ok(pairs)
}

/// User metadata as headers, and how much of it no header can say (set by another door).
pub(crate) fn shown_metadata(pairs: &[(String, String)]) -> (Option<dto::Metadata>, Option<i32>) {
    let is_header = |name: &str, value: &str| {
        HeaderName::try_from(format!("x-amz-meta-{name}")).is_ok() && !value.chars().any(char::is_control)
    };
    let (shown, hidden): (Vec<_>, Vec<_>) = pairs.iter().partition(|(name, value)| is_header(name, value));
    let metadata = (!shown.is_empty()).then(|| shown.into_iter().cloned().collect());
    (metadata, i32::try_from(hidden.len()).ok().filter(|&n| n > 0))
}

/// A text of the store as a header, if it is one.
pub(crate) fn header_text(text: Option<&String>) -> Option<String> {
    text.filter(|text| HeaderValue::try_from(text.as_str()).is_ok()).cloned()
}

/// `x-amz-tagging`: a query string.
pub(crate) fn tagging_header(header: Option<&str>) -> S3Result<Vec<(String, String)>> {
    let pairs: Vec<_> = query_pairs(header.unwrap_or_default()).collect();
    if pairs.iter().any(|(key, _)| key.is_empty()) {
        return Err(S3ErrorCode::InvalidTag.into());
    }
    Ok(pairs)
}

/// A `Tagging` document.
pub(crate) fn tag_set(tags: dto::TagSet) -> S3Result<Vec<(String, String)>> {
    tags.into_iter()
        .map(|tag| match (tag.key, tag.value) {
            (Some(key), Some(value)) => Ok((key, value)),
            _ => Err(S3Error::new(S3ErrorCode::MalformedXML)),
        })
        .collect()
}

pub(crate) fn shown_tags(tags: &[(String, String)]) -> dto::TagSet {
    tags.iter().map(|(key, value)| dto::Tag { key: Some(key.clone()), value: Some(value.clone()) }).collect()
}

/// The pairs of a query string, decoded.
pub(crate) fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        pair.split_once('=').map_or((decode(pair), String::new()), |(n, v)| (decode(n), decode(v)))
    })
}

/// `x-amz-*` parameters that a presigned URL carries in place of headers (contract D16); lower case. Only a presigned
/// request may: there the whole query is signed, and s3s has verified it.
pub(crate) fn hoisted(uri: &Uri) -> Vec<(String, String)> {
    let pairs: Vec<_> = query_pairs(uri.query().unwrap_or_default()).collect();
    if !pairs.iter().any(|(name, _)| name == "X-Amz-Signature") {
        return Vec::new();
    }
    pairs
        .into_iter()
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .filter(|(name, _)| name.starts_with("x-amz-"))
        .collect()
}

/// What S3 leaves as it is with `encoding-type=url`. A space is `%20`: clients that take `+` for a space and those
/// that don't both read it right.
const URL_KEPT: AsciiSet = NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'*');

/// How the names of a listing are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// As they are.
    Plain,
    /// Percent-encoded.
    Url,
}

impl Names {
    /// As the client asked; `Url` in any case where one of the names is nothing XML 1.0 can say: the alternative is a
    /// listing that fails for everybody because of one key.
    pub(crate) fn decide<'a>(
        asked: Option<&dto::EncodingType>,
        mut names: impl Iterator<Item = &'a str>,
    ) -> Self {
        let asked = asked.is_some_and(|encoding| encoding.as_str() == dto::EncodingType::URL);
        if asked || names.any(|name| !is_xml_text(name)) { Self::Url } else { Self::Plain }
    }

    /// The `EncodingType` of the answer.
    pub(crate) fn shown(self) -> Option<dto::EncodingType> {
        (self == Self::Url).then(|| dto::EncodingType::from_static(dto::EncodingType::URL))
    }

    pub(crate) fn write(self, name: impl Into<String> + AsRef<str>) -> String {
        match self {
            Self::Plain => name.into(),
            Self::Url => utf8_percent_encode(name.as_ref(), &URL_KEPT).to_string(),
        }
    }
}

/// A key in an answer that knows no `EncodingType`: percent-encoded when XML cannot say it.
pub(crate) fn xml_name(name: &str) -> Cow<'_, str> {
    if is_xml_text(name) { Cow::Borrowed(name) } else { utf8_percent_encode(name, &URL_KEPT).into() }
}

/// XML 1.0 §2.2, production 2; and no carriage return, which a parser would turn into a line feed.
fn is_xml_text(text: &str) -> bool {
    // nearly every name; a page has a thousand
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    is_plain || text.chars().all(|c| matches!(c, '\t' | '\n' | ' '..='\u{fffd}' | '\u{10000}'..))
}

/// Attributes that a put, a copy or a new upload declares, in the fields those three DTOs share.
macro_rules! attributes {
    ($input:expr) => {
        coffre_store::object::Attributes {
            content_type: $input.content_type.take(),
            content_encoding: $crate::convert::content_encoding($input.content_encoding.take()),
            content_language: $input.content_language.take(),
            content_disposition: $input.content_disposition.take(),
            cache_control: $input.cache_control.take(),
            expires: $input.expires.take(),
            website_redirect: $input.website_redirect_location.take(),
            user_metadata: $crate::convert::user_metadata($input.metadata.take())?,
            tags: $crate::convert::tagging_header($input.tagging.as_deref())?,
            ..coffre_store::object::Attributes::default()
        }
    };
}
pub(crate) use attributes;

#[cfg(test)]
mod tests;
