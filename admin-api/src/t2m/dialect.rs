//! How t2m says that something went wrong: its table of codes, and contract D9 beyond it.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::dialect::{fields, sentence};
use crate::error::{ApiError, Code};

/// The status of a code. Its document has 400 for all that is not valid.
pub(crate) fn status(code: Code) -> StatusCode {
    code.status()
}

/// The word of a code.
fn word(code: Code) -> &'static str {
    match code {
        Code::BadSignature => Code::PermissionDenied.as_str(),
        Code::NotFound | Code::NoRoute | Code::Gone => "RESOURCE_NOT_FOUND",
        Code::UnsupportedMediaType
        | Code::RangeNotSatisfiable
        | Code::Malformed
        | Code::Validation
        | Code::ChecksumMismatch
        | Code::Incomplete => "VALIDATION_ERROR",
        Code::Locked | Code::Precondition => Code::Conflict.as_str(),
        Code::NoSpace | Code::Unavailable | Code::Upstream => "SERVICE_UNAVAILABLE",
        Code::Internal => "SERVER_ERROR",
        Code::AuthRequired
        | Code::AuthInvalid
        | Code::AuthExpired
        | Code::PermissionDenied
        | Code::MethodNotAllowed
        | Code::Conflict
        | Code::TooLarge
        | Code::QuotaExceeded
        | Code::RateLimited => code.as_str(),
    }
}

/// The short message beside the details.
fn title(code: Code) -> &'static str {
    match code {
        Code::AuthRequired => "Authentication required",
        Code::AuthInvalid => "Invalid authentication token",
        Code::AuthExpired => "Authentication token expired",
        Code::PermissionDenied | Code::BadSignature => "Insufficient permissions",
        Code::NotFound | Code::NoRoute | Code::Gone => "Requested resource not found",
        Code::MethodNotAllowed => "Method not allowed",
        Code::Conflict | Code::Locked | Code::Precondition => "Conflict",
        Code::TooLarge => "Payload too large",
        Code::QuotaExceeded => "Storage quota exceeded",
        Code::RateLimited => "Rate limit exceeded",
        Code::UnsupportedMediaType
        | Code::RangeNotSatisfiable
        | Code::Malformed
        | Code::Validation
        | Code::ChecksumMismatch
        | Code::Incomplete => "Request validation failed",
        Code::NoSpace | Code::Unavailable | Code::Upstream => "Service temporarily unavailable",
        Code::Internal => "Internal server error",
    }
}

/// `{"success":false,"error":{"code","message","details"}}`; details are the fields where there are some.
pub(crate) fn body(error: &ApiError) -> Value {
    let details = if error.fields.is_empty() { json!(sentence(error)) } else { fields(error) };
    let error = json!({"code": word(error.code), "message": title(error.code), "details": details});
    json!({"success": false, "error": error})
}
