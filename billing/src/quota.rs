//! Ceilings on what is stored: the store's [`QuotaGate`], and setting them (contract D22, D33).
//!
//! A ceiling is an operator's (`quota set`) for a user, an organisation or a bucket, and for an organisation what its
//! plan gives of `data_storage` as well. What counts towards it are the store's own counters: bytes of versions, and
//! bytes that belong to no version yet. Two counters and one sum: a check can only look at one row, so the room that is
//! left is halved between them. Both checks together keep the sum, whatever else is committed in between; one that
//! fails says that a counter has grown by more than half of the room, and the gate is asked again.

use std::sync::Arc;

use bytes::Bytes;
use coffre_kv::{Check, Kv, KvExt as _, Write};
use coffre_store::usage::{Measure, Of, counter};
use coffre_store::{Clock, Cx, Error as StoreError, Growth, OrgId, QuotaGate};

use crate::codec::{self, Kind as Row};
use crate::entitlement::{Account, Terms};
use crate::error::{Error, Result};
use crate::ledger::unchanged;
use crate::plan::{DATA_STORAGE, MEGABYTE, Plans};
use crate::subscription::Customer;
use crate::{Billing, admin_only};

/// Makes sure that every write stays within every ceiling.
#[derive(Debug)]
pub struct Gate {
    kv: Arc<dyn Kv>,
    clock: Arc<dyn Clock>,
    plans: Arc<Plans>,
}

/// What somebody may store, and has stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// The lowest ceiling, bytes; `None`: there is none.
    pub limit_bytes: Option<u64>,
    /// What counts towards it, bytes.
    pub used_bytes: u64,
}

impl Gate {
    /// How much room somebody has.
    ///
    /// # Errors
    /// As reads do: `Stopped`, `Corrupt`.
    pub async fn room(&self, of: &Of) -> Result<Room> {
        let limit_bytes = self.ceiling(of, &mut Vec::new()).await?;
        Ok(Room { limit_bytes, used_bytes: used(&*self.kv, of).await? })
    }

    /// The lowest ceiling, with checks that it stays where it is.
    async fn ceiling(&self, of: &Of, checks: &mut Vec<Check>) -> Result<Option<u64>> {
        let any = codec::key(Row::AnyQuota, &[]);
        let set = if self.kv.get(&any).await?.is_none() {
            if !checks.iter().any(|check| *check.key() == any) {
                checks.push(Check::Absent(any));
            }
            None
        } else {
            let row = quota_key(of);
            let entry = self.kv.get(&row).await?;
            let set = entry.as_ref().map(|entry| quota_of(&entry.value)).transpose()?;
            checks.push(unchanged(row, entry.map(|entry| entry.position)));
            set
        };
        let sold = match of {
            Of::Organisation(org) if self.plans.knows(DATA_STORAGE) => self.sold(*org, checks).await?,
            Of::Organisation(_) | Of::Owner(_) | Of::Bucket(_) => None,
        };
        Ok([set, sold].into_iter().flatten().min())
    }

    /// What an organisation's plan gives of `data_storage`, with what was granted of it, bytes.
    async fn sold(&self, org: OrgId, checks: &mut Vec<Check>) -> Result<Option<u64>> {
        let row = codec::customer_key(org);
        let entry = self.kv.get(&row).await?;
        let customer: Customer = match &entry {
            Some(entry) => codec::decode("a customer", &entry.value)?,
            None => Customer::default(),
        };
        checks.push(unchanged(row, entry.map(|entry| entry.position)));
        let row = codec::account_key(org, DATA_STORAGE);
        let entry = self.kv.get(&row).await?;
        let account: Account = match &entry {
            Some(entry) => codec::decode("an account", &entry.value)?,
            None => Account::default(),
        };
        checks.push(unchanged(row, entry.map(|entry| entry.position)));
        let now_ms = self.clock.now_ms();
        let current = customer.current(&self.plans, now_ms);
        let account = account.settled(&Terms::of(current.as_ref(), DATA_STORAGE, now_ms)).0;
        Ok(account.left().map(|megabytes| megabytes.saturating_mul(MEGABYTE)))
    }

    /// Checks that make sure that so many bytes more stay within a ceiling.
    async fn within(&self, growth: &Growth, limit: u64, checks: &mut Vec<Check>) -> Result<(), StoreError> {
        let stored = counter(Measure::Bytes, &growth.of);
        let unfinished = counter(Measure::UnfinishedBytes, &growth.of);
        // In this order: what is finished between the two reads goes from the second to the first, so the sum seen is
        // never more than it was.
        let has_stored = self.kv.counter(&stored).await?;
        let has_unfinished = self.kv.counter(&unfinished).await?;
        let (stored_most, unfinished_most) =
            divide(limit, growth.bytes, has_stored, has_unfinished).ok_or(StoreError::QuotaExceeded)?;
        checks.push(Check::AtMost(unfinished, unfinished_most));
        checks.push(Check::AtMost(stored, stored_most));
        Ok(())
    }
}

