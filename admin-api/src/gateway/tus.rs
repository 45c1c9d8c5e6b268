//! `/api/v1/files/upload/multipart` (document 2.8.6–2.8.8, contract §5.1, D15): resumable uploads by TUS 1.0.0.
//!
//! What the headers say is `crate::tus`; what is stored is the store's (`coffre_store::resumable`). Bytes are appended
//! in a task of its own: what arrived is kept, whatever becomes of the connection. Every answer of these routes carries
//! `Tus-Resumable`, errors too.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use coffre_store::object::Attributes;
use coffre_store::resumable::{Append, Concatenate, CreateResumable, Kind, Resumable};
use coffre_store::{Error as StoreError, UploadId};

use super::place::{PATH_DEFAULT, clean_name, clean_path, new_key};
use crate::Ground;
use crate::error::{ApiError, Code};
use crate::http::caller::{Caller, Permission};
use crate::http::conditions::http_date;
use crate::http::{body, input};
use crate::tus::{self, Concat, Length, Metadata};

/// What an upload's address begins with.
const ADDRESS: &str = "/api/v1/files/upload/multipart/";
const X_S3_KEY: HeaderName = HeaderName::from_static("x-s3-key");
const X_PUBLIC_URL: HeaderName = HeaderName::from_static("x-public-url");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// Around everything: each answer from these addresses says which version it is of, a refusal before the route too.
pub(crate) async fn versioned(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_ours = path.starts_with(ADDRESS) || path == ADDRESS.trim_end_matches('/');
    let mut response = next.run(request).await;
    if is_ours {
        response.headers_mut().insert(tus::TUS_RESUMABLE, tus::VERSION);
    }
    response
}

/// What this server can do
#[utoipa::path(
    options,
    path = "/api/v1/files/upload/multipart",
    tag = "gateway",
    operation_id = "tus_options",
    responses((status = 204, description = "Tus-Version, Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm."))
)]
pub(crate) async fn options(State(ground): State<Ground>) -> Response {
    capabilities(&ground)
}

/// What this server can do
#[utoipa::path(
    options,
    path = "/api/v1/files/upload/multipart/{upload_id}",
    tag = "gateway",
    operation_id = "tus_options_of_one",
    params(("upload_id" = String, Path)),
    responses((status = 204, description = "Tus-Version, Tus-Extension, Tus-Max-Size, Tus-Checksum-Algorithm."))
)]
pub(crate) async fn options_of_one(State(ground): State<Ground>) -> Response {
    capabilities(&ground)
}

fn capabilities(ground: &Ground) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(tus::TUS_VERSION, tus::VERSION);
    headers.insert(tus::TUS_EXTENSION, tus::EXTENSIONS);
    headers.insert(tus::TUS_CHECKSUM_ALGORITHM, tus::CHECKSUMS);
    headers.insert(tus::TUS_MAX_SIZE, ground.settings.gateway.tus_max_size_bytes.into());
    response
}

