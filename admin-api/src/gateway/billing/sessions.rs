//! Pages at Stripe: where a plan is bought, where a subscription is managed (document 2.9.1, 2.9.2).

use axum::Json;
use axum::extract::{Request, State};
use coffre_billing::stripe::{Buyer, Session};
use serde_json::Value;

use super::acting::{For, object};
use super::view::{CheckoutRequest, ErrorView, PortalRequest, SessionAnswer};
use crate::Ground;
use crate::error::ApiError;

/// Makes a page at Stripe where a plan is bought
#[utoipa::path(
    post,
    path = "/api/v1/billing/stripe/checkout-session",
    tag = "billing",
    operation_id = "billing_checkout_session",
    security(("bearer" = [])),
    params(
        ("x-user-id" = String, Header), ("x-application" = String, Header), ("x-org-id" = String, Header),
        ("Idempotency-Key" = Option<String>, Header),
    ),
    request_body = CheckoutRequest,
    responses(
        (status = 200, body = SessionAnswer),
        (status = 502, description = "Stripe refused.", body = ErrorView),
        (status = 503, description = "Stripe is not configured, or cannot be reached.", body = ErrorView),
        (status = "4XX", body = ErrorView),
    ),
)]
pub(super) async fn checkout(
    State(ground): State<Ground>,
    whom: For,
    request: Request,
) -> Result<Json<SessionAnswer>, ApiError> {
    ground.billing.check_stripe()?;
    let body = object(request).await?;
    let plan_code = body.get("plan_code").and_then(Value::as_str).filter(|code| !code.is_empty());
    let plan_code =
        plan_code.ok_or_else(|| ApiError::field("plan_code", "plan_code has to be a plan's code."))?;
    let buyer = buyer(&ground, &whom).await?;
    let session = ground.billing.checkout(&buyer, plan_code, &ground.settings.checkout).await?;
    Ok(Json(answer(session)))
}

/// Makes a page at Stripe where the organisation manages its subscription
#[utoipa::path(
    post,
    path = "/api/v1/billing/stripe/portal-session",
    tag = "billing",
    operation_id = "billing_portal_session",
    security(("bearer" = [])),
    params(
        ("x-user-id" = String, Header), ("x-application" = String, Header), ("x-org-id" = String, Header),
        ("Idempotency-Key" = Option<String>, Header),
    ),
    request_body = PortalRequest,
    responses(
        (
            status = 200,
            body = SessionAnswer,
            example = json!({"session_id": "bps_1234567890", "url": "https://billing.stripe.com/p/session_1234567890"}),
        ),
        (status = 502, description = "Stripe refused.", body = ErrorView),
        (status = 503, description = "Stripe is not configured, or cannot be reached.", body = ErrorView),
        (status = "4XX", body = ErrorView),
    ),
)]
pub(super) async fn portal(
    State(ground): State<Ground>,
    whom: For,
    request: Request,
) -> Result<Json<SessionAnswer>, ApiError> {
    ground.billing.check_stripe()?;
    let body = object(request).await?;
    let redirect_url = match body.get("redirect_url") {
        None | Some(Value::Null) => None,
        Some(Value::String(url)) => Some(url.as_str()),
        Some(_) => return Err(ApiError::field("redirect_url", "redirect_url has to be an address.")),
    };
    let buyer = buyer(&ground, &whom).await?;
    let session = ground.billing.portal(&whom.caller.cx, &buyer, redirect_url).await?;
    Ok(Json(answer(session)))
}

async fn buyer(ground: &Ground, whom: &For) -> Result<Buyer, ApiError> {
    let user = ground.identity.user_by_id(whom.acting.user).await?;
    Ok(Buyer {
        org: whom.acting.organisation,
        user: whom.acting.user,
        email: user.and_then(|user| user.email),
        application: whom.application.clone(),
        idempotency_key: whom.idempotency_key.clone(),
    })
}

fn answer(session: Session) -> SessionAnswer {
    SessionAnswer { session_id: session.id, url: session.url }
}
