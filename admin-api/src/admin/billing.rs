//! Plans, grants, refunds, quotas, and reading the ledger (contract D23, D33, D43).

use axum::Json as Answer;
use axum::extract::State;
use axum::http::StatusCode;
use coffre_billing::Filter;
use coffre_store::Action;
use coffre_store::usage::Of;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::audit::instant;
use super::view::Pagination;
use super::view::billing::{Granted, LedgerRow, Plan, Quota};
use super::{Admin, org_of, user_of};
use crate::Ground;
use crate::error::ApiError;
use crate::http::input::{Json, Path, Query};

/// Rows of a page unless asked otherwise, and at most.
const PER_PAGE: usize = 50;
const PER_PAGE_MAX: usize = 1000;

pub(super) fn routes() -> OpenApiRouter<Ground> {
    OpenApiRouter::new()
        .routes(routes!(ledger))
        .routes(routes!(show_plan, set_plan))
        .routes(routes!(grant))
        .routes(routes!(refund))
        .routes(routes!(show_quota, set_quota))
}

/// Which lines, and which page of them.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Asked {
    /// Of this organisation: an id or name.
    org: Option<String>,
    /// Of this feature.
    feature: Option<String>,
    /// Not before: RFC 3339, a date, or milliseconds since 1970.
    from: Option<String>,
    /// Not at or after; a date means its whole day.
    to: Option<String>,
    /// From 1.
    page: Option<usize>,
    /// 1 to 1000; 50 unless given.
    per_page: Option<usize>,
}

/// A page of the ledger.
#[derive(Serialize, ToSchema)]
struct Ledger {
    data: Vec<LedgerRow>,
    pagination: Pagination,
}

/// The ledger, newest first
#[utoipa::path(
    get, path = "/admin/v1/billing/ledger", tag = "admin", operation_id = "billing_ledger",
    security(("bearer" = [])), params(Asked), responses((status = 200, body = Ledger)),
)]
async fn ledger(
    State(ground): State<Ground>,
    Admin(_): Admin,
    Query(asked): Query<Asked>,
) -> Result<Answer<Ledger>, ApiError> {
    let org = match &asked.org {
        Some(org) => Some(org_of(&ground, org).await?),
        None => None,
    };
    let filter = Filter {
        org,
        feature: asked.feature,
        from_ms: asked.from.as_deref().map(|text| instant("from", text, false)).transpose()?,
        to_ms: asked.to.as_deref().map(|text| instant("to", text, true)).transpose()?,
    };
    let (page, per_page) = (asked.page.unwrap_or(1), asked.per_page.unwrap_or(PER_PAGE));
    if !(1..=PER_PAGE_MAX).contains(&per_page) {
        return Err(ApiError::field("per_page", format!("It has to be 1 to {PER_PAGE_MAX}.")));
    }
    let found = ground.billing.lines(filter, page, per_page).await?;
    let shown = found.lines.len() as u64;
    let pagination = Pagination::of(page as u64, per_page as u64, shown, found.total);
    Ok(Answer(Ledger { data: found.lines.into_iter().map(LedgerRow::of).collect(), pagination }))
}

/// An organisation's plan
#[utoipa::path(
    get, path = "/admin/v1/orgs/{org}/plan", tag = "admin", security(("bearer" = [])),
    params(("org" = String, Path)), responses((status = 200, body = Plan), (status = 404)),
)]
async fn show_plan(
    State(ground): State<Ground>,
    Admin(_): Admin,
    Path(org): Path<String>,
) -> Result<Answer<Plan>, ApiError> {
    let org = org_of(&ground, &org).await?;
    Ok(Answer(Plan::of(org, ground.billing.plan_of(org).await?)))
}

/// Which plan an organisation shall have.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SetPlan {
    /// A plan of the configuration; `null`: what was set so is taken back.
    plan_code: Option<String>,
}

/// Give an organisation a plan
#[utoipa::path(
    put, path = "/admin/v1/orgs/{org}/plan", tag = "admin", security(("bearer" = [])), request_body = SetPlan,
    params(("org" = String, Path)), responses((status = 200, body = Plan), (status = 404)),
)]
async fn set_plan(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Path(org): Path<String>,
    Json(set): Json<SetPlan>,
) -> Result<Answer<Plan>, ApiError> {
    let org = org_of(&ground, &org).await?;
    Ok(Answer(Plan::of(org, ground.billing.set_plan(&cx, org, set.plan_code.as_deref()).await?)))
}

