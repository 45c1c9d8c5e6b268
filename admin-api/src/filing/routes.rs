//! The ten routes of the document (contract §5.4): each unpacks, calls one function of the store, renders.

use std::collections::HashMap;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse as _, Response};
use coffre_store::filing::{FilePage, Filed, Filter};
use coffre_store::{Cx, UserId};

use super::input::Input;
use super::name::Zone;
use super::rules::{self, Fixed};
use super::storage;
use super::view::{
    Data, DownloadView, ErrorView, FileView, PageView, Said, Sentence, StatisticsView, Uploader,
};
use super::words::{self, Bag, say};
use crate::Ground;
use crate::error::{ApiError, Code};
use crate::http::caller::{Caller, Permission};
use crate::http::form::{Form, TEXT_BYTES_MAX};
use crate::http::input::{Path, media_type, whole};
use crate::http::language::Language;

/// Longest wait for the SHA-256 of a file that was composed of parts (design §2.3).
const DIGEST_PATIENCE: Duration = Duration::from_secs(30);

/// Lists files
///
/// What the caller may see, newest first; filters combine.
#[utoipa::path(
    get,
    path = "/api/files",
    tag = "filing",
    security(("bearer" = [])),
    params(super::params::List),
    responses(
        (status = 200, description = "A page.", body = PageView),
        (status = 401, description = "No token.", body = ErrorView),
        (status = 422, description = "What is asked for is not valid.", body = ErrorView),
    )
)]
pub(crate) async fn list(
    State(ground): State<Ground>,
    caller: Caller,
    language: Language,
    uri: Uri,
) -> Result<Response, ApiError> {
    page(&ground, &caller, language, &uri, Fixed::Nothing).await
}

/// Lists the files of a category
#[utoipa::path(
    get,
    path = "/api/files/by-category/{category}",
    tag = "filing",
    security(("bearer" = [])),
    params(("category" = String, Path, description = "devis, facture, contrat, document, image, autre"), super::params::List),
    responses(
        (status = 200, description = "A page.", body = PageView),
        (status = 401, description = "No token.", body = ErrorView),
        (status = 422, description = "What is asked for is not valid.", body = ErrorView),
    )
)]
pub(crate) async fn by_category(
    State(ground): State<Ground>,
    caller: Caller,
    language: Language,
    Path(category): Path<String>,
    uri: Uri,
) -> Result<Response, ApiError> {
    page(&ground, &caller, language, &uri, Fixed::Category(&category)).await
}

/// Lists the files of a client
#[utoipa::path(
    get,
    path = "/api/files/by-client/{clientId}",
    tag = "filing",
    security(("bearer" = [])),
    params(("clientId" = String, Path, description = "The client; one that is not granted has no files."), super::params::List),
    responses(
        (status = 200, description = "A page.", body = PageView),
        (status = 401, description = "No token.", body = ErrorView),
        (status = 422, description = "What is asked for is not valid.", body = ErrorView),
    )
)]
pub(crate) async fn by_client(
    State(ground): State<Ground>,
    caller: Caller,
    language: Language,
    Path(client): Path<String>,
    uri: Uri,
) -> Result<Response, ApiError> {
    page(&ground, &caller, language, &uri, Fixed::Client(&client)).await
}

/// Shows a file
#[utoipa::path(
    get,
    path = "/api/files/{id}",
    tag = "filing",
    security(("bearer" = [])),
    params(("id" = u64, Path, description = "The file's number.")),
    responses(
        (status = 200, description = "The file.", body = Data<FileView>),
        (status = 401, description = "No token.", body = ErrorView),
        (status = 404, description = "No such file.", body = ErrorView),
        (status = 503, description = "Its SHA-256 is still being made.", body = ErrorView),
    )
)]
pub(crate) async fn show(
    State(ground): State<Ground>,
    caller: Caller,
    Path(id): Path<u64>,
) -> Result<Response, ApiError> {
    caller.may(Permission::ReadFiles)?;
    let file = ground.store.file_hashed(&caller.cx, id, DIGEST_PATIENCE).await?;
    let file = file.ok_or_else(|| ApiError::from(Code::Unavailable).retry_after(5))?;
    Ok(axum::Json(Data { data: shown(&ground, &file).await? }).into_response())
}

