//! The bounded queue before the committer: async callers wait for a permit, the committer takes whole groups.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::log::frame::Place;
use super::row::ValueAddress;
use crate::{Commit, Error, Position, Result, Write};

/// Commits waiting at most.
const WAITING_MAX: usize = 1024;
/// A group has at most so many commits …
const GROUP_COMMITS_MAX: usize = 256;
/// … and, but for its last one, so many bytes.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A value that compaction wants moved.
pub(super) struct Moving {
    pub(super) key: bytes::Bytes,
    pub(super) from: ValueAddress,
    pub(super) value: bytes::Bytes,
}

/// What the committer is asked for.
pub(super) enum Request {
    Commit {
        commit: Commit,
        answer: oneshot::Sender<Result<Position>>,
        permit: OwnedSemaphorePermit,
    },
    /// Move the values that are still where they were, durably.
    Move {
        moves: Vec<Moving>,
        answer: std::sync::mpsc::SyncSender<Result<()>>,
    },
    /// Make everything durable; answers what is, and the place behind it.
    Sync {
        answer: std::sync::mpsc::SyncSender<Result<(Position, Place)>>,
    },
}

impl Request {
    fn bytes(&self) -> usize {
        match self {
            Self::Commit { commit, .. } => commit.writes.iter().map(write_bytes).sum(),
            Self::Move { moves, .. } => moves.iter().map(|one| one.value.len()).sum(),
            Self::Sync { .. } => 0,
        }
    }
}

fn write_bytes(write: &Write) -> usize {
    write.key().len() + if let Write::Put(_, value) = write { value.len() } else { 8 }
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Request>,
    is_closed: bool,
}

/// See the module.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    permits: Arc<Semaphore>,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
            permits: Arc::new(Semaphore::new(WAITING_MAX)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room in the queue.
    pub(super) async fn permit(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Error::Stopped)
    }

    pub(super) fn push(&self, request: Request) -> Result<()> {
        let mut state = self.lock();
        if state.is_closed {
            return Err(Error::Stopped);
        }
        state.waiting.push_back(request);
        if state.waiting.len() == 1 {
            self.changed.notify_one();
        }
        Ok(())
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// No more requests; those waiting are still taken.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.permits.close();
        self.changed.notify_all();
    }

    /// No more requests, and those waiting are let go: their callers are told that the engine has stopped.
    pub(super) fn clear(&self) {
        self.close();
        let waiting = std::mem::take(&mut self.lock().waiting);
        drop(waiting);
    }

    /// The next group; empty after `patience` without one; `None` when the queue is closed and empty.
    pub(super) fn take(&self, patience: Duration) -> Option<Vec<Request>> {
        let mut state = self.lock();
        if state.waiting.is_empty() && !state.is_closed {
            let waited = self
                .changed
                .wait_timeout_while(state, patience, |state| state.waiting.is_empty() && !state.is_closed);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.waiting.is_empty() {
            return if state.is_closed { None } else { Some(Vec::new()) };
        }
        let mut group = Vec::new();
        let mut bytes = 0;
        while group.len() < GROUP_COMMITS_MAX && bytes < GROUP_BYTES_MAX {
            let Some(request) = state.waiting.pop_front() else { break };
            bytes += request.bytes();
            group.push(request);
        }
        Some(group)
    }
}
