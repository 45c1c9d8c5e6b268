//! Giving segments back: moving live values out of nearly dead ones, and removing those that nothing needs.
//!
//! A segment goes only when it lies below the older snapshot and the checkpoint, every follower has passed it, nobody
//! holds it, and a look at each of its values has shown that none is live. The count of live bytes only chooses where to
//! look. Moves are durable before the file goes; a rebuild from either snapshot, and a replay from the checkpoint, meet
//! them.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::frame::{Kind, Place, parse_commit, parse_moves};
use super::segment::{FrameReader, SEGMENT_HEADER, Segment};
use crate::embedded::index::{Index, Onward};
use crate::embedded::queue::{Moving, Request};
use crate::embedded::row::{INLINE_BYTES_MAX, IndexRow, ValueAddress};
use crate::embedded::shared::Shared;
use crate::{Direction, Error, Position, Result, after_prefix, follower_key};

/// Values moved with one frame, about.
const MOVE_BYTES: usize = 1024 * 1024;

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Values written again at the log's end.
    pub values_moved: u64,
    /// Segments removed.
    pub segments_removed: u64,
    /// Bytes they had.
    pub bytes_freed: u64,
}

/// Compacts and removes what may go. The caller has the upkeep's turn.
pub(crate) fn compact(shared: &Arc<Shared>) -> Result<Compacted> {
    let mut done = Compacted::default();
    let index = shared.index()?;
    let Some(floor) = floor(shared) else { return Ok(done) };
    let passed = followers_passed(shared, &*index)?;
    let numbers: Vec<u64> = shared.segments.all().iter().map(|segment| segment.number).collect();
    for (number, next) in numbers.iter().zip(numbers.iter().skip(1)) {
        if *number >= floor.segment {
            break;
        }
        let (Some(segment), Some(next)) = (shared.segments.get(*number), shared.segments.get(*next)) else {
            continue;
        };
        let Some(start) = shared.segments.start(&next)? else { break };
        if start.position > passed {
            break;
        }
        // Where the chain has a gap the next one does not say where this one ends.
        let capacity = segment.capacity.load(Ordering::Relaxed);
        let end = Some(start.previous.offset).filter(|_| start.previous.segment == *number);
        let live = segment.live_bytes.load(Ordering::Relaxed);
        if u64::try_from(live).unwrap_or(0).saturating_mul(2) >= end.unwrap_or(capacity) {
            continue;
        }
        match empty(shared, &*index, &segment, end) {
            Ok(moved) => done.values_moved += moved,
            Err(error @ Error::Corrupt { .. }) => {
                // It stays, for who can mend it; the others need not wait for that.
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a log segment cannot be compacted"
                );
                continue;
            }
            Err(error) => return Err(error),
        }
        drop(segment);
        // An export in progress reads old segments; it is asked again next time.
        let Ok(_held) = shared.segments.hold.try_write() else { break };
        if shared.segments.remove_unheld(*number)? {
            done.segments_removed += 1;
            done.bytes_freed += capacity;
        }
    }
    if done.segments_removed > 0 {
        shared.segments.sync_dir()?;
    }
    Ok(done)
}

/// Everything before this place is covered by the checkpoint and by both snapshots; `None` with fewer than two.
fn floor(shared: &Shared) -> Option<Place> {
    let snapshots = shared.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
    let older = match &snapshots[..] {
        [.., older, _newest] => older.head.place,
        _ => return None,
    };
    drop(snapshots);
    let checkpoint = shared.checkpoint.lock().unwrap_or_else(PoisonError::into_inner).place;
    Some(older.min(checkpoint))
}

/// The position that every follower of the feed has passed.
fn followers_passed(shared: &Shared, index: &dyn Index) -> Result<Position> {
    let mut passed = shared.head().position;
    let prefix = follower_key("");
    let end = after_prefix(&prefix);
    let mut met = Vec::new();
    shared.scan_index(index, (&prefix, end.as_deref()), Direction::Forward, &mut |key, row| {
        met.push((key.to_vec(), row.to_vec()));
        Ok(Onward::Next)
    })?;
    for (key, row) in met {
        let entry = shared.load(index, &key, &row)?;
        let position = entry.and_then(|entry| <[u8; 8]>::try_from(&entry.value[..]).ok());
        // A row that is no position holds nothing back, as in every engine.
        if let Some(position) = position {
            passed = passed.min(Position(u64::from_be_bytes(position)));
        }
    }
    Ok(passed)
}

/// Moves every live value of a segment; after it no row points there, and none ever will again.
///
/// # Errors
/// [`Error::Corrupt`] when not every frame up to the segment's end can be read: it is kept then.
fn empty(shared: &Shared, index: &dyn Index, segment: &Arc<Segment>, end: Option<u64>) -> Result<u64> {
    let mut reader = FrameReader::new(segment, shared.store, SEGMENT_HEADER);
    let mut moves = Vec::new();
    let mut bytes = 0;
    let mut moved = 0;
    while let Some(frame) = reader.next()? {
        if shared.is_stopped() {
            return Err(Error::Stopped);
        }
        let writes = match frame.header.kind {
            Kind::Start => continue,
            Kind::Commit => parse_commit(&frame.body, frame.header.position).map(|(_, writes)| writes),
            Kind::Move => parse_moves(&frame.body),
        };
        let writes = writes.ok_or_else(|| Error::Corrupt { what: "a frame of the log".into() })?;
        for write in writes {
            let Some(value) = write.value.filter(|value| value.len() > INLINE_BYTES_MAX) else { continue };
            let place = Place { segment: segment.number, offset: frame.place.offset + write.value_offset };
            let Some(from) = live_address(shared, index, &write.key, place)? else { continue };
            bytes += value.len();
            moved += 1;
            // Copies: a slice would keep its whole frame in memory.
            let (key, value) =
                (bytes::Bytes::copy_from_slice(&write.key), bytes::Bytes::copy_from_slice(&value));
            moves.push(Moving { key, from, value });
            if bytes >= MOVE_BYTES {
                send(shared, std::mem::take(&mut moves))?;
                bytes = 0;
            }
        }
    }
    send(shared, moves)?;
    let is_whole = match end {
        Some(end) => reader.offset() == end,
        None => reader.is_empty_behind()?,
    };
    if is_whole { Ok(moved) } else { Err(Error::Corrupt { what: format!("log segment {}", segment.number) }) }
}

/// The address in the key's row when it is this very place.
fn live_address(
    shared: &Shared,
    index: &dyn Index,
    key: &[u8],
    place: Place,
) -> Result<Option<ValueAddress>> {
    let Some(row) = shared.or_poison(index.get(key))? else { return Ok(None) };
    let address = IndexRow::decode(&row).and_then(|row| row.address());
    Ok(address.filter(|address| address.segment == place.segment && address.offset == place.offset))
}

fn send(shared: &Shared, moves: Vec<Moving>) -> Result<()> {
    if moves.is_empty() {
        return Ok(());
    }
    let (answer, answered) = std::sync::mpsc::sync_channel(1);
    shared.queue.push(Request::Move { moves, answer })?;
    answered.recv().map_err(|_| Error::Stopped)?
}
