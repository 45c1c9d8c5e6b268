//! What has to be there: the truth, kept outside the engine, and the comparison with what it holds.
//!
//! The oracle remembers what was acknowledged. [`verify`] asks the opened engine how far each writer came, refuses an
//! answer that misses something acknowledged (or holds what was never sent), works out every row that has to be there
//! and compares all of them by SHA-256. It then recounts the rows among themselves, without the oracle.

use std::collections::BTreeMap;

use bytes::Bytes;
use coffre_kv::{
    Changes, Commit, Kv, KvExt, Position, Range, Scan, Wait, Write, decode_counter, encode_counter,
    follower_key,
};
use sha2::{Digest, Sha256};

use crate::workload::{self, Script, read_mark};

pub(crate) type Pairs = BTreeMap<Bytes, Bytes>;

/// One commit that was answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ack {
    pub(crate) writer: u64,
    pub(crate) n: u64,
    pub(crate) position: Position,
    pub(crate) durable: bool,
}

/// What happened to a process while it held ordered commits not yet durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Death {
    /// The process died; every answered commit has to be there.
    Process,
    /// The power was cut; ordered ones may be missing, the last first.
    Power,
}

#[derive(Clone, Debug)]
pub(crate) struct Oracle {
    scripts: Vec<Script>,
    /// Every row of the commits that the scripts have behind them.
    rows: Pairs,
    acks: BTreeMap<(u64, u64), Ack>,
    /// Commits in flight at once, for each writer: how far it may be beyond its last answer.
    depth: u64,
    /// The rows as they were at a position, from which a follower of the change feed goes on.
    followed: Option<(Position, Pairs)>,
}

/// Why `verify` is not content.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The engine answered with an error: nothing wrong was told, and a restart may mend it.
    Engine(String),
    /// The engine told something that is not so.
    Wrong(String),
}

impl From<coffre_kv::Error> for Failure {
    fn from(error: coffre_kv::Error) -> Self {
        Self::Engine(format!("{error:?}"))
    }
}

impl From<String> for Failure {
    fn from(what: String) -> Self {
        Self::Wrong(what)
    }
}

impl From<&str> for Failure {
    fn from(what: &str) -> Self {
        Self::Wrong(what.into())
    }
}

/// What `verify` found to be right.
#[derive(Debug)]
pub(crate) struct Verified {
    /// Commits of all writers.
    pub(crate) commits: u64,
    pub(crate) sha256: [u8; 32],
}

impl Oracle {
    pub(crate) fn new(seed: u64, writers: u64, depth: u64) -> Self {
        let scripts = (0..writers).map(|writer| Script::new(seed, writer)).collect();
        Self { scripts, rows: Pairs::new(), acks: BTreeMap::new(), depth, followed: None }
    }

    /// Where each writer goes on.
    pub(crate) fn scripts(&self) -> Vec<Script> {
        self.scripts.clone()
    }

    /// From here on all writers write something else than they would have.
    pub(crate) fn fork(&mut self, seed: u64, same_lengths: bool) {
        for script in &mut self.scripts {
            script.fork(seed, same_lengths);
        }
    }

    pub(crate) fn acknowledged(&mut self, acks: impl IntoIterator<Item = Ack>) {
        self.acks.extend(acks.into_iter().map(|ack| ((ack.writer, ack.n), ack)));
    }

    /// From here on a follower keeps the change feed, and `verify` replays it. Nobody may be writing.
    pub(crate) async fn follow(&mut self, kv: &dyn Kv) -> coffre_kv::Result<()> {
        let (key, at) = (follower_key("oracle"), kv.stats().applied);
        let row = Bytes::copy_from_slice(&at.0.to_be_bytes());
        let writes = vec![Write::Put(key.clone(), row.clone())];
        let position = kv.commit(Commit { writes, ..Commit::default() }).await?;
        self.rows.insert(key, row);
        self.followed = Some((position, self.rows.clone()));
        Ok(())
    }

    /// The changes since `follow`, applied to the rows of then, make the rows of now.
    async fn replay_feed(&self, kv: &dyn Kv, now: &Pairs) -> Result<(), Failure> {
        let Some((mut after, mut rows)) = self.followed.clone() else { return Ok(()) };
        loop {
            let changes = match kv.changes(after, 100).await? {
                Changes::Items(changes) => changes,
                Changes::Gone { oldest } => {
                    return Err(
                        format!("the feed a follower needs after {after:?} begins at {oldest:?}").into()
                    );
                }
            };
            if changes.is_empty() {
                break;
            }
            for change in changes {
                if change.position <= after {
                    return Err(format!("the feed goes from {after:?} to {:?}", change.position).into());
                }
                after = change.position;
                for (key, value) in change.writes {
                    match value {
                        Some(value) => rows.insert(key, value),
                        None => rows.remove(&key),
                    };
                }
            }
        }
        if sha256(&rows) == sha256(now) {
            Ok(())
        } else {
            Err(format!("the change feed does not lead to the rows: {}", difference(now, &rows)).into())
        }
    }