/// Begins a resumable upload
///
/// TUS 1.0.0: `Upload-Length` or `Upload-Defer-Length: 1`, `Upload-Metadata`, `Upload-Concat`; bytes may come along.
#[utoipa::path(
    post,
    path = "/api/v1/files/upload/multipart",
    tag = "gateway",
    operation_id = "tus_create",
    security(("bearer" = [])),
    params(
        ("Tus-Resumable" = String, Header, example = "1.0.0"),
        ("Upload-Length" = Option<u64>, Header, example = 1_048_576),
        ("Upload-Defer-Length" = Option<u8>, Header),
        ("Upload-Metadata" = Option<String>, Header, example = "filename dGVzdC5tcDQ=,contentType dmlkZW8vbXA0"),
        ("Upload-Concat" = Option<String>, Header),
    ),
    responses(
        (status = 201, description = "Location, Upload-Offset, Upload-Expires, X-S3-Key, X-Public-Url."),
        (status = 412, description = "Another version of TUS."),
        (status = 413, description = "Longer than Tus-Max-Size."),
        (status = 415, description = "A body that is not application/offset+octet-stream."),
    )
)]
pub(crate) async fn create(
    State(ground): State<Ground>,
    caller: Caller,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, bytes) = request.into_parts();
    let headers = &head.headers;
    tus::check_version(headers)?;
    caller.may(Permission::UploadFiles)?;
    let created = match tus::concat(headers, ADDRESS)? {
        Concat::Final(partials) => compose(&ground, &caller, headers, partials).await?,
        kind => {
            let has_bytes = has_bytes(headers)?;
            let upload = begin(&ground, &caller, headers, kind == Concat::Partial).await?;
            if has_bytes {
                let length_max = ground.settings.gateway.tus_max_size_bytes;
                let claims = tus::claims(headers)?;
                let append = Append {
                    upload: upload.id,
                    offset_bytes: 0,
                    length_bytes: None,
                    length_max,
                    size_bytes: content_length(headers)?,
                    body: body::stream(bytes),
                    claims,
                };
                append_apart(&ground, &caller, append).await?
            } else {
                upload
            }
        }
    };
    let mut response = StatusCode::CREATED.into_response();
    let location = HeaderValue::try_from(format!("{ADDRESS}{}", created.id));
    response.headers_mut().insert(header::LOCATION, location.map_err(ApiError::internal)?);
    tell(&ground, &caller, &created, response.headers_mut())?;
    tell_address(&ground, &caller, &created, response.headers_mut())?;
    Ok(response)
}

/// Whether bytes come along with the creation.
fn has_bytes(headers: &HeaderMap) -> Result<bool, ApiError> {
    let announced = content_length(headers)?;
    let is_there = announced.map_or(headers.contains_key(header::TRANSFER_ENCODING), |n| n > 0);
    if is_there && !tus::is_bytes(headers) {
        return Err(wrong_type());
    }
    Ok(is_there || (tus::is_bytes(headers) && announced.is_none()))
}

async fn begin(
    ground: &Ground,
    caller: &Caller,
    headers: &HeaderMap,
    is_partial: bool,
) -> Result<Resumable, ApiError> {
    let settings = &ground.settings.gateway;
    let length_bytes = match tus::creation_length(headers, settings.tus_max_size_bytes)? {
        Length::Is(length) => Some(length),
        Length::Deferred => None,
    };
    let metadata = Metadata::of(headers)?;
    let create = CreateResumable {
        at: place(ground, caller, &metadata)?,
        attributes: attributes(&metadata)?,
        said: metadata.said,
        length_bytes,
        is_partial,
        lives_ms: settings.tus_expiry_ms,
    };
    ground.store.create_resumable(&caller.cx, create).await.map_err(told)
}

/// Composes an upload of pieces. It has no length of its own, and no bytes.
async fn compose(
    ground: &Ground,
    caller: &Caller,
    headers: &HeaderMap,
    partials: Vec<UploadId>,
) -> Result<Resumable, ApiError> {
    if headers.contains_key(tus::UPLOAD_LENGTH) || headers.contains_key(tus::UPLOAD_DEFER_LENGTH) {
        return Err(ApiError::detailed(Code::Validation, "A final upload has no length of its own."));
    }
    let metadata = Metadata::of(headers)?;
    let concatenate = Concatenate {
        at: place(ground, caller, &metadata)?,
        attributes: attributes(&metadata)?,
        said: metadata.said,
        partials,
        length_max: ground.settings.gateway.tus_max_size_bytes,
        lives_ms: ground.settings.gateway.tus_expiry_ms,
    };
    ground.store.concatenate(&caller.cx, concatenate).await.map_err(told)
}

fn place(
    ground: &Ground,
    caller: &Caller,
    metadata: &Metadata,
) -> Result<coffre_store::object::At, ApiError> {
    let path = metadata.path().map_or_else(|| PATH_DEFAULT.to_owned(), clean_path);
    let name = clean_name(metadata.file_name().unwrap_or_default());
    let key = new_key(&caller.holder, &path, &name, ground.clock.now_ms(), ground.short_unique())?;
    Ok(ground.gateway_at(key))
}

fn attributes(metadata: &Metadata) -> Result<Attributes, ApiError> {
    let content_type = metadata.content_type().unwrap_or("application/octet-stream").to_owned();
    Ok(Attributes {
        content_type: Some(content_type),
        user_metadata: metadata.others()?,
        ..Attributes::default()
    })
}

