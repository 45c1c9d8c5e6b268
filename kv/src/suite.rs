//! The contract of [`Kv`] as checks that every engine and every wrapper runs.
//!
//! [`all`] runs every check, each on a new empty engine. A check panics where the engine breaks the contract: this
//! module is for tests, and stands outside `#[cfg(test)]` only so that engines in other crates can run it.
//! Leaves out what needs the process or the power to end: the crash tests prove durability.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a check panics where the contract is broken"
)]

mod commits;
mod counters;
mod feed;
mod life;
mod model;
mod scans;

use std::sync::Arc;

use bytes::Bytes;

use crate::{Check, Commit, Error, Kv, KvExt, Position, Range, Scan, Wait, Write};

pub use model::random_operations;

/// Makes a new empty engine. Engines of one maker do not share anything.
pub type Make<'a> = &'a (dyn Fn() -> Arc<dyn Kv> + Sync);

/// Runs every check.
pub async fn all(make: Make<'_>) {
    commits::puts_and_deletes(make()).await;
    commits::checks_hold_or_conflict(make()).await;
    commits::a_conflict_leaves_nothing(make()).await;
    commits::limits_are_kept(make()).await;
    commits::big_values(make()).await;
    commits::one_position_for_all_writes(make()).await;
    commits::racing_writers_lose_nothing(make()).await;
    counters::sums(make()).await;
    counters::overflow_is_a_conflict(make()).await;
    counters::other_values_are_no_counters(make()).await;
    counters::a_limit_holds_under_racing_adds(make()).await;
    scans::ranges_and_order(make()).await;
    scans::seek_and_stop(make()).await;
    scans::steady_keys_once_among_writers(make()).await;
    feed::tells_every_commit_in_order(make()).await;
    feed::followers_keep_it(make()).await;
    feed::applied_follows(make()).await;
    life::export_then_import(make).await;
    life::a_damaged_export_is_refused(make).await;
    life::stopped_after_close(make()).await;
    let seed = coffre_disk::seed::from_env();
    random_operations(make(), seed, 1500).await;
}

fn key(name: impl Into<Vec<u8>>) -> Bytes {
    Bytes::from(name.into())
}

fn put(name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Write {
    Write::Put(key(name), Bytes::from(value.into()))
}

fn delete(name: impl Into<Vec<u8>>) -> Write {
    Write::Delete(key(name))
}

/// Visible, not yet durable: what most checks need, without paying for a sync each.
fn ordered(checks: Vec<Check>, writes: Vec<Write>) -> Commit {
    Commit { checks, writes, wait: Wait::Ordered, ..Commit::default() }
}

async fn write(kv: &dyn Kv, writes: Vec<Write>) -> Position {
    kv.commit(ordered(Vec::new(), writes)).await.unwrap()
}

async fn value(kv: &dyn Kv, name: &[u8]) -> Option<Bytes> {
    kv.get(name).await.unwrap().map(|entry| entry.value)
}

/// Every row, as (key, value, position).
async fn everything(kv: &dyn Kv) -> Vec<(Bytes, Bytes, Position)> {
    let rows = kv.rows(Scan::forward(Range::all()), usize::MAX).await.unwrap();
    rows.into_iter().map(|(key, entry)| (key, entry.value, entry.position)).collect()
}

async fn assert_conflict(kv: &dyn Kv, commit: Commit, expected: usize) {
    let what = format!("{commit:?}");
    match kv.commit(commit).await {
        Err(Error::Conflict { check }) => assert_eq!(check, expected, "the first failed check of {what}"),
        other => panic!("expected a conflict, got {other:?} for {what}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use coffre_disk::RealDisk;

    use super::*;
    use crate::embedded::{Embedded, IndexKind, Options};

    /// With the sizes it has by itself; with small segments it runs among the engine's own tests.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_embedded_engine_keeps_the_contract() {
        for index in IndexKind::ALL {
            let folders = Mutex::new(Vec::new());
            all(&|| {
                let folder = tempfile::tempdir().unwrap();
                let mut options =
                    Options::new(Arc::new(RealDisk), folder.path().join("meta"), folder.path().join("index"));
                options.reserve_bytes = 0;
                options.index = index;
                folders.lock().unwrap().push(folder);
                Arc::new(Embedded::open(options).unwrap())
            })
            .await;
        }
    }
}
