//! The index's own mark: how far it was brought, whose it is, and what its rows add up to.
//!
//! An index may come back wrong without a word: sled skips the rest of a segment in which one message is damaged, and
//! rows are missing then or old. So every group first writes a mark with the sum of all rows that the group does not
//! touch: all except those of the group's frames, which a death or a lost end of the index's file may have left half
//! applied. The replay begins before these frames, and writes them again.
//!
//! From the mark on the sum is carried along and never read from the rows: what a group replaces is taken out as the index
//! has it, what it writes is added. So a row that is wrong stays in the difference between the sum and the rows, through
//! every group, every new mark and every later opening, even when it is overwritten. Adding up the rows ([`add_up`])
//! finds it whenever that is done; until it has been done once in a life, nothing is committed (`verify.rs`).
//!
//! The row stands under the empty key, which no caller can use: `position u64 · store id · begin position u64 · segment
//! u64 · offset u64 · end segment u64 · offset u64 · sum u64`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::index::{Index, Onward};
use super::log::frame::{Place, StoreId};
use super::log::segment::{Frame, Segments, Walked, walk};
use super::row::IndexRow;
use super::shared::Head;
use crate::codec::Cursor;
use crate::{Direction, Position, Result};

/// The key of the mark.
const KEY: &[u8] = b"";
/// The first key a caller can use.
pub(super) const FIRST_KEY: &[u8] = &[0];

/// Rows of a group, sorted; `None` is a key that ended.
pub(super) type Rows = BTreeMap<Bytes, Option<Vec<u8>>>;

/// The row of a key as the index has it before a group.
pub(super) type RowBefore<'a> = dyn FnMut(&[u8]) -> Result<Option<Vec<u8>>> + 'a;

/// What the rows of an index add up to, whatever their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum(u64);

impl Sum {
    /// Adds a row, or takes one away that was added.
    pub(super) fn toggle(&mut self, key: &[u8], row: &[u8]) {
        let key_len = (key.len() as u64).to_le_bytes();
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
        for part in [&key_len[..], key, row] {
            digest.update(part);
        }
        // CRCs alone would add up to the same when two rows swap their values; the mixing (SplitMix64's) ends that.
        let mut z = digest.finalize();
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.0 ^= z ^ (z >> 31);
    }

    fn merge(&mut self, other: Self) {
        self.0 ^= other.0;
    }
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// The last commit of the group.
    pub(super) position: Position,
    /// Where the group's frames begin, and the last commit before them.
    pub(super) begin: Head,
    /// Where they end.
    pub(super) end: Place,
    /// Of all rows but those the frames write.
    pub(super) others: Sum,
}

impl Mark {
    fn encode(&self, store: &StoreId) -> Vec<u8> {
        let mut row = self.position.0.to_le_bytes().to_vec();
        row.extend_from_slice(store);
        let (begin, end) = (self.begin.place, self.end);
        for n in [self.begin.position.0, begin.segment, begin.offset, end.segment, end.offset, self.others.0]
        {
            row.extend_from_slice(&n.to_le_bytes());
        }
        row
    }

    fn decode(row: &[u8], store: &StoreId) -> Option<Self> {
        let mut cursor = Cursor::new(row);
        let position = Position(cursor.u64()?);
        if cursor.take(16)? != store {
            return None;
        }
        let position_before = Position(cursor.u64()?);
        let begin = Place { segment: cursor.u64()?, offset: cursor.u64()? };
        let begin = Head { position: position_before, place: begin };
        let end = Place { segment: cursor.u64()?, offset: cursor.u64()? };
        let others = Sum(cursor.u64()?);
        cursor.is_empty().then_some(Self { position, begin, end, others })
    }

    /// The mark in an index; `None` when it is missing or speaks of another store.
    pub(super) fn read(index: &dyn Index, store: &StoreId) -> Result<Option<Self>> {
        Ok(index.get(KEY)?.and_then(|row| Self::decode(&row, store)))
    }

    /// Writes the mark of an index in which nothing is half done.
    pub(super) fn write_settled(index: &dyn Index, store: &StoreId, head: Head, sum: Sum) -> Result<()> {
        let row = Self { position: head.position, begin: head, end: head.place, others: sum }.encode(store);
        index.apply(&mut std::iter::once((KEY, Some(&row[..]))))
    }

