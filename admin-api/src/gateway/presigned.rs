//! `POST /api/v1/files/upload/generate/presigned-url` (document 2.8.10, contract D16): links to PUT files at the S3 door.
//!
//! A link binds what was asked for: the content type as a signed header, the metadata in the signed query. It carries
//! the rights of the token it was asked with.

use axum::Json;
use axum::extract::State;
use coffre_identity::presign::{EXPIRES_S_MAX, Link, address, presign};
use coffre_store::scheme::Unique;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::macros::format_description;

use super::place::{PATH_DEFAULT, clean_name, clean_path, new_key, upload_path};
use super::view::{
    PresignedAnswer, PresignedFile, PresignedMany, PresignedOne, PresignedRequest, PresignedUrl,
};
use crate::Ground;
use crate::error::{ApiError, Code};
use crate::http::caller::{Caller, Permission};
use crate::http::input;

/// Seconds, when nothing is asked for.
const EXPIRES_S_DEFAULT: u64 = 3600;
/// Files of one request.
const FILES_MAX: usize = 100;
/// Most bytes of an object's metadata, names and values together (S3).
const METADATA_BYTES_MAX: usize = 2048;

/// Makes links for uploads
///
/// One file (`fileName`), or many (`files`). The file is then sent by `PUT` with the `Content-Type` asked for.
#[utoipa::path(
    post,
    path = "/api/v1/files/upload/generate/presigned-url",
    tag = "gateway",
    operation_id = "presigned_url",
    security(("bearer" = [])),
    request_body = PresignedRequest,
    responses(
        (status = 200, description = "The links.", body = PresignedAnswer),
    )
)]
pub(crate) async fn presigned_url(
    State(ground): State<Ground>,
    caller: Caller,
    input::Json(request): input::Json<PresignedRequest>,
) -> Result<Json<PresignedAnswer>, ApiError> {
    caller.may(Permission::UploadFiles)?;
    let expires_s = expires(request.expires_in)?;
    let path = request.path.as_deref().map_or_else(|| PATH_DEFAULT.to_owned(), clean_path);
    let metadata = request.metadata.as_ref().map(metadata).transpose()?.unwrap_or_default();
    let signing =
        Signing { ground: &ground, caller: &caller, path: &path, expires_s, now_ms: ground.clock.now_ms() };
    let upload_path = upload_path(&caller.holder, &path);
    let Some(files) = request.files else {
        let file = PresignedFile {
            file_name: request.file_name,
            content_type: request.content_type,
            metadata: None,
        };
        let url = signing.sign("fileName", &file, &metadata)?;
        let PresignedUrl { pre_signed_url: url, file_path, public_url, expires_at, expires_in, .. } = url;
        let one =
            PresignedOne { success: true, url, file_path, public_url, expires_at, expires_in, upload_path };
        return Ok(Json(PresignedAnswer::One(one)));
    };
    if files.is_empty() || files.len() > FILES_MAX {
        return Err(ApiError::field("files", format!("One to {FILES_MAX} files.")));
    }
    let sign =
        |(n, file): (usize, &PresignedFile)| signing.sign(&format!("files.{n}.fileName"), file, &metadata);
    let urls: Vec<PresignedUrl> = files.iter().enumerate().map(sign).collect::<Result<_, _>>()?;
    let count = urls.len();
    let many = PresignedMany { success: true, urls, upload_path, expires_in: expires_s, count };
    Ok(Json(PresignedAnswer::Many(many)))
}

/// What all links of a request have in common.
struct Signing<'a> {
    ground: &'a Ground,
    caller: &'a Caller,
    path: &'a str,
    expires_s: u64,
    now_ms: u64,
}

