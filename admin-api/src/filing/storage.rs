//! `/storage/{key}`: a file's bytes by a link (contract §5.4, D26).
//!
//! A link says which file it is for, not only which key: what comes to the key later is not opened by it. Without a
//! signature the file has to be one that the caller may read, which everyone may when it is public.

use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use coffre_store::Cx;
use coffre_store::condition::Conditions;
use coffre_store::filing::Filed;
use coffre_store::get::GetObject;
use coffre_store::object::{At, Principal};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::input::Input;
use super::view::ErrorView;
use crate::Ground;
use crate::error::{ApiError, Code};
use crate::http::caller::{Anyone, Permission};
use crate::http::disposition::Disposition;
use crate::http::send::{self, Sending};

/// How long a link is good.
const LINK_MS: u64 = 15 * 60 * 1000;
/// The kind of these links.
const KIND: &str = "storage";
const PREFIX: &str = "/storage/";
/// What of a key is escaped in a path: all but RFC 3986's unreserved characters and the slash.
const NOT_PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A link to a file's bytes; without a signature for one that is public.
pub(crate) fn link(ground: &Ground, file: &Filed, now_ms: u64) -> String {
    let path = format!("{PREFIX}{}", utf8_percent_encode(file.key.as_str(), NOT_PATH));
    if file.version.attributes.is_public {
        return path;
    }
    let expires = ((now_ms + LINK_MS) / 1000).to_string();
    let serial = file.serial.to_string();
    let signature = ground.identity.sign_link(KIND, &[file.key.as_str(), &expires, &serial]);
    format!("{path}?expires={expires}&signature={serial}-{signature}")
}

/// Sends a file's bytes
#[utoipa::path(
    get,
    path = "/storage/{*key}",
    tag = "filing",
    params(
        ("key" = String, Path, description = "The file's key."),
        ("expires" = Option<u64>, Query, description = "Until when the link is good, seconds since 1970."),
        ("signature" = Option<String>, Query, description = "As the link has it."),
    ),
    responses(
        (status = 200, description = "The bytes.", content_type = "application/octet-stream"),
        (status = 206, description = "Those asked for.", content_type = "application/octet-stream"),
        (status = 304, description = "The caller's copy is current."),
        (status = 401, description = "A wrong token.", body = ErrorView),
        (status = 403, description = "No good link.", body = ErrorView),
        (status = 404, description = "The file is gone.", body = ErrorView),
        (status = 412, description = "A condition does not hold.", body = ErrorView),
        (status = 416, description = "The range lies outside.", body = ErrorView),
    )
)]
pub(crate) async fn storage(
    State(ground): State<Ground>,
    anyone: Anyone,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let bad = || ApiError::from(Code::BadSignature);
    let key = uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let key = percent_decode_str(key).decode_utf8().map_err(|_| bad())?;
    let at = At { bucket: ground.settings.buckets.filing.clone(), key: key.parse().map_err(|_| bad())? };
    let input = Input::of_urlencoded(uri.query().unwrap_or_default().as_bytes());
    let (cx, serial) = match (input.text("expires"), input.text("signature")) {
        (Some(expires), Some(signature)) => {
            let serial = signed(&ground, &key, expires, signature, anyone.cx.now_ms).ok_or_else(bad)?;
            // the link is the right
            (Cx { principal: Principal::system().into(), ..anyone.cx.clone() }, Some(serial))
        }
        (None, None) => {
            anyone.may(Permission::ReadFiles)?;
            (anyone.cx.clone(), None)
        }
        _ => return Err(bad()),
    };
    let get = GetObject { at: at.clone(), version: None, conditions: Conditions::default(), range: None };
    let found = ground.store.head(&cx, get).await;
    match (&found, serial) {
        (Ok(found), Some(serial)) if found.version.ids.filing == Some(serial) => {}
        // it was moved or replaced: the link is to a file that is not here
        (_, Some(_)) => return Err(Code::NotFound.into()),
        (Ok(_), None) => {}
        // whether it is there is not told to who may not read it
        (Err(_), None) => return Err(bad()),
    }
    let bucket = ground.settings.buckets.filing.as_str();
    ground.identity.note(&anyone.cx, "GetObject", Some(bucket), Some(&key)).await?;
    let sending = Sending { disposition: Disposition::Inline, ..Sending::attachment(at) };
    send::object(&ground.store, &cx, &method, &headers, sending).await
}

/// The number of the file that a good link is for.
fn signed(ground: &Ground, key: &str, expires: &str, signature: &str, now_ms: u64) -> Option<u64> {
    let (serial, signature) = signature.split_once('-')?;
    let is_signed = ground.identity.is_link_signed(KIND, &[key, expires, serial], signature);
    let until_ms = expires.parse::<u64>().ok()?.checked_mul(1000)?;
    (is_signed && now_ms < until_ms).then(|| serial.parse().ok()).flatten()
}
