//! What the admin API and the command line show of plans, quotas and the ledger.

use coffre_billing::{Consumed, Line, PlanOf, Room};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::rfc3339;

/// Which plan an organisation has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Plan {
    /// Whose.
    pub org_id: String,
    /// The plan's code; `null`: it has none.
    pub plan_code: Option<String>,
    /// Since when, RFC 3339.
    pub since: Option<String>,
    /// A subscription at Stripe gives it.
    pub subscribed: bool,
}

/// Units granted, or given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Granted {
    /// The ledger's line.
    pub id: String,
    /// To whom.
    pub org_id: String,
    /// Of which feature.
    pub feature: String,
    /// Units.
    pub amount: u64,
    /// Units left.
    pub balance: Option<u64>,
}

/// What somebody may store, and has stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Quota {
    /// `user`, `org` or `bucket`.
    pub of: &'static str,
    /// An id, or a bucket's name.
    pub id: String,
    /// The lowest ceiling, bytes; `null`: there is none.
    pub limit_bytes: Option<u64>,
    /// What counts towards it, bytes.
    pub used_bytes: u64,
}

/// A line of the ledger (contract D43).
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct LedgerRow {
    /// Its id.
    pub id: String,
    /// Whose account.
    pub org_id: String,
    /// For whom.
    pub user_id: Option<String>,
    /// From which application.
    pub application: Option<String>,
    /// Of which feature.
    pub feature: String,
    /// Units; less than 0 where they went.
    pub amount: i64,
    /// Units left after it; `null`: the feature was without limit.
    pub balance_after: Option<u64>,
    /// What the caller said beside it; of other lines their kind.
    #[schema(value_type = Option<Object>)]
    pub metadata: Value,
    /// When, RFC 3339.
    pub created_at: String,
}

impl Plan {
    /// Of an organisation.
    pub fn of(org: coffre_store::OrgId, plan: PlanOf) -> Self {
        Self {
            org_id: org.to_string(),
            plan_code: plan.plan_code,
            since: plan.since_ms.map(rfc3339),
            subscribed: plan.is_subscribed,
        }
    }
}

impl Granted {
    /// Of an account's new line.
    pub fn of(org: coffre_store::OrgId, feature: &str, line: Consumed) -> Self {
        Self {
            id: line.line.to_string(),
            org_id: org.to_string(),
            feature: feature.to_owned(),
            amount: line.amount,
            balance: line.left,
        }
    }
}

impl Quota {
    /// Of somebody.
    pub fn of(of: &'static str, id: String, room: Room) -> Self {
        Self { of, id, limit_bytes: room.limit_bytes, used_bytes: room.used_bytes }
    }
}

impl LedgerRow {
    /// Of a line.
    pub fn of(line: Line) -> Self {
        Self {
            id: line.id.to_string(),
            org_id: line.org.to_string(),
            user_id: line.user.map(|user| user.to_string()),
            application: line.application,
            feature: line.feature,
            amount: line.amount,
            balance_after: line.balance_after,
            metadata: line.metadata,
            created_at: rfc3339(line.created_ms),
        }
    }
}
