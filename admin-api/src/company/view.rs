//! The company API's JSON: Twake Drive's `resource`, key by key.

use coffre_store::multipart::Upload;
use coffre_store::object::Version;
use coffre_store::{OrgId, UserId};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::preview::{Preview, Status};

/// What saving and asking answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Answer {
    pub(crate) resource: PublicFile,
}

/// A file as the company API shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct PublicFile {
    /// The company.
    pub(crate) company_id: Uuid,
    /// The file.
    pub(crate) id: Uuid,
    /// Who saved it last; empty: nobody known.
    pub(crate) user_id: String,
    /// The application that did, when it was one.
    pub(crate) application_id: Option<String>,
    /// Milliseconds since 1970.
    pub(crate) updated_at: u64,
    /// Milliseconds since 1970.
    pub(crate) created_at: u64,
    /// `null` until something was uploaded.
    pub(crate) metadata: Option<Metadata>,
    /// Its previews.
    pub(crate) thumbnails: Vec<Thumbnail>,
    /// `null` until something was uploaded.
    pub(crate) upload_data: Option<UploadData>,
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Metadata {
    pub(crate) name: String,
    pub(crate) mime: String,
    /// `done`, `waiting` or `error`.
    pub(crate) thumbnails_status: &'static str,
}

/// How it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct UploadData {
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) chunks: u32,
}

/// A preview.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Thumbnail {
    pub(crate) index: u32,
    pub(crate) id: Uuid,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) url: String,
    pub(crate) full_url: String,
}

/// What deleting answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Deleted {
    pub(crate) status: &'static str,
}

/// Who saved a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saver {
    pub(crate) user: Option<UserId>,
    /// Its role is APP.
    pub(crate) is_application: bool,
}

/// A file that is whole.
pub(crate) fn complete(
    company: OrgId,
    id: Uuid,
    version: &Version,
    name: &str,
    saver: &Saver,
    preview: &Status,
    public_url: &str,
) -> Answer {
    let mime = version.attributes.content_type.clone().or_else(|| version.sniffed_type.clone());
    let thumbnails = match preview {
        Status::Made(preview) => vec![thumbnail(company, id, version, preview, public_url)],
        Status::None | Status::Failed | Status::Waiting => vec![],
    };
    let metadata = Metadata {
        name: name.to_owned(),
        mime: mime.unwrap_or_else(|| "application/octet-stream".to_owned()),
        thumbnails_status: match preview {
            Status::Made(_) | Status::None => "done",
            Status::Failed => "error",
            Status::Waiting => "waiting",
        },
    };
    let chunks = version.parts.as_ref().map_or(1, coffre_store::object::PartSizes::count);
    let file = PublicFile {
        metadata: Some(metadata),
        thumbnails,
        upload_data: Some(UploadData { size: version.size_bytes, chunks }),
        ..bare(company, id, saver, version.modified_ms)
    };
    Answer { resource: file }
}

/// A file of which some chunks are there; without any, `arrived` is `None`.
pub(crate) fn incomplete(
    company: OrgId,
    id: Uuid,
    upload: &Upload,
    saver: &Saver,
    arrived: Option<UploadData>,
) -> Answer {
    let metadata = arrived.as_ref().map(|_| Metadata {
        name: upload.at.key.last_segment().to_owned(),
        mime: upload.attributes.content_type.clone().unwrap_or_else(|| "application/octet-stream".to_owned()),
        thumbnails_status: "waiting",
    });
    let file = PublicFile { metadata, upload_data: arrived, ..bare(company, id, saver, upload.created_ms) };
    Answer { resource: file }
}

fn bare(company: OrgId, id: Uuid, saver: &Saver, updated_ms: u64) -> PublicFile {
    let user = saver.user.map(|user| user.to_string());
    PublicFile {
        company_id: company.0,
        id,
        application_id: user.clone().filter(|_| saver.is_application),
        user_id: user.unwrap_or_default(),
        updated_at: updated_ms,
        // Ids made here tell when; others came by another door, with their bytes.
        created_at: made_ms(id).filter(|made| *made <= updated_ms).unwrap_or(updated_ms),
        metadata: None,
        thumbnails: vec![],
        upload_data: None,
    }
}

/// When a UUIDv7 was made, ms since 1970.
fn made_ms(id: Uuid) -> Option<u64> {
    (id.get_version_num() == 7).then(|| u64::try_from(id.as_u128() >> 80).unwrap_or_default())
}

/// The thumbnail's id: another one for each version.
pub(crate) fn thumbnail_id(version: &Version) -> Uuid {
    Uuid::from_bytes(version.id.0)
}

fn thumbnail(company: OrgId, id: Uuid, version: &Version, preview: &Preview, public_url: &str) -> Thumbnail {
    let url = format!("{}/companies/{company}/files/{id}/thumbnails/0", super::PREFIX);
    Thumbnail {
        index: 0,
        id: thumbnail_id(version),
        kind: "image/png",
        size: preview.png.len() as u64,
        width: preview.width,
        height: preview.height,
        full_url: format!("{public_url}{url}"),
        url,
    }
}
