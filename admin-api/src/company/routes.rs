//! The company API's routes. Both forms of its addresses lead to the same handlers (contract §5.6).

use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, ETAG};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use coffre_store::condition::Conditions;
use coffre_store::delete::DeleteObject;
use coffre_store::multipart::PutPart;
use coffre_store::multipart::chunk::{Chunked, PutChunk};
use coffre_store::object::{At, Version};
use coffre_store::put::{Claims, PutObject};
use coffre_store::{OrgId, PartNumber};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::files::{self, Standing};
use super::query::{self, Parameters};
use super::view::{self, Answer, Deleted, UploadData};
use crate::Ground;
use crate::error::{ApiError, Code};
use crate::http::caller::{Caller, Permission};
use crate::http::disposition::Disposition;
use crate::http::form::{Form, Part};
use crate::http::input::Path;
use crate::http::send::{self, Sending};
use crate::preview::Status;

/// The documented routes, and the same without `companies/` and with a slash at their end.
pub(crate) fn routes() -> OpenApiRouter<Ground> {
    let mut all = OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(save, show, remove))
        .routes(routes!(download))
        .routes(routes!(thumbnail));
    for prefix in
        ["/internal/services/files/v1/companies/{company_id}", "/internal/services/files/v1/{company_id}"]
    {
        all = all.route(&format!("{prefix}/files/"), post(create));
        all = all.route(&format!("{prefix}/files/{{file_id}}/"), post(save).get(show).delete(remove));
    }
    let short = "/internal/services/files/v1/{company_id}/files";
    all.route(short, post(create))
        .route(&format!("{short}/{{file_id}}"), post(save).get(show).delete(remove))
        .route(&format!("{short}/{{file_id}}/download"), get(download))
        .route(&format!("{short}/{{file_id}}/thumbnails/{{id}}"), get(thumbnail))
}

/// Upload a file, or announce one that comes in chunks
///
/// With the bytes in a form's section `file` the file is stored at once. Without a body it is announced: its chunks are
/// then sent to its own address, in any order and several at a time.
#[utoipa::path(
    post, path = "/internal/services/files/v1/companies/{company_id}/files", tag = "company",
    operation_id = "company_create", security(("bearer" = [])),
    params(
        ("company_id" = Uuid, Path, description = "The company"),
        ("filename" = Option<String>, Query, description = "The file's name"),
        ("type" = Option<String>, Query, description = "Its MIME type"),
        ("total_chunks" = Option<u16>, Query, description = "How many chunks will come"),
        ("total_size" = Option<u64>, Query, description = "The sum of all chunks' sizes"),
        ("chunk_number" = Option<u16>, Query, description = "Which chunk this is, from 1; left out when announcing"),
        ("thumbnail_sync" = Option<String>, Query, description = "Wait up to 10 seconds for the preview"),
    ),
    request_body(content_type = "multipart/form-data", content = Option<Upload>),
    responses((status = 200, body = Answer), (status = "4XX", description = "statusCode, error, message")),
)]
async fn create(
    State(ground): State<Ground>,
    caller: Caller,
    Path(company): Path<String>,
    uri: Uri,
    request: Request,
) -> Result<Response, ApiError> {
    caller.may(Permission::UploadFiles)?;
    let company = files::member_of(&ground, &caller, &company).await?;
    let saving = Saving::new(ground, caller, company, None, &uri)?;
    saving.run(Standing::default(), request).await
}

/// Send a chunk, or overwrite a file
///
/// Chunks of an announced file; a chunk sent again replaces the one before. A file that is whole may be overwritten by an
/// application only.
#[utoipa::path(
    post, path = "/internal/services/files/v1/companies/{company_id}/files/{file_id}", tag = "company",
    operation_id = "company_save", security(("bearer" = [])),
    params(
        ("company_id" = Uuid, Path), ("file_id" = Uuid, Path),
        ("filename" = Option<String>, Query), ("type" = Option<String>, Query),
        ("total_chunks" = Option<u16>, Query), ("total_size" = Option<u64>, Query),
        ("chunk_number" = Option<u16>, Query), ("thumbnail_sync" = Option<String>, Query),
    ),
    request_body(content_type = "multipart/form-data", content = Upload),
    responses((status = 200, body = Answer), (status = "4XX", description = "statusCode, error, message")),
)]
async fn save(
    State(ground): State<Ground>,
    caller: Caller,
    Path((company, file)): Path<(String, Uuid)>,
    uri: Uri,
    request: Request,
) -> Result<Response, ApiError> {
    caller.may(Permission::UploadFiles)?;
    let company = files::member_of(&ground, &caller, &company).await?;
    let standing = files::find(&ground, &caller.cx, company, file).await?;
    may_save(&caller, &standing)?;
    let saving = Saving::new(ground, caller, company, Some(file), &uri)?;
    saving.run(standing, request).await
}

