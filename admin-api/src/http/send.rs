//! Sending a stored object: conditions, one range, `HEAD`, names, and headers that keep a browser from running it
//! (RFC 9110 §13–§14, RFC 6266; contract §5).
//!
//! The bytes are streamed from the store as they are read; the blobs stay while the answer is being sent.

use axum::body::Body;
use axum::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, LAST_MODIFIED, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use coffre_store::get::{Found, GetObject};
use coffre_store::object::{At, Version};
use coffre_store::{Cx, Store};

use super::conditions;
use super::disposition::{self, Disposition};
use crate::error::ApiError;

/// How often an object may change between its record and its bytes while a range is asked for.
const ATTEMPTS: usize = 4;
/// Keeps what is shown from running anything or being anybody: its own origin, no scripts, no forms, no frames.
const SANDBOX: &str =
    "sandbox; default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'";

/// What is sent, and how it is called.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    /// Which object.
    pub(crate) at: At,
    /// What it is called; `None`: its label, else the key's last segment.
    pub(crate) name: Option<String>,
    /// Its type; `None`: what filing shows (contract D17).
    pub(crate) content_type: Option<String>,
    /// Shown or saved. What could run in a browser is always saved.
    pub(crate) disposition: Disposition,
    /// `Cache-Control`; by default a copy may be kept by the browser alone, and has to be asked about.
    pub(crate) cache: &'static str,
}

impl Sending {
    /// To be saved, under its own name.
    pub(crate) fn attachment(at: At) -> Self {
        Self {
            at,
            name: None,
            content_type: None,
            disposition: Disposition::Attachment,
            cache: "private, no-cache",
        }
    }
}

/// Answers `GET` or `HEAD` with a stored object, as its headers ask.
///
/// # Errors
/// As the store's `get`; 304 is an answer, not an error.
pub(crate) async fn object(
    store: &Store,
    cx: &Cx,
    method: &Method,
    headers: &HeaderMap,
    sending: Sending,
) -> Result<Response, ApiError> {
    let conditions = conditions::conditions(headers);
    let mut get = GetObject { at: sending.at.clone(), version: None, conditions, range: None };
    let range = conditions::range(headers);
    for _ in 0..ATTEMPTS {
        // What `If-Range` is compared with has to be the version whose bytes are sent.
        let known = match range {
            None => None,
            Some(_) => match store.head(cx, GetObject { range: None, ..get.clone() }).await {
                Ok(found) => {
                    let counts = conditions::range_counts(headers, &found.version);
                    get.range = range.filter(|_| counts);
                    Some(found.version.id)
                }
                Err(error) => return unread(error, &sending),
            },
        };
        let answer = if method == Method::HEAD {
            store.head(cx, get.clone()).await.map(|found| (found, None))
        } else {
            store.get(cx, get.clone()).await.map(|(found, bytes)| (found, Some(bytes)))
        };
        match answer {
            Ok((found, _)) if known.is_some_and(|id| id != found.version.id) => {}
            Ok((found, bytes)) => {
                let body = bytes.map_or_else(Body::empty, Body::from_stream);
                return Ok(head(&found, &sending, body));
            }
            Err(error) => return unread(error, &sending),
        }
    }
    Err(coffre_store::Error::Busy.into())
}

fn unread(error: coffre_store::Error, sending: &Sending) -> Result<Response, ApiError> {
    let coffre_store::Error::NotModified(version) = error else { return Err(error.into()) };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    validators(response.headers_mut(), &version, sending);
    Ok(response)
}

/// What a 304 carries too (RFC 9110 §15.4.5).
fn validators(headers: &mut HeaderMap, version: &Version, sending: &Sending) {
    headers.insert(ETAG, conditions::etag(&version.etag));
    headers.insert(LAST_MODIFIED, conditions::http_date(version.modified_ms));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(sending.cache));
}

fn head(found: &Found, sending: &Sending, body: Body) -> Response {
    let version = &found.version;
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    validators(headers, version, sending);
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let length = found.range.as_ref().map_or(version.size_bytes, |range| range.end - range.start);
    headers.insert(CONTENT_LENGTH, length.into());
    let attributes = &version.attributes;
    let kind = sending.content_type.as_deref().unwrap_or(coffre_store::views::shown_type(version));
    let name = sending.name.as_deref().or(attributes.label.as_deref());
    harmless(headers, kind, sending.disposition, name.unwrap_or(sending.at.key.last_segment()));
    if let Some(encoding) = attributes.content_encoding.as_deref().and_then(|text| text.parse().ok()) {
        headers.insert(axum::http::header::CONTENT_ENCODING, encoding);
    }
    if let Some(range) = &found.range {
        let text = format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), version.size_bytes);
        headers.insert(CONTENT_RANGE, HeaderValue::try_from(text).expect("digits and punctuation"));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

/// Type, name, and what keeps a browser from running it.
pub(crate) fn harmless(headers: &mut HeaderMap, kind: &str, wanted: Disposition, name: &str) {
    let disposition = if runs(kind) { Disposition::Attachment } else { wanted };
    let kind = HeaderValue::try_from(kind).unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let fixed: [(HeaderName, HeaderValue); 4] = [
        (CONTENT_TYPE, kind),
        (CONTENT_DISPOSITION, disposition::header(disposition, name)),
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static(SANDBOX)),
    ];
    headers.extend(fixed);
}

/// Whether a browser would run what is in it: documents with scripts, whatever their spelling.
fn runs(kind: &str) -> bool {
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let subtype = essence.split_once('/').map_or("", |(_, subtype)| subtype);
    essence.is_empty()
        || subtype.contains("html")
        || subtype.contains("javascript")
        || subtype.contains("ecmascript")
        || subtype == "xml"
        || subtype.ends_with("+xml")
        || subtype.ends_with("-xml")
        || subtype == "xsl"
        || subtype == "multipart"
        || essence == "text/cache-manifest"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_saved() {
        for (kind, saved) in [
            ("text/html", true),
            ("Text/HTML; charset=utf-8", true),
            ("application/xhtml+xml", true),
            ("image/svg+xml", true),
            ("text/xml", true),
            ("application/xml", true),
            ("application/javascript", true),
            ("text/xsl", true),
            ("", true),
            ("image/png", false),
            ("application/pdf", false),
            ("text/plain; charset=utf-8", false),
            ("video/mp4", false),
            ("application/octet-stream", false),
        ] {
            let mut headers = HeaderMap::new();
            harmless(&mut headers, kind, Disposition::Inline, "x");
            let shown = headers[CONTENT_DISPOSITION].to_str().unwrap().to_owned();
            assert_eq!(shown.starts_with("attachment"), saved, "{kind}");
            assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
        }
    }
}