/// Changes what a file is called, or moves it
#[utoipa::path(
    put,
    path = "/api/files/{id}",
    tag = "filing",
    security(("bearer" = [])),
    params(("id" = u64, Path, description = "The file's number.")),
    request_body(content = super::params::Update, content_type = "application/json"),
    responses(
        (status = 200, description = "The file as it is now.", body = Said<FileView>),
        (status = 401, description = "No token.", body = ErrorView),
        (status = 403, description = "It is somebody else's.", body = ErrorView),
        (status = 404, description = "No such file.", body = ErrorView),
        (status = 400, description = "A body that cannot be read.", body = ErrorView),
        (status = 415, description = "No body that is read here.", body = ErrorView),
        (status = 422, description = "What is asked for is not valid.", body = ErrorView),
    )
)]
pub(crate) async fn update(
    State(ground): State<Ground>,
    caller: Caller,
    language: Language,
    Path(id): Path<u64>,
    request: Request,
) -> Result<Response, ApiError> {
    caller.may(Permission::UploadFiles)?;
    let input = input_of(request).await?;
    change(&ground, &caller, language, id, &input).await
}

/// Changes or deletes a file, for forms: a `POST` with `_method=PUT` or `_method=DELETE`
#[utoipa::path(
    post,
    path = "/api/files/{id}",
    tag = "filing",
    security(("bearer" = [])),
    params(("id" = u64, Path, description = "The file's number.")),
    request_body(content = super::params::Update, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "The file as it is now.", body = Said<FileView>),
        (status = 401, description = "No token.", body = ErrorView),
        (status = 403, description = "It is somebody else's.", body = ErrorView),
        (status = 404, description = "No such file.", body = ErrorView),
        (status = 405, description = "No `_method`.", body = ErrorView),
        (status = 400, description = "A body that cannot be read.", body = ErrorView),
        (status = 415, description = "No body that is read here.", body = ErrorView),
        (status = 422, description = "What is asked for is not valid.", body = ErrorView),
    )
)]
pub(crate) async fn update_by_form(
    State(ground): State<Ground>,
    caller: Caller,
    language: Language,
    Path(id): Path<u64>,
    request: Request,
) -> Result<Response, ApiError> {
    let input = input_of(request).await?;
    match input.text("_method").map(str::to_ascii_uppercase).as_deref() {
        Some("PUT" | "PATCH") => {
            caller.may(Permission::UploadFiles)?;
            change(&ground, &caller, language, id, &input).await
        }
        Some("DELETE") => remove(&ground, &caller, language, id).await,
        _ => Err(ApiError::only("GET, HEAD, PUT, DELETE")),
    }
}

/// Deletes a file
#[utoipa::path(
    delete,
    path = "/api/files/{id}",
    tag = "filing",
    security(("bearer" = [])),
    params(("id" = u64, Path, description = "The file's number.")),
    responses(
        (status = 200, description = "It is gone.", body = Sentence, example = json!({"message": "Fichier supprimé avec succès."})),
        (status = 401, description = "No token.", body = ErrorView),
        (status = 403, description = "It is somebody else's.", body = ErrorView),
        (status = 404, description = "No such file.", body = ErrorView),
    )
)]
pub(crate) async fn delete(
    State(ground): State<Ground>,
    caller: Caller,
    language: Language,
    Path(id): Path<u64>,
) -> Result<Response, ApiError> {
    remove(&ground, &caller, language, id).await
}

/// Tells how much is stored
#[utoipa::path(
    get,
    path = "/api/files/statistics",
    tag = "filing",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "By type and category.", body = Said<StatisticsView>),
        (status = 401, description = "No token.", body = ErrorView),
    )
)]
pub(crate) async fn statistics(
    State(ground): State<Ground>,
    caller: Caller,
    language: Language,
) -> Result<Response, ApiError> {
    caller.may(Permission::ReadFiles)?;
    let data = StatisticsView::of(&ground.store.filing_statistics(&caller.cx).await?);
    Ok(axum::Json(Said { data, message: say(language, words::STATISTICS) }).into_response())
}

