//! The real clock and the real source of ids: the only place that asks the operating system for either.

use coffre_store::{Clock, Ids};

/// The wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one home of the wall clock")]
    fn now_ms(&self) -> u64 {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// UUIDv7: sorts by time, and within a millisecond by a counter.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TimeIds;

impl Ids for TimeIds {
    #[expect(clippy::disallowed_methods, reason = "the one home of new ids")]
    fn next(&self) -> [u8; 16] {
        uuid::Uuid::now_v7().into_bytes()
    }
}
