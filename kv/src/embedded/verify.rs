//! Verification: whether the rows of an index that is believed add up to what its mark says.
//!
//! It reads every page of the index, seconds for a million objects. Where the system has been running since the rows
//! were written, an opening does not wait for it: only the process died, what the system was given it gives back, and
//! what is left is that the index passed over something of its own in silence. Until the sum is there reads may be told
//! that; nothing else may come of it. So the committer adds up before it decides anything, nobody else writes to the
//! index, and whoever would remove something on the index's word (compaction, followers of the store above) waits.
//!
//! Rows that do not add up end the engine. That is noted, and the next opening builds the index again; if it cannot be
//! noted the difference stays in the mark's sum (`mark.rs`), and the next opening finds it again.

#[cfg(test)]
mod tests;

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::index::{self, Index};
use super::log::segment::Segments;
use super::mark::{self, Sum};
use super::open;
use super::shared::Shared;
use crate::{Error, Result};

/// What is known of the index that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verified {
    NotYet,
    /// Its rows are those that were written.
    Yes,
    /// They are not, or the engine ended before it was known.
    Never,
}

/// Whether all rows come to `sum`; then the bytes alive in each segment of the log are counted too. `None` when that is
/// not wanted any more.
pub(super) fn adds_up(
    index: &dyn Index,
    segments: &Segments,
    sum: Sum,
    is_wanted: &(dyn Fn() -> bool + Sync),
) -> Result<Option<bool>> {
    let Some(total) = mark::add_up(index, is_wanted)? else { return Ok(None) };
    if total.sum != sum {
        return Ok(Some(false));
    }
    for (segment, live) in &total.live {
        if let Some(segment) = segments.get(*segment) {
            let live = i64::try_from(*live).unwrap_or(i64::MAX);
            segment.live_bytes.store(live, Ordering::Relaxed);
        }
    }
    Ok(Some(true))
}

/// What the committer does before it takes its first commit; false when the engine ends before it is known. Who waits
/// for a commit by then is told that it has stopped.
pub(super) fn before_commits(shared: &Shared, index: &dyn Index, sum: Sum) -> Result<bool> {
    let begun = Instant::now();
    let is_wanted = || !shared.is_stopped();
    #[cfg(test)]
    shared.options.pause.wait(&is_wanted);
    match adds_up(index, &shared.segments, sum, &is_wanted)? {
        Some(true) => {
            tracing::info!(seconds = begun.elapsed().as_secs_f64(), "the rows of the index add up");
            shared.verified.send_replace(Verified::Yes);
            Ok(true)
        }
        Some(false) => {
            index::note_failure(&open::current(&shared.options.index_dir));
            Err(Error::Corrupt { what: "the rows of the index do not add up".into() })
        }
        None => {
            shared.queue.clear();
            Ok(false)
        }
    }
}

/// Holds a verification up, for tests that look at what happens meanwhile.
#[cfg(test)]
#[derive(Clone, Debug, Default)]
pub(crate) struct Pause(std::sync::Arc<std::sync::atomic::AtomicBool>);

#[cfg(test)]
impl Pause {
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn end(&self) {
        self.0.store(false, Ordering::Release);
    }

    fn wait(&self, is_wanted: &dyn Fn() -> bool) {
        while self.0.load(Ordering::Acquire) && is_wanted() {
            std::thread::yield_now();
        }
    }
}
