//! `POST /api/v1/files/upload/direct` (document 2.8.3, contract §5.1): a form with files, stored one by one.
//!
//! A file's bytes go to the store as they come. Where they belong is known once the field `path` was read, which may
//! stand behind the files: until then received files wait, staged. One bad file does not fail the others; a form that
//! is cut off fails whole, and what it had not been answered for is not stored.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use coffre_store::condition::Conditions;
use coffre_store::object::{At, Attributes};
use coffre_store::put::{Claims, StagedObject};

use super::place::{PATH_DEFAULT, clean_name, clean_path, new_key, upload_path};
use super::view::{DirectAnswer, DirectFile, Summary};
use crate::Ground;
use crate::error::{ApiError, Code};
use crate::http::caller::{Caller, Permission};
use crate::http::form::{Form, Part};

/// Longest `path`.
const PATH_BYTES_MAX: usize = 1024;
/// Files that may wait for a `path` behind them: small ones wait in memory.
const WAITING_MAX: usize = 64;

/// A file of the form.
struct Received {
    name: String,
    raw_name: String,
    content_type: String,
    timestamp_ms: u64,
    state: Result<Step, ApiError>,
}

/// How far it is.
enum Step {
    Waiting(StagedObject),
    Stored { url: String, key: String, size_bytes: u64, etag: String },
}

/// Stores files
///
/// Field `files` (one or many), field `path` (optional). Files that cannot be stored say so by themselves.
#[utoipa::path(
    post,
    path = "/api/v1/files/upload/direct",
    tag = "gateway",
    operation_id = "upload_direct",
    security(("bearer" = [])),
    request_body(content = super::view::DirectForm, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "Stored; some files may not be.", body = DirectAnswer),
        (status = 400, description = "No file could be stored.", body = DirectAnswer),
        (status = 402, description = "No file could be stored: the quota is used up.", body = DirectAnswer),
        (status = 413, description = "No file could be stored: too large.", body = DirectAnswer),
    )
)]
pub(crate) async fn direct(
    State(ground): State<Ground>,
    caller: Caller,
    mut form: Form,
) -> Result<Response, ApiError> {
    caller.may(Permission::UploadFiles)?;
    let mut path: Option<String> = None;
    let mut files: Vec<Received> = Vec::new();
    while let Some(part) = form.next().await? {
        match part.name.trim_end_matches("[]") {
            "path" if part.file_name.is_none() => {
                path = Some(clean_path(&part.text(PATH_BYTES_MAX).await?));
            }
            "files" | "file" => {
                let waiting = files.iter().filter(|file| matches!(file.state, Ok(Step::Waiting(_)))).count();
                files.push(receive(&ground, &caller, path.as_deref(), waiting, part).await?);
            }
            _ => {}
        }
    }
    if files.is_empty() {
        return Err(ApiError::field("files", "At least one file is needed."));
    }
    let path = path.unwrap_or_else(|| PATH_DEFAULT.to_owned());
    for file in &mut files {
        file.store(&ground, &caller, &path).await;
    }
    Ok(answer(files, upload_path(&caller.holder, &path)))
}

/// Receives one file; stores it if it is known where. What the form itself is at fault for fails it whole.
async fn receive(
    ground: &Ground,
    caller: &Caller,
    path: Option<&str>,
    waiting: usize,
    part: Part,
) -> Result<Received, ApiError> {
    let raw_name = part.file_name.clone().unwrap_or_default();
    let content_type = part.content_type.clone();
    let mut file = Received {
        name: clean_name(&raw_name),
        raw_name,
        content_type: content_type.unwrap_or_else(|| "application/octet-stream".to_owned()),
        timestamp_ms: ground.clock.now_ms(),
        state: Err(Code::Internal.into()),
    };
    if path.is_none() && waiting >= WAITING_MAX {
        let words = "More than 64 files stand before the field path: send path first.";
        file.state = Err(ApiError::detailed(Code::Validation, words));
        return Ok(file);
    }
    match file.stage(ground, caller, path.unwrap_or(PATH_DEFAULT), part).await {
        Ok(staged) => file.state = Ok(Step::Waiting(staged)),
        Err(error @ ApiError { code: Code::Incomplete | Code::Malformed, .. }) => return Err(error),
        Err(error) => file.state = Err(error),
    }
    if let Some(path) = path {
        file.store(ground, caller, path).await;
    }
    Ok(file)
}

impl Received {
    fn place(&self, ground: &Ground, caller: &Caller, path: &str) -> Result<At, ApiError> {
        let unique = ground.short_unique();
        let key = new_key(&caller.holder, path, &self.name, self.timestamp_ms, unique)?;
        Ok(ground.gateway_at(key))
    }

