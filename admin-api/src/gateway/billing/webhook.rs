//! `POST /api/v1/billing/stripe/webhook` (contract §5.3): what Stripe tells. Its signature stands in place of a token;
//! the body is read as it came, since that is what was signed.

use axum::Json;
use axum::extract::{Request, State};

use super::view::{ErrorView, Received};
use crate::Ground;
use crate::error::{ApiError, Code};
use crate::http::caller::Anyone;
use crate::http::input;

/// Takes an event of Stripe's
#[utoipa::path(
    post,
    path = "/api/v1/billing/stripe/webhook",
    tag = "billing",
    operation_id = "billing_stripe_webhook",
    params(("Stripe-Signature" = String, Header, example = "t=1492774577,v1=5257a869e7ecebeda32affa62cdca3fa51cad7e77a0e56ff536d0ce8e108d8bd")),
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = 200, description = "Applied, applied before, or nothing to apply.", body = Received),
        (status = 400, description = "The signature is not valid, or it is no event.", body = ErrorView),
        (status = 503, description = "There is no webhook secret in the configuration.", body = ErrorView),
        (status = "4XX", body = ErrorView),
    ),
)]
pub(super) async fn take(
    State(ground): State<Ground>,
    anyone: Anyone,
    request: Request,
) -> Result<Json<Received>, ApiError> {
    let (head, body) = request.into_parts();
    let signature = head.headers.get("stripe-signature").and_then(|value| value.to_str().ok());
    let missing = || ApiError::detailed(Code::Validation, "The header Stripe-Signature is needed.");
    let signature = signature.ok_or_else(missing)?.to_owned();
    let body = input::whole(body).await?;
    ground.billing.take_webhook(&anyone.cx, &signature, &body).await?;
    Ok(Json(Received { received: true }))
}