/// What is sent.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "describes a form that is read as a stream")]
struct Upload {
    /// The file's bytes, or a chunk's.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    file: String,
}

/// A file that is whole is overwritten by applications only.
fn may_save(caller: &Caller, standing: &Standing) -> Result<(), ApiError> {
    let is_application = caller.holder.role == coffre_identity::Role::App || caller.cx.principal.is_admin;
    match standing {
        Standing { whole: None, upload: None } => Err(Code::NotFound.into()),
        Standing { whole: Some(_), .. } if !is_application => Err(ApiError::detailed(
            Code::PermissionDenied,
            "The file is complete: only an application may overwrite it.",
        )),
        _ => Ok(()),
    }
}

/// One request that saves something.
struct Saving {
    ground: Ground,
    caller: Caller,
    company: OrgId,
    file: Uuid,
    parameters: Parameters,
}

impl Saving {
    fn new(
        ground: Ground,
        caller: Caller,
        company: OrgId,
        file: Option<Uuid>,
        uri: &Uri,
    ) -> Result<Self, ApiError> {
        let pairs = query::pairs(uri.query())?;
        let parameters =
            Parameters::parse(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
        let file = file.unwrap_or_else(|| ground.new_id());
        Ok(Self { ground, caller, company, file, parameters })
    }

    async fn run(self, standing: Standing, request: Request) -> Result<Response, ApiError> {
        let (head, body) = request.into_parts();
        if has_no_body(&head.headers, &body) {
            return self.announce(standing).await;
        }
        let kind = head.headers.get(axum::http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let mut form = Form::new(kind.unwrap_or_default(), crate::http::body::stream(body))?;
        let missing = || ApiError::field("file", "The form has no section `file`.");
        let part = loop {
            let part = form.next().await?.ok_or_else(missing)?;
            if part.name == "file" || part.name == "files" {
                break part;
            }
        };
        let answer = match (self.parameters.chunk, self.parameters.total_chunks) {
            (Some(chunk), Some(total)) if total > 1 || standing.upload.is_some() => {
                self.chunk(standing, part, chunk, total).await?
            }
            (None, Some(total)) if total > 1 => {
                return Err(ApiError::field("chunk_number", "Which of the chunks is it?"));
            }
            _ => self.whole(standing, part).await?,
        };
        form.skip_rest().await?;
        Ok(answer)
    }

    /// Without bytes: the file is there to be filled.
    async fn announce(self, standing: Standing) -> Result<Response, ApiError> {
        let cx = &self.caller.cx;
        let upload = match standing {
            Standing { upload: Some(upload), .. } => upload,
            Standing { whole: Some(_), .. } => {
                return Err(ApiError::field("file", "The form has no section `file`."));
            }
            Standing { .. } => {
                let name = self.parameters.name.as_deref().unwrap_or(query::NO_NAME);
                let at = files::place(&self.ground, self.company, self.file, name)?;
                let attributes = files::attributes(&self.parameters, None, None);
                files::begin(&self.ground, cx, at, attributes).await?
            }
        };
        let arrived = files::arrived(&self.ground, cx, &upload).await?;
        let saver = files::saver(&self.ground, upload.initiator).await?;
        Ok(axum::Json(view::incomplete(self.company, self.file, &upload, &saver, arrived)).into_response())
    }

    /// The file comes in one piece.
    async fn whole(&self, standing: Standing, part: Part) -> Result<Response, ApiError> {
        let (at, label) = self.target(&standing, part.file_name.as_deref())?;
        let attributes = files::attributes(&self.parameters, part.content_type.clone(), label);
        let put = PutObject {
            at: at.clone(),
            attributes,
            body: part.bytes(),
            size_bytes: None,
            claims: Claims::default(),
            conditions: Conditions::default(),
        };
        let stored = self.ground.store.put(&self.caller.cx, put).await?;
        if let Some(upload) = standing.upload {
            // Announced, then sent whole: nothing is to come any more.
            self.ground.store.abort_upload(&self.caller.cx, upload.at, upload.id).await?;
        }
        self.saved(&at, &stored.version).await
    }

    /// One of its chunks.
    async fn chunk(
        &self,
        standing: Standing,
        part: Part,
        chunk: u16,
        total: u16,
    ) -> Result<Response, ApiError> {
        let cx = &self.caller.cx;
        let upload = match standing.upload.clone() {
            Some(upload) => upload,
            None => self.begin(&standing, &part).await?,
        };
        let put = PutPart {
            at: upload.at.clone(),
            upload: upload.id,
            number: PartNumber::try_from(i64::from(chunk))?,
            body: part.bytes(),
            size_bytes: None,
            claims: Claims::default(),
        };
        match self.ground.store.put_chunk(cx, PutChunk { part: put, total }).await? {
            Chunked::Complete(stored) => self.saved(&upload.at, &stored.version).await,
            Chunked::Waiting(there) => {
                let size = match self.parameters.total_size_bytes {
                    Some(size) => size,
                    None => files::arrived(&self.ground, cx, &upload).await?.map_or(0, |data| data.size),
                };
                let chunks = self.parameters.total_chunks.map_or(u32::from(there), u32::from);
                let saver = files::saver(&self.ground, cx.principal.user()).await?;
                let arrived = Some(UploadData { size, chunks });
                let view = view::incomplete(self.company, self.file, &upload, &saver, arrived);
                Ok(axum::Json(view).into_response())
            }
        }
    }

    /// The upload of a file's chunks, begun by the first to come.
    async fn begin(
        &self,
        standing: &Standing,
        part: &Part,
    ) -> Result<coffre_store::multipart::Upload, ApiError> {
        let turn = self.ground.beginnings.of(self.file);
        let _turn = turn.lock().await;
        let now = files::find(&self.ground, &self.caller.cx, self.company, self.file).await?;
        if let Some(upload) = now.upload {
            return Ok(upload);
        }
        let (at, label) = self.target(standing, part.file_name.as_deref())?;
        // The declared type is the file's, not that of a piece of it.
        let attributes = files::attributes(&self.parameters, None, label);
        files::begin(&self.ground, &self.caller.cx, at, attributes).await
    }

    /// Where the bytes go, and what the file is called when that is not its key's last segment: an overwritten file
    /// keeps its key.
    fn target(&self, standing: &Standing, sent: Option<&str>) -> Result<(At, Option<String>), ApiError> {
        let name = self.parameters.name.clone().or_else(|| sent.map(query::clean_name));
        let there = standing.whole.as_ref().map(|(at, _)| at).or(standing.upload.as_ref().map(|u| &u.at));
        if let Some(at) = there {
            Ok((at.clone(), name.filter(|name| name != at.key.last_segment())))
        } else {
            let name = name.unwrap_or_else(|| query::NO_NAME.to_owned());
            Ok((files::place(&self.ground, self.company, self.file, &name)?, None))
        }
    }

    /// The answer once a file is whole. Its preview is made now; only who asks waits for it.
    async fn saved(&self, at: &At, version: &Version) -> Result<Response, ApiError> {
        let previews = &self.ground.previews;
        let preview = if self.parameters.waits_for_preview {
            previews.wait(&self.ground.store, &self.caller.cx, at, version).await
        } else {
            previews.begin(&self.ground.store, &self.caller.cx, at, version)
        };
        let view = resource(&self.ground, self.company, self.file, at, version, &preview).await?;
        Ok(axum::Json(view).into_response())
    }
}

fn has_no_body(headers: &HeaderMap, body: &Body) -> bool {
    body.is_end_stream() || headers.get(CONTENT_LENGTH).is_some_and(|length| length == "0")
}

async fn resource(
    ground: &Ground,
    company: OrgId,
    file: Uuid,
    at: &At,
    version: &Version,
    preview: &Status,
) -> Result<Answer, ApiError> {
    let saver = files::saver(ground, version.writer).await?;
    let name = version.attributes.label.as_deref().unwrap_or(at.key.last_segment());
    Ok(view::complete(company, file, version, name, &saver, preview, &ground.settings.public_url))
}

/// What reading routes begin with.
async fn readable(
    ground: &Ground,
    caller: &Caller,
    company: &str,
    file: Uuid,
) -> Result<(OrgId, Standing), ApiError> {
    caller.may(Permission::ReadFiles)?;
    let company = files::member_of(ground, caller, company).await?;
    Ok((company, files::find(ground, &caller.cx, company, file).await?))
}

/// A file's metadata
#[utoipa::path(
    get, path = "/internal/services/files/v1/companies/{company_id}/files/{file_id}", tag = "company",
    operation_id = "company_show", security(("bearer" = [])),
    params(("company_id" = Uuid, Path), ("file_id" = Uuid, Path)),
    responses((status = 200, body = Answer), (status = "4XX", description = "statusCode, error, message")),
)]
async fn show(
    State(ground): State<Ground>,
    caller: Caller,
    Path((company, file)): Path<(String, Uuid)>,
) -> Result<axum::Json<Answer>, ApiError> {
    let (company, standing) = readable(&ground, &caller, &company, file).await?;
    match standing {
        Standing { whole: Some((at, version)), .. } => {
            let preview = ground.previews.wait(&ground.store, &caller.cx, &at, &version).await;
            Ok(axum::Json(resource(&ground, company, file, &at, &version, &preview).await?))
        }
        Standing { upload: Some(upload), .. } => {
            let arrived = files::arrived(&ground, &caller.cx, &upload).await?;
            let saver = files::saver(&ground, upload.initiator).await?;
            Ok(axum::Json(view::incomplete(company, file, &upload, &saver, arrived)))
        }
        Standing { .. } => Err(Code::NotFound.into()),
    }
}

