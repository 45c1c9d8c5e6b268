//! An engine that fails, waits or freezes at the n-th call: for tests of what stands above.
//!
//! [`Faulty`] stands before any other engine. Without a plan it changes nothing (it passes the suite). Clones share
//! the counters and plans.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::{Semaphore, watch};

use crate::{Changes, Commit, Entry, Error, Kv, Position, Result, Scan, Stats, Visitor};

/// A call that can be planned for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Kv::commit`].
    Commit,
    /// [`Kv::get`].
    Get,
    /// [`Kv::scan`].
    Scan,
}

/// What happens at the planned call.
#[derive(Debug)]
pub enum Fault {
    /// It answers this, without having been done.
    Fail(Error),
    /// It is done, but answers [`Error::Stopped`]: the caller cannot know.
    DoneButStopped,
    /// It and all later calls answer [`Error::Stopped`], as if the process had died before it.
    Freeze,
    /// It is done, then everything freezes: it answers [`Error::Stopped`].
    FreezeAfter,
}

/// A call held back; see [`Faulty::hold`].
#[derive(Clone, Debug)]
pub struct Held {
    reached: Arc<Semaphore>,
    released: Arc<Semaphore>,
}

impl Held {
    /// Returns once the call is there and waits.
    pub async fn reached(&self) {
        if let Ok(permit) = self.reached.acquire().await {
            permit.forget();
            self.reached.add_permits(1);
        }
    }

    /// Lets it go on.
    pub fn release(&self) {
        self.released.add_permits(1);
    }

    async fn wait(&self) {
        self.reached.add_permits(1);
        if let Ok(permit) = self.released.acquire().await {
            permit.forget();
        }
    }
}

#[derive(Debug)]
enum Planned {
    Fault(Fault),
    Hold(Held),
}

#[derive(Debug)]
struct Plan {
    call: Call,
    /// Fires when this many more have come.
    left: u64,
    what: Planned,
}

#[derive(Debug, Default)]
struct State {
    counts: [u64; 3],
    plans: Vec<Plan>,
    frozen: bool,
}

/// An engine with planned faults; see the module.
#[derive(Clone, Debug)]
pub struct Faulty<K> {
    inner: K,
    state: Arc<Mutex<State>>,
}

enum After {
    Answer,
    Stopped,
    Freeze,
}

impl<K: Kv> Faulty<K> {
    /// Without a plan it only counts.
    pub fn new(inner: K) -> Self {
        Self { inner, state: Arc::default() }
    }

    /// The engine behind.
    pub fn inner(&self) -> &K {
        &self.inner
    }

    /// Plans a fault at the n-th call of this kind from now; 1 is the next.
    pub fn plan(&self, call: Call, n: u64, fault: Fault) {
        self.state().plans.push(Plan { call, left: n.max(1), what: Planned::Fault(fault) });
    }

    /// Holds the n-th call of this kind from now until it is released: for races that a test wants in one order.
    pub fn hold(&self, call: Call, n: u64) -> Held {
        let held = Held { reached: Arc::new(Semaphore::new(0)), released: Arc::new(Semaphore::new(0)) };
        self.state().plans.push(Plan { call, left: n.max(1), what: Planned::Hold(held.clone()) });
        held
    }

    /// Forgets all plans and thaws. Calls already held stay held until released.
    pub fn heal(&self) {
        let mut state = self.state();
        state.plans.clear();
        state.frozen = false;
    }

    /// Whether a planned freeze has come.
    pub fn is_frozen(&self) -> bool {
        self.state().frozen
    }

