//! Whose turn it is: after a few lost races the writers of one row queue in the process.
//!
//! Fairness, not correctness: the commit's checks decide. Without the queue, of n writers at one key each round lets
//! one through and the slowest could lose for ever; an unconditional PUT must not answer that it lost (design §2.1).
//!
//! Lock order: who waits for several rows lets go of what it has and takes all in the order of their keys.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Mutex as Queue, OwnedMutexGuard};

use crate::error::{Error, Result};

/// Races lost before queueing. One or two are usual when two clients meet.
const LOST_BEFORE_QUEUE: u32 = 3;
/// Races lost before giving up with `Busy`. In the queue only who came before it can win, so this is never met
/// unless something is wrong; it bounds the loop.
const LOST_MAX: u32 = 1_000;

/// The queues of rows that are fought for.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    queues: Mutex<HashMap<Bytes, Arc<Queue<()>>>>,
}

/// One operation's tries.
#[derive(Debug)]
pub(crate) struct Tries<'a> {
    turns: &'a Turns,
    /// Rows it changes, known from the start.
    rows: Vec<Bytes>,
    /// Rows whose queue it is in.
    queued: BTreeSet<Bytes>,
    held: Vec<(Bytes, OwnedMutexGuard<()>)>,
    lost: u32,
}

impl Turns {
    /// Tries of an operation that changes these rows.
    pub(crate) fn tries(&self, rows: Vec<Bytes>) -> Tries<'_> {
        Tries { turns: self, rows, queued: BTreeSet::new(), held: Vec::new(), lost: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Bytes, Arc<Queue<()>>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tries<'_> {
    /// Waits its turn where others are queueing. To be called before reading what stands.
    pub(crate) async fn begin(&mut self) {
        let wanted: BTreeSet<Bytes> = {
            let queues = self.turns.lock();
            let contended = self.rows.iter().filter(|row| queues.contains_key(*row));
            contended.chain(&self.queued).cloned().collect()
        };
        if wanted.iter().all(|row| self.held.iter().any(|(held, _)| held == row)) {
            return;
        }
        self.let_go();
        for row in wanted {
            let queue = Arc::clone(self.turns.lock().entry(row.clone()).or_default());
            self.held.push((row, queue.lock_owned().await));
        }
    }

    /// Lost a race over `row`.
    ///
    /// # Errors
    /// `Busy` after far too many.
    pub(crate) fn lost(&mut self, row: Bytes) -> Result<()> {
        self.lost += 1;
        if self.lost > LOST_MAX {
            return Err(Error::Busy);
        }
        if self.lost >= LOST_BEFORE_QUEUE {
            self.queued.insert(row);
            self.queued.extend(self.rows.iter().cloned());
        }
        Ok(())
    }

    fn let_go(&mut self) {
        for (row, guard) in std::mem::take(&mut self.held) {
            drop(guard);
            let mut queues = self.turns.lock();
            // nobody else knows it: only the map and nobody's guard
            if queues.get(&row).is_some_and(|queue| Arc::strong_count(queue) == 1) {
                queues.remove(&row);
            }
        }
    }
}

impl Drop for Tries<'_> {
    fn drop(&mut self) {
        self.let_go();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn queues_go_when_nobody_is_left() {
        let turns = Turns::default();
        let rows = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];
        let mut first = turns.tries(rows.to_vec());
        for _ in 0..LOST_BEFORE_QUEUE {
            first.begin().await;
            assert!(turns.lock().is_empty());
            first.lost(rows[1].clone()).unwrap();
        }
        first.begin().await;
        assert_eq!(turns.lock().len(), 2);
        let mut second = turns.tries(vec![rows[0].clone()]);
        let waits = tokio::time::timeout(std::time::Duration::ZERO, second.begin()).await;
        assert!(waits.is_err(), "a newcomer goes behind who queues already");
        drop(first);
        second.begin().await;
        drop(second);
        assert!(turns.lock().is_empty());
    }

    #[tokio::test]
    async fn opposite_orders_do_not_lock_each_other_out() {
        let turns = Arc::new(Turns::default());
        let tasks = (0..8).map(|n| {
            let turns = Arc::clone(&turns);
            tokio::spawn(async move {
                let mut rows = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];
                if n % 2 == 0 {
                    rows.reverse();
                }
                let mut tries = turns.tries(rows[..1].to_vec());
                for _ in 0..20 {
                    tries.begin().await;
                    tokio::task::yield_now().await;
                    tries.lost(rows[1].clone()).unwrap();
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert!(turns.lock().is_empty());
    }

    #[tokio::test]
    async fn gives_up_in_the_end() {
        let turns = Turns::default();
        let mut tries = turns.tries(vec![]);
        let outcomes = (0..=LOST_MAX).map(|_| tries.lost(Bytes::new())).collect::<Vec<_>>();
        assert!(matches!(outcomes.last(), Some(Err(Error::Busy))));
        assert!(outcomes.iter().rev().skip(1).all(Result::is_ok));
    }
}
