//! The admin API, `/admin/v1/…`, for ADMIN tokens: what the command line can do, and reading the audit log (contract
//! §6, D23, D33). A name works where an id does.

mod audit;
mod billing;
mod people;
mod upkeep;
pub mod view;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use coffre_store::{Cx, OrgId, UserId};
use utoipa_axum::router::OpenApiRouter;

use crate::Ground;
use crate::error::{ApiError, Code};
use crate::http::caller::Caller;

/// The routes.
pub(crate) fn routes() -> OpenApiRouter<Ground> {
    OpenApiRouter::new()
        .merge(people::routes())
        .merge(upkeep::routes())
        .merge(audit::routes())
        .merge(billing::routes())
}

/// An ADMIN, with a token that may be one.
struct Admin(Cx);

impl<S: Send + Sync> FromRequestParts<S> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, state).await?;
        caller.must_be_admin()?;
        Ok(Self(caller.cx))
    }
}

async fn user_of(ground: &Ground, id_or_name: &str) -> Result<UserId, ApiError> {
    let found = ground.identity.find_user(id_or_name).await?;
    let missing = || ApiError::detailed(Code::NotFound, format!("There is no user {id_or_name}."));
    Ok(found.ok_or_else(missing)?.id)
}

async fn org_of(ground: &Ground, id_or_name: &str) -> Result<OrgId, ApiError> {
    let found = ground.identity.find_org(id_or_name).await?;
    let missing = || ApiError::detailed(Code::NotFound, format!("There is no organisation {id_or_name}."));
    Ok(found.ok_or_else(missing)?.id)
}
