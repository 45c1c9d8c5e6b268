//! Around every route: request id, rendering of errors in the path's dialect, the panic guard, the operation's name.
//!
//! An error answer that is not ours (axum's for a path or body it could not read) is rendered like ours, by its status.

use std::panic::AssertUnwindSafe;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;

use super::language::Language;
use super::request_id::RequestId;
use crate::Settings;
use crate::dialect::{Around, Dialect};
use crate::error::{ApiError, Code};

/// The route's template (`/api/files/{id}`), in the answer's extensions: a metrics label with few values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation(pub std::sync::Arc<str>);

/// In an answer's extensions: plain text, and meant so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Said;

/// What the frame needs to know of the settings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rendering {
    pub(crate) tells_causes: bool,
}

impl Rendering {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self { tells_causes: settings.filing.debug }
    }
}

/// Turns what handlers return as an error, and what panics, into the dialect's answer.
pub(crate) async fn render(State(rendering): State<Rendering>, request: Request, next: Next) -> Response {
    let dialect = Dialect::of_path(request.uri().path());
    let language = Language::of(request.headers());
    let id = request.extensions().get::<RequestId>().cloned();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map(|path| Operation(path.as_str().into()));
    let id = id.as_ref().map_or("", |id| &id.0);
    // Unwind safe: a handler shares with others only what guards itself (locks poison, channels close). The process's
    // panic hook has logged message and place by then.
    let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let response = answer.unwrap_or_else(|_| ApiError::internal("a request panicked").into_response());
    let mut response = match error_of(&response) {
        None => response,
        Some(error) => {
            log(&error, id);
            let around = Around { language, request_id: id, tells_causes: rendering.tells_causes };
            rendered(response, dialect.render(&error, &around), &method)
        }
    };
    if let Some(route) = route {
        response.extensions_mut().insert(route);
    }
    response
}

/// The error that an answer is; `None`: it is none, or has said itself what is wrong.
fn error_of(response: &Response) -> Option<ApiError> {
    if let Some(error) = response.extensions().get::<ApiError>() {
        return Some(error.clone());
    }
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let is_plain = kind.is_none_or(|kind| kind.starts_with("text/plain"));
    let is_said = !is_plain || response.extensions().get::<Said>().is_some();
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || is_said { None } else { Some(by_status(status)) }
}

fn by_status(status: StatusCode) -> ApiError {
    let code = match status {
        StatusCode::NOT_FOUND => Code::NoRoute,
        StatusCode::METHOD_NOT_ALLOWED => Code::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Code::UnsupportedMediaType,
        StatusCode::UNPROCESSABLE_ENTITY => Code::Validation,
        status if status.is_server_error() => Code::Internal,
        _ => Code::Malformed,
    };
    code.into()
}

/// The dialect's answer with the headers that the route, or axum, had set beside its error (`Allow`).
fn rendered(original: Response, mut answer: Response, method: &Method) -> Response {
    let (head, _) = original.into_parts();
    let kept: HeaderMap = head
        .headers
        .into_iter()
        .filter_map(|(name, value)| Some((name?, value)))
        .filter(|(name, _)| !matches!(*name, header::CONTENT_TYPE | header::CONTENT_LENGTH))
        .collect();
    for (name, value) in &kept {
        if !answer.headers().contains_key(name) {
            answer.headers_mut().append(name, value.clone());
        }
    }
    let is_bare = method == Method::HEAD || answer.status() == StatusCode::NOT_MODIFIED;
    if is_bare { answer.map(|_| axum::body::Body::empty()) } else { answer }
}

/// The unexpected, once, with its causes.
fn log(error: &ApiError, request_id: &str) {
    let cause = error.cause.as_deref();
    match error.code {
        Code::Internal => tracing::error!(request_id, cause, "a request failed"),
        Code::NoSpace | Code::Unavailable | Code::Upstream => {
            tracing::warn!(request_id, cause, "a request was refused");
        }
        _ => tracing::debug!(request_id, cause, code = error.code.as_str(), words = error.words(), "refused"),
    }
}
