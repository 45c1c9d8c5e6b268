//! Scanning with seeks, the same for every index: a range of rows that can be walked from both ends, begun anew wherever
//! the visitor wants to go on.

use std::ops::Bound;

use super::{Onward, Visit};
use crate::{Direction, Result};

/// Called with a key and its row.
pub(super) type Meet<'a> = dyn FnMut(&[u8], &[u8]) -> Result<()> + 'a;

/// Rows between two bounds.
pub(super) trait Rows {
    /// Hands the next row from one end to `meet`; false when there is none left.
    fn step(&mut self, direction: Direction, meet: &mut Meet<'_>) -> Result<bool>;
}

/// Visits the rows with `start ≤ key < end` in order; `range` opens the rows between two bounds.
pub(super) fn scan<R: Rows>(
    (start, end): (&[u8], Option<&[u8]>),
    direction: Direction,
    visit: &mut Visit<'_>,
    range: impl Fn(&[u8], Bound<&[u8]>) -> Result<R>,
) -> Result<()> {
    // Bounds as they stand after the seeks so far; `upper` is excluded unless a backward seek included it.
    let mut lower = start.to_vec();
    let mut upper = end.map(|end| (end.to_vec(), false));
    loop {
        if upper.as_ref().is_some_and(|(key, included)| *key < lower || (*key == lower && !included)) {
            return Ok(());
        }
        let above = match &upper {
            None => Bound::Unbounded,
            Some((key, true)) => Bound::Included(key.as_slice()),
            Some((key, false)) => Bound::Excluded(key.as_slice()),
        };
        let mut rows = range(&lower, above)?;
        let Some(sought) = visit_until_seek(&mut rows, direction, visit)? else { return Ok(()) };
        match direction {
            Direction::Forward => lower = sought,
            Direction::Backward => upper = Some((sought, true)),
        }
    }
}

/// Visits rows until one makes the visitor seek, and tells where to; `None` at the end.
fn visit_until_seek(
    rows: &mut impl Rows,
    direction: Direction,
    visit: &mut Visit<'_>,
) -> Result<Option<Vec<u8>>> {
    loop {
        let mut wanted = Onward::Next;
        let met = rows.step(direction, &mut |key, row| {
            wanted = visit(key, row)?;
            if let Onward::Seek(target) = &wanted {
                let is_ahead = match direction {
                    Direction::Forward => target[..] > *key,
                    Direction::Backward => target[..] < *key,
                };
                // Behind the row just seen: as if it were `Next`.
                if !is_ahead {
                    wanted = Onward::Next;
                }
            }
            Ok(())
        })?;
        match wanted {
            Onward::Seek(target) => return Ok(Some(target)),
            Onward::Next if met => {}
            Onward::Next | Onward::Stop => return Ok(None),
        }
    }
}