/// What each counter may be at most before so many bytes are added, so that their sum stays within the limit: each what
/// it is, and half of the room. `None`: there is no room.
fn divide(limit: u64, added: i64, stored: i64, unfinished: i64) -> Option<(i64, i64)> {
    let room = i128::from(limit) - i128::from(added) - i128::from(stored) - i128::from(unfinished);
    if room < 0 {
        return None;
    }
    let half = room / 2;
    let most = |n: i128| i64::try_from(n).unwrap_or(i64::MAX);
    Some((most(i128::from(stored) + room - half), most(i128::from(unfinished) + half)))
}

#[async_trait::async_trait]
impl QuotaGate for Gate {
    async fn checks(&self, growth: &[Growth]) -> Result<Vec<Check>, StoreError> {
        let mut checks = Vec::new();
        for one in growth {
            if let Some(limit) = self.ceiling(&one.of, &mut checks).await.map_err(told)? {
                self.within(one, limit, &mut checks).await?;
            }
        }
        Ok(checks)
    }
}

/// This crate's errors of reading as the store's.
fn told(error: Error) -> StoreError {
    match error {
        Error::Stopped => StoreError::Stopped,
        Error::NoSpace => StoreError::NoSpace,
        Error::Corrupt { what } => StoreError::Corrupt { what },
        other => StoreError::Internal { doing: "reading a quota", source: Box::new(other) },
    }
}

/// What counts towards somebody's ceiling, bytes.
pub(crate) async fn used(kv: &dyn Kv, of: &Of) -> Result<u64> {
    let stored = kv.counter(&counter(Measure::Bytes, of)).await?;
    let unfinished = kv.counter(&counter(Measure::UnfinishedBytes, of)).await?;
    Ok(u64::try_from(stored.saturating_add(unfinished)).unwrap_or(0))
}

fn quota_key(of: &Of) -> Bytes {
    match of {
        Of::Bucket(id) => codec::key(Row::Quota, &[&[1], &id.0.to_be_bytes()]),
        Of::Owner(id) => codec::key(Row::Quota, &[&[2], id.0.as_bytes()]),
        Of::Organisation(id) => codec::key(Row::Quota, &[&[3], id.0.as_bytes()]),
    }
}

fn quota_of(value: &[u8]) -> Result<u64> {
    Ok(u64::from_be_bytes(value.try_into().map_err(|_| Error::corrupt("a quota"))?))
}

impl Billing {
    /// The gate for the store on the same rows.
    pub fn gate(&self) -> Arc<Gate> {
        let inner = &self.inner;
        let (kv, clock, plans) = (&inner.kv, &inner.clock, &inner.plans);
        Arc::new(Gate { kv: Arc::clone(kv), clock: Arc::clone(clock), plans: Arc::clone(plans) })
    }

    /// How much room somebody has.
    ///
    /// # Errors
    /// As reads do: `Stopped`, `Corrupt`.
    pub async fn room(&self, of: &Of) -> Result<Room> {
        self.gate().room(of).await
    }

    /// Sets somebody's ceiling, or with `None` lifts it. Durable on return, and holds from then on; what is stored
    /// already stays. `name`: for the audit log.
    ///
    /// # Errors
    /// `Denied`, `Invalid`, `NoSpace`, `Stopped`.
    pub async fn set_quota(&self, cx: &Cx, of: &Of, name: &str, limit_bytes: Option<u64>) -> Result<Room> {
        admin_only(cx)?;
        if limit_bytes.is_some_and(|limit| i64::try_from(limit).is_err()) {
            return Err(Error::Invalid { what: "bytes: less than 2^63" });
        }
        let (row, any) = (quota_key(of), codec::key(Row::AnyQuota, &[]));
        let writes = match limit_bytes {
            // The mark is never taken away again: a write that read it goes by the ceilings' own rows.
            Some(limit) => vec![
                Write::Put(row, Bytes::copy_from_slice(&limit.to_be_bytes())),
                Write::Put(any, Bytes::new()),
            ],
            None => vec![Write::Delete(row)],
        };
        self.inner.change(cx, "SetQuota", name, Vec::new(), writes).await?;
        self.room(of).await
    }
}

#[cfg(test)]
mod tests {
    use coffre_kv::Commit;
    use proptest::prelude::*;

    use super::*;
    use crate::sample::{World, system};

    proptest! {
        #[test]
        fn two_checks_keep_one_sum(
            limit in 0u64..1000, added in 1i64..200, stored in 0i64..1000, unfinished in 0i64..500,
            grown in (0i64..500, 0i64..500),
        ) {
            match divide(limit, added, stored, unfinished) {
                None => prop_assert!(i128::from(limit) < i128::from(stored + unfinished + added)),
                Some((stored_most, unfinished_most)) => {
                    // as the counters are when it is decided, it goes through
                    prop_assert!(stored <= stored_most && unfinished <= unfinished_most);
                    // and whatever they are by the commit, if it goes through the sum is within the limit
                    let (b, u) = (stored + grown.0, unfinished + grown.1);
                    if b <= stored_most && u <= unfinished_most {
                        prop_assert!(b + u + added <= i64::try_from(limit).unwrap());
                    }
                    // what fails has taken at least half of the room
                    let room = i64::try_from(limit).unwrap() - added - stored - unfinished;
                    if b > stored_most || u > unfinished_most {
                        prop_assert!(grown.0.max(grown.1) > room / 2 || room == 0);
                    }
                }
            }
        }
    }

