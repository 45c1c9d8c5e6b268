//! `X-Request-Id` (contract D35): an incoming one is kept when it is at most 128 of `[A-Za-z0-9._-]`, else one is made;
//! the answer carries it, and so does every log line of the request.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;

use crate::Host;

/// The header.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id kept.
const LENGTH_MAX: usize = 128;

/// The request's id, in its extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(pub(crate) Arc<str>);

pub(crate) async fn keep_or_make(
    State(host): State<Arc<dyn Host>>,
    mut request: Request,
    next: Next,
) -> Response {
    let kept =
        request.headers().get(X_REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| is_kept(id));
    let id: Arc<str> = kept.map_or_else(|| host.request_id(), str::to_owned).into();
    request.extensions_mut().insert(RequestId(Arc::clone(&id)));
    let span = tracing::info_span!("request", door = "rest", request_id = %id);
    let mut response = next.run(request).instrument(span).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    response
}

fn is_kept(id: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=LENGTH_MAX).contains(&id.len()) && id.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_ids_are_kept() {
        let longest = "a".repeat(LENGTH_MAX);
        let too_long = "a".repeat(LENGTH_MAX + 1);
        for (id, kept) in [
            ("a", true),
            ("7f-Q_9.z", true),
            (&longest, true),
            (&too_long, false),
            ("", false),
            ("a b", false),
            ("a/b", false),
            ("é", false),
            ("<script>", false),
        ] {
            assert_eq!(is_kept(id), kept, "{id}");
        }
    }
}
