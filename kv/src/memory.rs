//! The contract on a `BTreeMap`: the model that tests compare with, and an engine for tests of what stands above.
//!
//! Promises everything [`Kv`] does except durability: its rows end with the value. Keeps the change feed for the
//! last 10,000 commits and from the oldest follower on.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::watch;

use crate::{
    Change, Changes, Check, Commit, Direction, Entry, Error, Kv, Position, Range, Result, Row, Scan, Stats,
    Step, Visitor, Write, decode_counter, encode_counter, export, follower_key, validate,
};

/// How many commits the change feed keeps when no follower asks for more.
const FEED_COMMITS: usize = 10_000;

/// An engine in memory.
#[derive(Clone, Debug)]
pub struct Memory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    applied: watch::Sender<Position>,
    feed_commits: usize,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Bytes, Entry>,
    applied: Position,
    feed: VecDeque<Change>,
    /// The oldest position that `changes` still answers.
    feed_from: Position,
    commits: u64,
    closed: bool,
}

impl Memory {
    /// An empty engine.
    pub fn new() -> Self {
        Self::with_feed(FEED_COMMITS)
    }

    /// An empty engine whose change feed keeps this many commits when no follower asks for more.
    pub fn with_feed(feed_commits: usize) -> Self {
        let (applied, _) = watch::channel(Position::default());
        Self { shared: Arc::new(Shared { state: Mutex::default(), applied, feed_commits }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_state(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.closed { Err(Error::Stopped) } else { Ok(state) }
    }
}

impl State {
    fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.rows.get(key)
    }

    fn counter(&self, key: &[u8]) -> Result<i64> {
        self.get(key).map_or(Ok(0), |entry| {
            decode_counter(&entry.value)
                .ok_or_else(|| Error::Corrupt { what: "a counter's value is not 8 bytes".into() })
        })
    }

    fn holds(&self, check: &Check) -> Result<bool> {
        Ok(match check {
            Check::Absent(key) => self.get(key).is_none(),
            Check::Present(key) => self.get(key).is_some(),
            Check::At(key, position) => self.get(key).is_some_and(|entry| entry.position == *position),
            Check::PrefixEmpty(prefix) => {
                let from = (Bound::Included(prefix), Bound::Unbounded);
                self.rows.range::<Bytes, _>(from).next().is_none_or(|(key, _)| !key.starts_with(prefix))
            }
            Check::RangeEmpty(start, end) => {
                let within = (Bound::Included(start), Bound::Excluded(end));
                start >= end || self.rows.range::<Bytes, _>(within).next().is_none()
            }
            Check::AtLeast(key, n) => self.counter(key)? >= *n,
            Check::AtMost(key, n) => self.counter(key)? <= *n,
        })
    }

    fn commit(&mut self, commit: Commit) -> Result<Position> {
        for (check, held) in commit.checks.iter().map(|check| self.holds(check)).enumerate() {
            if !held? {
                return Err(Error::Conflict { check });
            }
        }
        let mut writes = Vec::with_capacity(commit.writes.len());
        for write in commit.writes {
            writes.push(match write {
                Write::Put(key, value) => (key, Some(value)),
                Write::Delete(key) => (key, None),
                Write::Add(key, delta) => {
                    let sum = self.counter(&key)?.checked_add(delta);
                    let sum = sum.ok_or(Error::Conflict { check: commit.checks.len() })?;
                    (key, Some(encode_counter(sum)))
                }
            });
        }
        let position = Position(self.applied.0 + 1);
        for (key, value) in &writes {
            match value {
                Some(value) => self.rows.insert(key.clone(), Entry { value: value.clone(), position }),
                None => self.rows.remove(key),
            };
        }
        self.applied = position;
        self.commits += 1;
        self.feed.push_back(Change { position, writes, note: commit.note });
        Ok(position)
    }

    fn trim_feed(&mut self, feed_commits: usize) {
        let followers = Range::prefix(follower_key(""));
        let mut keep_from = self.applied;
        for (key, entry) in self.rows.range((Bound::Included(followers.start.clone()), Bound::Unbounded)) {
            if !key.starts_with(&followers.start) {
                break;
            }
            if let Ok(bytes) = <[u8; 8]>::try_from(entry.value.as_ref()) {
                keep_from = keep_from.min(Position(u64::from_be_bytes(bytes)));
            }
        }
        while self.feed.len() > feed_commits {
            match self.feed.front() {
                Some(oldest) if oldest.position <= keep_from => {
                    self.feed_from = oldest.position;
                    self.feed.pop_front();
                }
                _ => break,
            }
        }
    }

    /// The row to visit next, from `bound` on in `direction`, within `range`.
    fn next_row(&self, range: &Range, direction: Direction, bound: &Bound<Bytes>) -> Option<(Bytes, Entry)> {
        let (key, entry) = match direction {
            Direction::Forward => self.rows.range((bound.clone(), Bound::Unbounded)).next()?,
            Direction::Backward => self.rows.range((Bound::Unbounded, bound.clone())).next_back()?,
        };
        let inside = *key >= range.start && range.end.as_ref().is_none_or(|end| key < end);
        inside.then(|| (key.clone(), entry.clone()))
    }
}

/// Row by row, so that commits go on while the visitor works; the bound makes it meet each key once.
fn scan(shared: &Shared, scan: &Scan, visit: &mut Visitor) -> Result<()> {
    let Scan { range, direction, keys_only, is_short: _ } = scan;
    let mut bound = match direction {
        Direction::Forward => Bound::Included(range.start.clone()),
        Direction::Backward => range.end.clone().map_or(Bound::Unbounded, Bound::Excluded),
    };
    loop {
        let Some((key, entry)) = shared.open_state()?.next_row(range, *direction, &bound) else {
            return Ok(());
        };
        let value = if *keys_only { &[] } else { entry.value.as_ref() };
        bound = match (visit(Row { key: &key, value, position: entry.position }), direction) {
            (Step::Stop, _) => return Ok(()),
            (Step::Seek(to), Direction::Forward) if to > key => Bound::Included(to),
            (Step::Seek(to), Direction::Backward) if to < key => Bound::Included(to),
            (Step::Next | Step::Seek(_), _) => Bound::Excluded(key),
        };
    }
}

/// Runs on a thread that may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) if e.is_panic() => std::panic::resume_unwind(e.into_panic()),
        Err(_) => Err(Error::Stopped),
    }
}