    /// What all rows have to add up to: those of the mark, and those of its group as the index has them now. `None` when
    /// the group's frames are not in the log.
    pub(super) fn expected(
        &self,
        index: &dyn Index,
        segments: &Segments,
        keys_of: &dyn Fn(&Frame, &mut HashSet<Bytes>) -> Result<()>,
    ) -> Result<Option<Sum>> {
        let mut touched = HashSet::new();
        if self.begin.place < self.end {
            let mut reached = self.begin.place;
            let walked = walk(segments, self.begin.place, &mut |frame| {
                if frame.place >= self.end {
                    return Ok(false);
                }
                keys_of(frame, &mut touched)?;
                reached = Place { segment: frame.place.segment, offset: frame.end() };
                Ok(reached < self.end)
            })?;
            if reached != self.end || walked == Walked::Gone {
                return Ok(None);
            }
        }
        let mut sum = self.others;
        for key in &touched {
            if let Some(row) = index.get(key)? {
                sum.toggle(key, &row);
            }
        }
        Ok(Some(sum))
    }
}

/// What rows come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Total {
    pub(super) sum: Sum,
    /// Bytes of the values that the rows have in each segment of the log.
    pub(super) live: HashMap<u64, u64>,
}

impl Total {
    fn add(&mut self, key: &[u8], row: &[u8]) {
        self.sum.toggle(key, row);
        if let Some(address) = IndexRow::decode(row).and_then(|row| row.address()) {
            *self.live.entry(address.segment).or_default() += u64::from(address.len_bytes);
        }
    }

    fn merge(&mut self, other: Self) {
        self.sum.merge(other.sum);
        for (segment, bytes) in other.live {
            *self.live.entry(segment).or_default() += bytes;
        }
    }
}

/// Rows one end adds up before it looks at how far the other has come; few in tests, so that the ends meet often.
const CHUNK_ROWS: usize = if cfg!(test) { 16 } else { 8192 };

/// What is added up so far, and what is left between the two ends.
struct Ends {
    /// All keys before it are added.
    low: Vec<u8>,
    /// It and all keys behind are added.
    high: Option<Vec<u8>>,
    total: Total,
    is_done: bool,
}

/// Adds up all rows of an index that nobody changes meanwhile; `None` when it is not wanted any more. From both ends at
/// once: one thread reads about half a million rows a second, and commits wait for it.
pub(super) fn add_up(index: &dyn Index, is_wanted: &(dyn Fn() -> bool + Sync)) -> Result<Option<Total>> {
    let ends =
        Mutex::new(Ends { low: FIRST_KEY.to_vec(), high: None, total: Total::default(), is_done: false });
    std::thread::scope(|scope| {
        let other = scope.spawn(|| add_up_from(Direction::Backward, index, &ends, is_wanted));
        let one = add_up_from(Direction::Forward, index, &ends, is_wanted);
        let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        one.and(other)
    })?;
    let ends = ends.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(ends.is_done.then_some(ends.total))
}

/// Works towards the other end, chunk by chunk. A chunk counts only if the other end has not come into it meanwhile.
fn add_up_from(
    direction: Direction,
    index: &dyn Index,
    ends: &Mutex<Ends>,
    is_wanted: &(dyn Fn() -> bool + Sync),
) -> Result<()> {
    let lock = || ends.lock().unwrap_or_else(PoisonError::into_inner);
    while is_wanted() {
        let (low, high) = {
            let ends = lock();
            if ends.is_done {
                return Ok(());
            }
            (ends.low.clone(), ends.high.clone())
        };
        let mut met = Total::default();
        let mut rows = 0;
        let mut last = Vec::new();
        index.scan(&low, high.as_deref(), direction, &mut |key, row| {
            met.add(key, row);
            rows += 1;
            if rows < CHUNK_ROWS {
                return Ok(Onward::Next);
            }
            last = key.to_vec();
            Ok(Onward::Stop)
        })?;
        let mut ends = lock();
        let is_ours = if rows < CHUNK_ROWS {
            // Everything that was left: nobody may have taken a part of it.
            let free = !ends.is_done && ends.low == low && ends.high == high;
            ends.is_done |= free;
            free
        } else if direction == Direction::Forward {
            let free = !ends.is_done && ends.high.as_ref().is_none_or(|high| last < *high);
            if free {
                last.push(0);
                ends.low = last;
            }
            free
        } else {
            let free = !ends.is_done && last >= ends.low;
            if free {
                ends.high = Some(last);
            }
            free
        };
        if is_ours {
            ends.total.merge(met);
        }
    }
    Ok(())
}

