//! Changing accounts: consumptions, grants, refunds. Each is a line; line, account and idempotency key are one commit.
//!
//! Decisions are [`crate::entitlement`]'s; this reads the rows they need, and commits under checks of exactly those:
//! the account, whose plan it is, the keys and lines that must not be there yet. So N parallel calls never overdraw,
//! in one process or in many, and a call whose answer was lost is asked again with its key and answered as the first
//! time (contract §5.3, D21). A refusal changes nothing and is not remembered: a caller who was short may try again
//! with the same key.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use coffre_kv::{Check, Commit, Position, Write};
use coffre_store::watch::Note;
use coffre_store::{Cx, OrgId, UserId};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::codec::{self, Kind as Row};
use crate::desk::{AccountId, Waiting};
use crate::entitlement::{Account, Movement, Terms};
use crate::error::{Error, Result};
use crate::line::{KeyRecord, LineRecord, metadata_text};
use crate::plan::{DATA_STORAGE, UNITS_MAX, is_name};
use crate::{ATTEMPTS, Billing, Inner, admin_only};

/// Longest idempotency key, bytes.
pub const KEY_BYTES_MAX: usize = 255;
/// Longest name of an application, bytes.
pub const APPLICATION_BYTES_MAX: usize = 80;

/// Units to be used.
#[derive(Clone, Debug)]
pub struct Consume {
    /// Whose account.
    pub org: OrgId,
    /// For whom.
    pub user: UserId,
    /// From which application.
    pub application: String,
    /// Of which feature.
    pub feature: String,
    /// How many.
    pub amount: u64,
    /// Kept with the line.
    pub metadata: Option<Map<String, Value>>,
    /// Whoever asks again with it gets the first answer again.
    pub idempotency_key: Option<String>,
}

/// Units used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// The line.
    pub line: Uuid,
    /// How many.
    pub amount: u64,
    /// Units left; `None`: without limit.
    pub left: Option<u64>,
}

/// A change that waits to be decided.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) what: What,
    user: Option<UserId>,
    application: Option<String>,
    metadata: String,
    /// Row of its idempotency key, and what the request was.
    key: Option<(Bytes, [u8; 32])>,
}

/// What is to happen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum What {
    Consume(u64),
    Grant(u64),
    Refund(Uuid),
}

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Changed {
    line: Uuid,
    amount: i64,
    left: Option<u64>,
}

/// Changes being decided, on rows as they were read.
struct Draft {
    now_ms: u64,
    account: Account,
    checks: Vec<Check>,
    writes: Vec<Write>,
    /// Of this draft's own changes: what will stand at their keys' rows.
    keys: BTreeMap<Bytes, (KeyRecord, Changed)>,
    notes: Vec<Note>,
}

impl Billing {
    /// Uses units of a feature. Durable on return; if the future is dropped it may still happen.
    ///
    /// # Errors
    /// `NotFound { what: "feature" }`, `Invalid`, `Insufficient`, `KeyReused`, `Busy`, `NoSpace`, `Stopped`.
    pub async fn consume(&self, cx: &Cx, consume: Consume) -> Result<Consumed> {
        let Consume { org, user, application, feature, amount, metadata, idempotency_key } = consume;
        self.check_feature(&feature)?;
        if !(1..=UNITS_MAX).contains(&amount) {
            return Err(Error::Invalid { what: "amount: from 1 to 2^53" });
        }
        if feature == DATA_STORAGE {
            return Err(Error::Invalid { what: "feature: data_storage is metered from what is stored" });
        }
        if application.is_empty() || application.len() > APPLICATION_BYTES_MAX {
            return Err(Error::Invalid { what: "application: 1 to 80 bytes" });
        }
        let metadata = metadata_text(metadata.as_ref())?;
        let key = match &idempotency_key {
            Some(key) => Some(key_of(
                org,
                &application,
                key,
                &[user.0.as_bytes(), feature.as_bytes()],
                amount,
                &metadata,
            )?),
            None => None,
        };
        let change = Change {
            what: What::Consume(amount),
            user: Some(user),
            application: Some(application),
            metadata,
            key,
        };
        let done = self.change_account(cx, "Consume", org, feature, change).await?;
        Ok(Consumed { line: done.line, amount: done.amount.unsigned_abs(), left: done.left })
    }