/// Units to be granted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Grant {
    /// To whom: an id or name.
    org: String,
    feature: String,
    /// 1 to 2^53; of `data_storage` megabytes.
    #[schema(minimum = 1, maximum = 9_007_199_254_740_992_u64)]
    amount: u64,
    /// Kept with the ledger's line.
    #[serde(default)]
    reason: Option<String>,
}

/// Give an organisation units that no period ends
#[utoipa::path(
    post, path = "/admin/v1/billing/grants", tag = "admin", operation_id = "billing_grant",
    security(("bearer" = [])), request_body = Grant,
    responses((status = 201, body = Granted), (status = 404)),
)]
async fn grant(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Json(new): Json<Grant>,
) -> Result<(StatusCode, Answer<Granted>), ApiError> {
    let org = org_of(&ground, &new.org).await?;
    let line = ground.billing.grant(&cx, org, &new.feature, new.amount, new.reason.as_deref()).await?;
    Ok((StatusCode::CREATED, Answer(Granted::of(org, &new.feature, line))))
}

/// A consumption to be given back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Refund {
    /// Whose account: an id or name.
    org: String,
    feature: String,
    /// The ledger's line.
    line: Uuid,
}

/// Give a consumption back, once
#[utoipa::path(
    post, path = "/admin/v1/billing/refunds", tag = "admin", operation_id = "billing_refund",
    security(("bearer" = [])), request_body = Refund,
    responses((status = 201, body = Granted), (status = 404), (status = 409, description = "It was given back")),
)]
async fn refund(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Json(back): Json<Refund>,
) -> Result<(StatusCode, Answer<Granted>), ApiError> {
    let org = org_of(&ground, &back.org).await?;
    let line = ground.billing.refund(&cx, org, &back.feature, back.line).await?;
    Ok((StatusCode::CREATED, Answer(Granted::of(org, &back.feature, line))))
}

/// Whose quota: one of the three.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Whose {
    /// A user's id or name.
    user: Option<String>,
    /// An organisation's id or name.
    org: Option<String>,
    /// A bucket's name.
    bucket: Option<String>,
}

/// Whose quota, and what it shall be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SetQuota {
    /// A user's id or name.
    #[serde(default)]
    user: Option<String>,
    /// An organisation's id or name.
    #[serde(default)]
    org: Option<String>,
    /// A bucket's name.
    #[serde(default)]
    bucket: Option<String>,
    /// `null`: none.
    #[schema(maximum = 9_223_372_036_854_775_807_u64)]
    bytes: Option<u64>,
}

/// What somebody may store, and has stored
#[utoipa::path(
    get, path = "/admin/v1/quotas", tag = "admin", security(("bearer" = [])), params(Whose),
    responses((status = 200, body = Quota), (status = 404)),
)]
async fn show_quota(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Query(whose): Query<Whose>,
) -> Result<Answer<Quota>, ApiError> {
    let (kind, id, of) = whose.find(&ground, &cx).await?;
    Ok(Answer(Quota::of(kind, id, ground.billing.room(&of).await?)))
}

/// Set what somebody may store
#[utoipa::path(
    put, path = "/admin/v1/quotas", tag = "admin", security(("bearer" = [])), request_body = SetQuota,
    responses((status = 200, body = Quota), (status = 404)),
)]
async fn set_quota(
    State(ground): State<Ground>,
    Admin(cx): Admin,
    Json(set): Json<SetQuota>,
) -> Result<Answer<Quota>, ApiError> {
    let SetQuota { user, org, bucket, bytes } = set;
    let (kind, id, of) = Whose { user, org, bucket }.find(&ground, &cx).await?;
    let room = ground.billing.set_quota(&cx, &of, &format!("{kind}/{id}"), bytes).await?;
    Ok(Answer(Quota::of(kind, id, room)))
}

impl Whose {
    /// What it is called, its id, and what counts for it.
    async fn find(
        &self,
        ground: &Ground,
        cx: &coffre_store::Cx,
    ) -> Result<(&'static str, String, Of), ApiError> {
        match (&self.user, &self.org, &self.bucket) {
            (Some(user), None, None) => {
                let user = user_of(ground, user).await?;
                Ok(("user", user.to_string(), Of::Owner(user)))
            }
            (None, Some(org), None) => {
                let org = org_of(ground, org).await?;
                Ok(("org", org.to_string(), Of::Organisation(org)))
            }
            (None, None, Some(name)) => {
                let bucket = ground.store.bucket(cx, &name.parse()?, Action::ListBucket).await?;
                Ok(("bucket", name.clone(), Of::Bucket(bucket.id)))
            }
            _ => Err(ApiError::field("user", "One of user, org and bucket is needed.")),
        }
    }
}
