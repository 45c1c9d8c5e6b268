//! What is used up, as counters: which rows an entry counts in (pure), how they are named, how they are read.
//!
//! Counters are `Add` rows of the commit that changes the entry, so they are exact, and asking is one point read.
//! Bytes count every version, current or not; objects count keys with a current version (contract D22). The lists of
//! views (filing's by scope, category and type, and by scope and day; t2m's by user and kind) count what they show:
//! current versions.

use bytes::Bytes;
use coffre_kv::{KvExt, Range, Scan};

use crate::codec::corrupt;
use crate::codec::keys::{Key, USE, split};
use crate::error::Result;
use crate::name::{BucketId, ObjectKey, OrgId, UserId};
use crate::object::{Bucket, Version};
use crate::{Store, views};

/// What a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Measure {
    /// Bytes of all versions.
    Bytes,
    /// Keys with a current version.
    Objects,
    /// Bytes that are durable and belong to no version yet: parts, chunks, resumable uploads.
    UnfinishedBytes,
}

/// For whom or what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Of {
    /// A bucket.
    Bucket(BucketId),
    /// What a user owns and no organisation answers for (contract D22).
    Owner(UserId),
    /// What counts for an organisation.
    Organisation(OrgId),
}

impl Measure {
    fn number(self) -> u8 {
        match self {
            Self::Bytes => 1,
            Self::Objects => 2,
            Self::UnfinishedBytes => 3,
        }
    }
}

/// Dimension of the counters of lists.
const LISTS: u8 = 4;
/// Dimension of the counters of filing's scopes by day.
const DAYS: u8 = 5;
/// A day of these counters, ms: of UTC, whatever zone dates are written in.
pub(crate) const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The row of a counter: for [`crate::QuotaGate`]'s checks.
pub fn counter(measure: Measure, of: &Of) -> Bytes {
    let measure = measure.number();
    match of {
        Of::Bucket(id) => Key::of(USE).raw(&[1, measure]).bucket(*id).done(),
        Of::Owner(id) => Key::of(USE).raw(&[2, measure]).raw(id.0.as_bytes()).done(),
        Of::Organisation(id) => Key::of(USE).raw(&[3, measure]).raw(id.0.as_bytes()).done(),
    }
}

/// Rows of the counters of lists whose rows begin with `prefix` (`views.rs`).
pub(crate) fn list_counters(measure: Measure, prefix: &[u8]) -> Bytes {
    Key::of(USE).raw(&[LISTS, measure.number()]).raw(prefix).done()
}

/// Row of the counter of a day (its number since 1970) of one of filing's scopes. A list between two times counts its
/// files by them.
pub(crate) fn day_counter(scope: &[u8], day: u64) -> Bytes {
    let day = u32::try_from(day).unwrap_or(u32::MAX);
    Key::of(USE).raw(&[DAYS, Measure::Objects.number()]).raw(scope).raw(&day.to_be_bytes()).done()
}

/// For whom bytes count: the bucket; the organisation or, where there is none, the owner.
pub(crate) fn payers(bucket: BucketId, owner: Option<UserId>, organisation: Option<OrgId>) -> Vec<Of> {
    let who = organisation.map(Of::Organisation).or(owner.map(Of::Owner));
    [Some(Of::Bucket(bucket)), who].into_iter().flatten().collect()
}

/// The counters that an entry counts in, and by how much.
pub(crate) fn of(bucket: &Bucket, key: &ObjectKey, version: &Version, is_current: bool) -> Vec<(Bytes, i64)> {
    let bytes = i64::try_from(version.size_bytes).unwrap_or(i64::MAX);
    let mut counters = Vec::with_capacity(6);
    for of in &payers(bucket.id, version.owner, version.organisation) {
        counters.push((counter(Measure::Bytes, of), bytes));
        if is_current {
            counters.push((counter(Measure::Objects, of), 1));
        }
    }
    if is_current {
        for list in views::lists(bucket, key, version) {
            counters.push((list_counters(Measure::Bytes, &list), bytes));
            counters.push((list_counters(Measure::Objects, &list), 1));
        }
        for scope in views::filing_scopes(bucket, key, version) {
            counters.push((day_counter(&scope, version.modified_ms / DAY_MS), 1));
        }
    }
    counters
}

/// The counters that bytes of an unfinished upload count in.
pub(crate) fn unfinished(
    bucket: &Bucket,
    owner: Option<UserId>,
    organisation: Option<OrgId>,
    bytes: i64,
) -> Vec<(Bytes, i64)> {
    let whom = payers(bucket.id, owner, organisation);
    whom.iter().map(|of| (counter(Measure::UnfinishedBytes, of), bytes)).collect()
}

/// A counter's name for findings.
pub(crate) fn describe(row: &[u8]) -> Result<String> {
    let ([_, dimension, measure], value) = split::<3>(row)?;
    let of = match dimension {
        1 => "bucket",
        2 => "owner",
        3 => "organisation",
        LISTS => "list",
        DAYS => "list by day",
        _ => return Err(corrupt("a counter of an unknown dimension")),
    };
    let what = match measure {
        1 => "bytes",
        2 => "objects",
        3 => "unfinished bytes",
        _ => return Err(corrupt("a counter of an unknown measure")),
    };
    Ok(format!("{what} of {of} {}", hex::encode(value)))
}

impl Store {
    /// How much is used.
    ///
    /// # Errors
    /// As reads do: `Stopped`, `Corrupt`.
    pub async fn usage(&self, measure: Measure, of: &Of) -> Result<i64> {
        Ok(self.inner.kv().counter(&counter(measure, of)).await?)
    }

    /// How much the lists of a scope hold, each by itself: for all whose prefix begins with `prefix`
    /// (`views::filing_scope_prefix`, `views::media_list_prefix`). As many as category and type pairs occur.
    ///
    /// # Errors
    /// As reads do: `Stopped`, `Corrupt`.
    pub async fn usage_of_lists(&self, measure: Measure, prefix: &[u8]) -> Result<Vec<(Bytes, i64)>> {
        let scan = Scan::forward(Range::prefix(list_counters(measure, prefix)));
        let before = list_counters(measure, &[]).len();
        let mut found = Vec::new();
        for (row, entry) in self.inner.kv().rows(scan, usize::MAX).await? {
            let n = entry.counter().ok_or_else(|| corrupt("a usage counter is no counter"))?;
            if n != 0 {
                found.push((row.slice(before.min(row.len())..), n));
            }
        }
        Ok(found)
    }
}
