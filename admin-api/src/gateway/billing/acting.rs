//! For whom a billing call is made: `x-user-id`, `x-application`, `x-org-id` (contract §2, D21).

use axum::extract::{FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::request::Parts;
use coffre_billing::{APPLICATION_BYTES_MAX, KEY_BYTES_MAX};
use coffre_identity::Acting;

use crate::Ground;
use crate::error::{ApiError, Code};
use crate::http::caller::{Caller, Permission};

/// A caller who may act for the user and the organisation that it names.
pub(super) struct For {
    pub(super) caller: Caller,
    pub(super) acting: Acting,
    pub(super) application: String,
    /// `Idempotency-Key`.
    pub(super) idempotency_key: Option<String>,
}

impl FromRequestParts<Ground> for For {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, ground: &Ground) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, ground).await?;
        caller.may(Permission::Billing)?;
        let headers = &parts.headers;
        let user = needed(headers, "x-user-id")?;
        let application = needed(headers, "x-application")?;
        let organisation = needed(headers, "x-org-id")?;
        if application.len() > APPLICATION_BYTES_MAX {
            let words = format!("Longer than {APPLICATION_BYTES_MAX} bytes: x-application.");
            return Err(ApiError::field("x-application", words));
        }
        let acting = ground.identity.act_for(&caller.holder, user, organisation).await?;
        let application = application.to_owned();
        let idempotency_key = match headers.get("idempotency-key") {
            None => None,
            Some(value) => {
                let key = value.to_str().ok().filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()));
                let words = format!("Idempotency-Key has 1 to {KEY_BYTES_MAX} visible characters.");
                Some(key.ok_or_else(|| ApiError::field("idempotency-key", words))?.to_owned())
            }
        };
        Ok(Self { caller, acting, application, idempotency_key })
    }
}

/// A header's text; one that is missing or empty is named.
fn needed<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, ApiError> {
    let text = headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let missing = || ApiError::field(name, format!("The header {name} is needed."));
    text.filter(|text| !text.is_empty()).ok_or_else(missing)
}

/// A JSON object as the body, read by hand: what is wrong with which key is told in words.
///
/// # Errors
/// `UnsupportedMediaType`, `Malformed`, `TooLarge`, `Validation` for what is no object.
pub(super) async fn object(request: Request) -> Result<serde_json::Map<String, serde_json::Value>, ApiError> {
    use axum::extract::FromRequest as _;
    let crate::http::input::Json(body) = crate::http::input::Json::from_request(request, &()).await?;
    match body {
        serde_json::Value::Object(object) => Ok(object),
        _ => Err(ApiError::detailed(Code::Validation, "The body has to be a JSON object.")),
    }
}