    /// Gives an organisation units that no period ends; of `data_storage` megabytes. Durable on return.
    ///
    /// # Errors
    /// `Denied`, `NotFound`, `Invalid`, `Busy`, `NoSpace`, `Stopped`.
    pub async fn grant(
        &self,
        cx: &Cx,
        org: OrgId,
        feature: &str,
        amount: u64,
        reason: Option<&str>,
    ) -> Result<Consumed> {
        admin_only(cx)?;
        self.check_org(org).await?;
        self.check_feature(feature)?;
        if !(1..=UNITS_MAX).contains(&amount) {
            return Err(Error::Invalid { what: "amount: from 1 to 2^53" });
        }
        let metadata = json!({"kind": "grant", "reason": reason});
        let metadata = metadata_text(metadata.as_object())?;
        let user = cx.principal.user();
        let change = Change { what: What::Grant(amount), user, application: None, metadata, key: None };
        let done = self.change_account(cx, "GrantUnits", org, feature.to_owned(), change).await?;
        Ok(Consumed { line: done.line, amount, left: done.left })
    }

    /// Gives a consumption back, once. Durable on return.
    ///
    /// # Errors
    /// `Denied`, `NotFound { what: "line" }`, `Done`, `Invalid` for a line that is no consumption.
    pub async fn refund(&self, cx: &Cx, org: OrgId, feature: &str, line: Uuid) -> Result<Consumed> {
        admin_only(cx)?;
        // One that is not sold any more may have been used; what was never one is in no line.
        if !is_name(feature) {
            return Err(Error::NotFound { what: "line" });
        }
        let metadata = metadata_text(json!({"kind": "refund", "line": line.to_string()}).as_object())?;
        let user = cx.principal.user();
        let change = Change { what: What::Refund(line), user, application: None, metadata, key: None };
        let done = self.change_account(cx, "RefundUnits", org, feature.to_owned(), change).await?;
        Ok(Consumed { line: done.line, amount: done.amount.unsigned_abs(), left: done.left })
    }

    fn check_feature(&self, feature: &str) -> Result<()> {
        if self.inner.plans.knows(feature) { Ok(()) } else { Err(Error::NotFound { what: "feature" }) }
    }

    async fn change_account(
        &self,
        cx: &Cx,
        action: &str,
        org: OrgId,
        feature: String,
        change: Change,
    ) -> Result<Changed> {
        let note = Note::of(cx, action, None, Some(&format!("{org}/{feature}")));
        let account = AccountId { org, feature };
        let (answer, answered) = oneshot::channel();
        if self.inner.desk.enter(&account, Waiting { change, note, answer })? {
            let inner = Arc::clone(&self.inner);
            // A task of its own: it serves others too, and whoever began it may go away.
            tokio::spawn(async move { inner.work_off(&account).await });
        }
        answered.await.unwrap_or(Err(Error::Stopped))
    }
}

impl Inner {
    /// Carries out what waits for an account, until nothing does.
    async fn work_off(&self, account: &AccountId) {
        let mut serving = self.desk.serve(account);
        loop {
            let batch = serving.take();
            if batch.is_empty() {
                return;
            }
            let done = self.carry_out(account, &batch).await;
            for (n, waiting) in batch.into_iter().enumerate() {
                let answer = match &done {
                    Ok(answers) => answers.get(n).cloned().unwrap_or(Err(Error::Stopped)),
                    Err(error) => Err(error.clone()),
                };
                // Who has gone away asks again with its key.
                let _gone = waiting.answer.send(answer).is_err();
            }
        }
    }

