//! Scans: the index's rows with their values fetched, handed to a visitor.

use super::index::Onward;
use super::mark::FIRST_KEY;
use super::row::{IndexRow, Stored};
use super::shared::{Shared, bad_row};
use crate::{Result, Row, Scan, Step, Visitor};

/// Visits the rows. Blocks.
pub(super) fn scan(shared: &Shared, what: &Scan, visit: &mut Visitor) -> Result<()> {
    let index = shared.index()?;
    // The engine's own row stands under the empty key.
    let start = if what.range.start.is_empty() { FIRST_KEY } else { &what.range.start[..] };
    let range = (start, what.range.end.as_deref());
    shared.scan_index(&*index, range, what.direction, &mut |key, bytes| {
        let row = IndexRow::decode(bytes).ok_or_else(bad_row)?;
        let step = match row.value {
            _ if what.keys_only => visit(Row { key, value: &[], position: row.position }),
            Stored::Inline(value) => visit(Row { key, value, position: row.position }),
            Stored::Logged(_) => match shared.load(&*index, key, bytes)? {
                Some(entry) => visit(Row { key, value: &entry.value, position: entry.position }),
                // Deleted since the index told of it.
                None => Step::Next,
            },
        };
        Ok(match step {
            Step::Next => Onward::Next,
            Step::Seek(target) => Onward::Seek(target.to_vec()),
            Step::Stop => Onward::Stop,
        })
    })
}