impl Signing<'_> {
    fn sign(
        &self,
        field: &str,
        file: &PresignedFile,
        common: &[(String, String)],
    ) -> Result<PresignedUrl, ApiError> {
        let named = file.file_name.as_deref().filter(|name| !name.trim().is_empty());
        let original = named.ok_or_else(|| ApiError::field(field, "A file name is needed."))?;
        let content_type = file.content_type.as_deref().map(str::trim).unwrap_or_default();
        let content_type = if content_type.is_empty() { "application/octet-stream" } else { content_type };
        if !content_type.bytes().all(|b| (0x20..0x7f).contains(&b)) {
            return Err(ApiError::field("contentType", "Not a media type."));
        }
        let ground = self.ground;
        let unique = Unique::Uuid(ground.new_id());
        let key = new_key(&self.caller.holder, self.path, &clean_name(original), self.now_ms, unique)?;
        let own = file.metadata.as_ref().map(metadata).transpose()?;
        let query = own.as_deref().unwrap_or(common);
        let headers = [("content-type".to_owned(), content_type.to_owned())];
        let (base, path) = (ground.gateway_base(), format!("/{key}"));
        let link = Link {
            method: "PUT",
            base_url: &base,
            path: &path,
            query,
            headers: &headers,
            region: &ground.settings.s3_region,
            expires_s: self.expires_s,
        };
        let signed = presign(&ground.link_key(&self.caller.holder), &link, self.now_ms)?;
        let file_path = key.to_string();
        Ok(PresignedUrl {
            pre_signed_url: signed,
            public_url: address(&base, &path),
            expires_at: iso(self.now_ms.saturating_add(self.expires_s * 1000)),
            expires_in: self.expires_s,
            file_name: file_path.rsplit('/').next().unwrap_or_default().to_owned(),
            original_file_name: original.to_owned(),
            file_path,
        })
    }
}

fn expires(asked: Option<i64>) -> Result<u64, ApiError> {
    let Some(asked) = asked else { return Ok(EXPIRES_S_DEFAULT) };
    let seconds = u64::try_from(asked).ok().filter(|seconds| (1..=EXPIRES_S_MAX).contains(seconds));
    seconds.ok_or_else(|| ApiError::field("expiresIn", format!("Seconds from 1 to {EXPIRES_S_MAX}.")))
}

/// What an object keeps beside its bytes, as parameters of the link.
fn metadata(asked: &Map<String, Value>) -> Result<Vec<(String, String)>, ApiError> {
    let refused = |what: &str| ApiError::field("metadata", what);
    let mut pairs = Vec::with_capacity(asked.len());
    for (name, value) in asked {
        let name = name.to_ascii_lowercase();
        let is_token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(refused("Names are of letters, digits, '-', '_' and '.'."));
        }
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return Err(refused("Values are texts.")),
        };
        if value.chars().any(char::is_control) {
            return Err(refused("Values are of visible characters."));
        }
        let name = format!("x-amz-meta-{name}");
        if pairs.iter().any(|(other, _)| *other == name) {
            return Err(refused("A name stands there twice."));
        }
        pairs.push((name, value));
    }
    let bytes: usize = pairs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > METADATA_BYTES_MAX {
        return Err(ApiError::new(Code::Validation, "The metadata is larger than 2,048 bytes."));
    }
    Ok(pairs)
}

/// `2025-01-01T10:15:30.000Z`.
fn iso(ms: u64) -> String {
    let nanos = i128::from(ms) * 1_000_000;
    let at = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    at.format(format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lives() {
        for (asked, seconds) in [
            (None, Some(3600)),
            (Some(1), Some(1)),
            (Some(604_800), Some(604_800)),
            (Some(0), None),
            (Some(-1), None),
            (Some(604_801), None),
        ] {
            assert_eq!(expires(asked).ok(), seconds, "{asked:?}");
        }
        assert_eq!(iso(1_735_726_530_000), "2025-01-01T10:15:30.000Z");
        assert_eq!(iso(1_735_726_530_007), "2025-01-01T10:15:30.007Z");
    }

    #[test]
    fn metadata_becomes_parameters() {
        let of = |value: Value| metadata(value.as_object().unwrap()).ok();
        let pairs = [("x-amz-meta-campaign", "spring"), ("x-amz-meta-n", "7"), ("x-amz-meta-tag", "é b")];
        let pairs = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).to_vec();
        assert_eq!(
            of(json!({"Tag": "é b", "campaign": "spring", "n": 7})).map(|mut p| {
                p.sort();
                p
            }),
            Some(pairs)
        );
        for wrong in [
            json!({"": "x"}),
            json!({"a b": "x"}),
            json!({"a": null}),
            json!({"a": {}}),
            json!({"a": "x\ny"}),
            json!({"a": "1", "A": "2"}),
            json!({"a": "x".repeat(METADATA_BYTES_MAX)}),
        ] {
            assert_eq!(of(wrong.clone()), None, "{wrong}");
        }
    }
}
