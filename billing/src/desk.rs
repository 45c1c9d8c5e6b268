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

    /// What is to be carried out together next, oldest first; empty: nothing, and nobody works on the queue any more.
    pub(crate) fn take(&self, account: &AccountId) -> Vec<Waiting> {
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

    fn queues(&self) -> MutexGuard<'_, HashMap<AccountId, VecDeque<Waiting>>> {
        // Nothing in here panics between two changes that belong together.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