    /// Decides all of a batch and commits it, again while others are faster.
    async fn carry_out(&self, account: &AccountId, batch: &[Waiting]) -> Result<Vec<Result<Changed>>> {
        for _ in 0..ATTEMPTS {
            let mut draft = self.draft(account).await?;
            let mut answers = Vec::with_capacity(batch.len());
            for waiting in batch {
                answers.push(self.decide(account, &mut draft, waiting).await);
            }
            if draft.notes.is_empty() {
                return Ok(answers);
            }
            match self.kv.commit(draft.finish(account)?).await {
                Ok(_) => return Ok(answers),
                Err(coffre_kv::Error::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::Busy)
    }

    /// An account under the terms that hold now, with the lines it takes to get there.
    async fn draft(&self, account: &AccountId) -> Result<Draft> {
        let AccountId { org, feature } = account;
        let now_ms = self.clock.now_ms();
        let (customer, customer_check) = self.customer(*org).await?;
        let row = codec::account_key(*org, feature);
        let entry = self.kv.get(&row).await?;
        let stood = match &entry {
            Some(entry) => codec::decode("an account", &entry.value)?,
            None => Account::default(),
        };
        let current = customer.current(&self.plans, now_ms);
        let (next, movements) = stood.settled(&Terms::of(current.as_ref(), feature, now_ms));
        let account_check = unchanged(row, entry.map(|entry| entry.position));
        let mut draft = Draft {
            now_ms,
            account: next,
            checks: vec![customer_check, account_check],
            writes: Vec::new(),
            keys: BTreeMap::new(),
            notes: Vec::new(),
        };
        let plan_code = current.map(|current| current.plan.code.clone());
        for movement in movements {
            let kind = match movement.kind {
                crate::Kind::Expiry => "expiry",
                crate::Kind::Adjustment => "adjustment",
                _ => "allowance",
            };
            let metadata = json!({"kind": kind, "plan_code": plan_code}).to_string();
            let record =
                LineRecord { metadata, ..LineRecord::of(&movement, draft.account.period_ms, now_ms) };
            draft.line(account, self.new_id(), &record)?;
        }
        Ok(draft)
    }

    /// Decides one change on the draft as it is by now.
    async fn decide(&self, account: &AccountId, draft: &mut Draft, waiting: &Waiting) -> Result<Changed> {
        let Waiting { change, note, .. } = waiting;
        if let Some((row, request)) = &change.key
            && let Some((record, answer)) = self.answered_before(account, draft, row).await?
        {
            return if record.request == *request { Ok(answer) } else { Err(Error::KeyReused) };
        }
        let id = self.new_id();
        let (next, movement) = match change.what {
            What::Consume(amount) => draft.account.consume(amount)?,
            What::Grant(amount) => draft.account.grant(amount)?,
            What::Refund(line) => self.refunded(account, draft, line, id).await?,
        };
        let record = LineRecord {
            user: change.user,
            application: change.application.clone(),
            metadata: change.metadata.clone(),
            ..LineRecord::of(&movement, next.period_ms, draft.now_ms)
        };
        draft.line(account, id, &record)?;
        draft.account = next;
        let changed = changed(id, &movement);
        if let Some((row, request)) = &change.key {
            let record = KeyRecord { line: id.into_bytes(), request: *request };
            draft.checks.push(Check::Absent(row.clone()));
            draft.writes.push(Write::Put(row.clone(), codec::encode(&record)?));
            draft.keys.insert(row.clone(), (record, changed));
        }
        draft.notes.push(note.clone());
        Ok(changed)
    }

    /// What was answered to an idempotency key, in an earlier commit or earlier in this one.
    async fn answered_before(
        &self,
        account: &AccountId,
        draft: &Draft,
        row: &Bytes,
    ) -> Result<Option<(KeyRecord, Changed)>> {
        if let Some(found) = draft.keys.get(row) {
            return Ok(Some(*found));
        }
        let Some(entry) = self.kv.get(row).await? else { return Ok(None) };
        let record: KeyRecord = codec::decode("an idempotency key", &entry.value)?;
        let id = Uuid::from_bytes(record.line);
        // A key of another feature's account is another request, whatever its line says.
        let line = self.kv.get(&codec::line_key(account.org, &account.feature, id)).await?;
        let answer = match line {
            Some(entry) => {
                let line: LineRecord = codec::decode("a line of the ledger", &entry.value)?;
                Changed { line: id, amount: line.amount, left: line.balance_after }
            }
            None => Changed { line: id, amount: 0, left: None },
        };
        Ok(Some((record, answer)))
    }

    async fn refunded(
        &self,
        account: &AccountId,
        draft: &mut Draft,
        line: Uuid,
        refund: Uuid,
    ) -> Result<(Account, Movement)> {
        let entry = self.kv.get(&codec::line_key(account.org, &account.feature, line)).await?;
        let entry = entry.ok_or(Error::NotFound { what: "line" })?;
        let record: LineRecord = codec::decode("a line of the ledger", &entry.value)?;
        let taken = record.taken().ok_or(Error::Invalid { what: "line: it is no consumption" })?;
        let row = codec::key(Row::Refunded, &[line.as_bytes()]);
        let is_twice = draft.writes.iter().any(|write| *write.key() == row);
        if is_twice || self.kv.get(&row).await?.is_some() {
            return Err(Error::Done { what: "line has been given back" });
        }
        let made = draft.account.refund(&taken)?;
        draft.checks.push(Check::Absent(row.clone()));
        draft.writes.push(Write::Put(row, Bytes::copy_from_slice(refund.as_bytes())));
        Ok(made)
    }

    /// Whose plan it is, and what makes sure that it still is.
    pub(crate) async fn customer(&self, org: OrgId) -> Result<(crate::subscription::Customer, Check)> {
        let row = codec::customer_key(org);
        let entry = self.kv.get(&row).await?;
        let customer = match &entry {
            Some(entry) => codec::decode("a customer", &entry.value)?,
            None => crate::subscription::Customer::default(),
        };
        Ok((customer, unchanged(row, entry.map(|entry| entry.position))))
    }

    /// An account as it stands, which may be of an earlier period.
    pub(crate) async fn account(&self, org: OrgId, feature: &str) -> Result<(Account, Check)> {
        let row = codec::account_key(org, feature);
        let entry = self.kv.get(&row).await?;
        let account = match &entry {
            Some(entry) => codec::decode("an account", &entry.value)?,
            None => Account::default(),
        };
        Ok((account, unchanged(row, entry.map(|entry| entry.position))))
    }
}

impl Draft {
    fn line(&mut self, account: &AccountId, id: Uuid, record: &LineRecord) -> Result<()> {
        let row = codec::line_key(account.org, &account.feature, id);
        self.writes.push(Write::Put(row, codec::encode(record)?));
        self.account.changed_ms = Some(self.now_ms);
        Ok(())
    }

    fn finish(mut self, account: &AccountId) -> Result<Commit> {
        self.account.changed_ms = Some(self.now_ms);
        let row = codec::account_key(account.org, &account.feature);
        self.writes.push(Write::Put(row, codec::encode(&self.account)?));
        let note = Note::encode_many(&self.notes).0;
        Ok(Commit { checks: self.checks, writes: self.writes, note, ..Commit::default() })
    }
}

fn changed(line: Uuid, movement: &Movement) -> Changed {
    Changed { line, amount: movement.amount, left: movement.balance_after }
}

/// The row is what it was when it was read.
pub(crate) fn unchanged(row: Bytes, position: Option<Position>) -> Check {
    match position {
        Some(position) => Check::At(row, position),
        None => Check::Absent(row),
    }
}

/// Row of an idempotency key, and what tells its request from another. Each application has keys of its own.
fn key_of(
    org: OrgId,
    application: &str,
    key: &str,
    parts: &[&[u8]],
    amount: u64,
    metadata: &str,
) -> Result<(Bytes, [u8; 32])> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(Error::Invalid { what: "Idempotency-Key: 1 to 255 bytes" });
    }
    let digest = |parts: &[&[u8]]| -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().into()
    };
    let row = digest(&[application.as_bytes(), key.as_bytes()]);
    let amount = amount.to_be_bytes();
    let request = digest(&[parts, &[&amount[..], metadata.as_bytes()]].concat());
    Ok((codec::key(Row::Key, &[org.0.as_bytes(), &row]), request))
}

#[cfg(test)]
pub(crate) mod tests;