/// A `POST` to an upload is what `X-HTTP-Method-Override` says
///
/// For clients that can send nothing but `GET` and `POST`.
#[utoipa::path(
    post,
    path = "/api/v1/files/upload/multipart/{upload_id}",
    tag = "gateway",
    operation_id = "tus_override",
    security(("bearer" = [])),
    params(("upload_id" = String, Path), ("X-HTTP-Method-Override" = String, Header, example = "PATCH")),
    responses((status = 204, description = "As PATCH, DELETE or HEAD."), (status = 405, description = "Nothing else."))
)]
pub(crate) async fn overridden(
    ground: State<Ground>,
    caller: Caller,
    id: input::Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let asked = request.headers().get(tus::METHOD_OVERRIDE);
    match asked.and_then(|value| Method::from_bytes(value.as_bytes()).ok()) {
        Some(Method::PATCH) => append(ground, caller, id, request).await,
        Some(Method::DELETE) => terminate(ground, caller, id, request.headers().clone()).await,
        Some(Method::HEAD) => status(ground, caller, id, request.headers().clone()).await,
        _ => Err(ApiError::only("GET, HEAD, PATCH, DELETE, OPTIONS")),
    }
}

/// Appends bytes
#[utoipa::path(
    patch,
    path = "/api/v1/files/upload/multipart/{upload_id}",
    tag = "gateway",
    operation_id = "tus_append",
    security(("bearer" = [])),
    params(
        ("upload_id" = String, Path),
        ("Tus-Resumable" = String, Header, example = "1.0.0"),
        ("Upload-Offset" = u64, Header, example = 0),
        ("Upload-Length" = Option<u64>, Header),
        ("Upload-Checksum" = Option<String>, Header),
    ),
    request_body(content = Vec<u8>, content_type = "application/offset+octet-stream"),
    responses(
        (status = 204, description = "Upload-Offset, Upload-Length, X-S3-Key; X-Public-Url when complete."),
        (status = 403, description = "The upload is composed of others."),
        (status = 404, description = "No such upload."),
        (status = 409, description = "The upload ends elsewhere."),
        (status = 410, description = "The upload has expired."),
        (status = 412, description = "Another version of TUS."),
        (status = 413, description = "More bytes than the upload has room for."),
        (status = 415, description = "Not application/offset+octet-stream."),
        (status = 423, description = "Another request is at it."),
        (status = 460, description = "The bytes do not have the checksum claimed; they are not kept."),
    )
)]
pub(crate) async fn append(
    State(ground): State<Ground>,
    caller: Caller,
    input::Path(id): input::Path<String>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let (head, bytes) = request.into_parts();
    let headers = &head.headers;
    tus::check_version(headers)?;
    caller.may(Permission::UploadFiles)?;
    if !tus::is_bytes(headers) {
        return Err(wrong_type());
    }
    let upload = known(&ground, &caller, &id).await?.id;
    let append = Append {
        upload,
        offset_bytes: tus::offset(headers)?,
        length_bytes: tus::number(headers, &tus::UPLOAD_LENGTH)?,
        length_max: ground.settings.gateway.tus_max_size_bytes,
        size_bytes: content_length(headers)?,
        claims: tus::claims(headers)?,
        body: body::stream(bytes),
    };
    let after = append_apart(&ground, &caller, append).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    tell(&ground, &caller, &after, response.headers_mut())?;
    Ok(response)
}

/// Appends in a task that goes on when the connection has gone.
async fn append_apart(ground: &Ground, caller: &Caller, append: Append) -> Result<Resumable, ApiError> {
    let (store, cx) = (ground.store.clone(), caller.cx.clone());
    let task = tokio::spawn(async move { store.append_resumable(&cx, append).await });
    task.await.map_err(ApiError::internal)?.map_err(told)
}

