//! Calls from pages of other origins (Fetch standard): allowed for `[rest] cors_origins`.
//!
//! Only a preflight — `OPTIONS` with `Access-Control-Request-Method` — is answered here; an `OPTIONS` of TUS goes to its
//! route. Tokens travel in headers the page sets itself, so credentials of the browser are never allowed.

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::Ground;

/// What pages may read of an answer: TUS's headers, the gateway's, and those of downloads.
const EXPOSED: &str = "Location, Upload-Offset, Upload-Length, Upload-Metadata, Upload-Defer-Length, Upload-Concat, \
    Upload-Expires, Tus-Resumable, Tus-Version, Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm, X-S3-Key, \
    X-Public-Url, X-Request-Id, ETag, Content-Disposition, Content-Range, Accept-Ranges, Retry-After, \
    X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Preference-Applied";
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
/// A day: what browsers keep a preflight's answer for at most, or less.
const MAX_AGE: &str = "86400";

/// Around everything.
pub(crate) async fn answer(State(ground): State<Ground>, request: Request, next: Next) -> Response {
    let allowed = allowed(&ground.settings.cors_origins, request.headers());
    let (Some(allowed), method) = (allowed, request.method()) else { return next.run(request).await };
    let is_preflight =
        method == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if is_preflight { preflight(request.headers()) } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
    headers.append(VARY, HeaderValue::from_static("Origin"));
    if !is_preflight {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    response
}

/// What to answer to the request's origin; `None`: nothing, and the browser keeps the page from reading.
fn allowed(origins: &[String], headers: &HeaderMap) -> Option<HeaderValue> {
    let origin = headers.get(ORIGIN)?;
    let text = origin.to_str().ok()?;
    if origins.iter().any(|allowed| allowed == "*") {
        return Some(HeaderValue::from_static("*"));
    }
    let is_named = origins.iter().any(|allowed| allowed.trim_end_matches('/').eq_ignore_ascii_case(text));
    is_named.then(|| origin.clone())
}

fn preflight(asked: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    // Any header may be sent: what it may do is decided when it comes.
    if let Some(names) = asked.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
        headers.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let of = |origins: &[&str], origin: &str| {
            let origins: Vec<String> = origins.iter().map(|&o| o.to_owned()).collect();
            let mut headers = HeaderMap::new();
            headers.insert(ORIGIN, origin.parse().unwrap());
            allowed(&origins, &headers).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(of(&[], "https://a.example").as_deref(), None);
        assert_eq!(of(&["*"], "https://a.example").as_deref(), Some("*"));
        assert_eq!(of(&["https://a.example/"], "https://a.example").as_deref(), Some("https://a.example"));
        assert_eq!(of(&["https://a.example"], "https://a.example.evil").as_deref(), None);
        assert_eq!(allowed(&["*".into()], &HeaderMap::new()), None);
    }
}
