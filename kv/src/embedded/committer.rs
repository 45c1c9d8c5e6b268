//! The committer: one thread that decides, logs, applies and answers, a group of commits at a time.
//!
//! Order within a group: checks and sums against the index and the group so far → frames → one write, one sync if anyone
//! waits for it → rows into the index, sorted → answers, change feed. Nothing is answered before it is both logged and
//! applied, a conflict included: who is told of a conflict finds its cause when it reads. While a group syncs the next
//! one gathers in the queue. The committer touches no blob file.
//!
//! A log that fails to be written or synced poisons the engine, and so does the index. Every call then answers
//! `Stopped`; the next open reads the log and knows.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::group::{Decided, Group, count_live};
use super::index::Index;
use super::log::frame::{self, FRAME_HEADER, Kind, Place};
use super::log::write::{NoRoom, Writer};
use super::mark::{self, Sum};
use super::queue::{Moving, Request};
use super::row::{INLINE_BYTES_MAX, IndexRow, Stored, ValueAddress};
use super::shared::{Head, Shared};
use super::verify::{self, Verified};
use crate::codec::crc32c;
use crate::{Commit, Error, Position, Result, Wait};

/// What was answered `Ordered` is durable after this long at the latest.
const UNSYNCED_MAX: Duration = Duration::from_secs(1);

/// With nothing unsynced there is nothing to wake up for.
const IDLE_MAX: Duration = Duration::from_hours(1);

/// Answers held back until the group is logged and applied.
enum Answer {
    Commit(oneshot::Sender<Result<Position>>, Result<Position>),
    Move(std::sync::mpsc::SyncSender<Result<()>>, Result<()>),
    Sync(std::sync::mpsc::SyncSender<Result<(Position, Place)>>),
}

pub(super) struct Committer {
    shared: Arc<Shared>,
    index: Arc<dyn Index>,
    log: Writer,
    last_sync: Instant,
    /// What all rows of the index have to add up to.
    sum: Sum,
}

