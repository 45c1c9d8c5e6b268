//! The upkeep thread: checkpoints, snapshots and compaction, off the committer's way.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::log::compaction;
use super::shared::Shared;
use super::{checkpoint, snapshot};
use crate::{Error, Result};

/// After a failure (a full disk) the next try comes no sooner.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs until the engine stops.
pub(super) fn run(shared: &Arc<Shared>) {
    let mut not_before = Instant::now();
    while wait(shared, &mut not_before) {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(shared))) {
            Ok(Ok(()) | Err(Error::Stopped)) => {}
            Ok(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the store's upkeep did not get through"
                );
                not_before = Instant::now() + PAUSE;
            }
            Err(_) => {
                tracing::error!("the store has stopped: its upkeep panicked");
                shared.poison();
            }
        }
    }
}

/// Waits for work; `false` at the end.
fn wait(shared: &Shared, not_before: &mut Instant) -> bool {
    let mut is_due = shared.upkeep.is_due.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if shared.is_stopped() {
            return false;
        }
        let pause = not_before.saturating_duration_since(Instant::now());
        if *is_due && pause.is_zero() {
            *is_due = false;
            return true;
        }
        is_due = if *is_due {
            let waited = shared.upkeep.changed.wait_timeout(is_due, pause);
            waited.unwrap_or_else(PoisonError::into_inner).0
        } else {
            shared.upkeep.changed.wait(is_due).unwrap_or_else(PoisonError::into_inner)
        };
    }
}

fn work(shared: &Arc<Shared>) -> Result<()> {
    let logged = shared.logged_bytes.load(Ordering::Relaxed);
    if logged < shared.upkeep.due_at.load(Ordering::Relaxed) {
        return Ok(());
    }
    if shared.is_out_of_space() {
        // The log has its room already; the index waits until it has some again.
        return Err(Error::NoSpace);
    }
    let _turn = shared.upkeep_turn()?;
    checkpoint::take(shared)?;
    if snapshot::is_due(shared) {
        snapshot::take(shared)?;
        let done = compaction::compact(shared)?;
        if done.segments_removed > 0 {
            tracing::info!(
                segments = done.segments_removed,
                values = done.values_moved,
                bytes = done.bytes_freed,
                "log segments given back"
            );
        }
    }
    Ok(())
}
