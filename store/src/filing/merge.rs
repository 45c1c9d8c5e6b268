//! Pages in the order of time: the runs are merged, and rows read are those of the page, those before it, and a few
//! more of each run (contract D42). A page beyond the middle is reached from the other end.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use coffre_kv::{Direction, Kv};

use super::runs::{Go, Run, Span, Tail, Walk, tail_of};
use crate::error::Result;

/// Fewest and most rows read of a run at once. Few, because most runs give a page no row or one; most, because a
/// trip to the pool costs as much as some hundred rows.
const ROWS_MIN: usize = if cfg!(test) { 2 } else { 16 };
const ROWS_MAX: usize = if cfg!(test) { 8 } else { 4096 };

/// Rows of the runs between two tails, `offset` after the first, in the order of time.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) between: (Tail, Tail),
    pub(super) is_newest_first: bool,
    pub(super) offset: u64,
    pub(super) limit: usize,
    /// How many rows there are.
    pub(super) total: u64,
}

impl Page {
    /// Reads it.
    pub(super) async fn read(self, kv: &Arc<dyn Kv>, runs: &[Run]) -> Result<Vec<Tail>> {
        let Self { between, is_newest_first, offset, limit, total } = self;
        let limit = usize::try_from(total.saturating_sub(offset)).unwrap_or(usize::MAX).min(limit);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let behind = total - offset - limit as u64;
        let is_turned = behind < offset;
        let offset = if is_turned { behind } else { offset };
        let direction = if is_newest_first == is_turned { Direction::Backward } else { Direction::Forward };
        let spans = runs.iter().map(|run| run.span(between)).collect();
        let mut merge = Merge::begin(kv, spans, direction, offset.saturating_add(limit as u64)).await?;
        let mut page = Vec::with_capacity(limit);
        let mut before = offset;
        while page.len() < limit {
            let Some(tail) = merge.next(kv).await? else { break };
            if before > 0 {
                before -= 1;
            } else {
                page.push(tail);
            }
        }
        if is_turned {
            page.reverse();
        }
        Ok(page)
    }
}

/// Runs being merged.
struct Merge {
    cursors: Vec<Cursor>,
    direction: Direction,
    /// The next row of each run that has one.
    next: BinaryHeap<Reverse<(Tail, usize)>>,
}

/// What has been read of a run and not been given.
struct Cursor {
    rest: Option<Span>,
    read: VecDeque<Tail>,
    /// How many rows were asked for.
    rows: usize,
}

impl Merge {
    async fn begin(kv: &Arc<dyn Kv>, spans: Vec<Span>, direction: Direction, wanted: u64) -> Result<Self> {
        // a run's share and a quarter, so that few runs are read from again
        let runs = spans.len().max(1) as u64;
        let share = usize::try_from(wanted / runs).unwrap_or(ROWS_MAX).min(ROWS_MAX);
        let rows = (share + share / 4 + ROWS_MIN).min(ROWS_MAX);
        let read = read(kv, spans.clone(), direction, rows).await?;
        let cursors =
            spans.into_iter().zip(read).map(|(span, read)| Cursor::of(&span, read, direction, rows));
        let mut merge = Self { cursors: cursors.collect(), direction, next: BinaryHeap::new() };
        for run in 0..merge.cursors.len() {
            merge.offer(run);
        }
        Ok(merge)
    }

    /// Puts a run's next row where the least is found.
    fn offer(&mut self, run: usize) {
        if let Some(tail) = self.cursors.get_mut(run).and_then(|cursor| cursor.read.pop_front()) {
            self.next.push(Reverse((turned(tail, self.direction), run)));
        }
    }

    async fn next(&mut self, kv: &Arc<dyn Kv>) -> Result<Option<Tail>> {
        let Some(Reverse((tail, run))) = self.next.pop() else { return Ok(None) };
        if let Some(cursor) = self.cursors.get_mut(run)
            && cursor.read.is_empty()
            && let Some(span) = cursor.rest.take()
        {
            let rows = (cursor.rows * 2).min(ROWS_MAX);
            let read = read(kv, vec![span.clone()], self.direction, rows).await?;
            *cursor = Cursor::of(&span, read.into_iter().next().unwrap_or_default(), self.direction, rows);
        }
        self.offer(run);
        Ok(Some(turned(tail, self.direction)))
    }
}

impl Cursor {
    /// A run of which the first rows have been read, as many as asked for or all.
    fn of(span: &Span, read: VecDeque<Tail>, direction: Direction, rows: usize) -> Self {
        let rest = read.back().filter(|_| read.len() >= rows).map(|last| behind(span, *last, direction));
        Self { rest: rest.flatten(), read, rows }
    }
}

/// What of a span comes after one of its rows; `None`: nothing can.
fn behind(span: &Span, last: Tail, direction: Direction) -> Option<Span> {
    let prefix = span.first.len().checked_sub(last.len()).and_then(|len| span.first.get(..len))?;
    let last = u128::from_be_bytes(last);
    let next = match direction {
        Direction::Forward => last.checked_add(1)?,
        Direction::Backward => last.checked_sub(1)?,
    };
    let next: Bytes = [prefix, &next.to_be_bytes()].concat().into();
    Some(match direction {
        Direction::Forward => Span { first: next, last: span.last.clone() },
        Direction::Backward => Span { first: span.first.clone(), last: next },
    })
}

/// A tail that sorts as it is met.
fn turned(tail: Tail, direction: Direction) -> Tail {
    match direction {
        Direction::Forward => tail,
        Direction::Backward => (!u128::from_be_bytes(tail)).to_be_bytes(),
    }
}

/// The first rows of each span.
async fn read(
    kv: &Arc<dyn Kv>,
    spans: Vec<Span>,
    direction: Direction,
    rows: usize,
) -> Result<Vec<VecDeque<Tail>>> {
    let read = vec![VecDeque::new(); spans.len()];
    let walk = Walk { spans, direction, keys_only: true };
    walk.over(kv, read, move |read, span, key, _| {
        let Some(read) = read.get_mut(span) else { return Go::Past };
        read.push_back(tail_of(key));
        if read.len() < rows { Go::On } else { Go::Past }
    })
    .await
}
