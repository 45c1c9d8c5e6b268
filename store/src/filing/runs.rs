//! The rows of lists, run by run: a run is what one scope has of one category and type, newest first.
//!
//! A row's key is its run's prefix and a [`Tail`]: time and serial, inverted, so that what is newer comes first. Runs
//! are walked in the order of their keys in one scan, which seeks from one to the next; so a page that needs the first
//! rows of many runs is one trip to the pool.

use std::sync::Arc;

use bytes::Bytes;
use coffre_kv::{Direction, Kv, KvExt, Range, Scan, Step};

use super::query::{Only, Source};
use crate::codec::corrupt;
use crate::error::Result;
use crate::scheme::Category;
use crate::usage::{DAY_MS, Measure, day_counter, list_counters};
use crate::views;

/// What follows a run's prefix: `!uploaded_at`, `!serial`, big-endian.
pub(super) type Tail = [u8; 16];

/// The tail of a time and a serial number.
pub(super) fn tail(uploaded_ms: u64, serial: u64) -> Tail {
    (!(u128::from(uploaded_ms) << 64 | u128::from(serial))).to_be_bytes()
}

/// The serial number of a tail.
pub(super) fn serial_of(tail: Tail) -> u64 {
    u64::try_from(!u128::from_be_bytes(tail) & u128::from(u64::MAX)).unwrap_or_default()
}

/// What one scope has of one category and type.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// What its rows' keys begin with.
    pub(super) prefix: Bytes,
    pub(super) category: Category,
    pub(super) mime: Arc<str>,
    /// How many rows it has, by the counter.
    pub(super) count: u64,
    pub(super) only: Arc<Only>,
}

/// The runs of lists, as the counters name them, in the order of their keys.
pub(super) async fn of_sources(kv: &Arc<dyn Kv>, sources: &[Source<'_>]) -> Result<Vec<Run>> {
    let mut scopes: Vec<(Bytes, Arc<Only>)> = Vec::with_capacity(sources.len());
    for source in sources {
        scopes.push((views::filing_scope_prefix(source.scope), Arc::new(source.only.clone())));
    }
    scopes.sort_by(|(a, _), (b, _)| a.cmp(b));
    let spans =
        scopes.iter().map(|(scope, _)| Span::under(&list_counters(Measure::Objects, scope))).collect();
    let before = list_counters(Measure::Objects, &[]).len();
    let walk = Walk { spans, direction: Direction::Forward, keys_only: false };
    let found: Vec<(usize, Bytes, i64)> = walk
        .over(kv, Vec::new(), move |found: &mut Vec<_>, span, key, value| {
            let n = coffre_kv::decode_counter(value).unwrap_or_default();
            if n > 0 {
                found.push((span, Bytes::copy_from_slice(key.get(before..).unwrap_or_default()), n));
            }
            Go::On
        })
        .await?;
    let mut runs = Vec::with_capacity(found.len());
    for (span, prefix, n) in found {
        let Some((scope, only)) = scopes.get(span) else { continue };
        let list = prefix.get(scope.len()..).unwrap_or_default();
        let (category, mime, _) = views::parse_filing_list(list)?;
        let count = u64::try_from(n).map_err(|_| corrupt("a counter is negative"))?;
        runs.push(Run { category, mime: mime.into(), count, only: Arc::clone(only), prefix });
    }
    Ok(runs)
}

impl Run {
    /// Its rows between two tails.
    pub(super) fn span(&self, (first, last): (Tail, Tail)) -> Span {
        let key = |tail: Tail| Bytes::from([self.prefix.as_ref(), &tail].concat());
        Span { first: key(first), last: key(last) }
    }
}

/// Keys from the first to the last, both included.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) first: Bytes,
    pub(super) last: Bytes,
}

impl Span {
    /// All keys that begin so. (None of ours goes on with a byte FF.)
    fn under(prefix: &Bytes) -> Self {
        Self { first: prefix.clone(), last: [prefix.as_ref(), &[0xFF]].concat().into() }
    }
}

/// What a walk does after a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Go {
    /// The next row.
    On,
    /// The next span.
    Past,
}

/// A scan of spans, which ascend and do not overlap.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) spans: Vec<Span>,
    pub(super) direction: Direction,
    pub(super) keys_only: bool,
}

