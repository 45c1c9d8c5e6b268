//! Reading: rights, balances, pages of the ledger. Writes nothing: a period that is over is shown as over, and ends in
//! the rows with the next change.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;
use coffre_kv::{KvExt as _, Range, Scan, Step};
use coffre_store::OrgId;
use coffre_store::usage::Of;
use uuid::Uuid;

use crate::Billing;
use crate::codec;
use crate::entitlement::{Account, Entitlement, Terms};
use crate::error::{Error, Result};
use crate::line::Line;
use crate::plan::{DATA_STORAGE, MEGABYTE};
use crate::subscription::Current;

/// How deep one may page: what is kept in memory while lines are read.
const LINES_MAX: usize = 10_000;

/// What is left of a feature (document 2.9.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balance {
    /// Which.
    pub feature: String,
    /// Units left; `None`: without limit.
    pub balance: Option<u64>,
    /// When it changed last, ms since 1970; `None`: never.
    pub updated_ms: Option<u64>,
}

/// Which lines are wanted; `None`: any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this organisation.
    pub org: Option<OrgId>,
    /// Of this feature.
    pub feature: Option<String>,
    /// Not before, ms since 1970.
    pub from_ms: Option<u64>,
    /// Not at or after, ms since 1970.
    pub to_ms: Option<u64>,
}

/// A page of lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// Newest first.
    pub lines: Vec<Line>,
    /// How many lines the filter has in all.
    pub total: u64,
}

impl Filter {
    fn wants(&self, feature: &str, id: Uuid) -> bool {
        // The first 48 bits of a UUIDv7 are the time of the line (RFC 9562 §5.7).
        let at_ms = u64::try_from(id.as_u128() >> 80).unwrap_or(u64::MAX);
        self.feature.as_ref().is_none_or(|wanted| wanted == feature)
            && self.from_ms.is_none_or(|from| at_ms >= from)
            && self.to_ms.is_none_or(|to| at_ms < to)
    }
}

impl Billing {
    /// An organisation's rights, in the order of the configuration: the features of its plan, and those of which
    /// something was granted; without a plan all features, none enabled.
    pub async fn entitlements(&self, org: OrgId) -> Result<Vec<Entitlement>> {
        let inner = &self.inner;
        let (customer, _) = inner.customer(org).await?;
        let now_ms = inner.clock.now_ms();
        let current = customer.current(&inner.plans, now_ms);
        let mut shown = Vec::new();
        for feature in inner.plans.features() {
            let key = feature.key.as_str();
            let is_in_plan = current.is_some_and(|current| current.plan.feature(key).is_some());
            let account = self.settled(org, key, current.as_ref(), now_ms).await?;
            let mut right = account.entitlement(key, is_in_plan);
            if key == DATA_STORAGE {
                right.used = self.stored_megabytes(org).await?;
            }
            if is_in_plan || right.is_enabled || current.is_none() {
                shown.push(right);
            }
        }
        if let Some(current) = &current {
            let place = |feature: &str| current.plan.features.iter().position(|own| own.key == feature);
            shown.sort_by_key(|right| place(&right.feature).unwrap_or(usize::MAX));
        }
        Ok(shown)
    }

    /// What is left of each feature that [`Self::entitlements`] shows.
    pub async fn balances(&self, org: OrgId) -> Result<Vec<Balance>> {
        let mut balances = Vec::new();
        for right in self.entitlements(org).await? {
            balances.push(self.balance(org, &right.feature).await?);
        }
        Ok(balances)
    }

