//! How the gateway and billing say that something went wrong (contract D9, D43).

use serde_json::{Value, json};

use crate::dialect::sentence;
use crate::error::ApiError;

/// `{"success":false,"error":"text","code":"UPPER_SNAKE"}`.
pub(crate) fn body(error: &ApiError) -> Value {
    json!({"success": false, "error": sentence(error), "code": error.code.as_str()})
}

/// `{"error":"text"}`.
pub(crate) fn billing_body(error: &ApiError) -> Value {
    json!({"error": sentence(error)})
}
