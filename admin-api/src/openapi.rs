//! The OpenAPI document (3.1), generated from the routes: at `/openapi.json`, and for people at `/docs`.
//!
//! The page needs no network: it has its own script and style, and may load nothing else.

use std::sync::Arc;

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::routing::get;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, Info, OpenApi, OpenApiBuilder, Response};

use crate::Ground;

/// The page.
const PAGE: &str = include_str!("openapi/page.html");
/// What it may do: run what stands in it, and read the document.
const PAGE_POLICY: &str =
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-ancestors 'none'";
const SCRIPT: &str = include_str!("openapi/page.js");
const STYLE: &str = include_str!("openapi/page.css");

/// What stands around the routes: title, version, how callers say who they are.
pub(crate) fn frame() -> OpenApi {
    let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let components = ComponentsBuilder::new().security_scheme("bearer", bearer).build();
    let mut info = Info::new("Coffre", env!("CARGO_PKG_VERSION"));
    info.description = Some(
        "A storage daemon: files kept once by content, with S3, a mount and these APIs as doors to them."
            .into(),
    );
    OpenApiBuilder::new().info(info).components(Some(components)).build()
}

/// The document with what the routes do not say themselves: the company's addresses without `companies/`, what a rest of
/// a path is called outside axum, and that what is refused is refused in the API's own style.
pub(crate) fn finish(mut document: OpenApi) -> OpenApi {
    let long = "/internal/services/files/v1/companies/";
    let twins: Vec<(String, PathItem)> = document
        .paths
        .paths
        .iter()
        .filter_map(|(path, item)| Some((path.strip_prefix(long)?, item)))
        .map(|(rest, item)| (format!("/internal/services/files/v1/{rest}"), renamed(item.clone())))
        .collect();
    document.paths.paths.extend(twins);
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths =
        paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), refusing(item))).collect();
    document
}

/// With the answers of the frame around the routes, where an operation does not name its refusals one by one.
fn refusing(mut item: PathItem) -> PathItem {
    for operation in operations(&mut item) {
        let says = match operation.tags.as_deref().and_then(<[String]>::first).map(String::as_str) {
            Some("admin") => "error: code, message, request_id",
            Some("gateway") => "success, error, code",
            Some("billing") => "error",
            _ => continue,
        };
        operation.responses.responses.entry("4XX".into()).or_insert_with(|| Response::new(says).into());
    }
    item
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, put, post, delete, options, head, patch, .. } = item;
    [get, put, post, delete, options, head, patch].into_iter().flatten()
}

/// With operation ids of its own.
fn renamed(mut item: PathItem) -> PathItem {
    for operation in operations(&mut item) {
        operation.operation_id = operation.operation_id.take().map(|id| format!("{id}_short"));
    }
    item
}

/// The document's text, as it is served and kept in `docs/openapi.json`.
pub(crate) fn text(document: &OpenApi) -> String {
    let mut text = document.to_pretty_json().expect("the document is JSON");
    text.push('\n');
    text
}

/// `/openapi.json` and `/docs`.
pub(crate) fn routes(document: &OpenApi) -> Router<Ground> {
    let document: Arc<str> = text(document).into();
    let json = async move || ([(CONTENT_TYPE, "application/json")], document.to_string());
    let asset = |kind: &'static str, text: &'static str| {
        let headers = [
            (CONTENT_TYPE, kind),
            (CONTENT_SECURITY_POLICY, PAGE_POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (CACHE_CONTROL, "no-cache"),
        ];
        get(async move || (headers, text))
    };
    Router::new()
        .route("/openapi.json", get(json))
        .route("/docs", asset("text/html; charset=utf-8", PAGE))
        .route("/docs/page.js", asset("text/javascript; charset=utf-8", SCRIPT))
        .route("/docs/page.css", asset("text/css; charset=utf-8", STYLE))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn document() -> OpenApi {
        finish(crate::routes().split_for_parts().1)
    }

    /// A change of interface shows in the diff: `COFFRE_WRITE_OPENAPI=1 cargo test openapi` writes the file anew.
    #[test]
    fn the_document_in_the_repository_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        let current = text(&document());
        if std::env::var_os("COFFRE_WRITE_OPENAPI").is_some() {
            std::fs::write(path, &current).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(kept == current, "docs/openapi.json is not current: run with COFFRE_WRITE_OPENAPI=1");
    }

    #[test]
    fn every_operation_is_named_once_and_says_who_may_call() {
        let document: Value = serde_json::from_str(&text(&document())).unwrap();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
        let mut names = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                if !["get", "post", "put", "patch", "delete", "head", "options"].contains(&method.as_str()) {
                    continue;
                }
                let name = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path}"));
                assert!(names.insert(name.to_owned()), "{name} twice");
                assert!(
                    operation["tags"][0].is_string() && operation["summary"].is_string(),
                    "{method} {path}"
                );
            }
        }
    }
}
