//! What the S3 door makes of a store error: the only place.
//!
//! Promises one S3 code for each variant, decided in a match without `_`, so that a new variant asks its question
//! here; nothing of the server in the message; the unexpected logged once with its whole chain and the request id.
//! "Error Responses" of the S3 API reference; the table is STYLE §4's.

use std::error::Error as _;

use coffre_store::error::{BadParts, Missing};
use coffre_store::object::Version;
use coffre_store::{BodyError, Cx, Error};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use s3s::stream::aws_chunked_stream::AwsChunkedStreamError;
use s3s::stream::upload_stream::UploadStreamError;
use s3s::{BodySizeLimitExceeded, S3Error, S3ErrorCode, S3Result};

use crate::body::{Broken, Idle};
use crate::convert;

/// Says a store result in S3's words.
pub(crate) trait Answer<T> {
    /// The value, or the error as S3 says it, with the request's id.
    fn answer(self, cx: &Cx) -> S3Result<T>;
}

impl<T> Answer<T> for Result<T, Error> {
    fn answer(self, cx: &Cx) -> S3Result<T> {
        self.map_err(|error| answer(cx, &error))
    }
}

/// An error as S3 says it.
pub(crate) fn answer(cx: &Cx, error: &Error) -> S3Error {
    log(cx, error);
    let mut s3 = code(error).into_error();
    if let Some(headers) = headers(error) {
        s3.set_headers(headers);
    }
    s3.set_request_id(&*cx.request_id);
    s3
}

/// A code with the status and message it goes out with; `None`: s3s's own for that code.
#[derive(Debug, PartialEq)]
pub(crate) struct Code {
    name: S3ErrorCode,
    status: Option<StatusCode>,
    message: Option<String>,
}

impl Code {
    fn into_error(self) -> S3Error {
        let mut error = S3Error::new(self.name);
        if let Some(status) = self.status {
            error.set_status_code(status);
        }
        if let Some(message) = self.message {
            error.set_message(message);
        }
        error
    }

    fn message(mut self, message: impl Into<String>) -> Self {
        self.message = Some(message.into());
        self
    }
}

impl From<S3ErrorCode> for Code {
    fn from(name: S3ErrorCode) -> Self {
        Self { name, status: None, message: None }
    }
}

/// A code s3s has no name for.
fn custom(code: &'static str, status: StatusCode, message: &str) -> Code {
    Code { name: S3ErrorCode::Custom(code.into()), status: Some(status), message: Some(message.to_owned()) }
}

/// The table.
#[deny(clippy::wildcard_enum_match_arm)]
pub(crate) fn code(error: &Error) -> Code {
    match error {
        Error::NotFound(missing) => code_missing(missing),
        // S3 says 403 for what a caller may not see (contract §2, D36)
        Error::Hidden | Error::Denied | Error::Retained => S3ErrorCode::AccessDenied.into(),
        Error::Exists(_) => S3ErrorCode::BucketAlreadyExists.into(),
        Error::NotEmpty => S3ErrorCode::BucketNotEmpty.into(),
        Error::Precondition { condition } => Code::from(S3ErrorCode::PreconditionFailed)
            .message(format!("At least one of the pre-conditions you specified did not hold: {condition}")),
        Error::NotModified(_) => S3ErrorCode::NotModified.into(),
        Error::Busy => S3ErrorCode::ConditionalRequestConflict.into(),
        Error::NotAsSigned => sha256_mismatch(),
        Error::ChecksumMismatch { algorithm } => Code::from(S3ErrorCode::BadDigest)
            .message(format!("The {algorithm} you specified did not match the calculated checksum.")),
        Error::IncompleteBody { source } => code_body(source),
        Error::Invalid { what } => code_invalid(what),
        Error::KeyTooLong => S3ErrorCode::KeyTooLongError.into(),
        Error::InvalidRange { .. } => S3ErrorCode::InvalidRange.into(),
        Error::BadParts(bad) => code_parts(*bad),
        Error::TooLarge { what, max } => {
            Code::from(S3ErrorCode::EntityTooLarge).message(format!("{what} is larger than {max}"))
        }
        Error::QuotaExceeded => {
            custom("QuotaExceeded", StatusCode::FORBIDDEN, "The quota of the owner or bucket is exceeded.")
        }
        Error::NoSpace => {
            Code::from(S3ErrorCode::ServiceUnavailable).message("No space left; try again later.")
        }
        Error::Stopped => S3ErrorCode::ServiceUnavailable.into(),
        Error::Corrupt { .. } | Error::Internal { .. } => S3ErrorCode::InternalError.into(),
    }
}

#[deny(clippy::wildcard_enum_match_arm)]
fn code_missing(missing: &Missing) -> Code {
    match missing {
        Missing::Bucket(_) => S3ErrorCode::NoSuchBucket,
        Missing::Key(_) | Missing::DeleteMarker(..) => S3ErrorCode::NoSuchKey,
        Missing::Version(_) => S3ErrorCode::NoSuchVersion,
        Missing::Upload(_) => S3ErrorCode::NoSuchUpload,
        Missing::Setting("policy") => S3ErrorCode::NoSuchBucketPolicy,
        Missing::Setting("tags") => S3ErrorCode::NoSuchTagSet,
        Missing::Setting(_) => S3ErrorCode::NoSuchResource,
    }
    .into()
}

#[deny(clippy::wildcard_enum_match_arm)]
fn code_parts(bad: BadParts) -> Code {
    match bad {
        BadParts::Missing => S3ErrorCode::InvalidPart,
        BadParts::Order => S3ErrorCode::InvalidPartOrder,
        BadParts::TooSmall => S3ErrorCode::EntityTooSmall,
        BadParts::Count => S3ErrorCode::MalformedXML,
    }
    .into()
}

