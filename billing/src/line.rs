//! A line of the ledger: what it says, how it is kept. Lines are written once and never changed; what was wrong is
//! corrected by another line.

use coffre_store::{OrgId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::codec;
use crate::entitlement::{Kind, Movement, Taken};
use crate::error::{Error, Result};

/// Longest metadata of a line, as JSON, bytes.
pub const METADATA_BYTES_MAX: usize = 16 * 1024;

/// A line as it is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Its id, a UUIDv7: lines sort by it in the order in which they were written.
    pub id: Uuid,
    /// Whose account.
    pub org: OrgId,
    /// Of which feature.
    pub feature: String,
    /// Why.
    pub kind: Kind,
    /// For whom; `None`: nobody in particular.
    pub user: Option<UserId>,
    /// From which application.
    pub application: Option<String>,
    /// Units; less than 0 where they went.
    pub amount: i64,
    /// Units left after it; `None`: it was of no balance, the feature being without limit.
    pub balance_after: Option<u64>,
    /// What the caller said beside it; `Null`: nothing.
    pub metadata: Value,
    /// When, ms since 1970.
    pub created_ms: u64,
}

/// A line as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LineRecord {
    pub(crate) kind: Kind,
    pub(crate) user: Option<UserId>,
    pub(crate) application: Option<String>,
    pub(crate) amount: i64,
    pub(crate) of_plan: u64,
    pub(crate) balance_after: Option<u64>,
    pub(crate) period_ms: Option<u64>,
    /// JSON; empty: none.
    pub(crate) metadata: String,
    pub(crate) created_ms: u64,
}

/// Which line answered an idempotency key, and for which request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    pub(crate) line: [u8; 16],
    pub(crate) request: [u8; 32],
}

impl LineRecord {
    /// The line of a movement.
    pub(crate) fn of(movement: &Movement, period_ms: Option<u64>, now_ms: u64) -> Self {
        let Movement { kind, amount, of_plan, balance_after } = *movement;
        Self {
            kind,
            user: None,
            application: None,
            amount,
            of_plan,
            balance_after,
            period_ms,
            metadata: String::new(),
            created_ms: now_ms,
        }
    }

    /// What giving it back would have to undo; `None`: it took nothing.
    pub(crate) fn taken(&self) -> Option<Taken> {
        (self.kind == Kind::Consumption).then(|| Taken {
            amount: self.amount.unsigned_abs(),
            of_plan: self.of_plan,
            period_ms: self.period_ms,
            is_counted: self.balance_after.is_some(),
        })
    }
}

impl Line {
    /// Reads a row.
    pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Self> {
        let damaged = || Error::corrupt("a line of the ledger");
        let (org, feature, id) = codec::parse_line_key(key).ok_or_else(damaged)?;
        let record: LineRecord = codec::decode("a line of the ledger", value)?;
        let metadata = match record.metadata.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).map_err(|_| damaged())?,
        };
        Ok(Self {
            id,
            org,
            feature: feature.to_owned(),
            kind: record.kind,
            user: record.user,
            application: record.application,
            amount: record.amount,
            balance_after: record.balance_after,
            metadata,
            created_ms: record.created_ms,
        })
    }
}

/// Metadata as they are kept.
///
/// # Errors
/// `Invalid` beyond [`METADATA_BYTES_MAX`].
pub(crate) fn metadata_text(metadata: Option<&Map<String, Value>>) -> Result<String> {
    let text = metadata.map(|metadata| Value::Object(metadata.clone()).to_string()).unwrap_or_default();
    if text.len() > METADATA_BYTES_MAX {
        return Err(Error::Invalid { what: "metadata: more than 16 KiB" });
    }
    Ok(text)
}
