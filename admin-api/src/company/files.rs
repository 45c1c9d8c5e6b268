//! A company's files in the store: finding one, whole or begun, and beginning one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use coffre_store::list::List;
use coffre_store::multipart::{CreateUpload, ListUploads, Upload};
use coffre_store::object::{At, Attributes, BuiltIn, Version};
use coffre_store::scheme::{Company, Place};
use coffre_store::{Cx, Missing, ObjectKey, OrgId};
use uuid::Uuid;

use super::query::Parameters;
use super::view::{Saver, UploadData};
use crate::Ground;
use crate::error::{ApiError, Code};
use crate::http::caller::Caller;

/// Names under one id that are looked at; only other doors make more than one.
const NAMES_MAX: usize = 100;
/// Chunks read at a time.
const PARTS_PAGE: usize = 1000;

/// What stands under a file's id.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// The object, once it is whole.
    pub(crate) whole: Option<(At, Box<Version>)>,
    /// The upload that is under way.
    pub(crate) upload: Option<Upload>,
}

/// The company named in a path, if the caller may know of it.
///
/// # Errors
/// `NotFound` for what is none, and for who is no member.
pub(crate) async fn member_of(ground: &Ground, caller: &Caller, company: &str) -> Result<OrgId, ApiError> {
    let id = OrgId(Uuid::parse_str(company).map_err(|_| Code::NotFound)?);
    let principal = &caller.cx.principal;
    let is_known = principal.organisations.contains(&id)
        || (principal.is_admin && ground.identity.find_org(&id.to_string()).await?.is_some());
    if is_known { Ok(id) } else { Err(Code::NotFound.into()) }
}

/// Where a file of this name is.
///
/// # Errors
/// `Validation` when the key gets too long.
pub(crate) fn place(ground: &Ground, company: OrgId, file: Uuid, name: &str) -> Result<At, ApiError> {
    let place = Place::Company(Company { company, file_id: file, filename: name.to_owned() });
    let key = place.key().ok_or_else(|| ApiError::field("filename", "The name is too long."))?;
    Ok(At { bucket: ground.settings.buckets.companies.clone(), key })
}

/// What stands under this id.
pub(crate) async fn find(ground: &Ground, cx: &Cx, company: OrgId, file: Uuid) -> Result<Standing, ApiError> {
    let bucket = ground.settings.buckets.companies.clone();
    let prefix = format!("{company}/{file}/");
    let list = List {
        bucket: bucket.clone(),
        prefix: prefix.clone(),
        delimiter: String::new(),
        after: String::new(),
        limit: NAMES_MAX,
    };
    let page = ground.store.list(cx, list).await?;
    let entries = page.entries.into_iter().filter_map(|(key, version)| {
        let key: ObjectKey = key.parse().ok()?;
        Place::parse(BuiltIn::Companies, &key)?;
        Some((At { bucket: bucket.clone(), key }, version))
    });
    // Of several under one id the oldest file is the one meant, as for the id's index.
    let whole = entries.min_by_key(|(_, version)| version.ino);
    let uploads = ListUploads {
        bucket,
        prefix,
        delimiter: String::new(),
        after_key: String::new(),
        after_upload: None,
        limit: 1,
    };
    let upload = ground.store.list_uploads(cx, uploads).await?.uploads.into_iter().next();
    Ok(Standing { whole, upload })
}

/// What is kept with a file.
pub(crate) fn attributes(
    parameters: &Parameters,
    declared: Option<String>,
    label: Option<String>,
) -> Attributes {
    Attributes { content_type: parameters.kind.clone().or(declared), label, ..Attributes::default() }
}

/// Begins a file that will come in chunks.
pub(crate) async fn begin(
    ground: &Ground,
    cx: &Cx,
    at: At,
    attributes: Attributes,
) -> Result<Upload, ApiError> {
    Ok(ground.store.create_upload(cx, CreateUpload { at, attributes, checksum: None }).await?)
}

/// How much of an upload has arrived; `None`: nothing.
pub(crate) async fn arrived(
    ground: &Ground,
    cx: &Cx,
    upload: &Upload,
) -> Result<Option<UploadData>, ApiError> {
    let (mut size, mut chunks, mut after) = (0, 0, None);
    loop {
        let page = match ground.store.list_parts(cx, upload.at.clone(), upload.id, after, PARTS_PAGE).await {
            // The last chunk came meanwhile.
            Err(coffre_store::Error::NotFound(Missing::Upload(_))) => return Ok(None),
            page => page?,
        };
        size += page.parts.iter().map(|part| part.size_bytes).sum::<u64>();
        chunks += u32::try_from(page.parts.len()).unwrap_or(u32::MAX);
        match page.next_after {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    Ok((chunks > 0).then_some(UploadData { size, chunks }))
}

/// Who saved a version, and whether it is an application.
pub(crate) async fn saver(ground: &Ground, user: Option<coffre_store::UserId>) -> Result<Saver, ApiError> {
    let found = match user {
        Some(user) => ground.identity.user_by_id(user).await?,
        None => None,
    };
    let is_application = found.is_some_and(|user| user.role == coffre_identity::Role::App);
    Ok(Saver { user, is_application })
}

/// Senders of chunks of one file take turns while it is decided under which upload they go, so that an application that
/// overwrites a file with several senders at once begins one upload and not many. In another process it would begin
/// another, and the file would stay as it was.
#[derive(Debug, Default)]
pub(crate) struct Beginnings(Mutex<HashMap<Uuid, Weak<tokio::sync::Mutex<()>>>>);

impl Beginnings {
    /// The turn of a file.
    pub(crate) fn of(&self, file: Uuid) -> Arc<tokio::sync::Mutex<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = all.get(&file).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        all.insert(file, Arc::downgrade(&turn));
        turn
    }
}
