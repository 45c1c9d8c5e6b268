//! Numbers that are given out once: inode numbers, filing's serials, bucket numbers.
//!
//! Drawn from counters in blocks of 256 reserved by one `Add`, so that a PUT does not write a counter row of its
//! own. What a stopped process had not given out is lost; gaps are fine.

use std::ops::Range;
use std::sync::Arc;

use coffre_kv::{Check, Commit, Kv, KvExt, Wait, Write};
use tokio::sync::Mutex;

use crate::codec::keys;
use crate::error::{Error, Result};

/// Numbers reserved at once (design §2.5).
const BLOCK: i64 = 256;

/// A source of numbers, from 1 up, but for what the caller keeps back.
#[derive(Debug)]
pub(crate) struct Serials {
    name: &'static str,
    rest: Mutex<Range<u64>>,
    block: i64,
}

impl Serials {
    /// Numbers for many.
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, rest: Mutex::new(0..0), block: BLOCK }
    }

    /// Numbers for few, without gaps but for failures.
    pub(crate) fn sparse(name: &'static str) -> Self {
        Self { block: 1, ..Self::new(name) }
    }

    /// The next number.
    pub(crate) async fn next(&self, kv: &Arc<dyn Kv>) -> Result<u64> {
        // held over the reservation: who comes meanwhile wants a number of the same block
        let mut rest = self.rest.lock().await;
        if let Some(number) = rest.next() {
            return Ok(number);
        }
        let row = keys::serial(self.name);
        loop {
            let last = kv.counter(&row).await?;
            let commit = Commit {
                checks: vec![Check::AtLeast(row.clone(), last), Check::AtMost(row.clone(), last)],
                writes: vec![Write::Add(row.clone(), self.block)],
                // what is numbered by it is committed later, durably, and with it this
                wait: Wait::Ordered,
                ..Commit::default()
            };
            match kv.commit(commit).await {
                Ok(_) => {
                    let first = u64::try_from(last)
                        .map_err(|_| Error::Corrupt { what: "a serial counter is negative".into() })?
                        + 1;
                    *rest = first..first + self.block.unsigned_abs();
                }
                Err(coffre_kv::Error::Conflict { .. }) => continue,
                Err(error) => return Err(error.into()),
            }
            if let Some(number) = rest.next() {
                return Ok(number);
            }
        }
    }
}
