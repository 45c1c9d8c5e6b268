//! How the company API says that something went wrong (contract D9).

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::dialect::sentence;
use crate::error::ApiError;

/// `{"statusCode","error","message"}`; `error` is the status's name.
pub(crate) fn body(status: StatusCode, error: &ApiError) -> Value {
    let name = status.canonical_reason().unwrap_or("Error");
    json!({"statusCode": status.as_u16(), "error": name, "message": sentence(error)})
}
