//! The change feed: the log, told from a position on.

use super::log::frame::{Kind, Place, parse_commit};
use super::log::segment::{Walked, walk};
use super::shared::{Head, Shared};
use crate::{Change, Changes, Error, Position, Result};

/// An answer holds about so many bytes, or one commit.
const ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// A segment removed under a reader is met at most so often before the feed counts as damaged.
const GONE_MAX: usize = 16;

/// The commits after a position. Blocks.
pub(super) fn changes(shared: &Shared, after: Position, limit: usize) -> Result<Changes> {
    let head = shared.head();
    if after >= head.position || limit == 0 {
        return Ok(Changes::Items(Vec::new()));
    }
    for _ in 0..GONE_MAX {
        let oldest = oldest(shared)?;
        if after < oldest.position {
            return Ok(Changes::Gone { oldest: oldest.position });
        }
        let from = nearest(shared, after, oldest)?;
        if let Some(items) = read(shared, from, after, head, limit)? {
            return Ok(Changes::Items(items));
        }
    }
    Err(Error::Corrupt { what: "the log has a gap".into() })
}

/// Where the unbroken log begins. Older segments may stay for their values; they tell no whole story.
fn oldest(shared: &Shared) -> Result<Head> {
    let mut oldest = shared.head();
    for segment in shared.segments.all().iter().rev() {
        // The newest segment may not have its first frame yet.
        let Some(start) = shared.segments.start(segment)? else { continue };
        if segment.number > oldest.place.segment {
            continue;
        }
        oldest = Head { position: start.position, place: Place { segment: segment.number, offset: 0 } };
        if shared.segments.get(start.previous.segment).is_none() {
            break;
        }
    }
    Ok(oldest)
}

/// The nearest known place at or before a position.
fn nearest(shared: &Shared, after: Position, oldest: Head) -> Result<Place> {
    // A mark is a place behind a group; it may be the end of a segment, which the reader goes on from.
    if let Some(mark) = shared.mark_before(after)
        && shared.segments.get(mark.place.segment).is_some()
    {
        return Ok(mark.place);
    }
    let mut best = oldest.place;
    for segment in shared.segments.after(oldest.place.segment) {
        match shared.segments.start(&segment)? {
            Some(start) if start.position <= after => best = Place { segment: segment.number, offset: 0 },
            _ => break,
        }
    }
    Ok(best)
}

/// Reads up to `limit` commits after `after`; `None` when the log has a gap now.
fn read(
    shared: &Shared,
    from: Place,
    after: Position,
    head: Head,
    limit: usize,
) -> Result<Option<Vec<Change>>> {
    let mut items = Vec::new();
    let mut bytes = 0;
    let walked = walk(&shared.segments, from, &mut |frame| {
        let position = frame.header.position;
        // Written, but not yet applied: nobody may know of it.
        if position > head.position {
            return Ok(false);
        }
        if frame.header.kind == Kind::Commit && position > after {
            let (note, writes) = parse_commit(&frame.body, position)
                .ok_or_else(|| Error::Corrupt { what: "a frame of the log".into() })?;
            bytes += frame.body.len();
            let writes = writes.into_iter().map(|write| (write.key, write.value)).collect();
            items.push(Change { position, writes, note });
        }
        Ok(items.len() < limit && bytes < ANSWER_BYTES && position < head.position)
    })?;
    match walked {
        Walked::Enough => Ok(Some(items)),
        Walked::Gone => Ok(None),
        Walked::End(place) => Err(Error::Corrupt { what: format!("log segment {}", place.segment) }),
    }
}