/// How far an upload is
#[utoipa::path(
    head,
    path = "/api/v1/files/upload/multipart/{upload_id}",
    tag = "gateway",
    operation_id = "tus_status",
    security(("bearer" = [])),
    params(("upload_id" = String, Path), ("Tus-Resumable" = String, Header, example = "1.0.0")),
    responses(
        (status = 200, description = "Upload-Offset, Upload-Length or Upload-Defer-Length, Upload-Metadata, X-S3-Key."),
        (status = 404, description = "No such upload."),
        (status = 410, description = "The upload has expired."),
        (status = 412, description = "Another version of TUS."),
    )
)]
pub(crate) async fn status(
    State(ground): State<Ground>,
    caller: Caller,
    input::Path(id): input::Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    tus::check_version(&headers)?;
    shown(&ground, &caller, &id).await
}

/// How far an upload is, for those who cannot send HEAD
#[utoipa::path(
    get,
    path = "/api/v1/files/upload/multipart/{upload_id}",
    tag = "gateway",
    operation_id = "tus_status_by_get",
    security(("bearer" = [])),
    params(("upload_id" = String, Path)),
    responses(
        (status = 200, description = "The headers of HEAD; no body."),
        (status = 404, description = "No such upload."),
        (status = 410, description = "The upload has expired."),
    )
)]
pub(crate) async fn status_by_get(
    State(ground): State<Ground>,
    caller: Caller,
    input::Path(id): input::Path<String>,
) -> Result<Response, ApiError> {
    shown(&ground, &caller, &id).await
}

async fn shown(ground: &Ground, caller: &Caller, id: &str) -> Result<Response, ApiError> {
    caller.may(Permission::UploadFiles)?;
    let upload = known(ground, caller, id).await?;
    let mut response = StatusCode::OK.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, NO_STORE);
    if !upload.said.is_empty() {
        headers
            .insert(tus::UPLOAD_METADATA, HeaderValue::try_from(&upload.said).map_err(ApiError::internal)?);
    }
    let concat = match &upload.kind {
        Kind::Whole => None,
        Kind::Partial => Some("partial".to_owned()),
        Kind::Final(partials) => {
            let addresses: Vec<String> = partials.iter().map(|id| format!("{ADDRESS}{id}")).collect();
            Some(format!("final;{}", addresses.join(" ")))
        }
    };
    if let Some(concat) = concat {
        headers.insert(tus::UPLOAD_CONCAT, HeaderValue::try_from(concat).map_err(ApiError::internal)?);
    }
    tell(ground, caller, &upload, headers)?;
    Ok(response)
}

/// Gives an upload up
///
/// What it holds is freed. A file that it has become stays.
#[utoipa::path(
    delete,
    path = "/api/v1/files/upload/multipart/{upload_id}",
    tag = "gateway",
    operation_id = "tus_terminate",
    security(("bearer" = [])),
    params(("upload_id" = String, Path), ("Tus-Resumable" = String, Header, example = "1.0.0")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, description = "No such upload."),
        (status = 412, description = "Another version of TUS."),
        (status = 423, description = "Another request is at it."),
    )
)]
pub(crate) async fn terminate(
    State(ground): State<Ground>,
    caller: Caller,
    input::Path(id): input::Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    tus::check_version(&headers)?;
    caller.may(Permission::UploadFiles)?;
    let id = parse(&id)?;
    ground.store.terminate_resumable(&caller.cx, id).await.map_err(told)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// An upload that is there and has not expired.
async fn known(ground: &Ground, caller: &Caller, id: &str) -> Result<Resumable, ApiError> {
    let upload = ground.store.resumable(&caller.cx, parse(id)?).await.map_err(told)?;
    if upload.is_expired { Err(Code::Gone.into()) } else { Ok(upload) }
}

fn parse(id: &str) -> Result<UploadId, ApiError> {
    id.parse().map_err(|_| Code::NotFound.into())
}

fn wrong_type() -> ApiError {
    let words = format!("The body has to be {}.", tus::BYTES);
    ApiError::detailed(Code::UnsupportedMediaType, words)
}

fn content_length(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    tus::number(headers, &header::CONTENT_LENGTH)
}

/// What every answer about an upload says of it.
fn tell(
    ground: &Ground,
    caller: &Caller,
    upload: &Resumable,
    headers: &mut HeaderMap,
) -> Result<(), ApiError> {
    headers.insert(tus::UPLOAD_OFFSET, upload.offset_bytes.into());
    match upload.length_bytes {
        Some(length) => headers.insert(tus::UPLOAD_LENGTH, length.into()),
        None => headers.insert(tus::UPLOAD_DEFER_LENGTH, HeaderValue::from_static("1")),
    };
    headers.insert(tus::UPLOAD_EXPIRES, http_date(upload.expires_ms));
    let key = percent_key(upload.at.key.as_str());
    headers.insert(X_S3_KEY, HeaderValue::try_from(key).map_err(ApiError::internal)?);
    if upload.is_complete && upload.kind != Kind::Partial {
        tell_address(ground, caller, upload, headers)?;
    }
    Ok(())
}

/// Where the object will be, or is.
fn tell_address(
    ground: &Ground,
    caller: &Caller,
    upload: &Resumable,
    headers: &mut HeaderMap,
) -> Result<(), ApiError> {
    let url = ground.gateway_url(&caller.holder, &upload.at.key, caller.cx.now_ms)?;
    headers.insert(X_PUBLIC_URL, HeaderValue::try_from(url).map_err(ApiError::internal)?);
    Ok(())
}

/// A key in a header: what is not plain ASCII is percent-encoded, and so is `%`.
fn percent_key(key: &str) -> String {
    const PLAIN: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b'%');
    percent_encoding::utf8_percent_encode(key, PLAIN).to_string()
}

