//! A request's small parts, with our errors in place of axum's: JSON and urlencoded bodies, queries, paths.

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;

use super::body;
use crate::error::{ApiError, Code};

/// Largest body that is read into memory.
pub(crate) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// A JSON body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Json<T>(pub(crate) T);

/// The query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<T>(pub(crate) T);

/// What stands in the path. What is not of its type is not there: 404.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path<T>(pub(crate) T);

/// The whole body, at most [`BODY_BYTES_MAX`].
///
/// # Errors
/// `TooLarge`, `Incomplete`.
pub(crate) async fn whole(body: axum::body::Body) -> Result<Bytes, ApiError> {
    let mut stream = body::stream(body);
    let mut all = BytesMut::new();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|error| match error.downcast::<ApiError>() {
            Ok(own) => *own,
            Err(other) => ApiError { cause: Some(other.to_string().into()), ..Code::Incomplete.into() },
        })?;
        all.extend_from_slice(&piece);
        if all.len() > BODY_BYTES_MAX {
            let words = format!("The body is larger than {BODY_BYTES_MAX} bytes.");
            return Err(ApiError::detailed(Code::TooLarge, words));
        }
    }
    Ok(all.freeze())
}

/// The body's type without parameters, lower case; empty when none is given.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// JSON as a value, with what is wrong in words.
///
/// # Errors
/// `Malformed` for what is no JSON, `Validation` for another shape.
pub(crate) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let code = if error.is_data() { Code::Validation } else { Code::Malformed };
        ApiError::detailed(code, format!("The body is not as expected: {error}."))
    })
}

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let kind = media_type(request.headers());
        if kind != "application/json" && !kind.ends_with("+json") {
            return Err(ApiError::detailed(
                Code::UnsupportedMediaType,
                "The body has to be application/json.",
            ));
        }
        json(&whole(request.into_body()).await?).map(Self)
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        let told = |error: QueryRejection| ApiError::detailed(Code::Validation, error.body_text());
        query.map(|axum::extract::Query(query)| Self(query)).map_err(told)
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        path.map(|axum::extract::Path(path)| Self(path)).map_err(|_: PathRejection| Code::NotFound.into())
    }
}
