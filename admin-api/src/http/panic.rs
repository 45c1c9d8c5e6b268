//! A panic in a handler is answered 500 and logged; the connection and the daemon go on.

use std::panic::AssertUnwindSafe;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;

use crate::error::ApiError;

/// Catches what panics behind it. The process's panic hook has logged message and place by then.
pub(crate) async fn guard(request: Request, next: Next) -> Response {
    // Unwind safe: a handler shares with others only what guards itself (locks poison, channels close).
    AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!(request_id = super::request_id::current(), "a request panicked");
        ApiError::internal().into_response()
    })
}
