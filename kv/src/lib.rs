//! Ordered keys with checked atomic commits; nothing about objects.
//!
//! Owns the contract that every engine keeps ([`Kv`]) and its words ([`Commit`], [`Check`], [`Write`], [`Wait`],
//! [`Position`]). `suite.rs` proves the contract for each engine and wrapper.
//!
//! **Order.** Commits happen one after another; each gets a [`Position`], larger than all before it. The checks of a
//! commit see all earlier commits and none of its own writes.
//! **Atomicity.** All of a commit's writes become visible and durable together, or none does.
//! **Durability.** A commit that waited [`Wait::Durable`] survives power loss once answered, and with it every commit
//! before it. One that waited [`Wait::Ordered`] is visible once answered and survives the death of the process; an
//! engine makes it durable within a second by itself.
//! **Visibility.** What was answered is seen by every later `get` and `scan`.
//! **No interactive transactions.** The caller reads, decides purely and commits with checks; on
//! [`Error::Conflict`] it reads and decides again.

mod codec;
pub mod embedded;
mod error;
mod export;
pub mod fault;
pub mod memory;
pub mod suite;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

pub use error::{Error, Result};

/// Longest key, in bytes. A store key holds a bucket id, an escaped 1,024-byte object key and a suffix.
pub const KEY_BYTES_MAX: usize = 4096;
/// Largest value, in bytes (DESIGN §2.1): an inline blob of 128 KiB and its row's frame.
pub const VALUE_BYTES_MAX: usize = 128 * 1024 + 1024;
/// Largest note, in bytes.
pub const NOTE_BYTES_MAX: usize = 4096;
/// Most writes in one commit.
pub const WRITES_MAX: usize = 100_000;
/// Most bytes of keys and values in one commit.
pub const COMMIT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Keys beginning with this byte belong to the engines' own users of `kv` itself ([`follower_key`]).
pub const SYSTEM_TABLE: u8 = 0;

/// Where a commit stands in the order of all commits. 0 stands before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// What has to hold for a commit to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The key has no value.
    Absent(Bytes),
    /// The key has a value.
    Present(Bytes),
    /// The key has a value, last written at this position.
    At(Bytes, Position),
    /// No key begins with this prefix.
    PrefixEmpty(Bytes),
    /// No key lies in this range: the first included, the second not.
    RangeEmpty(Bytes, Bytes),
    /// The counter is at least this; an absent one is 0.
    AtLeast(Bytes, i64),
    /// The counter is at most this; an absent one is 0.
    AtMost(Bytes, i64),
}

impl Check {
    /// The key it is about; of a range the first.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Absent(key)
            | Self::Present(key)
            | Self::At(key, _)
            | Self::PrefixEmpty(key)
            | Self::RangeEmpty(key, _)
            | Self::AtLeast(key, _)
            | Self::AtMost(key, _) => key,
        }
    }
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// The key's value from now on.
    Put(Bytes, Bytes),
    /// The key has no value from now on; fine when it had none.
    Delete(Bytes),
    /// Adds to a counter: a value of 8 bytes, i64 big-endian, absent = 0. The row stays when the sum is 0.
    Add(Bytes, i64),
}

impl Write {
    /// The key written.
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put(key, _) | Self::Delete(key) | Self::Add(key, _) => key,
        }
    }
}

/// What a commit's answer promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Survives power loss.
    #[default]
    Durable,
    /// Applied; survives the death of the process. Any later durable commit makes it durable.
    Ordered,
}

/// One atomic change: if all checks hold, all writes happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// All have to hold. Evaluated after all earlier commits, before this one's own writes.
    pub checks: Vec<Check>,
    /// A key at most once.
    pub writes: Vec<Write>,
    /// At most [`NOTE_BYTES_MAX`], carried to the change feed and nowhere else.
    pub note: Bytes,
    /// What the answer promises.
    pub wait: Wait,
    /// May be written when only the reserve of disk space is left: for commits that free space.
    pub may_use_reserve: bool,
}

/// A key's value and the position of the commit that wrote it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// Position of its last write; what [`Check::At`] compares.
    pub position: Position,
}

impl Entry {
    /// The value as a counter; `None` when it is not one.
    pub fn counter(&self) -> Option<i64> {
        decode_counter(&self.value)
    }
}

/// The bytes of a counter's value.
pub fn encode_counter(n: i64) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

/// Reads a counter's value back.
pub fn decode_counter(value: &[u8]) -> Option<i64> {
    Some(i64::from_be_bytes(value.try_into().ok()?))
}

/// Keys of a scan: `start ≤ key < end`; `end` = `None` is the end of all keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// First key, included.
    pub start: Bytes,
    /// First key beyond, excluded.
    pub end: Option<Bytes>,
}

