//! The store's own work while it is open: hashing pending versions, sweeping.
//!
//! Tasks hold the store weakly: one that is dropped without [`Store::close`] ends them too.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::{Inner, Result, Store};

/// Between two sweeps. A blob goes at most this much later than its grace time says.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);
/// Between two looks at what is pending, when nobody says that something is: after a failure.
const PENDING_INTERVAL: Duration = Duration::from_mins(1);

/// The tasks and what wakes them.
#[derive(Debug)]
pub(crate) struct Background {
    stop: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    pending: Arc<Notify>,
    known: Notify,
    /// One pass over what is pending at a time.
    digesting: tokio::sync::Mutex<()>,
}

impl Background {
    /// Nothing runs yet.
    pub(crate) fn new() -> Self {
        Self {
            stop: watch::Sender::new(false),
            tasks: Mutex::default(),
            pending: Arc::default(),
            known: Notify::new(),
            digesting: tokio::sync::Mutex::default(),
        }
    }

    /// Held by a pass over what is pending.
    pub(crate) async fn digesting(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.digesting.lock().await
    }

    /// A version whose digest is pending has been committed.
    pub(crate) fn wake_digests(&self) {
        self.pending.notify_one();
    }

    /// Tells that a pending digest has become known.
    pub(crate) fn known(&self) -> &Notify {
        &self.known
    }

    /// Ends the tasks where they are, as the death of the process would.
    #[cfg(test)]
    pub(crate) async fn kill(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            task.abort();
            drop(task.await);
        }
    }

    /// Ends the tasks: each finishes the step it is in.
    pub(crate) async fn close(&self) {
        self.stop.send_replace(true);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a background task of the store panicked");
            }
        }
    }
}

impl Store {
    /// Starts the tasks.
    pub(crate) fn start_background(&self) {
        let background = &self.inner.background;
        // what an earlier process left pending
        background.wake_digests();
        let digests = spawn(self, PENDING_INTERVAL, Arc::clone(&background.pending), |store| async move {
            store.digest_pending().await
        });
        let never = Arc::new(Notify::new());
        let sweep =
            spawn(self, SWEEP_INTERVAL, never, |store| async move { store.gc(false).await.map(drop) });
        let mut tasks = background.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.extend([digests, sweep]);
    }
}

/// Runs `work` after each interval, or earlier when woken, until the store closes or is dropped.
fn spawn<F, W>(store: &Store, every: Duration, wake: Arc<Notify>, work: W) -> JoinHandle<()>
where
    W: Fn(Store) -> F + Send + 'static,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let inner: Weak<Inner> = Arc::downgrade(&store.inner);
    let mut stop = store.inner.background.stop.subscribe();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                changed = stop.wait_for(|stop| *stop) => {
                    drop(changed);
                    return;
                }
                _ = tokio::time::timeout(every, wake.notified()) => {}
            }
            let Some(inner) = inner.upgrade() else { return };
            match work(Store { inner }).await {
                Ok(()) => {}
                Err(crate::Error::Stopped) => return,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "background work failed");
                }
            }
        }
    })
}