/// A group being decided.
struct Work {
    group: Group,
    answers: Vec<Answer>,
    begin: (Position, Place),
    must_sync: bool,
    /// Whether only the reserve of disk space is left.
    is_short: bool,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, index: Arc<dyn Index>, log: Writer, sum: Sum) -> Self {
        Self { shared, index, log, last_sync: Instant::now(), sum }
    }

    /// Runs until the queue is closed and empty, or something fails.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || self.serve()));
        let stays_unknown = |verified: &mut Verified| {
            let is_unknown = *verified == Verified::NotYet;
            if is_unknown {
                *verified = Verified::Never;
            }
            is_unknown
        };
        shared.verified.send_if_modified(stays_unknown);
        match run {
            Ok(Ok(())) => return,
            Ok(Err(error)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the store has stopped");
            }
            Err(_) => tracing::error!("the store has stopped: the committer panicked"),
        }
        shared.poison();
    }

    fn serve(&mut self) -> Result<()> {
        // Nothing is decided on rows that may be wrong: what the log says once is the truth for ever.
        if *self.shared.verified.borrow() != Verified::Yes
            && !verify::before_commits(&self.shared, &*self.index, self.sum)?
        {
            return Ok(());
        }
        loop {
            let patience = if self.log.is_dirty() { UNSYNCED_MAX } else { IDLE_MAX };
            let Some(requests) = self.shared.queue.take(patience) else { break };
            // A drop without close is like a death of the process: what waits is not begun.
            if self.shared.is_dropped() {
                return Ok(());
            }
            if requests.is_empty() {
                self.sync()?;
            } else {
                self.serve_group(requests)?;
            }
        }
        let has_failed = *self.shared.poisoned.borrow();
        if has_failed || self.shared.is_dropped() { Ok(()) } else { self.sync() }
    }

    fn sync(&mut self) -> Result<()> {
        self.log.sync()?;
        self.last_sync = Instant::now();
        self.note_durable();
        Ok(())
    }

    fn note_durable(&self) {
        self.shared.logged_bytes.store(self.log.logged_bytes, Ordering::Relaxed);
        self.shared.durable.store(self.log.durable().0, Ordering::Release);
        self.shared.syncs.store(self.log.syncs, Ordering::Relaxed);
    }

    fn serve_group(&mut self, requests: Vec<Request>) -> Result<()> {
        let mut work = Work {
            group: Group::default(),
            answers: Vec::with_capacity(requests.len()),
            begin: (self.log.last(), self.log.at()),
            must_sync: false,
            is_short: self.shared.is_short_of_space(),
        };
        for request in requests {
            match request {
                Request::Commit { commit, answer, permit } => {
                    let result = self.commit(&commit, &mut work)?;
                    work.answers.push(Answer::Commit(answer, result));
                    drop(permit);
                }
                Request::Move { moves, answer } => {
                    let result = self.move_values(moves, &mut work)?;
                    work.answers.push(Answer::Move(answer, result));
                }
                Request::Sync { answer } => {
                    work.must_sync = true;
                    work.answers.push(Answer::Sync(answer));
                }
            }
        }
        self.log.write()?;
        if work.must_sync || (self.log.is_dirty() && self.last_sync.elapsed() >= UNSYNCED_MAX) {
            self.sync()?;
        }
        self.apply(&work)?;
        self.answer(work);
        Ok(())
    }

    /// Decides one commit and adds its frame. The outer error ends the engine, the inner one is the answer.
    fn commit(&mut self, commit: &Commit, work: &mut Work) -> Result<Result<Position>> {
        // Asked for before the checks, a sync also covers what a conflict is told about.
        work.must_sync |= commit.wait == Wait::Durable;
        let decided = match work.group.decide(&*self.index, commit) {
            Ok(decided) => decided,
            Err(error @ (Error::Conflict { .. } | Error::Corrupt { .. })) => return Ok(Err(error)),
            Err(error) => return Err(error),
        };
        if work.is_short && !commit.may_use_reserve {
            return Ok(Err(Error::NoSpace));
        }
        let mut body = Vec::with_capacity(body_hint(&commit.note, &decided));
        frame::put_commit_head(&mut body, &commit.note, decided.len());
        let mut offsets = Vec::with_capacity(decided.len());
        for one in &decided {
            frame::put_write(&mut body, &one.key, one.value.as_deref());
            offsets.push(body.len() - one.value.as_ref().map_or(0, bytes::Bytes::len));
        }
        match self.log.make_room(body.len(), commit.may_use_reserve) {
            Ok(()) => {}
            Err(NoRoom::Full) => return Ok(Err(Error::NoSpace)),
            Err(NoRoom::Failed(error)) => return Err(error),
        }
        let place = self.log.at();
        let position = Position(self.log.last().0 + 1);
        self.log.push(Kind::Commit, position, |out| out.extend_from_slice(&body));
        for (one, offset) in decided.into_iter().zip(offsets) {
            let row = one.value.map(|value| row(position, place, offset, &value));
            work.group.put(one.key, row);
        }
        self.shared.commits.fetch_add(1, Ordering::Relaxed);
        Ok(Ok(position))
    }

    /// Moves the values that nobody changed meanwhile. Always durable: their old segment goes next.
    fn move_values(&mut self, moves: Vec<Moving>, work: &mut Work) -> Result<Result<()>> {
        work.must_sync = true;
        let mut body = Vec::new();
        let mut rows = Vec::new();
        for Moving { key, from, value } in moves {
            let Some(position) = work.group.still_at(&*self.index, &key, &from)? else { continue };
            frame::put_move(&mut body, &key, position, &value);
            rows.push((key, position, body.len() - value.len(), value));
        }
        if rows.is_empty() {
            return Ok(Ok(()));
        }
        // What compaction writes it gives back many times: it may use the reserve.
        match self.log.make_room(body.len(), true) {
            Ok(()) => {}
            Err(NoRoom::Full) => return Ok(Err(Error::NoSpace)),
            Err(NoRoom::Failed(error)) => return Err(error),
        }
        let place = self.log.at();
        self.log.push(Kind::Move, self.log.last(), |out| out.extend_from_slice(&body));
        for (key, position, offset, value) in rows {
            work.group.put(key, Some(row(position, place, offset, &value)));
        }
        Ok(Ok(()))
    }

    /// Brings the group into the index and makes it visible.
    fn apply(&mut self, work: &Work) -> Result<()> {
        let last = self.log.last();
        let (segments, store) = (&self.shared.segments, &self.shared.store);
        let begin = Head { position: work.begin.0, place: work.begin.1 };
        let end = Head { position: last, place: self.log.at() };
        if end != begin {
            let rows = work.group.rows();
            for row in rows.values().flatten() {
                count_live(segments, row, 1);
            }
            let mut replaced = |row: &[u8]| count_live(segments, row, -1);
            let index = &*self.index;
            let mut before = |key: &[u8]| work.group.row_before(index, key);
            mark::apply(index, store, &mut self.sum, (begin, end), rows, &mut before, &mut replaced)?;
        }
        self.shared.set_head(end);
        self.shared.groups.fetch_add(1, Ordering::Relaxed);
        self.note_durable();
        Ok(())
    }

    fn answer(&self, work: Work) {
        let durable = self.log.durable();
        for answer in work.answers {
            // Who no longer waits for an answer has chosen so.
            let _gone = match answer {
                Answer::Commit(to, result) => to.send(result).is_err(),
                Answer::Move(to, result) => to.send(result).is_err(),
                Answer::Sync(to) => to.send(Ok((durable, self.log.at()))).is_err(),
            };
        }
        self.shared.wake_upkeep();
    }
}

fn body_hint(note: &[u8], decided: &[Decided]) -> usize {
    let writes =
        decided.iter().map(|one| 8 + one.key.len() + one.value.as_ref().map_or(0, bytes::Bytes::len));
    note.len() + 8 + writes.sum::<usize>()
}

/// The row of a value that stands `offset` bytes into the body of the frame at `place`.
fn row(position: Position, place: Place, offset: usize, value: &[u8]) -> Vec<u8> {
    logged_row(position, place, (FRAME_HEADER + offset) as u64, value)
}

/// The same, counted from the frame's begin, as reading the log counts.
pub(super) fn logged_row(position: Position, place: Place, value_offset: u64, value: &[u8]) -> Vec<u8> {
    let stored = if value.len() <= INLINE_BYTES_MAX {
        Stored::Inline(value)
    } else {
        Stored::Logged(ValueAddress {
            segment: place.segment,
            offset: place.offset + value_offset,
            len_bytes: u32::try_from(value.len()).expect("a value is at most 129 KiB"),
            crc: crc32c(value),
        })
    };
    IndexRow { position, value: stored }.encode()
}
