//! Where an account's changes queue: whoever is first carries out what waits, several in one commit.
//!
//! An account's balance is one row, and each line says what was left after it; so its changes happen one after the
//! other. To let many callers share one sync they are decided together, in their order, on the account as it was read,
//! and committed under a check of its row. A process is fair to its own callers that way; another process that was
//! faster makes the check fail, and everything is decided again. Nothing that correctness hangs on is in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use coffre_store::OrgId;
use coffre_store::watch::Note;
use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::ledger::{Change, Changed};

/// Changes that may wait for one account: a second's worth, about.
const WAITING_MAX: usize = 4096;
/// Changes of one commit: as many audit lines as a note holds, and enough for the syncs to be shared.
const BATCH_MAX: usize = 16;

/// Which account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AccountId {
    pub(crate) org: OrgId,
    pub(crate) feature: String,
}

/// A change that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) change: Change,
    pub(crate) note: Note,
    pub(crate) answer: oneshot::Sender<Result<Changed>>,
}

/// The queues. A queue that is there has somebody who works on it.
#[derive(Debug, Default)]
pub(crate) struct Desk(Mutex<HashMap<AccountId, VecDeque<Waiting>>>);

impl Desk {
    /// Puts a change in the queue. Whether the caller has to see to it that somebody works on it.
    ///
    /// # Errors
    /// `Busy`: too many wait.
    pub(crate) fn enter(&self, account: &AccountId, waiting: Waiting) -> Result<bool> {
        let mut queues = self.queues();
        if let Some(queue) = queues.get_mut(account) {
            if queue.len() >= WAITING_MAX {
                return Err(Error::Busy);
            }
            queue.push_back(waiting);
            return Ok(false);
        }
        queues.insert(account.clone(), VecDeque::from([waiting]));
        Ok(true)
    }

    /// For who works on a queue.
    pub(crate) fn serve<'a>(&'a self, account: &'a AccountId) -> Serving<'a> {
        Serving { desk: self, account, is_over: false }
    }

    /// What is to be carried out together next, oldest first; empty: nothing, and nobody works on the queue any more.
    fn take(&self, account: &AccountId) -> Vec<Waiting> {
        let mut queues = self.queues();
        let Some(queue) = queues.get_mut(account) else { return Vec::new() };
        let upto = queue.len().min(BATCH_MAX);
        let notes: Vec<Note> = queue.iter().take(upto).map(|waiting| waiting.note.clone()).collect();
        // One change's line fits by itself: its parts have limits.
        let fit = Note::encode_many(&notes).1.max(upto.min(1));
        let batch: Vec<Waiting> = queue.drain(..fit).collect();
        if batch.is_empty() {
            queues.remove(account);
        }
        batch
    }

    fn abandon(&self, account: &AccountId) {
        self.queues().remove(account);
    }

    fn queues(&self) -> MutexGuard<'_, HashMap<AccountId, VecDeque<Waiting>>> {
        // Nothing in here panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who works on a queue. One that ends before the queue is empty (a panic, the runtime's end) takes it along:
/// who waits is told, and who comes next begins a new one.
#[derive(Debug)]
pub(crate) struct Serving<'a> {
    desk: &'a Desk,
    account: &'a AccountId,
    is_over: bool,
}

impl Serving<'_> {
    /// As [`Desk::take`].
    pub(crate) fn take(&mut self) -> Vec<Waiting> {
        let batch = self.desk.take(self.account);
        self.is_over = batch.is_empty();
        batch
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        // Once it is empty the queue is gone, or another's.
        if !self.is_over {
            self.desk.abandon(self.account);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tests::grant;

    #[test]
    fn who_works_on_a_queue_and_dies_leaves_nobody_waiting() {
        let (desk, account) =
            (Desk::default(), AccountId { org: OrgId(uuid::Uuid::nil()), feature: "f".into() });
        let enter = || {
            let (answer, answered) = oneshot::channel();
            let waiting = Waiting { change: grant(1), note: crate::sample::note(), answer };
            (desk.enter(&account, waiting).unwrap(), answered)
        };
        let (first, mut answered) = enter();
        assert!(first && !enter().0, "one works, others wait");
        drop(desk.serve(&account));
        assert!(answered.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        let mut serving = desk.serve(&account);
        assert!(enter().0, "the next begins anew");
        assert_eq!(serving.take().len(), 1);
        assert!(serving.take().is_empty());
        let (is_first, mut answered) = enter();
        drop(serving);
        assert!(
            is_first && answered.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty)
        );
    }

    #[test]
    fn a_queue_and_a_batch_have_limits() {
        let (desk, account) =
            (Desk::default(), AccountId { org: OrgId(uuid::Uuid::nil()), feature: "f".into() });
        let mut answers = Vec::new();
        for n in 0..=WAITING_MAX {
            let (answer, answered) = oneshot::channel();
            let waiting = Waiting { change: grant(1), note: crate::sample::note(), answer };
            assert_eq!(desk.enter(&account, waiting).is_ok(), n < WAITING_MAX, "{n}");
            answers.push(answered);
        }
        let mut serving = desk.serve(&account);
        let batch = serving.take();
        assert!((1..=BATCH_MAX).contains(&batch.len()), "{}", batch.len());
    }
}