/// Brings rows into the index, the mark first, and the sum up to date. Their frames lie between the two heads;
/// `before` tells the row that the index has for a key until then, and `replaced` is told each row that ended.
pub(super) fn apply(
    index: &dyn Index,
    store: &StoreId,
    sum: &mut Sum,
    (begin, end): (Head, Head),
    rows: &Rows,
    before: &mut RowBefore<'_>,
    replaced: &mut dyn FnMut(&[u8]),
) -> Result<()> {
    let mut others = *sum;
    let mut ended = Vec::new();
    for key in rows.keys() {
        if let Some(old) = before(key)? {
            others.toggle(key, &old);
            ended.push(old);
        }
    }
    let mark = Mark { position: end.position, begin, end: end.place, others }.encode(store);
    let changes = rows.iter().map(|(key, row)| (&key[..], row.as_deref()));
    index.apply(&mut std::iter::once((KEY, Some(&mark[..]))).chain(changes))?;
    for old in &ended {
        replaced(old);
    }
    *sum = others;
    for (key, row) in rows {
        if let Some(row) = row {
            sum.toggle(key, row);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::IndexKind;
    use crate::embedded::row::{Stored, ValueAddress};

    #[test]
    fn a_mark_comes_back_for_its_store_only() {
        let place = |segment, offset| Place { segment, offset };
        let begin = Head { position: Position(6), place: place(1, 64) };
        let mark = Mark { position: Position(7), begin, end: place(2, 80), others: Sum(9) };
        let row = mark.encode(&[1; 16]);
        assert_eq!(Mark::decode(&row, &[1; 16]), Some(mark));
        assert_eq!(Mark::decode(&row, &[2; 16]), None);
        assert_eq!(Mark::decode(&row[1..], &[1; 16]), None);
    }

    #[test]
    fn both_ends_add_up_every_row_once() {
        for kind in IndexKind::ALL {
            add_up_with(kind);
        }
    }

    fn add_up_with(kind: IndexKind) {
        let dir = tempfile::tempdir().unwrap();
        let index = crate::embedded::index::open(kind, dir.path(), 1 << 20).unwrap();
        let mut total = Total::default();
        assert_eq!(add_up(&*index, &|| true).unwrap().as_ref(), Some(&total));
        for n in 0..700_u32 {
            let key = n.wrapping_mul(0x9e37_79b1).to_be_bytes();
            let address = ValueAddress { segment: u64::from(n % 3), offset: 64, len_bytes: 2000 + n, crc: n };
            let value = if n % 2 == 0 { Stored::Logged(address) } else { Stored::Inline(&key) };
            let row = IndexRow { position: Position(u64::from(n)), value }.encode();
            index.apply(&mut std::iter::once((&key[..], Some(&row[..])))).unwrap();
            total.sum.toggle(&key, &row);
            if n % 2 == 0 {
                *total.live.entry(address.segment).or_default() += u64::from(address.len_bytes);
            }
            if n < 40 || n % 100 == 0 {
                assert_eq!(add_up(&*index, &|| true).unwrap().as_ref(), Some(&total), "{kind:?}, {n} rows");
            }
        }
        assert_eq!(add_up(&*index, &|| false).unwrap(), None, "nobody wants to know");
    }

    /// A row that is wrong is found after everything, itself included, was written again.
    #[test]
    fn what_is_wrong_stays_in_the_sum() {
        let dir = tempfile::tempdir().unwrap();
        let index = crate::embedded::index::open(IndexKind::Sled, dir.path(), 1 << 20).unwrap();
        let row = |n: u8| IndexRow { position: Position(u64::from(n)), value: Stored::Inline(&[n]) }.encode();
        let mut sum = Sum::default();
        let group = |sum: &mut Sum, n: u8, keys: std::ops::Range<u8>| {
            let rows: Rows = keys.map(|key| (Bytes::from(vec![key]), Some(row(n)))).collect();
            let heads = (Head::default(), Head { position: Position(u64::from(n)), ..Head::default() });
            let mut before = |key: &[u8]| index.get(key);
            apply(&*index, &[1; 16], sum, heads, &rows, &mut before, &mut |_| {}).unwrap();
            add_up(&*index, &|| true).unwrap().unwrap().sum == *sum
        };
        assert!(group(&mut sum, 1, 0..50));
        index.apply(&mut std::iter::once((&[7][..], None))).unwrap();
        index.apply(&mut std::iter::once((&[9][..], Some(&row(8)[..])))).unwrap();
        for (n, keys) in [(2, 20..30), (3, 0..10), (4, 0..60)] {
            assert!(!group(&mut sum, n, keys), "group {n}");
        }
    }

    #[test]
    fn the_sum_tells_missing_old_and_swapped_rows() {
        let sum = |rows: &[(&str, &str)]| {
            let mut sum = Sum::default();
            for (key, row) in rows {
                sum.toggle(key.as_bytes(), row.as_bytes());
            }
            sum
        };
        let whole = sum(&[("a", "1"), ("b", "2"), ("c", "3")]);
        assert_eq!(whole, sum(&[("c", "3"), ("a", "1"), ("b", "2")]));
        for other in [
            &[("a", "1"), ("b", "2")][..],
            &[("a", "1"), ("b", "2"), ("c", "4")],
            &[("a", "2"), ("b", "1"), ("c", "3")],
            &[("a", "1"), ("b", "2"), ("c3", "")],
            &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "")],
        ] {
            assert_ne!(whole, sum(other), "{other:?}");
        }
    }
}