    async fn store(world: &World, of: &Of, stored: i64, unfinished: i64) {
        let writes = vec![
            Write::Add(counter(Measure::Bytes, of), stored),
            Write::Add(counter(Measure::UnfinishedBytes, of), unfinished),
        ];
        world.kv.commit(Commit { writes, ..Commit::default() }).await.unwrap();
    }

    /// Commits as the store does: with the gate's checks.
    async fn add(world: &World, of: &Of, bytes: i64) -> Result<(), StoreError> {
        let checks = world.billing.gate().checks(&[Growth { of: *of, bytes }]).await?;
        let writes = vec![Write::Add(counter(Measure::Bytes, of), bytes)];
        let commit = Commit { checks, writes, ..Commit::default() };
        world.kv.commit(commit).await.map(drop).map_err(|_| StoreError::Busy)
    }

    fn is_exceeded(outcome: Result<(), StoreError>) -> bool {
        match outcome {
            Ok(()) => false,
            Err(StoreError::QuotaExceeded) => true,
            Err(error) => panic!("{error}"),
        }
    }

    #[tokio::test]
    async fn ceilings_hold_from_the_moment_they_are_set() {
        let world = World::new().await;
        let (user, other) = (Of::Owner(world.user), Of::Bucket(coffre_store::BucketId(3)));
        // decided while nobody had one: the commit notices that somebody has by then
        let before = world.billing.gate().checks(&[Growth { of: user, bytes: 5 }]).await.unwrap();
        assert_eq!(before.len(), 1);
        store(&world, &user, 60, 30).await;
        world.billing.set_quota(&system(), &user, "user", Some(100)).await.unwrap();
        let late = world.kv.commit(Commit { checks: before, ..Commit::default() }).await;
        assert!(matches!(late, Err(coffre_kv::Error::Conflict { check: 0 })));
        assert!(is_exceeded(add(&world, &user, 11).await));
        assert!(!is_exceeded(add(&world, &user, 10).await));
        assert!(is_exceeded(add(&world, &user, 1).await));
        assert!(!is_exceeded(add(&world, &other, i64::MAX / 2).await), "others have none");
        let room = world.billing.room(&user).await.unwrap();
        assert_eq!(room, Room { limit_bytes: Some(100), used_bytes: 100 });
        // lowered under what is there, then lifted
        world.billing.set_quota(&system(), &user, "user", Some(1)).await.unwrap();
        assert!(is_exceeded(add(&world, &user, 1).await));
        world.billing.set_quota(&system(), &user, "user", None).await.unwrap();
        assert!(!is_exceeded(add(&world, &user, 1000).await));
        let refused = world.billing.set_quota(&crate::sample::user(world.user), &user, "user", Some(1)).await;
        assert!(matches!(refused, Err(Error::Denied)));
        let refused = world.billing.set_quota(&system(), &user, "user", Some(u64::MAX)).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })));
    }

    #[tokio::test]
    async fn a_plan_is_a_ceiling_for_its_organisation() {
        let world = World::new().await;
        let org = Of::Organisation(world.org);
        let megabyte = 1_000_000;
        assert!(is_exceeded(add(&world, &org, 1).await), "no plan, where plans sell storage");
        world.billing.set_plan(&system(), world.org, Some("basic")).await.unwrap();
        assert!(!is_exceeded(add(&world, &org, megabyte).await));
        assert!(is_exceeded(add(&world, &org, 1).await));
        world.billing.grant(&system(), world.org, DATA_STORAGE, 1, None).await.unwrap();
        assert!(!is_exceeded(add(&world, &org, megabyte).await));
        assert!(is_exceeded(add(&world, &org, 1).await));
        // a plan that changes between the decision and the commit is noticed
        world.billing.set_plan(&system(), world.org, Some("premium")).await.unwrap();
        let before = world.billing.gate().checks(&[Growth { of: org, bytes: 1 }]).await.unwrap();
        world.billing.set_plan(&system(), world.org, Some("basic")).await.unwrap();
        let late = world.kv.commit(Commit { checks: before, ..Commit::default() }).await;
        assert!(matches!(late, Err(coffre_kv::Error::Conflict { .. })));
        // the lower of two
        world.billing.set_plan(&system(), world.org, Some("premium")).await.unwrap();
        world.billing.set_quota(&system(), &org, "org", Some(2_000_001)).await.unwrap();
        assert!(!is_exceeded(add(&world, &org, 1).await));
        assert!(is_exceeded(add(&world, &org, 1).await));
    }

    #[test]
    fn large_figures_do_not_wrap() {
        assert_eq!(divide(u64::MAX, i64::MAX, 0, 0).map(|(a, b)| (a > 0, b > 0)), Some((true, true)));
        assert_eq!(divide(0, i64::MAX, i64::MAX, i64::MAX), None);
    }
}