/// Gives a link to a file's bytes
///
/// It is good for 15 minutes, for a file that is public as long as it is.
#[utoipa::path(
    get,
    path = "/api/files/{id}/download",
    tag = "filing",
    security(("bearer" = [])),
    params(("id" = u64, Path, description = "The file's number.")),
    responses(
        (status = 200, description = "The link.", body = Said<DownloadView>),
        (status = 401, description = "No token.", body = ErrorView),
        (status = 404, description = "No such file.", body = ErrorView),
    )
)]
pub(crate) async fn download(
    State(ground): State<Ground>,
    caller: Caller,
    language: Language,
    Path(id): Path<u64>,
) -> Result<Response, ApiError> {
    caller.may(Permission::ReadFiles)?;
    let file = ground.store.file(&caller.cx, id).await?;
    audit(&ground, &caller.cx, "CreateDownloadLink", &file).await?;
    let data = DownloadView {
        download_url: storage::link(&ground, &file, caller.cx.now_ms),
        file_name: file.file_name().to_owned(),
        mime_type: file.mime(),
    };
    Ok(axum::Json(Said { data, message: say(language, words::LINKED) }).into_response())
}

async fn page(
    ground: &Ground,
    caller: &Caller,
    language: Language,
    uri: &Uri,
    fixed: Fixed<'_>,
) -> Result<Response, ApiError> {
    caller.may(Permission::ReadFiles)?;
    let mut bag = Bag::new(language);
    let input = Input::of_urlencoded(uri.query().unwrap_or_default().as_bytes());
    let zone = zone(ground)?;
    let rules::Asked { mut query, page: number, uploader } = rules::asked(&input, fixed, &zone, &mut bag);
    bag.end()?;
    let mut is_known = true;
    if let Some(serial) = uploader {
        query.filter.uploaded_by = ground.identity.user_by_serial(serial).await?.map(|user| user.id);
        is_known = query.filter.uploaded_by.is_some();
    }
    // of nobody there is nothing
    let page = if is_known { ground.store.files(&caller.cx, &query).await? } else { FilePage::default() };
    let data = all_shown(ground, &page.files).await?;
    Ok(axum::Json(PageView::of(&page, data, number, query.limit)).into_response())
}

async fn change(
    ground: &Ground,
    caller: &Caller,
    language: Language,
    id: u64,
    input: &Input,
) -> Result<Response, ApiError> {
    let file = ground.store.file(&caller.cx, id).await?;
    let mut bag = Bag::new(language);
    let about = rules::about(input, &caller.cx.principal, &mut bag);
    bag.end()?;
    let change = about.change(&file.version.attributes.tags);
    let file = match ground.store.change_file(&caller.cx, id, &change).await {
        Err(coffre_store::Error::Invalid { what: "name" } | coffre_store::Error::KeyTooLong) => {
            return Err(not_here(language));
        }
        other => other?,
    };
    let data = shown(ground, &file).await?;
    Ok(axum::Json(Said { data, message: say(language, words::UPDATED) }).into_response())
}

async fn remove(ground: &Ground, caller: &Caller, language: Language, id: u64) -> Result<Response, ApiError> {
    caller.may(Permission::DeleteFiles)?;
    ground.store.delete_file(&caller.cx, id).await?;
    Ok(axum::Json(Sentence { message: say(language, words::DELETED) }).into_response())
}

/// What a place is made of makes no key.
pub(crate) fn not_here(language: Language) -> ApiError {
    let mut bag = Bag::new(language);
    bag.add("subcategory", words::NAME_TAKEN);
    bag.end().err().unwrap_or(Code::Validation.into())
}

/// A body's fields, in the encodings that are read: a form, and those of [`fields_of`].
async fn input_of(request: Request) -> Result<Input, ApiError> {
    let (head, body) = request.into_parts();
    if media_type(&head.headers) != "multipart/form-data" {
        return fields_of(&head.headers, body).await;
    }
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let mut form = Form::new(kind.unwrap_or_default(), crate::http::body::stream(body))?;
    let mut input = Input::default();
    while let Some(part) = form.next().await? {
        let name = part.name.clone();
        input.add(&name, &part.text(TEXT_BYTES_MAX).await?);
    }
    Ok(input)
}

