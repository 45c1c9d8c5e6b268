//! `/healthz`, `/readyz`, `/metrics`: before the store is open and while it closes too.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use subtle::ConstantTimeEq as _;

use crate::error::{ApiError, Code};
use crate::http::frame::{self, Rendering, Said};
use crate::{Options, Readiness};

/// Rendered by themselves: they stand outside the frame of the other routes.
pub(crate) fn routes(options: &Arc<Options>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .method_not_allowed_fallback(async || ApiError::from(Code::MethodNotAllowed))
        .with_state(Arc::clone(options))
        .route_layer(from_fn_with_state(Rendering { tells_causes: false }, frame::render))
}

/// 200 as long as the process answers at all.
async fn healthz() -> Response {
    plain(StatusCode::OK, "ok\n")
}

/// 200 once `credentials.json` is written and every door is open, until the drain begins.
async fn readyz(State(options): State<Arc<Options>>) -> Response {
    match options.host.readiness() {
        Readiness::Ready => plain(StatusCode::OK, "ready\n"),
        Readiness::Starting => plain(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Readiness::Stopping => plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
        Readiness::Failed => plain(StatusCode::SERVICE_UNAVAILABLE, "failed\n"),
    }
}

async fn metrics(State(options): State<Arc<Options>>, headers: HeaderMap) -> Result<Response, ApiError> {
    if let Some(token) = &options.metrics_token
        && !bears(&headers, token)
    {
        return Err(ApiError::unauthorized(Code::AuthRequired));
    }
    let host = Arc::clone(&options.host);
    // Reads /proc and statistics of the file system: off the async threads.
    let text = tokio::task::spawn_blocking(move || host.metrics()).await.map_err(ApiError::internal)?;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok((StatusCode::OK, [(CONTENT_TYPE, kind)], text).into_response())
}

/// Compared without telling by the time it takes how much of a guess is right.
fn bears(headers: &HeaderMap, token: &str) -> bool {
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some((scheme, given)) = given.split_once(' ') else { return false };
    scheme.eq_ignore_ascii_case("bearer") && bool::from(given.trim().as_bytes().ct_eq(token.as_bytes()))
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    (status, Extension(Said), [(CACHE_CONTROL, HeaderValue::from_static("no-store"))], text).into_response()
}
