//! The REST door: so far its ground — health, readiness, metrics, request ids, the panic guard, errors.
//!
//! Promises: every answer carries `X-Request-Id`, every error is JSON (404, 405 and a panic as well), nothing tells a
//! path or a stack trace of the server. Leaves out: listeners and TLS (`daemon`), the documented APIs (contract §5).

mod error;
mod http;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use subtle::ConstantTimeEq as _;

pub use error::ApiError;
pub use http::request_id::{RequestId, X_REQUEST_ID};

/// Whether the daemon can serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// The store is being opened.
    Starting,
    /// Everything answers.
    Ready,
    /// Draining after a signal.
    Stopping,
    /// A write failed for good; the process is about to end.
    Failed,
}

/// What the door asks of the daemon.
pub trait Host: std::fmt::Debug + Send + Sync + 'static {
    /// Whether the daemon can serve now.
    fn readiness(&self) -> Readiness;
    /// All metrics in Prometheus' text format.
    fn metrics(&self) -> String;
    /// A new request id.
    fn request_id(&self) -> String;
}

/// What [`router`] is given.
#[derive(Clone)]
pub struct Options {
    /// The daemon.
    pub host: Arc<dyn Host>,
    /// `[rest] metrics_token`: who asks for `/metrics` has to bring it as a bearer token.
    pub metrics_token: Option<String>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("host", &self.host).finish_non_exhaustive()
    }
}

/// All routes of the door, with its guards around them.
pub fn router(options: Options) -> Router {
    let state = Arc::new(options);
    // The order matters: the id is made first, so that the panic guard's answer and log line carry it.
    guard(
        Router::new()
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(Arc::clone(&state)),
        state,
    )
}

fn guard(routes: Router, state: Arc<Options>) -> Router {
    routes
        .fallback(async || ApiError::not_found())
        .method_not_allowed_fallback(async || ApiError::method_not_allowed())
        .layer(middleware::from_fn(http::panic::guard))
        .layer(middleware::from_fn_with_state(state, http::request_id::keep_or_make))
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

async fn metrics(State(options): State<Arc<Options>>, headers: HeaderMap) -> Result<Response, Response> {
    if let Some(token) = &options.metrics_token
        && !bears(&headers, token)
    {
        let mut refused = ApiError::unauthorized().into_response();
        refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return Err(refused);
    }
    let host = Arc::clone(&options.host);
    // Reads /proc and statistics of the file system: off the async threads.
    let text = tokio::task::spawn_blocking(move || host.metrics())
        .await
        .map_err(|_| ApiError::internal().into_response())?;
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
    (status, [(CACHE_CONTROL, HeaderValue::from_static("no-store"))], text).into_response()
}

#[cfg(test)]
mod tests;