/// Download a file
#[utoipa::path(
    get, path = "/internal/services/files/v1/companies/{company_id}/files/{file_id}/download", tag = "company",
    operation_id = "company_download", security(("bearer" = [])),
    params(("company_id" = Uuid, Path), ("file_id" = Uuid, Path), ("Range" = Option<String>, Header)),
    responses(
        (status = 200, content_type = "application/octet-stream", body = [u8]), (status = 206), (status = 304),
        (status = "4XX", description = "statusCode, error, message"),
    ),
)]
async fn download(
    State(ground): State<Ground>,
    caller: Caller,
    Path((company, file)): Path<(String, Uuid)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (_, standing) = readable(&ground, &caller, &company, file).await?;
    let (at, version) = standing.whole.ok_or(Code::NotFound)?;
    let sending = Sending { content_type: version.attributes.content_type, ..Sending::attachment(at) };
    send::object(&ground.store, &caller.cx, &method, &headers, sending).await
}

/// A file's preview, by its index or id
#[utoipa::path(
    get, path = "/internal/services/files/v1/companies/{company_id}/files/{file_id}/thumbnails/{id}",
    tag = "company", operation_id = "company_thumbnail", security(("bearer" = [])),
    params(("company_id" = Uuid, Path), ("file_id" = Uuid, Path), ("id" = String, Path)),
    responses(
        (status = 200, content_type = "image/png", body = [u8]),
        (status = "4XX", description = "statusCode, error, message"),
    ),
)]
async fn thumbnail(
    State(ground): State<Ground>,
    caller: Caller,
    Path((company, file, id)): Path<(String, Uuid, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (_, standing) = readable(&ground, &caller, &company, file).await?;
    let (at, version) = standing.whole.ok_or(Code::NotFound)?;
    let is_meant = id == "0" || Uuid::parse_str(&id).is_ok_and(|id| id == view::thumbnail_id(&version));
    if !is_meant {
        return Err(Code::NotFound.into());
    }
    let etag = HeaderValue::try_from(format!("\"{}\"", version.id)).map_err(ApiError::internal)?;
    if headers.get(axum::http::header::IF_NONE_MATCH) == Some(&etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(ETAG, etag)]).into_response());
    }
    match ground.previews.wait(&ground.store, &caller.cx, &at, &version).await {
        Status::Made(preview) => {
            let mut response = Response::new(Body::from(preview.png.clone()));
            let cache = HeaderValue::from_static("private, no-cache");
            response.headers_mut().extend([(ETAG, etag), (CACHE_CONTROL, cache)]);
            send::harmless(response.headers_mut(), "image/png", Disposition::Inline, "thumbnail.png");
            Ok(response)
        }
        Status::Waiting => Err(ApiError::from(Code::Unavailable).retry_after(5)),
        Status::None | Status::Failed => {
            Err(ApiError::detailed(Code::NotFound, "There is no preview of this file."))
        }
    }
}

/// Delete a file
#[utoipa::path(
    delete, path = "/internal/services/files/v1/companies/{company_id}/files/{file_id}", tag = "company",
    operation_id = "company_delete", security(("bearer" = [])),
    params(("company_id" = Uuid, Path), ("file_id" = Uuid, Path)),
    responses((status = 200, body = Deleted), (status = "4XX", description = "statusCode, error, message")),
)]
async fn remove(
    State(ground): State<Ground>,
    caller: Caller,
    Path((company, file)): Path<(String, Uuid)>,
) -> Result<axum::Json<Deleted>, ApiError> {
    caller.may(Permission::DeleteFiles)?;
    let company = files::member_of(&ground, &caller, &company).await?;
    let standing = files::find(&ground, &caller.cx, company, file).await?;
    if standing.whole.is_none() && standing.upload.is_none() {
        return Err(Code::NotFound.into());
    }
    if let Some(upload) = standing.upload {
        ground.store.abort_upload(&caller.cx, upload.at, upload.id).await?;
    }
    if let Some((at, _)) = standing.whole {
        let delete = DeleteObject { at, version: None, conditions: Conditions::default() };
        ground.store.delete(&caller.cx, delete).await?;
    }
    Ok(axum::Json(Deleted { status: "success" }))
}