impl Range {
    /// All keys.
    pub fn all() -> Self {
        Self { start: Bytes::new(), end: None }
    }

    /// All keys that begin with `prefix`.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let start = prefix.into();
        let end = after_prefix(&start);
        Self { start, end }
    }
}

/// The first key beyond all keys that begin with `prefix`; `None` when there is none (all bytes 0xFF).
pub fn after_prefix(prefix: &[u8]) -> Option<Bytes> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end.into());
        }
    }
    None
}

/// Which way a scan goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Backward,
}

/// One row met by a scan.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value; empty when the scan asked for keys only.
    pub value: &'a [u8],
    /// Position of its last write.
    pub position: Position,
}

/// What a scan does after a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next row.
    Next,
    /// Forward: the first row at or after this key; backward: the last row at or before it. A target that lies
    /// behind the row just seen counts as `Next`.
    Seek(Bytes),
    /// No more.
    Stop,
}

/// What a scan visits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Which keys.
    pub range: Range,
    /// Which way.
    pub direction: Direction,
    /// Skip fetching values (those over 1 KiB cost a read each).
    pub keys_only: bool,
    /// The visitor stops after a few rows: no more than a few reads of rows, and done where those are done.
    pub is_short: bool,
}

impl Scan {
    /// Ascending, with values.
    pub fn forward(range: Range) -> Self {
        Self { range, direction: Direction::Forward, keys_only: false, is_short: false }
    }

    /// Descending, with values.
    pub fn backward(range: Range) -> Self {
        Self { range, direction: Direction::Backward, keys_only: false, is_short: false }
    }

    /// The same without values.
    #[must_use]
    pub fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    /// The same, on the caller's thread instead of the engine's pool. To be said when the visitor stops within
    /// [`SHORT_ROWS`] rows.
    #[must_use]
    pub fn short(mut self) -> Self {
        self.is_short = true;
        self
    }
}

/// As many rows as a caller's own thread is held up for: what handing a scan to another thread and back costs, about.
pub const SHORT_ROWS: usize = 8;

/// Called for each row of a scan, on a thread that may block.
pub type Visitor = Box<dyn FnMut(Row<'_>) -> Step + Send>;

/// One commit as the change feed tells it: what the keys are since.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it stands.
    pub position: Position,
    /// Each key written, with its new value (`Add` as its result) or `None` when deleted.
    pub writes: Vec<(Bytes, Option<Bytes>)>,
    /// The commit's note.
    pub note: Bytes,
}

/// A piece of the change feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// The commits after the position asked for, in order; empty when there is none yet.
    Items(Vec<Change>),
    /// The position asked for is older than what is kept: begin again from a scan, then from `oldest`.
    Gone {
        /// The oldest position one may ask for.
        oldest: Position,
    },
}

/// Figures about an engine, for `status` and metrics. Measured, never estimated; `None` where an engine has no such thing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Position of the last commit applied.
    pub applied: Position,
    /// Position of the last commit known durable.
    pub durable: Position,
    /// Commits accepted since open.
    pub commits: u64,
    /// Groups (one sync each at most) since open.
    pub groups: u64,
    /// Log syncs since open.
    pub syncs: u64,
    /// Bytes of log on disk.
    pub log_bytes: Option<u64>,
    /// Bytes of index on disk.
    pub index_bytes: Option<u64>,
    /// How the index came up at open: `"new"`, `"clean"`, `"replayed"` or `"rebuilt"`.
    pub opened: Option<&'static str>,
}

