//! Whose turn it is at an upload: one appends at a time (TUS 1.0: "SHOULD … lock").
//!
//! A newcomer waits up to three seconds. If who holds the turn has received nothing for five, it is asked to leave; it
//! keeps what arrived, and the newcomer is next. So a sender whose connection died without a word does not keep
//! its successor out for long (contract D15). Unlike `turns.rs` this is needed for correctness: two requests would
//! write to the same place of one file.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as Queue, Notify, OwnedMutexGuard};
use tokio::time::Instant;

use crate::UploadId;
use crate::error::{Error, Result};

/// How long who waits does so.
#[derive(Clone, Copy, Debug)]
struct Patience {
    /// For who is there and busy.
    wait: Duration,
    /// Who has received nothing for this long may be asked to leave.
    idle: Duration,
    /// For the last bytes of who was asked to leave to become durable.
    leaving: Duration,
    /// Between two looks at who is there.
    look: Duration,
}

/// Contract D15.
const PATIENCE: Patience = Patience {
    wait: Duration::from_secs(3),
    idle: Duration::from_secs(5),
    leaving: Duration::from_secs(5),
    look: Duration::from_millis(100),
};

/// The uploads that somebody is at.
#[derive(Debug)]
pub(crate) struct Lines {
    uploads: Mutex<HashMap<UploadId, Arc<Line>>>,
    began: Instant,
    patience: Patience,
}

#[derive(Debug, Default)]
struct Line {
    queue: Arc<Queue<()>>,
    /// When who holds the turn last received something, ms since `began`.
    heard_ms: AtomicU64,
    /// Of who holds the turn.
    leave: Mutex<Arc<Notify>>,
}

/// The turn at one upload. Clones are one turn, which ends with the last.
#[derive(Clone, Debug)]
pub(crate) struct Turn(Arc<Held>);

#[derive(Debug)]
struct Held {
    lines: Arc<Lines>,
    line: Arc<Line>,
    upload: UploadId,
    leave: Arc<Notify>,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Default for Lines {
    fn default() -> Self {
        Self { uploads: Mutex::default(), began: Instant::now(), patience: PATIENCE }
    }
}

impl Lines {
    /// Waits for the turn.
    ///
    /// # Errors
    /// `Busy`: somebody else is at it and receives.
    pub(crate) async fn enter(self: &Arc<Self>, upload: UploadId) -> Result<Turn> {
        let line = Arc::clone(self.lock().entry(upload).or_default());
        let Patience { wait, idle, leaving, look } = self.patience;
        let mut deadline = Instant::now() + wait;
        let mut has_asked = false;
        loop {
            let queue = Arc::clone(&line.queue);
            if let Ok(guard) = tokio::time::timeout(look, queue.lock_owned()).await {
                return Ok(self.begin(line, upload, guard));
            }
            let now = Instant::now();
            let heard = self.began + Duration::from_millis(line.heard_ms.load(Ordering::Relaxed));
            if !has_asked && now.duration_since(heard) >= idle {
                has_asked = true;
                deadline = now + leaving;
                lock(&line.leave).notify_one();
            }
            if now >= deadline {
                drop(line);
                self.forget(upload);
                return Err(Error::Busy);
            }
        }
    }

    /// The turn, if nobody has it.
    pub(crate) fn try_enter(self: &Arc<Self>, upload: UploadId) -> Option<Turn> {
        let line = Arc::clone(self.lock().entry(upload).or_default());
        let Ok(guard) = Arc::clone(&line.queue).try_lock_owned() else {
            drop(line);
            self.forget(upload);
            return None;
        };
        Some(self.begin(line, upload, guard))
    }

    fn begin(self: &Arc<Self>, line: Arc<Line>, upload: UploadId, guard: OwnedMutexGuard<()>) -> Turn {
        // who held it before may have left by itself while it was asked to: that is not meant for us
        let leave = Arc::<Notify>::default();
        *lock(&line.leave) = Arc::clone(&leave);
        let turn = Turn(Arc::new(Held { lines: Arc::clone(self), line, upload, leave, guard: Some(guard) }));
        turn.heard();
        turn
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<UploadId, Arc<Line>>> {
        lock(&self.uploads)
    }

    /// Forgets a line that nobody stands in.
    fn forget(&self, upload: UploadId) {
        let mut uploads = self.lock();
        if uploads.get(&upload).is_some_and(|line| Arc::strong_count(line) == 1) {
            uploads.remove(&upload);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Turn {
    /// Something was received.
    pub(crate) fn heard(&self) {
        let Held { lines, line, .. } = &*self.0;
        let ms = Instant::now().duration_since(lines.began).as_millis();
        line.heard_ms.store(u64::try_from(ms).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Ends when somebody asks for the turn.
    pub(crate) async fn asked_to_leave(&self) {
        self.0.leave.notified().await;
    }

    /// As what the pool's writes hold on to.
    pub(crate) fn held(&self) -> crate::blob::Turn {
        Arc::clone(&self.0) as crate::blob::Turn
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.guard = None;
        // the map's and ours
        let mut uploads = self.lines.lock();
        if uploads.get(&self.upload).is_some_and(|line| Arc::strong_count(line) == 2) {
            uploads.remove(&self.upload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPLOAD: UploadId = UploadId([1; 16]);

    /// The same rules in milliseconds.
    fn hurried() -> Arc<Lines> {
        let patience = Patience {
            wait: Duration::from_millis(60),
            idle: Duration::from_millis(150),
            leaving: Duration::from_secs(30),
            look: Duration::from_millis(5),
        };
        Arc::new(Lines { patience, ..Lines::default() })
    }

    #[tokio::test]
    async fn who_receives_stays_and_who_is_idle_is_asked_to_leave() {
        let lines = hurried();
        let first = lines.enter(UPLOAD).await.unwrap();
        let began = Instant::now();
        loop {
            first.heard();
            assert!(matches!(lines.enter(UPLOAD).await, Err(Error::Busy)));
            if began.elapsed() > lines.patience.idle {
                break;
            }
        }
        assert!(lines.try_enter(UPLOAD).is_none());
        let leaving = tokio::spawn(async move {
            first.asked_to_leave().await;
            drop(first);
        });
        // newcomers come and go until one finds the first idle for long enough
        let second = loop {
            if let Ok(turn) = lines.enter(UPLOAD).await {
                break turn;
            }
        };
        leaving.await.unwrap();
        let asked = tokio::time::timeout(Duration::ZERO, second.asked_to_leave()).await;
        assert!(asked.is_err(), "it was the first who was asked");
        drop(second);
        assert!(lines.lock().is_empty(), "nothing is kept of an upload nobody is at");
    }

    #[tokio::test]
    async fn the_turn_ends_with_the_last_who_holds_it() {
        let lines = hurried();
        let turn = lines.enter(UPLOAD).await.unwrap();
        let write = turn.held();
        drop(turn);
        assert!(lines.try_enter(UPLOAD).is_none());
        drop(write);
        drop(lines.try_enter(UPLOAD).unwrap());
        let other = UploadId([2; 16]);
        let one = lines.enter(UPLOAD).await.unwrap();
        drop(lines.enter(other).await.unwrap());
        drop(one);
        assert!(lines.lock().is_empty());
    }
}