    /// For canaries: a truth that is not true any more.
    pub(crate) fn rows_mut(&mut self) -> &mut Pairs {
        &mut self.rows
    }

    /// How far each writer came, if that contradicts nothing that was answered.
    async fn reached(&self, kv: &dyn Kv, death: Death) -> Result<Vec<u64>, Failure> {
        let hot = kv.get(workload::HOT).await?;
        let end = hot.map_or(Position(0), |entry| entry.position);
        let mut reached = Vec::new();
        for script in &self.scripts {
            let writer = script.writer;
            let count = kv.counter(&workload::writer_key(writer)).await?;
            let count = u64::try_from(count).map_err(|_| format!("writer {writer} is at {count}"))?;
            let mut last = script.next;
            for ack in self.acks.range((writer, 0)..(writer + 1, 0)).map(|(_, ack)| ack) {
                let is_there = ack.n < count;
                if !is_there && (ack.durable || death == Death::Process) {
                    return Err(
                        format!("{ack:?} was acknowledged and is missing: the writer is at {count}").into()
                    );
                }
                if is_there != (ack.position <= end) {
                    return Err(format!(
                        "{ack:?}, the last commit is {end:?} and the writer at {count}: a hole"
                    )
                    .into());
                }
                last = last.max(ack.n + 1);
            }
            if count > last + self.depth {
                return Err(format!(
                    "writer {writer} is at {count}, but only {last} and {} were sent",
                    self.depth
                )
                .into());
            }
            if count < script.next {
                return Err(format!("writer {writer} was at {} before and is at {count}", script.next).into());
            }
            reached.push(count);
        }
        Ok(reached)
    }

    /// Takes over what is there, once it is known to contradict nothing.
    fn advance(&mut self, reached: &[u64]) {
        for (script, count) in self.scripts.iter_mut().zip(reached) {
            while script.next < *count {
                apply(&mut self.rows, &script.advance());
            }
        }
    }
}

fn apply(rows: &mut Pairs, commit: &Commit) {
    for write in &commit.writes {
        match write {
            Write::Put(key, value) => drop(rows.insert(key.clone(), value.clone())),
            Write::Delete(key) => drop(rows.remove(key)),
            Write::Add(key, delta) => {
                let old = rows.get(key).map_or(0, |value| decode_counter(value).unwrap());
                rows.insert(key.clone(), encode_counter(old + delta));
            }
        }
    }
}

fn sha256<'a>(rows: impl IntoIterator<Item = (&'a Bytes, &'a Bytes)>) -> [u8; 32] {
    let mut sha = Sha256::new();
    for (key, value) in rows {
        sha.update((key.len() as u64).to_be_bytes());
        sha.update(key);
        sha.update((value.len() as u64).to_be_bytes());
        sha.update(value);
    }
    sha.finalize().into()
}

/// Compares everything the engine holds with the truth; what is wrong comes back as text, so that canaries can ask
/// for it.
pub(crate) async fn verify(kv: &dyn Kv, oracle: &mut Oracle, death: Death) -> Result<Verified, Failure> {
    let reached = oracle.reached(kv, death).await?;
    oracle.advance(&reached);
    if death == Death::Power {
        // What the cut took will be written again, at other positions.
        oracle
            .acks
            .retain(|(writer, n), _| reached.get(usize::try_from(*writer).unwrap()).is_some_and(|at| n < at));
    }
    let rows = kv.rows(Scan::forward(Range::all()), usize::MAX).await?;
    // Rows that others put beside the workload's have positions of their own.
    let ours = rows.iter().filter(|(key, _)| key.starts_with(b"o/") || key.starts_with(b"w/"));
    let end = ours.map(|(_, entry)| entry.position).max().unwrap_or_default();
    let mut met = Pairs::new();
    for (key, entry) in rows {
        if key == workload::HOT {
            let (writer, n) = read_mark(&entry.value).ok_or("the hot row is not one of ours")?;
            let at = reached.get(usize::try_from(writer).unwrap_or(usize::MAX)).copied().unwrap_or(0);
            if entry.position != end || n + 1 != at {
                return Err(format!(
                    "the hot row is of {writer}/{n} at {:?}, the end is {end:?}",
                    entry.position
                )
                .into());
            }
            // Which writer was last is the engine's to say.
            oracle.rows.insert(key.clone(), entry.value.clone());
        }
        if key.starts_with(b"o/") {
            let ack = read_mark(&entry.value).and_then(|mark| oracle.acks.get(&mark));
            if let Some(ack) = ack.filter(|ack| ack.position != entry.position) {
                return Err(
                    format!("{key:?} is at {:?} and was acknowledged as {ack:?}", entry.position).into()
                );
            }
        }
        if met.insert(key.clone(), entry.value).is_some() {
            return Err(format!("{key:?} was met twice by one scan").into());
        }
    }
    if sha256(&met) != sha256(&oracle.rows) {
        return Err(difference(&met, &oracle.rows).into());
    }
    recount(&met)?;
    oracle.replay_feed(kv, &met).await?;
    for (key, value) in met.iter().step_by(7) {
        let read = kv.get(key).await?;
        if read.map(|entry| entry.value).as_ref() != Some(value) {
            return Err(format!("get and scan differ at {key:?}").into());
        }
    }
    Ok(Verified { commits: reached.iter().sum(), sha256: sha256(&met) })
}