/// An ordered map with checked atomic commits. See the module for what is promised.
#[async_trait]
pub trait Kv: std::fmt::Debug + Send + Sync + 'static {
    /// Applies the commit, or says why not. If the future is dropped the commit may still happen.
    ///
    /// # Errors
    /// [`Error::Conflict`] with the first check that failed; [`Error::Invalid`] beyond the limits of this module or
    /// a key twice; [`Error::NoSpace`] and nothing happened; [`Error::Stopped`]: the engine is poisoned or closing,
    /// and whether the commit happened is known only after it is opened again.
    async fn commit(&self, commit: Commit) -> Result<Position>;

    /// The key's value. A point read: runs on the caller's thread.
    async fn get(&self, key: &[u8]) -> Result<Option<Entry>>;

    /// Calls `visit` for the rows in order. Not a snapshot: keys that do not change while it runs are met exactly
    /// once, others at most once for each version. Runs on the engine's pool of blocking threads unless it is short.
    async fn scan(&self, scan: Scan, visit: Visitor) -> Result<()>;

    /// At most `limit` commits after `after`, oldest first.
    async fn changes(&self, after: Position, limit: usize) -> Result<Changes>;

    /// Position of the last commit applied; follows every commit. For waiting on [`Kv::changes`].
    fn applied(&self) -> tokio::sync::watch::Receiver<Position>;

    /// Figures.
    fn stats(&self) -> Stats;

    /// Returns when the rows are known to be those that were written. An engine may serve reads before it knows; its
    /// commits wait for it, and so has whoever acts on what he read without a commit.
    ///
    /// # Errors
    /// [`Error::Stopped`]: it will not be known before it is opened again.
    async fn verified(&self) -> Result<()> {
        Ok(())
    }

    /// Writes every row (values included) to `to`, self-contained and checksummed; any engine imports it. The rows
    /// are those of one moment. Runs on the engine's pool.
    async fn export(&self, to: Box<dyn std::io::Write + Send>) -> Result<()>;

    /// Reads what [`Kv::export`] wrote into this engine, which has to be empty. Durable on return. Positions begin
    /// anew.
    async fn import(&self, from: Box<dyn std::io::Read + Send>) -> Result<()>;

    /// Makes everything durable, marks a clean end and stops; later calls answer [`Error::Stopped`].
    async fn close(&self) -> Result<()>;
}

/// Conveniences on any [`Kv`].
#[async_trait]
pub trait KvExt: Kv {
    /// Scans with a state that the visitor changes and the caller gets back.
    async fn scan_into<S, F>(&self, scan: Scan, state: S, mut visit: F) -> Result<S>
    where
        S: Send + 'static,
        F: FnMut(&mut S, Row<'_>) -> Step + Send + 'static,
    {
        let shared = Arc::new(Mutex::new(Some(state)));
        let inside = Arc::clone(&shared);
        let visitor: Visitor = Box::new(move |row| {
            let mut state = inside.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            state.as_mut().map_or(Step::Stop, |state| visit(state, row))
        });
        self.scan(scan, visitor).await?;
        let state = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        Ok(state.expect("the state is taken once, here"))
    }

    /// The first `limit` rows of a range.
    async fn rows(&self, scan: Scan, limit: usize) -> Result<Vec<(Bytes, Entry)>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let scan = if limit <= SHORT_ROWS { scan.short() } else { scan };
        self.scan_into(scan, Vec::new(), move |rows, row| {
            let entry = Entry { value: Bytes::copy_from_slice(row.value), position: row.position };
            rows.push((Bytes::copy_from_slice(row.key), entry));
            if rows.len() < limit { Step::Next } else { Step::Stop }
        })
        .await
    }

    /// The counter's value; 0 when absent.
    async fn counter(&self, key: &[u8]) -> Result<i64> {
        match self.get(key).await? {
            None => Ok(0),
            Some(entry) => entry
                .counter()
                .ok_or_else(|| Error::Corrupt { what: "a counter's value is not 8 bytes".into() }),
        }
    }
}

impl<K: Kv + ?Sized> KvExt for K {}

/// The row in which a follower of the change feed keeps its position (u64 big-endian, an ordinary `Put`). Engines
/// keep the feed from the smallest of these on; a follower that ends deletes its row.
pub fn follower_key(name: &str) -> Bytes {
    let mut key = vec![SYSTEM_TABLE];
    key.extend_from_slice(b"follower/");
    key.extend_from_slice(name.as_bytes());
    key.into()
}

/// Checks a commit against the limits of this module. Engines call it before anything else.
///
/// # Errors
/// [`Error::Invalid`] naming the limit.
pub fn validate(commit: &Commit) -> Result<()> {
    if commit.writes.len() > WRITES_MAX {
        return Err(Error::Invalid { what: "more writes than one commit may hold" });
    }
    if commit.note.len() > NOTE_BYTES_MAX {
        return Err(Error::Invalid { what: "a note longer than 4 KiB" });
    }
    let mut keys = std::collections::HashSet::with_capacity(commit.writes.len());
    let mut total = 0;
    for write in &commit.writes {
        let key = write.key();
        let value_len = if let Write::Put(_, value) = write { value.len() } else { 8 };
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(Error::Invalid { what: "a key that is empty or longer than 4 KiB" });
        }
        if value_len > VALUE_BYTES_MAX {
            return Err(Error::Invalid { what: "a value longer than 129 KiB" });
        }
        if !keys.insert(key) {
            return Err(Error::Invalid { what: "a key twice in one commit" });
        }
        total += key.len() + value_len;
    }
    if total > COMMIT_BYTES_MAX {
        return Err(Error::Invalid { what: "more than 32 MiB in one commit" });
    }
    Ok(())
}