/// The store names the argument, S3 has codes of its own for some.
fn code_invalid(what: &str) -> Code {
    let code = match what {
        "bucket name" => S3ErrorCode::InvalidBucketName,
        "tags" => S3ErrorCode::InvalidTag,
        "upload id" => S3ErrorCode::NoSuchUpload,
        _ if what.starts_with("trailer") => {
            return custom(
                "MalformedTrailerError",
                StatusCode::BAD_REQUEST,
                "The request contained trailing data that was not well-formed or did not conform to our schema.",
            );
        }
        _ if what.starts_with("copy of an object onto itself") => {
            return Code::from(S3ErrorCode::InvalidRequest).message(
                "This copy request is illegal because it is trying to copy an object to itself without changing the \
                 object's metadata, storage class, website redirect location or encryption attributes.",
            );
        }
        _ => S3ErrorCode::InvalidArgument,
    };
    Code::from(code).message(format!("Invalid {what}"))
}

/// [`Error::Invalid`]'s word for a checksum trailer that was announced and is not there, or is no checksum.
pub(crate) const TRAILER: &str = "trailer: the announced checksum did not come";

/// Why a body ended: what s3s's streams and ours say is somewhere in the chain.
fn code_body(error: &BodyError) -> Code {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error.as_ref());
    while let Some(error) = next {
        if let Some(stream) = error.downcast_ref::<UploadStreamError>() {
            match stream {
                UploadStreamError::Sha256Mismatch => return sha256_mismatch(),
                UploadStreamError::Underlying(_) => {}
                UploadStreamError::LengthMismatch | UploadStreamError::Incomplete => break,
            }
        }
        if let Some(stream) = error.downcast_ref::<AwsChunkedStreamError>()
            && !matches!(stream, AwsChunkedStreamError::Underlying(_))
        {
            return stream.to_s3_error_code().into();
        }
        if error.is::<BodySizeLimitExceeded>() {
            return S3ErrorCode::EntityTooLarge.into();
        }
        if error.is::<Idle>() {
            return S3ErrorCode::RequestTimeout.into();
        }
        next = error.source();
    }
    S3ErrorCode::IncompleteBody.into()
}

/// The body of an operation that takes a document could not be read whole, or was not the one that was signed: s3s says
/// `InternalError` to each, before the operation begins.
pub(crate) fn unread_document(broken: Option<Broken>) -> S3Error {
    match broken {
        Some(Broken::Idle) => S3ErrorCode::RequestTimeout.into(),
        Some(Broken::Connection) => S3ErrorCode::IncompleteBody.into(),
        None => sha256_mismatch().into_error(),
    }
}

fn sha256_mismatch() -> Code {
    custom(
        "XAmzContentSHA256Mismatch",
        StatusCode::BAD_REQUEST,
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    )
}

/// Headers S3 sends with some refusals.
fn headers(error: &Error) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    match error {
        Error::NotModified(version) => validators(&mut headers, version),
        Error::InvalidRange { size_bytes } => {
            let value = HeaderValue::try_from(format!("bytes */{size_bytes}")).ok()?;
            headers.insert(header::CONTENT_RANGE, value);
        }
        Error::NotFound(Missing::DeleteMarker(_, id)) => {
            headers.insert(DELETE_MARKER, HeaderValue::from_static("true"));
            headers.insert(VERSION_ID, HeaderValue::try_from(id.to_string()).ok()?);
        }
        _ => return None,
    }
    Some(headers)
}

const DELETE_MARKER: HeaderName = HeaderName::from_static("x-amz-delete-marker");
const VERSION_ID: HeaderName = HeaderName::from_static("x-amz-version-id");

/// A 304 carries what the 200 would have said of the version (RFC 9110 §15.4.5).
fn validators(headers: &mut HeaderMap, version: &Version) {
    let mut add = |name, value: Option<String>| {
        if let Some(value) = value.and_then(|v| HeaderValue::try_from(v).ok()) {
            headers.insert(name, value);
        }
    };
    add(header::ETAG, Some(format!("\"{}\"", version.etag.as_str())));
    add(header::LAST_MODIFIED, convert::http_date(version.modified_ms));
    add(header::CACHE_CONTROL, version.attributes.cache_control.clone());
    add(header::EXPIRES, version.attributes.expires.clone());
}

/// Who deleted by version asked for a delete marker's bytes: 405, as S3.
pub(crate) fn marker_by_version(cx: &Cx, error: &Error) -> S3Error {
    let mut s3 = answer(cx, error);
    if let Error::NotFound(Missing::DeleteMarker(..)) = error {
        s3.set_code(S3ErrorCode::MethodNotAllowed);
        s3.set_message("The specified method is not allowed against this resource.");
    }
    s3
}

/// Once, at the door, with the whole chain.
fn log(cx: &Cx, error: &Error) {
    let request_id = &*cx.request_id;
    match error {
        Error::Corrupt { .. } | Error::Internal { .. } => {
            let mut chain = error.to_string();
            let mut next = error.source();
            while let Some(error) = next {
                chain.push_str(": ");
                chain.push_str(&error.to_string());
                next = error.source();
            }
            tracing::error!(request_id, error = chain, "request failed");
        }
        Error::NoSpace | Error::Stopped => tracing::warn!(request_id, %error, "request refused"),
        _ => tracing::debug!(request_id, %error, "request refused"),
    }
}

#[cfg(test)]
mod tests;