/// The store's errors as TUS has them.
fn told(error: StoreError) -> ApiError {
    match error {
        StoreError::Precondition { condition: "offset" } => {
            ApiError::detailed(Code::Conflict, "The upload ends elsewhere: ask for its Upload-Offset.")
        }
        StoreError::Busy => Code::Locked.into(),
        StoreError::ChecksumMismatch { .. } => {
            let error = ApiError::from(error);
            match StatusCode::from_u16(tus::CHECKSUM_MISMATCH) {
                Ok(status) => error.with_status(status),
                Err(_) => error,
            }
        }
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_headers_are_plain_text() {
        for (key, written) in
            [("a/b c/d(1).md", "a/b c/d(1).md"), ("é/100%", "%C3%A9/100%25"), ("a\u{7f}b", "a%7Fb")]
        {
            assert_eq!(percent_key(key), written);
            assert!(HeaderValue::try_from(percent_key(key)).is_ok());
        }
    }

    #[test]
    fn bytes_come_along_or_not() {
        let of = |pairs: &[(HeaderName, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(name, value.parse().unwrap());
            }
            has_bytes(&headers).map_err(|error| error.code)
        };
        let kind = (header::CONTENT_TYPE, tus::BYTES);
        assert_eq!(of(&[]), Ok(false));
        assert_eq!(of(&[(header::CONTENT_LENGTH, "0")]), Ok(false));
        assert_eq!(of(&[(header::CONTENT_LENGTH, "0"), kind.clone()]), Ok(false));
        assert_eq!(of(&[(header::CONTENT_LENGTH, "1"), kind.clone()]), Ok(true));
        assert_eq!(of(&[(header::TRANSFER_ENCODING, "chunked"), kind.clone()]), Ok(true));
        assert_eq!(of(&[kind]), Ok(true), "HTTP/2 announces nothing");
        assert_eq!(of(&[(header::CONTENT_LENGTH, "1")]), Err(Code::UnsupportedMediaType));
        let json = (header::CONTENT_TYPE, "application/json");
        assert_eq!(of(&[(header::TRANSFER_ENCODING, "chunked"), json]), Err(Code::UnsupportedMediaType));
    }

    #[test]
    fn errors_have_tuss_statuses() {
        for (error, status) in [
            (StoreError::Precondition { condition: "offset" }, 409),
            (StoreError::Busy, 423),
            (StoreError::ChecksumMismatch { algorithm: "SHA1" }, 460),
            (StoreError::TooLarge { what: "the upload", max: 1 }, 413),
            (StoreError::QuotaExceeded, 402),
            (StoreError::Denied, 403),
            (StoreError::NoSpace, 507),
            (StoreError::Invalid { what: "length" }, 400),
        ] {
            let error = told(error);
            let found = error.status.unwrap_or(error.code.status());
            assert_eq!(found.as_u16(), status, "{error:?}");
        }
    }
}