fn difference(met: &Pairs, truth: &Pairs) -> String {
    let missing: Vec<_> = truth.keys().filter(|key| !met.contains_key(*key)).take(5).collect();
    let extra: Vec<_> = met.keys().filter(|key| !truth.contains_key(*key)).take(5).collect();
    let other: Vec<_> =
        met.iter().filter(|(key, value)| truth.get(*key).is_some_and(|t| t != *value)).collect();
    let other: Vec<_> = other.iter().take(5).map(|(key, _)| key).collect();
    format!(
        "{} rows of {}: missing {missing:?}, too many {extra:?}, with another value {other:?} …",
        met.len(),
        truth.len()
    )
}

/// Objects, index and counters have to agree among themselves.
fn recount(rows: &Pairs) -> Result<(), Failure> {
    let mut counted = Pairs::new();
    let mut sums: BTreeMap<Bytes, i64> = BTreeMap::new();
    for (key, value) in rows.range(Bytes::from_static(b"o/")..Bytes::from_static(b"o0")) {
        let name = std::str::from_utf8(key).map_err(|_| "an object's key")?;
        let object = name.rsplit('/').next().and_then(|n| n.parse().ok()).ok_or("an object's key")?;
        let (writer, written) = read_mark(value).ok_or("an object's mark")?;
        let len = value.len() - 16;
        counted.insert(workload::index_key(writer, object, written), Bytes::from(len.to_string()));
        *sums.entry(Bytes::from_static(workload::COUNT)).or_default() += 1;
        *sums.entry(Bytes::from_static(workload::BYTES)).or_default() += i64::try_from(value.len()).unwrap();
        *sums.entry(workload::reference_key(written)).or_default() += 1;
    }
    let index = rows.range(Bytes::from_static(b"i/")..Bytes::from_static(b"i0"));
    if !index.eq(counted.iter()) {
        return Err("the index rows are not those of the objects".into());
    }
    for (key, value) in rows.range(Bytes::from_static(b"c/")..Bytes::from_static(b"c0")) {
        let counted = sums.remove(key).unwrap_or(0);
        if decode_counter(value) != Some(counted) {
            return Err(format!("{key:?} is {:?} and counted {counted}", decode_counter(value)).into());
        }
    }
    if sums.is_empty() { Ok(()) } else { Err(format!("counters are missing: {sums:?}").into()) }
}

/// What became of a batch of one writer's commits sent together.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) acks: Vec<Ack>,
    /// The engine stopped: nothing more can be sent, and the rest is unknown.
    pub(crate) stopped: bool,
    /// The disk was full, and these commits did not happen.
    pub(crate) refused: bool,
}

/// Sends the next `count` commits of a script in order, without waiting in between, and leaves the script after the
/// last one that happened.
pub(crate) async fn send(kv: &dyn Kv, script: &mut Script, count: usize, wait: Option<Wait>) -> Sent {
    let mut ahead = script.clone();
    let mut commits = Vec::new();
    for _ in 0..count {
        let mut commit = ahead.advance();
        commit.wait = wait.unwrap_or(commit.wait);
        commits.push((commit.wait, Box::pin(kv.commit(commit))));
    }
    // Polled in order, so that they are queued in order.
    let mut results: Vec<Option<coffre_kv::Result<Position>>> = commits.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        let mut ready = true;
        for ((_, commit), result) in commits.iter_mut().zip(&mut results) {
            if result.is_none() {
                match commit.as_mut().poll(cx) {
                    std::task::Poll::Ready(answer) => *result = Some(answer),
                    std::task::Poll::Pending => ready = false,
                }
            }
        }
        if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    let mut sent = Sent::default();
    for ((wait, _), result) in commits.iter().zip(results) {
        match result.expect("all are ready") {
            Ok(position) => {
                let (writer, n) = (script.writer, script.next);
                drop(script.advance());
                sent.acks.push(Ack { writer, n, position, durable: *wait == Wait::Durable });
            }
            Err(coffre_kv::Error::NoSpace) => sent.refused = true,
            // Only because the one before it did not happen.
            Err(coffre_kv::Error::Conflict { .. }) if sent.refused || sent.stopped => {}
            Err(coffre_kv::Error::Stopped | coffre_kv::Error::Io { .. }) => sent.stopped = true,
            Err(e) => panic!("a commit of the workload: {e:?}"),
        }
    }
    sent
}
