//! TUS 1.0.0 as values: what its headers say, and which errors they are. Pure.
//!
//! Implemented: core, creation, creation-with-upload, creation-defer-length, checksum, termination, expiration,
//! concatenation. Nothing here knows a route or the store's functions; `gateway/tus.rs` has the routes.

mod checksum;
mod metadata;
mod request;

pub(crate) use checksum::claims;
pub(crate) use metadata::Metadata;
pub(crate) use request::{Concat, Length, concat, creation_length, is_bytes, number, offset};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{ApiError, Code};

/// The version spoken here, and the only one.
pub(crate) const VERSION: HeaderValue = HeaderValue::from_static("1.0.0");
/// What is offered beyond the core.
pub(crate) const EXTENSIONS: HeaderValue = HeaderValue::from_static(
    "creation,creation-with-upload,creation-defer-length,checksum,termination,expiration,concatenation",
);
/// Checksums that may be claimed of a request's bytes.
pub(crate) const CHECKSUMS: HeaderValue = HeaderValue::from_static("sha1,sha256,md5,crc32c");
/// The type of a request's bytes.
pub(crate) const BYTES: &str = "application/offset+octet-stream";
/// The status of bytes that do not have the checksum claimed ("Checksum Mismatch").
pub(crate) const CHECKSUM_MISMATCH: u16 = 460;

pub(crate) const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
pub(crate) const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");
pub(crate) const TUS_EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
pub(crate) const TUS_MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
pub(crate) const TUS_CHECKSUM_ALGORITHM: HeaderName = HeaderName::from_static("tus-checksum-algorithm");
pub(crate) const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
pub(crate) const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
pub(crate) const UPLOAD_DEFER_LENGTH: HeaderName = HeaderName::from_static("upload-defer-length");
pub(crate) const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
pub(crate) const UPLOAD_CONCAT: HeaderName = HeaderName::from_static("upload-concat");
pub(crate) const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
pub(crate) const UPLOAD_CHECKSUM: HeaderName = HeaderName::from_static("upload-checksum");
pub(crate) const METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");

/// Whether the request speaks our version.
///
/// # Errors
/// `Precondition` with the versions there are.
pub(crate) fn check_version(headers: &HeaderMap) -> Result<(), ApiError> {
    if headers.get(TUS_RESUMABLE) == Some(&VERSION) {
        return Ok(());
    }
    let words = "Tus-Resumable has to be 1.0.0.";
    Err(ApiError::detailed(Code::Precondition, words).with_header(TUS_VERSION, VERSION))
}

/// A header as text; what is no text is refused.
fn text(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| invalid(name, "is not plain text"))?;
    Ok(Some(text.to_owned()))
}

fn invalid(name: &HeaderName, what: &str) -> ApiError {
    ApiError::detailed(Code::Validation, format!("{} {what}.", spelled(name)))
}

/// `upload-offset` as documents write it.
fn spelled(name: &HeaderName) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    name.as_str().split('-').map(capital).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_version_is_spoken() {
        let of = |value: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(TUS_RESUMABLE, HeaderValue::from_static(value));
            }
            check_version(&headers)
        };
        assert_eq!(of(Some("1.0.0")), Ok(()));
        for other in [None, Some("0.2.2"), Some("1.0.1"), Some("")] {
            let error = of(other).unwrap_err();
            assert_eq!((error.code, &error.headers[..]), (Code::Precondition, &[(TUS_VERSION, VERSION)][..]));
        }
        assert_eq!(spelled(&UPLOAD_DEFER_LENGTH), "Upload-Defer-Length");
    }
}
