//! Who calls: the bearer token becomes a principal, and with door, address and request id the context of the store's
//! functions.
//!
//! Done once, before any route: a wrong token is 401 wherever it is sent, also where none is needed (contract D10), and
//! before a byte of the body is asked for. What a route needs it says by its argument: [`Caller`] (somebody) or
//! [`Anyone`].

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{AUTHORIZATION, REFERER, USER_AGENT};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use coffre_identity::TokenHolder;
use coffre_store::Cx;
use coffre_store::object::{Circumstances, Door, Principal};

use super::address::{ClientAddress, Peer};
use super::rate::{Class, Payer};
use super::request_id::RequestId;
use crate::Ground;
use crate::error::{ApiError, Code};

/// What a token may be limited to (contract D13), of that what these routes ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Permission {
    /// `read_files`.
    ReadFiles,
    /// `upload_files`.
    UploadFiles,
    /// `delete_files`.
    DeleteFiles,
    /// `billing`.
    Billing,
}

/// Somebody, who brought a token.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// For the store's functions.
    pub(crate) cx: Cx,
    /// The token, its user, application and grant.
    pub(crate) holder: Arc<TokenHolder>,
}

/// Somebody or nobody.
#[derive(Clone, Debug)]
pub(crate) struct Anyone {
    /// For the store's functions; the principal is anonymous without a token.
    pub(crate) cx: Cx,
    /// The token, if there is one.
    pub(crate) holder: Option<Arc<TokenHolder>>,
}

impl Permission {
    /// As tokens spell it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::ReadFiles => "read_files",
            Self::UploadFiles => "upload_files",
            Self::DeleteFiles => "delete_files",
            Self::Billing => "billing",
        }
    }
}

impl Caller {
    /// Whether the token may do this.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub(crate) fn may(&self, permission: Permission) -> Result<(), ApiError> {
        if self.holder.permits(permission.as_str()) {
            return Ok(());
        }
        let words = format!("This token lacks the permission {}.", permission.as_str());
        Err(ApiError::detailed(Code::PermissionDenied, words))
    }

    /// Whether it is an ADMIN, with a token that may be one.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub(crate) fn must_be_admin(&self) -> Result<(), ApiError> {
        if self.cx.principal.is_admin { Ok(()) } else { Err(Code::PermissionDenied.into()) }
    }
}

impl Anyone {
    /// Whether the token, if there is one, may do this.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub(crate) fn may(&self, permission: Permission) -> Result<(), ApiError> {
        match &self.holder {
            Some(holder) => Caller { cx: self.cx.clone(), holder: Arc::clone(holder) }.may(permission),
            None => Ok(()),
        }
    }
}

/// Before every route: who it is, and whether it may call now.
pub(crate) async fn admit(State(ground): State<Ground>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if is_open(path) {
        return next.run(request).await;
    }
    let class = Class::of(request.method(), path);
    // Apart: a body is not to be shared between threads while something is awaited.
    let (mut head, body) = request.into_parts();
    let anyone = match recognize(&ground, &head).await {
        Ok(anyone) => anyone,
        Err(error) => return error.into_response(),
    };
    let allowance = match class.map(|class| count(&ground, &anyone.cx, class)).transpose() {
        Ok(allowance) => allowance.flatten(),
        Err(error) => return error.into_response(),
    };
    head.extensions.insert(anyone);
    let mut response = next.run(Request::from_parts(head, body)).await;
    if let Some(allowance) = allowance {
        allowance.tell(&mut response);
    }
    response
}

/// Routes that look at no token: health (contract D10), metrics with a token of its own, documents.
fn is_open(path: &str) -> bool {
    matches!(
        path,
        "/healthz"
            | "/readyz"
            | "/metrics"
            | "/openapi.json"
            | "/api/v1/auth/health"
            | "/api/v1/system/health"
    ) || path == "/docs"
        || path.starts_with("/docs/")
}

fn count(ground: &Ground, cx: &Cx, class: Class) -> Result<Option<super::rate::Allowance>, ApiError> {
    let address = cx.circumstances.client_address.map(Payer::Address);
    match cx.principal.user().map(Payer::User).or(address) {
        Some(payer) => ground.rates.count(payer, class, cx.now_ms),
        None => Ok(None),
    }
}

async fn recognize(ground: &Ground, head: &Parts) -> Result<Anyone, ApiError> {
    let headers = &head.headers;
    let holder = match headers.get(AUTHORIZATION) {
        None => None,
        Some(value) => {
            let text = value.to_str().ok().and_then(bearer);
            let invalid = || ApiError::unauthorized(Code::AuthInvalid);
            let found = ground.identity.find_bearer(text.ok_or_else(invalid)?).await?;
            Some(Arc::new(found.ok_or_else(invalid)?))
        }
    };
    let principal = match &holder {
        Some(holder) => Arc::clone(&holder.principal),
        None => Arc::new(Principal::anonymous()),
    };
    let peer = head.extensions.get::<Peer>();
    let id = head.extensions.get::<RequestId>();
    let cx = Cx {
        principal,
        door: Door::Rest,
        request_id: id.map_or_else(|| Arc::from("unknown"), |id| Arc::clone(&id.0)),
        now_ms: ground.clock.now_ms(),
        circumstances: Arc::new(Circumstances {
            client_address: head.extensions.get::<ClientAddress>().map(|client| client.0),
            is_secure: peer.is_some_and(|peer| peer.is_secure),
            user_agent: text_of(headers, &USER_AGENT),
            referer: text_of(headers, &REFERER),
            ..Circumstances::default()
        }),
    };
    Ok(Anyone { cx, holder })
}

fn text_of(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// What follows the scheme `Bearer`, in any case (RFC 9110 §11.1).
fn bearer(value: &str) -> Option<&str> {
    let (scheme, text) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(text.trim()).filter(|text| !text.is_empty())
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let anyone = parts.extensions.get::<Anyone>();
        match anyone.map(|anyone| (&anyone.cx, &anyone.holder)) {
            Some((cx, Some(holder))) => Ok(Self { cx: cx.clone(), holder: Arc::clone(holder) }),
            _ => Err(ApiError::unauthorized(Code::AuthRequired)),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Anyone {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let anyone = parts.extensions.get::<Self>().cloned();
        Ok(anyone.expect("every route but the open ones lies behind `admit`, which puts it there"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scheme_is_bearer() {
        for (value, text) in [
            ("Bearer a|b", Some("a|b")),
            ("bearer  a ", Some("a")),
            ("BEARER x", Some("x")),
            ("Bearer", None),
            ("Bearer ", None),
            ("Basic abc", None),
            ("", None),
        ] {
            assert_eq!(bearer(value), text, "{value}");
        }
    }

    #[test]
    fn permissions_are_those_of_tokens() {
        use Permission::{Billing, DeleteFiles, ReadFiles, UploadFiles};
        for permission in [ReadFiles, UploadFiles, DeleteFiles, Billing] {
            assert!(coffre_identity::PERMISSIONS.contains(&permission.as_str()), "{permission:?}");
        }
    }
}