    /// How many calls of this kind there were.
    pub fn count(&self, call: Call) -> u64 {
        self.state().counts.get(call as usize).copied().unwrap_or(0)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> Result<()> {
        if self.is_frozen() { Err(Error::Stopped) } else { Ok(()) }
    }

    /// Counts the call and takes the plans that fire at it.
    fn due(&self, call: Call) -> Result<Vec<Planned>> {
        let mut state = self.state();
        if state.frozen {
            return Err(Error::Stopped);
        }
        if let Some(count) = state.counts.get_mut(call as usize) {
            *count += 1;
        }
        for plan in state.plans.iter_mut().filter(|plan| plan.call == call) {
            plan.left -= 1;
        }
        let (due, later) =
            std::mem::take(&mut state.plans).into_iter().partition(|plan: &Plan| plan.left == 0);
        state.plans = later;
        Ok(due.into_iter().map(|plan| plan.what).collect())
    }

    async fn before(&self, call: Call) -> Result<After> {
        let mut after = After::Answer;
        for planned in self.due(call)? {
            match planned {
                Planned::Hold(held) => held.wait().await,
                Planned::Fault(Fault::Fail(e)) => return Err(e),
                Planned::Fault(Fault::DoneButStopped) => after = After::Stopped,
                Planned::Fault(Fault::FreezeAfter) => after = After::Freeze,
                Planned::Fault(Fault::Freeze) => {
                    self.state().frozen = true;
                    return Err(Error::Stopped);
                }
            }
        }
        self.alive()?;
        Ok(after)
    }

    fn answer<T>(&self, after: &After, result: Result<T>) -> Result<T> {
        match after {
            After::Answer => result,
            After::Stopped => Err(Error::Stopped),
            After::Freeze => {
                self.state().frozen = true;
                Err(Error::Stopped)
            }
        }
    }
}

#[async_trait]
impl<K: Kv> Kv for Faulty<K> {
    async fn commit(&self, commit: Commit) -> Result<Position> {
        let after = self.before(Call::Commit).await?;
        let result = self.inner.commit(commit).await;
        self.answer(&after, result)
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Entry>> {
        let after = self.before(Call::Get).await?;
        let result = self.inner.get(key).await;
        self.answer(&after, result)
    }

    async fn scan(&self, scan: Scan, visit: Visitor) -> Result<()> {
        let after = self.before(Call::Scan).await?;
        let result = self.inner.scan(scan, visit).await;
        self.answer(&after, result)
    }

    async fn changes(&self, after: Position, limit: usize) -> Result<Changes> {
        self.alive()?;
        self.inner.changes(after, limit).await
    }

    fn applied(&self) -> watch::Receiver<Position> {
        self.inner.applied()
    }

    fn stats(&self) -> Stats {
        self.inner.stats()
    }

    async fn verified(&self) -> Result<()> {
        self.inner.verified().await
    }

    async fn export(&self, to: Box<dyn std::io::Write + Send>) -> Result<()> {
        self.alive()?;
        self.inner.export(to).await
    }

    async fn import(&self, from: Box<dyn std::io::Read + Send>) -> Result<()> {
        self.alive()?;
        self.inner.import(from).await
    }

    async fn close(&self) -> Result<()> {
        self.alive()?;
        self.inner.close().await
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::memory::Memory;
    use crate::{KvExt, Range, Write};

    fn put(key: &'static str) -> Commit {
        Commit { writes: vec![Write::Put(key.into(), Bytes::new())], ..Commit::default() }
    }

    async fn has(kv: &Memory, key: &str) -> bool {
        kv.get(key.as_bytes()).await.unwrap().is_some()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn without_a_plan_it_keeps_the_contract() {
        crate::suite::all(&|| Arc::new(Faulty::new(Memory::new()))).await;
    }

    #[tokio::test]
    async fn fails_at_the_planned_call_only() {
        let kv = Faulty::new(Memory::new());
        kv.plan(Call::Commit, 2, Fault::Fail(Error::NoSpace));
        kv.plan(Call::Scan, 1, Fault::Fail(Error::NoSpace));
        kv.commit(put("a")).await.unwrap();
        assert!(matches!(kv.commit(put("b")).await, Err(Error::NoSpace)));
        assert!(!has(kv.inner(), "b").await);
        kv.commit(put("b")).await.unwrap();
        assert!(matches!(kv.rows(Scan::forward(Range::all()), 9).await, Err(Error::NoSpace)));
        assert_eq!(kv.rows(Scan::forward(Range::all()), 9).await.unwrap().len(), 2);
        assert_eq!((kv.count(Call::Commit), kv.count(Call::Scan), kv.count(Call::Get)), (3, 2, 0));
    }

    #[tokio::test]
    async fn a_freeze_stops_everything_before_or_after_the_commit() {
        for (fault, happened) in [(Fault::Freeze, false), (Fault::FreezeAfter, true)] {
            let kv = Faulty::new(Memory::new());
            kv.plan(Call::Commit, 1, fault);
            assert!(matches!(kv.commit(put("a")).await, Err(Error::Stopped)));
            assert!(matches!(kv.get(b"a").await, Err(Error::Stopped)));
            assert!(matches!(kv.changes(Position(0), 1).await, Err(Error::Stopped)));
            assert_eq!(has(kv.inner(), "a").await, happened);
            kv.heal();
            kv.commit(put("a")).await.unwrap();
        }
        let kv = Faulty::new(Memory::new());
        kv.plan(Call::Commit, 1, Fault::DoneButStopped);
        assert!(matches!(kv.commit(put("a")).await, Err(Error::Stopped)));
        assert!(kv.get(b"a").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn holds_a_call_until_it_is_released() {
        let kv = Faulty::new(Memory::new());
        let held = kv.hold(Call::Commit, 1);
        let task = tokio::spawn({
            let kv = kv.clone();
            async move { kv.commit(put("a")).await }
        });
        held.reached().await;
        kv.commit(put("b")).await.unwrap();
        assert!(!has(kv.inner(), "a").await && has(kv.inner(), "b").await);
        held.release();
        task.await.unwrap().unwrap();
        assert!(has(kv.inner(), "a").await);
    }
}
