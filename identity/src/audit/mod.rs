//! The audit log: a follower of the change feed that writes a JSON line for each note (contract §2, D23, D43).
//!
//! Each change carries its line in its own commit, so a change without a line cannot exist. This follower appends the
//! lines to `DIR/audit/YYYY-MM-DD.jsonl` and keeps how far it is (`Place`) in its rows; the engine keeps the feed
//! from there on.
//!
//! **Exactly once.** Lines are appended and fdatasynced, then one commit moves the place: feed position, segment and
//! length together. After a crash everything beyond the recorded length is cut and written again from the feed. Only
//! lines of durable commits are written, so that a power cut never leaves a line of a change that did not happen.
//! If the segments tell of positions that the rows never reached, the rows are older than the log (a restored
//! backup), and if the feed no longer has what follows the place, the cut lines could not be written again: nothing
//! is cut then.

mod read;
mod segment;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coffre_kv::{Change, Changes, Commit, Kv, Position, Wait, Write, follower_key};
use coffre_store::Clock;
use coffre_store::watch::Note;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::codec::{self, Kind};
use crate::error::{Error, Result};

pub use read::{Filter, Page};
use segment::{Day, Segments};

/// The follower's name in the feed.
const FOLLOWER: &str = "audit";
/// Commits read from the feed at once. They come with what they wrote, inline blobs of 128 KiB too: 4 MiB at most of
/// plain puts.
const READ_COMMITS: usize = 32;
/// Lines and commits of one append; beyond, what follows waits for the next.
const APPEND_LINES: usize = 4096;
const APPEND_COMMITS: u64 = 16_384;
/// Commits without a line that may pass before the place is moved, so that the engine may drop its log.
const IDLE_COMMITS: u64 = 1000;
/// Lines are flushed once in this time, not once a commit: until then they are safe in the feed.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Where its commit stands in the order of all.
    pub position: u64,
    /// When, who, through which door, what, with what outcome.
    #[serde(flatten)]
    pub note: Note,
}

/// How far the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    /// The last commit whose line is written.
    position: u64,
    /// The segment written last, days since 1970.
    day: u32,
    /// Its length in bytes.
    len: u64,
}

/// The audit log. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Audit {
    kv: Arc<dyn Kv>,
    clock: Arc<dyn Clock>,
    segments: Segments,
    keep_days: Option<u32>,
    /// Held while lines are written; never while a request is.
    writer: Arc<Mutex<Writer>>,
}

#[derive(Debug, Default)]
struct Writer {
    /// As in memory; `None` before the first step and after a failed one: then it is recovered.
    place: Option<Place>,
    /// The position in the rows.
    recorded: u64,
    #[cfg(test)]
    faults: tests::Faults,
}

impl Audit {
    /// Opens the log in `dir`, which is made if needed, and brings it up to date.
    pub async fn open(
        kv: Arc<dyn Kv>,
        dir: PathBuf,
        clock: Arc<dyn Clock>,
        keep_days: Option<u32>,
    ) -> Result<Self> {
        let audit = Self { kv, clock, segments: Segments::new(dir), keep_days, writer: Arc::default() };
        audit.catch_up().await?;
        Ok(audit)
    }