impl Walk {
    /// Calls `visit` with the state, the number of the span, the key and the value of each row; gives the state.
    pub(super) async fn over<S, F>(self, kv: &Arc<dyn Kv>, state: S, mut visit: F) -> Result<S>
    where
        S: Send + 'static,
        F: FnMut(&mut S, usize, &[u8], &[u8]) -> Go + Send + 'static,
    {
        let Self { spans, direction, keys_only } = self;
        // the spans that are left, next one last
        let mut left: Vec<(usize, Span)> =
            spans.into_iter().enumerate().filter(|(_, span)| span.first <= span.last).collect();
        let (Some((_, first)), Some((_, last))) = (left.first(), left.last()) else { return Ok(state) };
        let end = Some([last.last.as_ref(), &[0]].concat().into());
        let range = Range { start: first.first.clone(), end };
        let is_forward = direction == Direction::Forward;
        if is_forward {
            left.reverse();
        }
        let scan = Scan { range, direction, keys_only, is_short: false };
        let step = move |state: &mut S, row: coffre_kv::Row<'_>| {
            let is_over = |span: &Span| if is_forward { row.key > span.last } else { row.key < span.first };
            while left.last().is_some_and(|(_, span)| is_over(span)) {
                left.pop();
            }
            let Some((number, span)) = left.last() else { return Step::Stop };
            let is_before = if is_forward { row.key < span.first } else { row.key > span.last };
            if !is_before && visit(state, *number, row.key, row.value) == Go::On {
                return Step::Next;
            }
            if !is_before {
                left.pop();
            }
            match left.last() {
                None => Step::Stop,
                Some((_, span)) if is_forward => Step::Seek(span.first.clone()),
                Some((_, span)) => Step::Seek(span.last.clone()),
            }
        };
        Ok(kv.scan_into(scan, state, step).await?)
    }
}

/// The tail of a row's key.
pub(super) fn tail_of(key: &[u8]) -> Tail {
    key.last_chunk::<16>().copied().unwrap_or_default()
}

/// How many files some scopes, of which these are all runs, have between two times: by the counters of whole days, and
/// by counting the rows of the two days that are cut.
pub(super) async fn count_days(
    kv: &Arc<dyn Kv>,
    scopes: &[Bytes],
    runs: &[Run],
    (from_ms, until_ms): (u64, u64),
) -> Result<u64> {
    let (first, last) = (from_ms.div_ceil(DAY_MS), until_ms / DAY_MS);
    if first >= last {
        return count_times(kv, runs, (from_ms, until_ms)).await;
    }
    let mut spans: Vec<Span> = Vec::with_capacity(scopes.len());
    for scope in scopes {
        spans.push(Span { first: day_counter(scope, first), last: day_counter(scope, last - 1) });
    }
    spans.sort_by(|a, b| a.first.cmp(&b.first));
    let walk = Walk { spans, direction: Direction::Forward, keys_only: false };
    let add = |n: &mut i64, _: usize, _: &[u8], value: &[u8]| {
        *n += coffre_kv::decode_counter(value).unwrap_or_default();
        Go::On
    };
    let whole = u64::try_from(walk.over(kv, 0, add).await?).unwrap_or_default();
    let before = count_times(kv, runs, (from_ms, first * DAY_MS)).await?;
    let after = count_times(kv, runs, (last.saturating_mul(DAY_MS), until_ms)).await?;
    Ok(whole + before + after)
}

/// How many rows are of a time in between, the first included.
async fn count_times(kv: &Arc<dyn Kv>, runs: &[Run], (from_ms, until_ms): (u64, u64)) -> Result<u64> {
    if from_ms >= until_ms {
        return Ok(0);
    }
    count(kv, runs, (tail(until_ms - 1, u64::MAX), tail(from_ms, 0))).await
}

/// How many rows lie between two tails.
pub(super) async fn count(kv: &Arc<dyn Kv>, runs: &[Run], between: (Tail, Tail)) -> Result<u64> {
    let spans = runs.iter().map(|run| run.span(between)).collect();
    let walk = Walk { spans, direction: Direction::Forward, keys_only: true };
    walk.over(kv, 0, |n: &mut u64, _, _, _| {
        *n += 1;
        Go::On
    })
    .await
}
