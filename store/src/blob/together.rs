//! MD5 of several streams at once: blocks of different streams go through the kernel beside each other.
//!
//! Who is alone is hashed alone, at once. Where more streams come in quickly, a worker waits a moment for their blocks
//! too: the kernel takes hardly longer for eight than for two, and a stream has blocks to spare meanwhile. Nobody waits
//! for a slow client.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Blobs;
use super::buffer::Block;
use crate::hasher::{Chain, Job, LANES, compress_together};
use crate::{Error, Result};

/// Longest wait for the blocks of other streams: about what hashing them takes.
const GATHERING: Duration = Duration::from_millis(3);
/// A stream is waited for when its last block is not older: 40 MiB a second and more.
const RECENT: Duration = Duration::from_millis(25);

/// Which stream.
pub(super) type Stream = u64;

/// Whole blocks of a stream, and who waits for the chain behind them.
#[derive(Debug)]
struct Waiting {
    chain: Chain,
    block: Arc<Block>,
    range: Range<usize>,
    done: oneshot::Sender<Chain>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// When the last block of each stream came.
    recent: HashMap<Stream, Instant>,
    workers: usize,
}

/// The streams that wait.
#[derive(Debug)]
pub(super) struct Together {
    state: Mutex<State>,
    /// Somebody waits who did not before.
    gathers: Condvar,
    workers_max: usize,
    /// Numbers the streams.
    next: AtomicU64,
}

/// One thread that hashes what gathers.
struct Worker<'a> {
    together: &'a Together,
    is_counted: bool,
}

impl Together {
    /// A worker keeps up with four cores' clients; more of them would have less to do at once.
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            state: Mutex::default(),
            gathers: Condvar::new(),
            workers_max: (cores / 4).max(1),
            next: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a worker has to be started for it.
    fn add(&self, stream: Stream, waiting: Waiting) -> bool {
        let mut state = self.state();
        state.recent.insert(stream, Instant::now());
        state.waiting.push_back(waiting);
        self.gathers.notify_all();
        let is_needed = state.workers < self.workers_max;
        state.workers += usize::from(is_needed);
        is_needed
    }

    /// Hashes until nobody waits.
    fn work(&self) {
        let mut worker = Worker { together: self, is_counted: true };
        while let Some(gathered) = worker.gathered() {
            let mut jobs: Vec<Job<'_>> = gathered.iter().map(Waiting::job).collect();
            compress_together(&mut jobs);
            let chains: Vec<Chain> = jobs.iter().map(|job| job.chain).collect();
            for (waiting, chain) in gathered.into_iter().zip(chains) {
                drop(waiting.block);
                // Who does not wait any more has given its upload up.
                let _gone = waiting.done.send(chain).is_err();
            }
        }
    }
}

impl Waiting {
    fn job(&self) -> Job<'_> {
        let blocks = self.block.bytes().get(self.range.clone()).unwrap_or_default().as_chunks().0;
        Job { chain: self.chain, blocks }
    }
}

impl Worker<'_> {
    /// Those who wait, as many as go at once. Who finds nobody stops being counted in the same moment: whoever comes
    /// after that starts another.
    fn gathered(&mut self) -> Option<Vec<Waiting>> {
        let mut state = self.together.state();
        state.recent.retain(|_, came| came.elapsed() < RECENT);
        let is_lacking = |state: &mut State| {
            let waiting = state.waiting.len();
            waiting > 0 && waiting < LANES.min(state.recent.len())
        };
        let gathered = self.together.gathers.wait_timeout_while(state, GATHERING, is_lacking);
        let mut state = gathered.unwrap_or_else(PoisonError::into_inner).0;
        let count = state.waiting.len().min(LANES);
        if count == 0 {
            state.workers -= 1;
            self.is_counted = false;
            return None;
        }
        Some(state.waiting.drain(..count).collect())
    }
}

impl Drop for Worker<'_> {
    /// After a panic nobody waits in vain.
    fn drop(&mut self) {
        if self.is_counted {
            let mut state = self.together.state();
            state.workers -= 1;
            state.waiting.clear();
        }
    }
}

impl Blobs {
    /// A stream begins to come in.
    pub(super) fn stream(&self) -> Stream {
        self.inner.together.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A stream has had its last block: nobody waits for it any more.
    pub(super) fn ended(&self, stream: Stream) {
        self.inner.together.state().recent.remove(&stream);
    }

    /// Puts whole MD5 blocks of a block through a chain, together with whoever else has some.
    pub(super) async fn chain(
        &self,
        stream: Stream,
        chain: Chain,
        block: Arc<Block>,
        range: Range<usize>,
    ) -> Result<Chain> {
        if range.is_empty() {
            return Ok(chain);
        }
        let (done, answer) = oneshot::channel();
        if self.inner.together.add(stream, Waiting { chain, block, range, done }) {
            let inner = Arc::clone(&self.inner);
            drop(self.inner.runtime.spawn_blocking(move || inner.together.work()));
        }
        answer.await.map_err(|_| Error::Stopped)
    }
}