    /// What is left of one feature.
    ///
    /// # Errors
    /// `NotFound { what: "feature" }`.
    pub async fn balance(&self, org: OrgId, feature: &str) -> Result<Balance> {
        let inner = &self.inner;
        if !inner.plans.knows(feature) {
            return Err(Error::NotFound { what: "feature" });
        }
        let (customer, _) = inner.customer(org).await?;
        let now_ms = inner.clock.now_ms();
        let current = customer.current(&inner.plans, now_ms);
        let account = self.settled(org, feature, current.as_ref(), now_ms).await?;
        let terms = Terms::of(current.as_ref(), feature, now_ms);
        if feature == DATA_STORAGE {
            let used = self.stored_megabytes(org).await?;
            let balance = account.left().map(|left| left.saturating_sub(used));
            // measured now
            return Ok(Balance { feature: feature.to_owned(), balance, updated_ms: Some(now_ms) });
        }
        // It changed when its line was written, when its period began, or when the plan came, whichever was last.
        let begun_ms = terms.period_ms.filter(|_| terms.since_ms.is_some());
        let updated_ms = account.changed_ms.max(begun_ms.max(terms.since_ms));
        Ok(Balance { feature: feature.to_owned(), balance: account.left(), updated_ms })
    }

    /// The feature that is meant where none is named: the plan's first with a limit, else its first; without a plan the
    /// configuration's.
    ///
    /// # Errors
    /// `NotFound { what: "feature" }`: nothing is sold.
    pub async fn first_feature(&self, org: OrgId) -> Result<String> {
        let (customer, _) = self.inner.customer(org).await?;
        let current = customer.current(&self.inner.plans, self.inner.clock.now_ms());
        let mut features: Vec<_> = match &current {
            Some(current) => current.plan.features.iter().collect(),
            None => self.inner.plans.features().collect(),
        };
        features.sort_by_key(|feature| feature.limit.is_none());
        features.first().map(|feature| feature.key.clone()).ok_or(Error::NotFound { what: "feature" })
    }

    async fn settled(
        &self,
        org: OrgId,
        feature: &str,
        current: Option<&Current<'_>>,
        now_ms: u64,
    ) -> Result<Account> {
        let (account, _) = self.inner.account(org, feature).await?;
        Ok(account.settled(&Terms::of(current, feature, now_ms)).0)
    }

    /// What an organisation has stored, MB begun (contract D22).
    async fn stored_megabytes(&self, org: OrgId) -> Result<u64> {
        let used = crate::quota::used(&*self.inner.kv, &Of::Organisation(org)).await?;
        Ok(used.div_ceil(MEGABYTE))
    }

    /// Page `page` (from 1) of `per_page` lines.
    ///
    /// # Errors
    /// `Invalid` for page 0 and beyond the newest 10,000 lines: filter by time to go deeper.
    pub async fn lines(&self, filter: Filter, page: usize, per_page: usize) -> Result<Page> {
        let invalid = Error::Invalid { what: "page: from 1, within the newest 10,000 lines" };
        let Some(skip) = page.checked_sub(1).and_then(|page| page.checked_mul(per_page)) else {
            return Err(invalid);
        };
        let Some(last) = skip.checked_add(per_page).filter(|last| *last <= LINES_MAX) else {
            return Err(invalid);
        };
        let prefix = codec::lines_prefix(filter.org, filter.feature.as_deref());
        let scan = Scan::forward(Range::prefix(prefix)).keys_only();
        // The newest of what is met in the order of organisation and feature: ids sort by time.
        let newest: BinaryHeap<Reverse<(Uuid, Bytes)>> = BinaryHeap::new();
        let (newest, total) = self
            .inner
            .kv
            .scan_into(scan, (newest, 0u64), move |(newest, total), row| {
                let Some((_, feature, id)) = codec::parse_line_key(row.key) else { return Step::Next };
                if filter.wants(feature, id) {
                    *total += 1;
                    let is_newer = newest.peek().is_none_or(|Reverse((oldest, _))| id > *oldest);
                    if newest.len() < last || is_newer {
                        newest.push(Reverse((id, Bytes::copy_from_slice(row.key))));
                    }
                    if newest.len() > last {
                        newest.pop();
                    }
                }
                Step::Next
            })
            .await?;
        let mut lines = Vec::new();
        for Reverse((_, key)) in newest.into_sorted_vec().iter().skip(skip) {
            // A line stays once it is there.
            let entry =
                self.inner.kv.get(key).await?.ok_or_else(|| Error::corrupt("a line of the ledger"))?;
            lines.push(Line::decode(key, &entry.value)?);
        }
        Ok(Page { lines, total })
    }
}
