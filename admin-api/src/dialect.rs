//! The dialects: how each document's API says that something went wrong (contract D8, D9, D10).
//!
//! Which one answers is decided by the path alone, so that it holds for 404, 405, 413, a panic and a wrong token too,
//! whether or not a route was found. Each API renders in its own file.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::error::{ApiError, Code};
use crate::http::language::Language;
use crate::{company, filing, gateway, t2m};

/// Whose style an answer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Dialect {
    /// `/api/v1/files/upload/{direct,multipart,generate}…`, `/api/v1/files/{video,gifs,image,pdf}/…`.
    Gateway,
    /// `/api/v1/billing/…`.
    Billing,
    /// `/api/files…` and `/storage/…`.
    Filing,
    /// All else below `/api/v1`.
    T2m,
    /// `/internal/services/files/v1/…`.
    Company,
    /// Our own: the admin API, health, documents, and what no API has a prefix for.
    Own,
}

/// What a dialect may want to know of the request it answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around<'a> {
    /// The caller's language.
    pub(crate) language: Language,
    /// The request's id.
    pub(crate) request_id: &'a str,
    /// `[filing] debug`.
    pub(crate) tells_causes: bool,
}

impl Dialect {
    /// The dialect of a path.
    pub(crate) fn of_path(path: &str) -> Self {
        if let Some(rest) = below(path, "/api/v1") {
            return Self::of_v1(rest);
        }
        if below(path, "/api/files").is_some() || below(path, "/storage").is_some() {
            return Self::Filing;
        }
        if below(path, "/internal/services/files/v1").is_some() { Self::Company } else { Self::Own }
    }

    /// Below `/api/v1` the gateway has a list of its own, billing a prefix; the rest is t2m's.
    fn of_v1(rest: &str) -> Self {
        let mut segments = rest.trim_start_matches('/').split('/');
        match (segments.next(), segments.next(), segments.next()) {
            (Some("billing"), ..) => Self::Billing,
            (Some("files"), Some("upload"), Some("direct" | "multipart" | "generate"))
            | (Some("files"), Some("video" | "gifs" | "image" | "pdf"), Some(_)) => Self::Gateway,
            _ => Self::T2m,
        }
    }

    /// The status it answers a code with.
    pub(crate) fn status(self, code: Code) -> StatusCode {
        match self {
            Self::Filing => filing::dialect::status(code),
            Self::T2m => t2m::dialect::status(code),
            Self::Gateway | Self::Billing | Self::Company | Self::Own => code.status(),
        }
    }

    /// An error as this API says it.
    pub(crate) fn render(self, error: &ApiError, around: &Around<'_>) -> Response {
        let status = error.status.unwrap_or_else(|| self.status(error.code));
        let body = match self {
            Self::Gateway => gateway::dialect::body(error),
            Self::Billing => gateway::dialect::billing_body(error),
            Self::Filing => filing::dialect::body(error, around),
            Self::T2m => t2m::dialect::body(error),
            Self::Company => company::dialect::body(status, error),
            Self::Own => own_body(error, around),
        };
        let mut response = (status, axum::Json(body)).into_response();
        for (name, value) in &error.headers {
            response.headers_mut().append(name, value.clone());
        }
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().entry(header::CACHE_CONTROL).or_insert(no_store);
        response
    }
}

/// What follows a prefix that ends at a segment's end.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `{"error":{"code","message","request_id"}}`, with `fields` where they say more.
fn own_body(error: &ApiError, around: &Around<'_>) -> Value {
    let mut body =
        json!({"code": error.code.as_str(), "message": error.words(), "request_id": around.request_id});
    if let (false, Some(object)) = (error.fields.is_empty(), body.as_object_mut()) {
        object.insert("fields".into(), fields(error));
    }
    json!({"error": body})
}

/// `{"field": ["what is wrong"]}`, in the order found.
pub(crate) fn fields(error: &ApiError) -> Value {
    error
        .fields
        .iter()
        .map(|(name, what)| (name.clone(), json!(what)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The first thing wrong with a field, or the error's own words: for dialects with one sentence.
pub(crate) fn sentence(error: &ApiError) -> &str {
    let first = error.fields.first().and_then(|(_, what)| what.first());
    error.message.as_deref().or(first.map(String::as_str)).unwrap_or(error.words())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_decides_who_answers() {
        for (path, dialect) in [
            ("/api/v1/files/upload/direct", Dialect::Gateway),
            ("/api/v1/files/upload/multipart", Dialect::Gateway),
            ("/api/v1/files/upload/multipart/abc", Dialect::Gateway),
            ("/api/v1/files/upload/generate/presigned-url", Dialect::Gateway),
            ("/api/v1/files/video/process", Dialect::Gateway),
            ("/api/v1/files/gifs/generate", Dialect::Gateway),
            ("/api/v1/files/image/describe", Dialect::Gateway),
            ("/api/v1/files/pdf/extract", Dialect::Gateway),
            ("/api/v1/files/upload", Dialect::T2m),
            ("/api/v1/files/video", Dialect::T2m),
            ("/api/v1/files/file_1/download", Dialect::T2m),
            ("/api/v1/billing", Dialect::Billing),
            ("/api/v1/billing/consume", Dialect::Billing),
            ("/api/v1", Dialect::T2m),
            ("/api/v1/nowhere", Dialect::T2m),
            ("/api/v10/nowhere", Dialect::Own),
            ("/api/files", Dialect::Filing),
            ("/api/files/7", Dialect::Filing),
            ("/api/filesystem", Dialect::Own),
            ("/storage/client/1/devis/a.pdf", Dialect::Filing),
            ("/internal/services/files/v1/companies/x/files", Dialect::Company),
            ("/admin/v1/users", Dialect::Own),
            ("/", Dialect::Own),
        ] {
            assert_eq!(Dialect::of_path(path), dialect, "{path}");
        }
    }
}
