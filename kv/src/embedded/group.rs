//! What a group of commits has decided so far: checks and sums see the index and, over it, the commits of the same group
//! that came before.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Bound;

use bytes::Bytes;

use super::index::{Index, Onward};
use super::log::segment::Segments;
use super::mark::Rows;
use super::row::{IndexRow, Stored, ValueAddress};
use crate::{
    Check, Commit, Direction, Error, Position, Result, Write, after_prefix, decode_counter, encode_counter,
};

/// Rows decided and not yet applied; `None` is a key that ended.
#[derive(Default)]
pub(super) struct Group {
    rows: Rows,
    /// Rows of the index that checks and sums have asked for. Nothing changes them before this group does.
    read: RefCell<HashMap<Bytes, Option<Vec<u8>>>>,
}

/// A commit's write with its result.
pub(super) struct Decided {
    pub(super) key: Bytes,
    pub(super) value: Option<Bytes>,
}

fn no_counter() -> Error {
    Error::Corrupt { what: "a counter's value is not 8 bytes".into() }
}

fn no_row() -> Error {
    Error::Corrupt { what: "a row of the index".into() }
}

impl Group {
    /// The rows in key order, as the index takes them.
    pub(super) fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The row as the commits decided so far leave it.
    fn row(&self, index: &dyn Index, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.rows.get(key) {
            Some(row) => Ok(row.clone()),
            None => self.row_before(index, key),
        }
    }

    /// The row as it is in the index before the group is applied, read at most once.
    pub(super) fn row_before(&self, index: &dyn Index, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(row) = self.read.borrow().get(key) {
            return Ok(row.clone());
        }
        let row = index.get(key)?;
        self.read.borrow_mut().insert(Bytes::copy_from_slice(key), row.clone());
        Ok(row)
    }

    /// Position of the key's last write; `None` when it has no value.
    fn position(&self, index: &dyn Index, key: &[u8]) -> Result<Option<Position>> {
        let Some(row) = self.row(index, key)? else { return Ok(None) };
        Ok(Some(IndexRow::decode(&row).ok_or_else(no_row)?.position))
    }

    fn counter(&self, index: &dyn Index, key: &[u8]) -> Result<i64> {
        let Some(row) = self.row(index, key)? else { return Ok(0) };
        match IndexRow::decode(&row).ok_or_else(no_row)?.value {
            Stored::Inline(value) => decode_counter(value).ok_or_else(no_counter),
            Stored::Logged(_) => Err(no_counter()),
        }
    }

    /// No row with `start ≤ key < end`.
    fn is_empty(&self, index: &dyn Index, start: &[u8], end: Option<&[u8]>) -> Result<bool> {
        if end.is_some_and(|end| end <= start) {
            return Ok(true);
        }
        let within = (Bound::Included(start), end.map_or(Bound::Unbounded, Bound::Excluded));
        if self.rows.range::<[u8], _>(within).any(|(_, row)| row.is_some()) {
            return Ok(false);
        }
        // What the index still has may have ended in this group.
        let mut is_empty = true;
        index.scan(start, end, Direction::Forward, &mut |key, _| {
            is_empty = key.is_empty() || self.rows.contains_key(key);
            Ok(if is_empty { Onward::Next } else { Onward::Stop })
        })?;
        Ok(is_empty)
    }

    fn holds(&self, index: &dyn Index, check: &Check) -> Result<bool> {
        Ok(match check {
            Check::Absent(key) => self.row(index, key)?.is_none(),
            Check::Present(key) => self.row(index, key)?.is_some(),
            Check::At(key, position) => self.position(index, key)? == Some(*position),
            Check::PrefixEmpty(prefix) => self.is_empty(index, prefix, after_prefix(prefix).as_deref())?,
            Check::RangeEmpty(start, end) => self.is_empty(index, start, Some(end))?,
            Check::AtLeast(key, n) => self.counter(index, key)? >= *n,
            Check::AtMost(key, n) => self.counter(index, key)? <= *n,
        })
    }

    /// Evaluates a commit's checks and sums.
    ///
    /// # Errors
    /// [`Error::Conflict`], and [`Error::Corrupt`] for a counter that is none: answers for this commit. Anything else
    /// is a failure of the index.
    pub(super) fn decide(&self, index: &dyn Index, commit: &Commit) -> Result<Vec<Decided>> {
        for (check, one) in commit.checks.iter().enumerate() {
            if !self.holds(index, one)? {
                return Err(Error::Conflict { check });
            }
        }
        let mut decided = Vec::with_capacity(commit.writes.len());
        for write in &commit.writes {
            let value = match write {
                Write::Put(_, value) => Some(value.clone()),
                Write::Delete(_) => None,
                Write::Add(key, delta) => {
                    let sum = self.counter(index, key)?.checked_add(*delta);
                    Some(encode_counter(sum.ok_or(Error::Conflict { check: commit.checks.len() })?))
                }
            };
            decided.push(Decided { key: write.key().clone(), value });
        }
        Ok(decided)
    }

    /// Takes a row over, for the commits that come after.
    pub(super) fn put(&mut self, key: Bytes, row: Option<Vec<u8>>) {
        self.rows.insert(key, row);
    }

    /// The position of a key whose value stands exactly there; `None` when it was overwritten, deleted or moved.
    pub(super) fn still_at(
        &self,
        index: &dyn Index,
        key: &[u8],
        address: &ValueAddress,
    ) -> Result<Option<Position>> {
        let Some(row) = self.row(index, key)? else { return Ok(None) };
        let row = IndexRow::decode(&row).ok_or_else(no_row)?;
        Ok((row.address() == Some(*address)).then_some(row.position))
    }
}

/// Counts the live values of each segment as rows come and go.
pub(super) fn count_live(segments: &Segments, row: &[u8], sign: i64) {
    let Some(address) = IndexRow::decode(row).and_then(|row| row.address()) else { return };
    if let Some(segment) = segments.get(address.segment) {
        let len = i64::from(address.len_bytes);
        segment.live_bytes.fetch_add(sign * len, std::sync::atomic::Ordering::Relaxed);
    }
}
