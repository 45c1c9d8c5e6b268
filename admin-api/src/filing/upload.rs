//! `POST /api/files` (contract §5.4, D3–D5): a form with a file, whose place the fields say, before it or behind.

use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use coffre_store::filing::{Added, NewFile};
use coffre_store::object::At;
use coffre_store::put::{Claims, StagedObject};

use super::input::Input;
use super::name::{base_name, stored_name};
use super::routes::{created, fields_of, not_here, zone};
use super::rules::{self, About};
use super::view::{ErrorView, Said, UploadedView};
use super::words::{self, Bag, limit, say};
use crate::Ground;
use crate::error::{ApiError, Code};
use crate::http::caller::{Caller, Permission};
use crate::http::form::{Form, Part, TEXT_BYTES_MAX};
use crate::http::input::media_type;
use crate::http::language::Language;

/// Longest name shown, in characters; what a client sends beyond is cut.
const NAME_CHARS_MAX: usize = 255;

/// What came as `file`.
#[derive(Default)]
enum Received {
    /// Nothing.
    #[default]
    Nothing,
    /// A field, not a file.
    NoFile,
    /// More bytes than are taken.
    TooLarge,
    /// A file, with the name its client gives it.
    File(String, Box<StagedObject>),
}

/// Stores a file
///
/// The same bytes at the same place by the same user are kept once: then 200 with the file that is there.
#[utoipa::path(
    post,
    path = "/api/files",
    tag = "filing",
    security(("bearer" = [])),
    request_body(content = super::params::Upload, content_type = "multipart/form-data"),
    responses(
        (status = 201, description = "Stored.", body = Said<UploadedView>),
        (status = 200, description = "It is there already.", body = Said<UploadedView>),
        (status = 401, description = "No token.", body = ErrorView),
        (status = 402, description = "The quota is used up.", body = ErrorView),
        (status = 400, description = "A form that cannot be read.", body = ErrorView),
        (status = 415, description = "No form.", body = ErrorView),
        (status = 422, description = "What was sent is not valid.", body = ErrorView),
    )
)]
pub(crate) async fn upload(
    State(ground): State<Ground>,
    caller: Caller,
    language: Language,
    request: Request,
) -> Result<Response, ApiError> {
    caller.may(Permission::UploadFiles)?;
    let (input, received) = read(&ground, &caller, request).await?;
    let mut bag = Bag::new(language);
    match &received {
        Received::File(..) => {}
        Received::Nothing => bag.add("file", words::FILE_REQUIRED),
        Received::NoFile => bag.add("file", words::FILE_IS_NONE),
        Received::TooLarge => {
            let max = limit(language, ground.settings.filing.file_bytes_max);
            bag.add_with("file", words::FILE_TOO_LARGE, &max);
        }
    }
    if input.get("category").is_none() {
        bag.add("category", words::CATEGORY_REQUIRED);
    }
    let about = rules::about(&input, &caller.cx.principal, &mut bag);
    bag.end()?;
    let (Received::File(uploaded, staged), Some(category)) = (received, about.category) else {
        return Err(ApiError::internal("a form without faults lacks what it has to have"));
    };
    let About { file_name, client, subcategory, description, tags, is_public, .. } = about;
    let called = file_name.flatten().unwrap_or_else(|| cut(base_name(&uploaded)));
    let subcategory = subcategory.flatten();
    let zone = zone(&ground)?;
    let stamp = zone.stamp(ground.clock.now_ms());
    let (stem, extension) = stored_name(category, subcategory.is_some(), &called, &uploaded, &stamp);
    let new = NewFile {
        client: client.flatten(),
        category,
        subcategory,
        stem,
        extension,
        label: Some(called).filter(|called| !called.is_empty()),
        description: description.flatten(),
        tags: tags.unwrap_or_default().into_iter().map(|tag| (tag, String::new())).collect(),
        is_public: is_public.unwrap_or(false),
        staged: *staged,
    };
    let (file, is_new) = match ground.store.add_file(&caller.cx, new).await {
        Ok(Added::New(file)) => (file, true),
        Ok(Added::Same(file)) => (file, false),
        Err(coffre_store::Error::Invalid { what: "name" } | coffre_store::Error::KeyTooLong) => {
            return Err(not_here(language));
        }
        Err(error) => return Err(error.into()),
    };
    let message = say(language, if is_new { words::UPLOADED } else { words::THERE_ALREADY });
    let said = Said { data: UploadedView::of(&file, &zone), message };
    Ok((created(is_new), axum::Json(said)).into_response())
}

/// The fields and the file. What has fields but cannot have a file is read too, so that the answer says what lacks.
async fn read(ground: &Ground, caller: &Caller, request: Request) -> Result<(Input, Received), ApiError> {
    let (head, body) = request.into_parts();
    if media_type(&head.headers) != "multipart/form-data" {
        return Ok((fields_of(&head.headers, body).await?, Received::Nothing));
    }
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let mut form = Form::new(kind, crate::http::body::stream(body))?;
    let (mut input, mut received) = (Input::default(), Received::Nothing);
    while let Some(part) = form.next().await? {
        if part.name == "file" {
            received = receive(ground, caller, part).await?;
        } else if part.file_name.is_none() {
            let name = part.name.clone();
            input.add(&name, &part.text(TEXT_BYTES_MAX).await?);
        }
    }
    Ok((input, received))
}

/// Takes the file's bytes in. Where they go is not known yet; a place of the caller's own stands for it.
async fn receive(ground: &Ground, caller: &Caller, part: Part) -> Result<Received, ApiError> {
    let Some(name) = part.file_name.clone() else {
        part.text(TEXT_BYTES_MAX).await?;
        return Ok(Received::NoFile);
    };
    let key = format!("general/autre/{}", ground.new_id()).parse().map_err(ApiError::internal)?;
    let like = At { bucket: ground.settings.buckets.filing.clone(), key };
    let body = part.bytes_within(ground.settings.filing.file_bytes_max);
    let staged = ground.store.stage(&caller.cx, &like, body, None, Claims::default()).await;
    match staged.map_err(ApiError::from) {
        // what a browser sends for a field that nothing was chosen in
        Ok(staged) if name.is_empty() && staged.size_bytes() == 0 => Ok(Received::Nothing),
        Ok(staged) => Ok(Received::File(name, Box::new(staged))),
        Err(error) if error.code == Code::TooLarge => Ok(Received::TooLarge),
        Err(error) => Err(error),
    }
}

/// A name of at most so many characters; its extension stays.
fn cut(name: &str) -> String {
    let name: String = name.chars().filter(|c| !c.is_control()).collect();
    let (stem, extension) = super::name::divide(&name);
    let extension = extension.map(|extension| format!(".{extension}")).unwrap_or_default();
    let left = NAME_CHARS_MAX.saturating_sub(extension.chars().count());
    stem.chars().take(left).chain(extension.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_before_their_extension() {
        assert_eq!(cut("a\u{7}b.pdf"), "ab.pdf");
        let long = cut(&format!("{}.pdf", "é".repeat(300)));
        assert_eq!(long.chars().count(), 255);
        assert!(long.ends_with("é.pdf"));
    }
}
