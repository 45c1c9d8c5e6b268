//! The gateway's JSON, key by key as its document has it (2.8.3, 2.8.10).

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The form of a direct upload.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form; it is read as a stream")]
pub(crate) struct DirectForm {
    /// One file or many.
    #[schema(value_type = Vec<String>, format = Binary)]
    files: Vec<String>,
    /// Where below the token's own prefix; `uploads` if it is not given.
    #[schema(example = "uploads/documents")]
    path: Option<String>,
}

/// The answer to a direct upload.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DirectAnswer {
    pub(crate) success: bool,
    pub(crate) files: Vec<DirectFile>,
    pub(crate) summary: Summary,
    /// What the files' keys begin with.
    #[schema(example = "slidefabrik/e814303a-3a6e-46fc-9e74-64408e52677f/uploads/documents")]
    pub(crate) upload_path: String,
}

/// A file of a direct upload. Of one that was not stored, url, path, size and etag are null.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DirectFile {
    #[schema(example = "instruction_API(3).md")]
    pub(crate) original_name: String,
    #[schema(example = "instruction_API(3).md")]
    pub(crate) raw_original_name: String,
    pub(crate) url: Option<String>,
    pub(crate) path: Option<String>,
    #[schema(example = 31517)]
    pub(crate) size: Option<u64>,
    #[serde(rename = "type")]
    #[schema(example = "text/markdown")]
    pub(crate) kind: String,
    pub(crate) upload_success: bool,
    #[schema(example = 1_755_200_224_277_u64)]
    pub(crate) timestamp: u64,
    #[schema(example = "\"495a3df6f4cc715003a883288927faa3\"")]
    pub(crate) etag: Option<String>,
    pub(crate) index: usize,
    /// Why it was not stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// How a direct upload went.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    pub(crate) total_files: usize,
    pub(crate) successful: usize,
    pub(crate) failed: usize,
    pub(crate) total_size: u64,
}

/// What links are wanted for: one file, or with `files` many.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PresignedRequest {
    #[schema(example = "demo.mp4")]
    pub(crate) file_name: Option<String>,
    #[schema(example = "video/mp4")]
    pub(crate) content_type: Option<String>,
    /// Where below the token's own prefix; `uploads` if it is not given.
    #[schema(example = "videos/user-123")]
    pub(crate) path: Option<String>,
    /// Seconds, 1 to 604800.
    #[schema(example = 3600, minimum = 1, maximum = 604_800)]
    pub(crate) expires_in: Option<i64>,
    /// Kept with the object.
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    pub(crate) metadata: Option<serde_json::Map<String, serde_json::Value>>,
    pub(crate) files: Option<Vec<PresignedFile>>,
}

/// One of many files.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PresignedFile {
    #[schema(example = "photo1.jpg")]
    pub(crate) file_name: Option<String>,
    #[schema(example = "image/jpeg")]
    pub(crate) content_type: Option<String>,
    /// In place of the request's own.
    #[schema(value_type = Option<std::collections::BTreeMap<String, String>>)]
    pub(crate) metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

/// A link for one file, or links for many.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum PresignedAnswer {
    One(PresignedOne),
    Many(PresignedMany),
}

/// The answer for one file.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PresignedOne {
    pub(crate) success: bool,
    /// A signed PUT: send the file there with its `Content-Type`.
    pub(crate) url: String,
    #[schema(
        example = "app_1/grant_2/upload/path/demo_1699450012345_0192e4a0-1b2c-7d3e-8f40-5a6b7c8d9e0f.mp4"
    )]
    pub(crate) file_path: String,
    pub(crate) public_url: String,
    #[schema(example = "2025-01-01T10:15:30.000Z")]
    pub(crate) expires_at: String,
    pub(crate) expires_in: u64,
    pub(crate) upload_path: String,
}

/// The answer for many.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PresignedMany {
    pub(crate) success: bool,
    pub(crate) urls: Vec<PresignedUrl>,
    pub(crate) upload_path: String,
    pub(crate) expires_in: u64,
    pub(crate) count: usize,
}

/// One of many.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PresignedUrl {
    pub(crate) pre_signed_url: String,
    pub(crate) file_path: String,
    pub(crate) public_url: String,
    pub(crate) expires_at: String,
    pub(crate) expires_in: u64,
    pub(crate) file_name: String,
    pub(crate) original_file_name: String,
}