#[async_trait]
impl Kv for Memory {
    async fn commit(&self, commit: Commit) -> Result<Position> {
        validate(&commit)?;
        let mut state = self.shared.open_state()?;
        let position = state.commit(commit)?;
        state.trim_feed(self.shared.feed_commits);
        // Sent under the lock, so that it never goes back.
        self.shared.applied.send_replace(position);
        Ok(position)
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Entry>> {
        Ok(self.shared.open_state()?.get(key).cloned())
    }

    async fn scan(&self, what: Scan, mut visit: Visitor) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        blocking(move || scan(&shared, &what, &mut visit)).await
    }

    async fn changes(&self, after: Position, limit: usize) -> Result<Changes> {
        let state = self.shared.open_state()?;
        if after < state.feed_from {
            return Ok(Changes::Gone { oldest: state.feed_from });
        }
        let first = state.feed.partition_point(|change| change.position <= after);
        Ok(Changes::Items(state.feed.iter().skip(first).take(limit).cloned().collect()))
    }

    fn applied(&self) -> watch::Receiver<Position> {
        self.shared.applied.subscribe()
    }

    fn stats(&self) -> Stats {
        let state = self.state();
        Stats {
            applied: state.applied,
            durable: state.applied,
            commits: state.commits,
            groups: state.commits,
            ..Stats::default()
        }
    }

    async fn export(&self, to: Box<dyn std::io::Write + Send>) -> Result<()> {
        let rows = self.shared.open_state()?.rows.clone();
        blocking(move || {
            let mut writer = export::Writer::new(to)?;
            for (key, entry) in &rows {
                writer.row(key, &entry.value)?;
            }
            writer.finish()
        })
        .await
    }

    async fn import(&self, from: Box<dyn std::io::Read + Send>) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        drop(shared.open_state()?);
        blocking(move || {
            let mut reader = export::Reader::new(from)?;
            let mut rows = BTreeMap::new();
            while let Some((key, value)) = reader.next()? {
                rows.insert(key, value);
            }
            let mut state = shared.open_state()?;
            if !state.rows.is_empty() {
                return Err(Error::Invalid { what: "to go into an empty engine: an import needs one" });
            }
            let position = Position(state.applied.0 + 1);
            state.rows = rows.into_iter().map(|(key, value)| (key, Entry { value, position })).collect();
            state.applied = position;
            // An import is no change that the feed tells: who follows begins from a scan.
            state.feed.clear();
            state.feed_from = position;
            shared.applied.send_replace(position);
            Ok(())
        })
        .await
    }

    async fn close(&self) -> Result<()> {
        let mut state = self.shared.open_state()?;
        state.closed = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str) -> Commit {
        Commit { writes: vec![Write::Put(key.to_owned().into(), Bytes::new())], ..Commit::default() }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_keeps_the_contract() {
        crate::suite::all(&|| Arc::new(Memory::new())).await;
    }

    #[tokio::test]
    async fn the_feed_forgets_but_not_what_a_follower_needs() {
        let kv = Memory::with_feed(3);
        for n in 0..5 {
            kv.commit(put(&n.to_string())).await.unwrap();
        }
        assert_eq!(kv.changes(Position(1), 9).await.unwrap(), Changes::Gone { oldest: Position(2) });
        let Changes::Items(items) = kv.changes(Position(2), 9).await.unwrap() else { panic!("kept") };
        assert_eq!(items.len(), 3);

        let follower = Write::Put(follower_key("f"), Bytes::copy_from_slice(&5u64.to_be_bytes()));
        kv.commit(Commit { writes: vec![follower], ..Commit::default() }).await.unwrap();
        for n in 0..9 {
            kv.commit(put(&n.to_string())).await.unwrap();
        }
        let Changes::Items(items) = kv.changes(Position(5), 99).await.unwrap() else { panic!("kept") };
        assert_eq!(items.len(), 10);
        kv.commit(Commit { writes: vec![Write::Delete(follower_key("f"))], ..Commit::default() })
            .await
            .unwrap();
        assert!(matches!(kv.changes(Position(5), 9).await.unwrap(), Changes::Gone { .. }));
    }
}