    /// Receives its bytes.
    async fn stage(
        &self,
        ground: &Ground,
        caller: &Caller,
        path: &str,
        part: Part,
    ) -> Result<StagedObject, ApiError> {
        let at = self.place(ground, caller, path)?;
        let body = part.bytes_within(ground.settings.gateway.tus_max_size_bytes);
        Ok(ground.store.stage(&caller.cx, &at, body, None, Claims::default()).await?)
    }

    /// Stores it, if it was received and is not yet.
    async fn store(&mut self, ground: &Ground, caller: &Caller, path: &str) {
        let staged = match std::mem::replace(&mut self.state, Err(Code::Internal.into())) {
            Ok(Step::Waiting(staged)) => staged,
            other => {
                self.state = other;
                return;
            }
        };
        self.state = self.put(ground, caller, path, staged).await;
    }

    async fn put(
        &self,
        ground: &Ground,
        caller: &Caller,
        path: &str,
        staged: StagedObject,
    ) -> Result<Step, ApiError> {
        let at = self.place(ground, caller, path)?;
        let attributes =
            Attributes { content_type: Some(self.content_type.clone()), ..Attributes::default() };
        let url = ground.gateway_url(&caller.holder, &at.key, self.timestamp_ms)?;
        let key = at.key.to_string();
        let stored =
            ground.store.put_staged(&caller.cx, at, attributes, staged, &Conditions::default()).await?;
        let version = stored.version;
        Ok(Step::Stored {
            url,
            key,
            size_bytes: version.size_bytes,
            etag: format!("\"{}\"", version.etag.as_str()),
        })
    }

    fn view(self, index: usize) -> DirectFile {
        let Self { name, raw_name, content_type, timestamp_ms, state } = self;
        let base = DirectFile {
            original_name: name,
            raw_original_name: raw_name,
            kind: content_type,
            timestamp: timestamp_ms,
            index,
            ..DirectFile::default()
        };
        match state {
            Ok(Step::Stored { url, key, size_bytes, etag }) => DirectFile {
                url: Some(url),
                path: Some(key),
                size: Some(size_bytes),
                upload_success: true,
                etag: Some(etag),
                ..base
            },
            Ok(Step::Waiting(_)) => base,
            Err(error) => DirectFile { error: Some(error.words().to_owned()), ..base },
        }
    }
}

/// The whole answer. All failed is a failure: of the quota, or of size, if that is every file's reason.
fn answer(files: Vec<Received>, upload_path: String) -> Response {
    let codes: Vec<Option<Code>> =
        files.iter().map(|file| file.state.as_ref().err().map(|error| error.code)).collect();
    let status = status(&codes);
    if let Some(error) = files.iter().filter_map(|file| file.state.as_ref().err()).find(|e| e.cause.is_some())
    {
        tracing::warn!(cause = error.cause.as_deref(), "a file of a form was not stored");
    }
    let files: Vec<DirectFile> = files.into_iter().enumerate().map(|(n, file)| file.view(n)).collect();
    let successful = files.iter().filter(|file| file.upload_success).count();
    let summary = Summary {
        total_files: files.len(),
        successful,
        failed: files.len() - successful,
        total_size: files.iter().filter_map(|file| file.size).sum(),
    };
    let body = DirectAnswer { success: successful > 0, files, summary, upload_path };
    (status, axum::Json(body)).into_response()
}

/// The answer's status, from what went wrong with each file.
fn status(codes: &[Option<Code>]) -> StatusCode {
    let all = |code: Code| codes.iter().all(|found| *found == Some(code));
    if codes.iter().any(Option::is_none) {
        StatusCode::OK
    } else if all(Code::QuotaExceeded) {
        StatusCode::PAYMENT_REQUIRED
    } else if all(Code::TooLarge) {
        StatusCode::PAYLOAD_TOO_LARGE
    } else if all(Code::NoSpace) {
        StatusCode::INSUFFICIENT_STORAGE
    } else if codes.iter().all(|code| code.is_some_and(|code| code.status().is_server_error())) {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::BAD_REQUEST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_stored_is_a_success() {
        let (ok, quota, size, bad) =
            (None, Some(Code::QuotaExceeded), Some(Code::TooLarge), Some(Code::Validation));
        for (codes, expected) in [
            (&[ok][..], 200),
            (&[bad, ok, size], 200),
            (&[quota, quota], 402),
            (&[size], 413),
            (&[size, quota], 400),
            (&[bad], 400),
            (&[Some(Code::NoSpace)], 507),
            (&[Some(Code::Internal), Some(Code::Unavailable)], 500),
            (&[Some(Code::Internal), bad], 400),
        ] {
            assert_eq!(status(codes).as_u16(), expected, "{codes:?}");
        }
    }
}
