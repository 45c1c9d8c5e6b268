//! The error table, row by row: every variant, its code, its status.

use std::sync::Arc;

use coffre_store::digest::Sha256;
use coffre_store::object::{Attributes, Circumstances, Door, Manifest, ObjectIds, Principal};
use coffre_store::{ObjectKey, UploadId, VersionId};

use super::*;

fn cx() -> Cx {
    Cx {
        principal: Arc::new(Principal::anonymous()),
        door: Door::S3,
        request_id: "REQUEST".into(),
        now_ms: 0,
        circumstances: Arc::new(Circumstances::default()),
    }
}

fn version() -> Version {
    Version {
        id: VersionId([1; 16]),
        is_null: false,
        sequence: 1,
        ino: 1,
        ids: ObjectIds::default(),
        owner: None,
        organisation: None,
        writer: None,
        size_bytes: 3,
        modified_ms: 0,
        etag: coffre_store::digest::ETag::parse("abc"),
        sha256: coffre_store::object::Digest::Known(Sha256([0; 32])),
        crc64nvme: None,
        checksums: vec![],
        sniffed_type: None,
        attributes: Attributes { cache_control: Some("max-age=1".into()), ..Attributes::default() },
        manifest: Manifest::Inline(vec![]),
        parts: None,
        unknown: vec![],
    }
}

fn body(source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::IncompleteBody { source: Box::new(source) }
}

/// One row for each variant, more where the fields decide. A new variant does not compile in `code`.
fn table() -> Vec<(Error, &'static str, u16)> {
    let key: ObjectKey = "k".parse().unwrap();
    let bucket: coffre_store::BucketName = "bucket".parse().unwrap();
    let missing = Error::NotFound;
    let io = || std::io::Error::other("secret path");
    let chunked = AwsChunkedStreamError::SignatureMismatch;
    vec![
        (missing(Missing::Bucket(bucket.clone())), "NoSuchBucket", 404),
        (missing(Missing::Key(key.clone())), "NoSuchKey", 404),
        (missing(Missing::DeleteMarker(key.clone(), VersionId([2; 16]))), "NoSuchKey", 404),
        (missing(Missing::Version(key)), "NoSuchVersion", 404),
        (missing(Missing::Upload(UploadId([3; 16]))), "NoSuchUpload", 404),
        (missing(Missing::Setting("policy")), "NoSuchBucketPolicy", 404),
        (missing(Missing::Setting("tags")), "NoSuchTagSet", 404),
        (missing(Missing::Setting("other")), "NoSuchResource", 404),
        (Error::Hidden, "AccessDenied", 403),
        (Error::Denied, "AccessDenied", 403),
        (Error::Retained, "AccessDenied", 403),
        (Error::Exists(bucket), "BucketAlreadyExists", 409),
        (Error::NotEmpty, "BucketNotEmpty", 409),
        (Error::Precondition { condition: "If-Match" }, "PreconditionFailed", 412),
        (Error::NotModified(Box::new(version())), "NotModified", 304),
        (Error::Busy, "ConditionalRequestConflict", 409),
        (Error::ChecksumMismatch { algorithm: "CRC32" }, "BadDigest", 400),
        (body(io()), "IncompleteBody", 400),
        (body(Idle), "RequestTimeout", 400),
        (body(UploadStreamError::Sha256Mismatch), "XAmzContentSHA256Mismatch", 400),
        (body(UploadStreamError::Incomplete), "IncompleteBody", 400),
        (body(UploadStreamError::LengthMismatch), "IncompleteBody", 400),
        (body(UploadStreamError::Underlying(Box::new(Idle))), "RequestTimeout", 400),
        (body(AwsChunkedStreamError::Incomplete), "IncompleteBody", 400),
        (body(AwsChunkedStreamError::ChunkDataTooLarge(2, 1)), "EntityTooLarge", 400),
        (body(AwsChunkedStreamError::Underlying(Box::new(Idle))), "RequestTimeout", 400),
        (body(chunked), "SignatureDoesNotMatch", 403),
        (Error::Invalid { what: "bucket name" }, "InvalidBucketName", 400),
        (Error::Invalid { what: "tags" }, "InvalidTag", 400),
        (Error::Invalid { what: "upload id" }, "NoSuchUpload", 404),
        (Error::Invalid { what: TRAILER }, "MalformedTrailerError", 400),
        (
            Error::Invalid { what: "copy of an object onto itself that changes nothing" },
            "InvalidRequest",
            400,
        ),
        (Error::Invalid { what: "anything" }, "InvalidArgument", 400),
        (Error::KeyTooLong, "KeyTooLongError", 400),
        (Error::InvalidRange { size_bytes: 9 }, "InvalidRange", 416),
        (Error::BadParts(BadParts::Missing), "InvalidPart", 400),
        (Error::BadParts(BadParts::Order), "InvalidPartOrder", 400),
        (Error::BadParts(BadParts::TooSmall), "EntityTooSmall", 400),
        (Error::BadParts(BadParts::Count), "MalformedXML", 400),
        (Error::TooLarge { what: "object", max: 5 }, "EntityTooLarge", 400),
        (Error::QuotaExceeded, "QuotaExceeded", 403),
        (Error::NoSpace, "ServiceUnavailable", 503),
        (Error::Stopped, "ServiceUnavailable", 503),
        (Error::Corrupt { what: "blob".into() }, "InternalError", 500),
        (Error::Internal { doing: "reading", source: Box::new(io()) }, "InternalError", 500),
    ]
}

#[test]
fn every_error_has_its_code_and_status() {
    for (error, code, status) in table() {
        let s3 = answer(&cx(), &error);
        assert_eq!(s3.code().as_str(), code, "{error:?}");
        assert_eq!(s3.status_code().map(|s| s.as_u16()), Some(status), "{error:?}");
        assert_eq!(s3.request_id(), Some("REQUEST"), "{error:?}");
        let message = s3.message().unwrap_or_default();
        assert!(!message.contains("secret path"), "{error:?} tells {message}");
    }
}

#[test]
fn some_refusals_carry_headers() {
    let header = |error: &Error, name: &str| {
        let s3 = answer(&cx(), error);
        s3.headers().and_then(|h| h.get(name)).map(|v| v.to_str().unwrap().to_owned())
    };
    let current = Error::NotModified(Box::new(version()));
    assert_eq!(header(&current, "etag").as_deref(), Some("\"abc\""));
    assert_eq!(header(&current, "last-modified").as_deref(), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
    assert_eq!(header(&current, "cache-control").as_deref(), Some("max-age=1"));
    assert_eq!(header(&Error::InvalidRange { size_bytes: 9 }, "content-range").as_deref(), Some("bytes */9"));
    let marker = Error::NotFound(Missing::DeleteMarker("k".parse().unwrap(), VersionId([2; 16])));
    assert_eq!(header(&marker, "x-amz-delete-marker").as_deref(), Some("true"));
    assert_eq!(header(&marker, "x-amz-version-id"), Some("02".repeat(16)));
    assert_eq!(header(&Error::Denied, "etag"), None);
    let by_version = marker_by_version(&cx(), &marker);
    assert_eq!(
        (by_version.code().as_str(), by_version.status_code().unwrap().as_u16()),
        ("MethodNotAllowed", 405)
    );
    let denied = marker_by_version(&cx(), &Error::Denied);
    assert_eq!(denied.code().as_str(), "AccessDenied");
}
