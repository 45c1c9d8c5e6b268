//! Billing's JSON, key by key as its document has it (2.9).

use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::macros::format_description;
use utoipa::ToSchema;

/// What is to be bought.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read by hand, for words of its own")]
pub(super) struct CheckoutRequest {
    /// A plan of the configuration.
    #[schema(example = "premium_monthly")]
    plan_code: String,
}

/// Where to go back to.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read by hand, for words of its own")]
pub(super) struct PortalRequest {
    /// Where the portal's link leads back to; left out: where Stripe's settings say.
    #[schema(example = "https://example.com/billing")]
    redirect_url: Option<String>,
}

/// A page at Stripe.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionAnswer {
    #[schema(example = "cs_test_1234567890")]
    pub(super) session_id: String,
    #[schema(example = "https://checkout.stripe.com/pay/cs_test_1234567890")]
    pub(super) url: String,
}

/// What an organisation may use.
#[derive(Serialize, ToSchema)]
pub(super) struct Entitlements {
    pub(super) entitlements: Vec<Entitlement>,
}

/// A right to a feature.
#[derive(Serialize, ToSchema)]
pub(super) struct Entitlement {
    #[schema(example = "ai_generation")]
    pub(super) feature: String,
    #[schema(example = true)]
    pub(super) enabled: bool,
    /// Units of this period; `null`: without limit.
    #[schema(example = 1000)]
    pub(super) limit: Option<u64>,
    /// Units used in this period; of `data_storage` megabytes stored.
    #[schema(example = 150)]
    pub(super) used: u64,
}

/// What is left of a feature.
#[derive(Serialize, ToSchema)]
pub(super) struct BalanceAnswer {
    /// `null`: without limit.
    #[schema(example = 850)]
    pub(super) balance: Option<u64>,
    #[schema(example = "ai_generation")]
    pub(super) feature: String,
    /// `null`: nothing has happened yet.
    #[schema(example = "2024-01-15T10:30:00Z")]
    pub(super) last_updated: Option<String>,
    /// Of all features; only where none is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) balances: Option<Vec<FeatureBalance>>,
}

/// One of all balances.
#[derive(Serialize, ToSchema)]
pub(super) struct FeatureBalance {
    pub(super) feature: String,
    /// `null`: without limit.
    pub(super) balance: Option<u64>,
    pub(super) last_updated: Option<String>,
}

/// What is to be used.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body; it is read by hand, for words of its own")]
pub(super) struct ConsumeRequest {
    #[schema(example = "ai_generation")]
    feature_key: String,
    #[schema(example = 1, minimum = 1, maximum = 9_007_199_254_740_992_u64)]
    amount: u64,
    /// Kept with the ledger's line.
    #[schema(value_type = Option<Object>, example = json!({"model": "gpt-4", "tokens": 150}))]
    metadata: Option<Map<String, Value>>,
}

/// What was used.
#[derive(Serialize, ToSchema)]
pub(super) struct ConsumeAnswer {
    pub(super) success: bool,
    /// `null`: without limit.
    #[schema(example = 849)]
    pub(super) remaining_balance: Option<u64>,
    #[schema(example = 1)]
    pub(super) consumed: u64,
}

/// Why nothing was used.
#[derive(Serialize, ToSchema)]
pub(super) struct Insufficient {
    #[schema(example = "Insufficient balance")]
    pub(super) error: &'static str,
    #[schema(example = 1)]
    pub(super) required_balance: u64,
    #[schema(example = 0)]
    pub(super) current_balance: u64,
}

/// What is wrong.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes what `dialect` renders")]
pub(super) struct ErrorView {
    error: String,
}

/// A webhook was taken.
#[derive(Serialize, ToSchema)]
pub(super) struct Received {
    pub(super) received: bool,
}

impl From<coffre_billing::Entitlement> for Entitlement {
    fn from(right: coffre_billing::Entitlement) -> Self {
        let coffre_billing::Entitlement { feature, is_enabled: enabled, limit, used } = right;
        Self { feature, enabled, limit, used }
    }
}

impl From<coffre_billing::Balance> for FeatureBalance {
    fn from(balance: coffre_billing::Balance) -> Self {
        let coffre_billing::Balance { feature, balance, updated_ms } = balance;
        Self { feature, balance, last_updated: updated_ms.map(to_the_second) }
    }
}

/// `2024-01-15T10:30:00Z`.
fn to_the_second(ms: u64) -> String {
    let seconds = i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
    at.format(format).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_documented() {
        assert_eq!(to_the_second(1_705_314_600_999), "2024-01-15T10:30:00Z");
    }
}