    /// Follows the feed until `stop`, then writes what is left.
    pub async fn run(self, stop: impl Future<Output = ()> + Send) {
        let mut applied = self.kv.applied();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                changed = applied.changed() => if changed.is_err() { break },
            }
            #[expect(clippy::disallowed_methods, reason = "one fdatasync a second, not one a commit")]
            let pause = tokio::time::sleep(FLUSH_EVERY);
            tokio::select! { () = &mut stop => break, () = pause => {} }
            applied.borrow_and_update();
            self.catch_up_or_warn().await;
        }
        self.catch_up_or_warn().await;
    }

    async fn catch_up_or_warn(&self) {
        match self.catch_up().await {
            // Stopped: the engine was closed first, and the feed keeps the lines for the next start.
            Ok(()) | Err(Error::Stopped) => {}
            Err(error) => {
                tracing::error!(%error, "the audit log is behind; its lines stay in the change feed");
            }
        }
    }

    /// Writes the lines of all changes committed before the call. Goes on when the future is dropped.
    pub async fn catch_up(&self) -> Result<()> {
        let target = self.kv.applied().borrow().0;
        loop {
            let writer = Arc::clone(&self.writer).lock_owned().await;
            if writer.place.is_some_and(|place| place.position >= target) {
                return Ok(());
            }
            let this = self.clone();
            // A task of its own: an append that is half done when its caller goes away is still finished or undone.
            let has_moved = tokio::spawn(async move { this.step(writer).await })
                .await
                .map_err(|e| Error::Internal { doing: "writing the audit log", source: e.into() })??;
            // Not every position is a commit of the feed.
            if !has_moved {
                return Ok(());
            }
        }
    }

    /// Writes what the feed has next; whether it had anything.
    async fn step(&self, mut writer: OwnedMutexGuard<Writer>) -> Result<bool> {
        // Forgotten until the step is done: what a failed one left behind is recovered first.
        let place = match writer.place.take() {
            Some(place) => place,
            None => self.recover(&mut writer).await?,
        };
        let (lines, position) = self.next_lines(place).await?;
        let mut moved = Place { position, ..place };
        if !lines.is_empty() {
            self.wait_durable(position, place).await?;
            (writer, moved) = self.append(writer, lines, moved).await?;
        }
        if moved != place && (moved.len != place.len || position >= writer.recorded + IDLE_COMMITS) {
            self.record(moved, Wait::Ordered).await?;
            writer.recorded = position;
            #[cfg(test)]
            writer.faults.at(tests::Point::Recorded)?;
        }
        if moved.day != place.day {
            self.blocking(Segments::prune, self.oldest_kept()).await?;
        }
        writer.place = Some(moved);
        Ok(moved.position > place.position)
    }

    /// The next lines of the feed, and the position of the last commit read.
    async fn next_lines(&self, place: Place) -> Result<(Vec<Line>, u64)> {
        let (mut lines, mut position) = (Vec::new(), place.position);
        while lines.len() < APPEND_LINES && position - place.position < APPEND_COMMITS {
            match self.kv.changes(Position(position), READ_COMMITS).await? {
                Changes::Items(changes) => {
                    let Some(last) = changes.last() else { break };
                    position = last.position.0;
                    lines.extend(changes.iter().flat_map(lines_of));
                }
                Changes::Gone { oldest } if lines.is_empty() => {
                    return Ok((self.gap(place, oldest), oldest.0));
                }
                // What was read is written first.
                Changes::Gone { .. } => break,
            }
        }
        Ok((lines, position))
    }

    /// Brings segments and rows to the same place.
    async fn recover(&self, writer: &mut Writer) -> Result<Place> {
        let row = self.kv.get(&codec::key(Kind::Audit, &[])).await?;
        let recorded: Option<Place> =
            row.map(|row| codec::decode("the audit log's place", &row.value)).transpose()?;
        let applied = self.kv.applied().borrow().0;
        #[cfg(test)]
        let recorded = writer.faults.sabotaged(recorded);
        let feed = self.kv.changes(Position(recorded.map_or(0, |place| place.position)), 1).await?;
        let feed_lacks = matches!(feed, Changes::Gone { .. });
        let place = self
            .blocking(move |segments, recorded| segments.recover(recorded, applied, feed_lacks), recorded)
            .await?;
        self.blocking(Segments::prune, self.oldest_kept()).await?;
        // Registers the follower before anything is written: from here on the feed is kept.
        self.record(place, Wait::Durable).await?;
        writer.recorded = place.position;
        Ok(place)
    }

    fn oldest_kept(&self) -> Option<Day> {
        self.keep_days.map(|days| Day::of_ms(self.clock.now_ms()).minus(days))
    }

    /// A line that says what is missing, when something is.
    fn gap(&self, place: Place, oldest: Position) -> Vec<Line> {
        if place.position == 0 {
            return Vec::new();
        }
        tracing::error!(
            from = place.position,
            to = oldest.0,
            "the change feed no longer has what the audit log lacks"
        );
        let mut note = unreadable(self.clock.now_ms());
        note.action = "AuditGap".into();
        note.outcome = format!("changes {} to {} are not in the log", place.position + 1, oldest.0);
        vec![Line { position: oldest.0, note }]
    }

    /// A durable commit makes all before it durable.
    async fn wait_durable(&self, position: u64, place: Place) -> Result<()> {
        if self.kv.stats().durable.0 >= position {
            return Ok(());
        }
        self.record(place, Wait::Durable).await
    }

    async fn append(
        &self,
        mut writer: OwnedMutexGuard<Writer>,
        lines: Vec<Line>,
        place: Place,
    ) -> Result<(OwnedMutexGuard<Writer>, Place)> {
        self.blocking(
            move |segments, lines| {
                let written = segments.append(place, &lines, &mut writer)?;
                Ok((writer, written))
            },
            lines,
        )
        .await
    }

    async fn record(&self, place: Place, wait: Wait) -> Result<()> {
        let position = Bytes::copy_from_slice(&place.position.to_be_bytes());
        let writes = vec![
            Write::Put(follower_key(FOLLOWER), position),
            Write::Put(codec::key(Kind::Audit, &[]), codec::encode(&place)?),
        ];
        // Lets the log shrink, so it may run on the reserve.
        let commit = Commit { writes, wait, may_use_reserve: true, ..Commit::default() };
        self.kv.commit(commit).await?;
        Ok(())
    }

    async fn blocking<A: Send + 'static, T: Send + 'static>(
        &self,
        work: impl FnOnce(&Segments, A) -> Result<T> + Send + 'static,
        with: A,
    ) -> Result<T> {
        let segments = self.segments.clone();
        tokio::task::spawn_blocking(move || work(&segments, with))
            .await
            .map_err(|e| Error::Internal { doing: "writing the audit log", source: e.into() })?
    }
}

/// A change's lines: one, or those of a batch.
fn lines_of(change: &Change) -> Vec<Line> {
    let position = change.position.0;
    let notes = Note::lines(change);
    if !change.note.is_empty() && notes.is_empty() && !is_empty_batch(change) {
        tracing::error!(position, "a change's note is of a format this version does not know");
        return vec![Line { position, note: unreadable(0) }];
    }
    notes.into_iter().map(|note| Line { position, note }).collect()
}

/// A batch of deletes that deleted nothing: it can be read, and has no lines.
fn is_empty_batch(change: &Change) -> bool {
    Note::decode(&change.note).is_some()
}

/// Stands in the log where nothing better is known: a hole would say that nothing happened.
fn unreadable(time_ms: u64) -> Note {
    Note {
        time_ms,
        principal: "system".into(),
        door: "control".into(),
        client_address: None,
        action: "UnreadableNote".into(),
        bucket: None,
        key: None,
        outcome: "unknown".into(),
        request_id: String::new(),
    }
}

#[cfg(test)]
mod tests;
