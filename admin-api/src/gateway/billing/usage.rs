//! Rights, balances, and using them up (document 2.9.3–2.9.5).

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use coffre_billing::{Consume, Error as BillingError, UNITS_MAX};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::IntoParams;

use super::acting::{For, object};
use super::view::{
    BalanceAnswer, ConsumeAnswer, ConsumeRequest, Entitlements, ErrorView, FeatureBalance, Insufficient,
};
use crate::Ground;
use crate::error::ApiError;
use crate::http::input::Query;

/// What an organisation may use
///
/// The features of its plan; without a plan all features that are sold, none enabled.
#[utoipa::path(
    get,
    path = "/api/v1/billing/entitlements",
    tag = "billing",
    operation_id = "billing_entitlements",
    security(("bearer" = [])),
    params(
        ("x-user-id" = String, Header), ("x-application" = String, Header), ("x-org-id" = String, Header),
    ),
    responses((status = 200, body = Entitlements), (status = "4XX", body = ErrorView)),
)]
pub(super) async fn entitlements(
    State(ground): State<Ground>,
    whom: For,
) -> Result<Json<Entitlements>, ApiError> {
    let rights = ground.billing.entitlements(whom.acting.organisation).await?;
    Ok(Json(Entitlements { entitlements: rights.into_iter().map(Into::into).collect() }))
}

/// Which feature.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Its key; left out: the plan's first with a limit, and `balances` of all.
    feature_key: Option<String>,
}

/// What is left of a feature
#[utoipa::path(
    get,
    path = "/api/v1/billing/balance",
    tag = "billing",
    operation_id = "billing_balance",
    security(("bearer" = [])),
    params(
        ("x-user-id" = String, Header), ("x-application" = String, Header), ("x-org-id" = String, Header), Which,
    ),
    responses((status = 200, body = BalanceAnswer), (status = "4XX", body = ErrorView)),
)]
pub(super) async fn balance(
    State(ground): State<Ground>,
    whom: For,
    Query(which): Query<Which>,
) -> Result<Json<BalanceAnswer>, ApiError> {
    let (billing, org) = (&ground.billing, whom.acting.organisation);
    let (feature, balances) = match which.feature_key {
        Some(feature) => (feature, None),
        None => (billing.first_feature(org).await?, Some(billing.balances(org).await?)),
    };
    let FeatureBalance { feature, balance, last_updated } = billing.balance(org, &feature).await?.into();
    let balances = balances.map(|all| all.into_iter().map(Into::into).collect());
    Ok(Json(BalanceAnswer { balance, feature, last_updated, balances }))
}

/// Uses units of a feature up
///
/// All or nothing, and durable. Who asks again with the same `Idempotency-Key` gets the first answer again.
#[utoipa::path(
    post,
    path = "/api/v1/billing/consume",
    tag = "billing",
    operation_id = "billing_consume",
    security(("bearer" = [])),
    params(
        ("x-user-id" = String, Header), ("x-application" = String, Header), ("x-org-id" = String, Header),
        ("Idempotency-Key" = Option<String>, Header),
    ),
    request_body = ConsumeRequest,
    responses(
        (status = 200, body = ConsumeAnswer),
        (status = 402, description = "There is not enough left.", body = Insufficient),
        (status = 409, description = "The key was used for another request.", body = ErrorView),
        (status = "4XX", body = ErrorView),
    ),
)]
pub(super) async fn consume(
    State(ground): State<Ground>,
    whom: For,
    request: Request,
) -> Result<Response, ApiError> {
    let Wanted { feature, amount, metadata } = wanted(object(request).await?)?;
    let For { caller, acting, application, idempotency_key } = whom;
    let consume = Consume {
        org: acting.organisation,
        user: acting.user,
        application,
        feature,
        amount,
        metadata,
        idempotency_key,
    };
    match ground.billing.consume(&caller.cx, consume).await {
        Ok(done) => {
            let answer = ConsumeAnswer { success: true, remaining_balance: done.left, consumed: done.amount };
            Ok(Json(answer).into_response())
        }
        Err(BillingError::Insufficient { required, current }) => {
            let answer = Insufficient {
                error: "Insufficient balance",
                required_balance: required,
                current_balance: current,
            };
            Ok((StatusCode::PAYMENT_REQUIRED, Json(answer)).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

/// What is asked for.
#[derive(Debug, PartialEq)]
struct Wanted {
    feature: String,
    amount: u64,
    metadata: Option<Map<String, Value>>,
}

fn wanted(mut body: Map<String, Value>) -> Result<Wanted, ApiError> {
    let feature = match body.remove("feature_key") {
        Some(Value::String(feature)) if !feature.is_empty() => feature,
        _ => return Err(ApiError::field("feature_key", "feature_key has to be a feature's key.")),
    };
    let amount = body.remove("amount").and_then(|amount| amount.as_u64());
    let amount = amount.filter(|amount| (1..=UNITS_MAX).contains(amount));
    let amount =
        amount.ok_or_else(|| ApiError::field("amount", "amount has to be a whole number from 1 to 2^53."))?;
    let metadata = match body.remove("metadata") {
        None | Some(Value::Null) => None,
        Some(Value::Object(metadata)) => Some(metadata),
        Some(_) => return Err(ApiError::field("metadata", "metadata has to be a JSON object.")),
    };
    Ok(Wanted { feature, amount, metadata })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bodies() {
        let of = |value: Value| wanted(value.as_object().unwrap().clone());
        let wanted =
            of(json!({"feature_key": "f", "amount": 2, "metadata": {"a": 1}, "more": true})).unwrap();
        assert_eq!((wanted.feature.as_str(), wanted.amount), ("f", 2));
        assert_eq!(of(json!({"feature_key": "f", "amount": UNITS_MAX})).unwrap().metadata, None);
        for (body, field) in [
            (json!({"amount": 1}), "feature_key"),
            (json!({"feature_key": "", "amount": 1}), "feature_key"),
            (json!({"feature_key": 7, "amount": 1}), "feature_key"),
            (json!({"feature_key": "f"}), "amount"),
            (json!({"feature_key": "f", "amount": 0}), "amount"),
            (json!({"feature_key": "f", "amount": -1}), "amount"),
            (json!({"feature_key": "f", "amount": 1.5}), "amount"),
            (json!({"feature_key": "f", "amount": 1.0}), "amount"),
            (json!({"feature_key": "f", "amount": "1"}), "amount"),
            (json!({"feature_key": "f", "amount": UNITS_MAX + 1}), "amount"),
            (json!({"feature_key": "f", "amount": 1, "metadata": []}), "metadata"),
        ] {
            assert_eq!(of(body.clone()).unwrap_err().fields[0].0, field, "{body}");
        }
    }
}