/// The fields of JSON, of an urlencoded body, or of none.
pub(crate) async fn fields_of(headers: &HeaderMap, body: Body) -> Result<Input, ApiError> {
    let bytes = whole(body).await?;
    match media_type(headers).as_str() {
        "application/json" => Input::of_json(&bytes),
        "application/x-www-form-urlencoded" => Ok(Input::of_urlencoded(&bytes)),
        _ if bytes.is_empty() => Ok(Input::default()),
        _ => Err(Code::UnsupportedMediaType.into()),
    }
}

/// The zone of filing's dates.
pub(crate) fn zone(ground: &Ground) -> Result<Zone, ApiError> {
    let name = &ground.settings.filing.timezone;
    Zone::named(name).ok_or_else(|| ApiError::internal(format!("filing.timezone: there is no zone {name}")))
}

/// A line of the audit log about what changes nothing.
pub(crate) async fn audit(ground: &Ground, cx: &Cx, action: &str, file: &Filed) -> Result<(), ApiError> {
    let bucket = ground.settings.buckets.filing.as_str();
    Ok(ground.identity.note(cx, action, Some(bucket), Some(file.key.as_str())).await?)
}

/// A file as it is shown.
pub(crate) async fn shown(ground: &Ground, file: &Filed) -> Result<FileView, ApiError> {
    let mut files = all_shown(ground, std::slice::from_ref(file)).await?;
    files.pop().ok_or_else(|| ApiError::internal("a file was shown as none"))
}

/// Files as they are shown, with the names of those who wrote them.
async fn all_shown(ground: &Ground, files: &[Filed]) -> Result<Vec<FileView>, ApiError> {
    let zone = zone(ground)?;
    let mut writers: HashMap<UserId, Uploader> = HashMap::new();
    let mut shown = Vec::with_capacity(files.len());
    for file in files {
        let uploader = match file.version.writer {
            None => Uploader::default(),
            Some(writer) => {
                if let Some(known) = writers.get(&writer) {
                    known.clone()
                } else {
                    let user = ground.identity.user_by_id(writer).await?;
                    let found = user.map_or_else(Uploader::default, |user| Uploader {
                        serial: Some(user.serial),
                        name: Some(user.name),
                    });
                    writers.insert(writer, found.clone());
                    found
                }
            }
        };
        shown.push(FileView::of(file, uploader, &zone));
    }
    Ok(shown)
}

/// Lists the files by category and subcategory
///
/// Of each the newest `per_page`; `count` is of all.
#[utoipa::path(
    get,
    path = "/api/files/organized",
    tag = "filing",
    security(("bearer" = [])),
    params(super::params::List),
    responses(
        (status = 200, description = "By `category/subcategory`.", body = Said<std::collections::BTreeMap<String, super::view::BranchView>>),
        (status = 401, description = "No token.", body = ErrorView),
        (status = 422, description = "What is asked for is not valid.", body = ErrorView),
    )
)]
pub(crate) async fn organized(
    State(ground): State<Ground>,
    caller: Caller,
    language: Language,
    uri: Uri,
) -> Result<Response, ApiError> {
    caller.may(Permission::ReadFiles)?;
    let mut bag = Bag::new(language);
    let input = Input::of_urlencoded(uri.query().unwrap_or_default().as_bytes());
    let asked = rules::asked(&input, Fixed::Nothing, &zone(&ground)?, &mut bag);
    bag.end()?;
    let filter = Filter { search: None, ..asked.query.filter };
    let branches = ground.store.filing_tree(&caller.cx, &filter, asked.query.limit).await?;
    let body = super::organized::stream(ground, caller.cx, language, branches);
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(body)).into_response())
}

/// What an upload answers with: 201 when it is new.
pub(crate) fn created(is_new: bool) -> StatusCode {
    if is_new { StatusCode::CREATED } else { StatusCode::OK }
}
