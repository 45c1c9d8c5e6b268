//! Pages that need every row of the lists looked at: `search`, orders by name and size, filters that no list has of
//! its own (contract D42). One pass for the first pages, two or three for any other, in constant memory (`select.rs`).
//! A pass is two scans at once where there is enough to look at: the machine's cores share it.

use std::sync::Arc;

use coffre_kv::{Direction, Kv};

use super::query::{Only, Query, SortBy};
use super::runs::{Go, Run, Tail, Walk, serial_of, tail_of};
use super::select::{Outcome, PASSES_MAX, Pass};
use crate::error::{Error, Result};
use crate::scheme::fold;
use crate::views::Shown;

/// From how many rows on a pass is divided.
const DIVIDED_ROWS_MIN: u64 = if cfg!(test) { 20 } else { 20_000 };
/// How much of a name orders it, bytes; the rest would only cost memory.
const NAME_BYTES_MAX: usize = 128;

/// How a row is judged and ranked.
#[derive(Clone, Debug)]
struct Judge {
    needle: Option<Arc<str>>,
    by: SortBy,
    is_descending: bool,
}

/// How many there are, and the serial numbers of the page.
pub(super) async fn page(
    kv: &Arc<dyn Kv>,
    runs: &[Run],
    between: (Tail, Tail),
    query: &Query,
) -> Result<(u64, Vec<u64>)> {
    let needle = query.filter.needle().map(Into::into);
    let judge = Judge { needle, by: query.by, is_descending: query.is_descending };
    let mut pass = Pass::first(query.offset, query.limit);
    for _ in 0..PASSES_MAX {
        let pass_done = look(kv, runs, between, &judge, pass).await?;
        let total = pass_done.total();
        match pass_done.end(query.offset, query.limit) {
            Outcome::Page(serials) => return Ok((total, serials)),
            Outcome::Again(next) => pass = *next,
        }
    }
    // the list changes faster than it is read
    Err(Error::Busy)
}

/// One pass over all rows.
async fn look(
    kv: &Arc<dyn Kv>,
    runs: &[Run],
    between: (Tail, Tail),
    judge: &Judge,
    mut pass: Pass,
) -> Result<Pass> {
    let rows: u64 = runs.iter().map(|run| run.count).sum();
    if rows < DIVIDED_ROWS_MIN {
        return look_at(kv, runs.iter().map(|run| (run, between)).collect(), judge, pass).await;
    }
    let (first, second) = divided(runs, between, rows);
    let beside = pass.beside();
    let (first, second) =
        tokio::try_join!(look_at(kv, first, judge, pass), look_at(kv, second, judge, beside))?;
    pass = first;
    pass.join(second);
    Ok(pass)
}

/// A run and which of its rows.
type Part<'a> = (&'a Run, (Tail, Tail));

/// The runs in two halves of about as many rows, without cutting one.
fn divided(runs: &[Run], between: (Tail, Tail), rows: u64) -> (Vec<Part<'_>>, Vec<Part<'_>>) {
    let (mut first, mut second, mut seen) = (Vec::new(), Vec::new(), 0);
    for run in runs {
        let half = if seen + run.count / 2 < rows / 2 { &mut first } else { &mut second };
        half.push((run, between));
        seen += run.count;
    }
    (first, second)
}

async fn look_at(kv: &Arc<dyn Kv>, parts: Vec<Part<'_>>, judge: &Judge, pass: Pass) -> Result<Pass> {
    let spans = parts.iter().map(|(run, between)| run.span(*between)).collect();
    let kinds: Vec<(Arc<Only>, &'static str, Arc<str>)> = parts
        .iter()
        .map(|(run, _)| (Arc::clone(&run.only), run.category.as_str(), Arc::clone(&run.mime)))
        .collect();
    let judge = judge.clone();
    let walk = Walk { spans, direction: Direction::Forward, keys_only: false };
    let state = (pass, Vec::new(), None);
    let visit = move |(pass, rank, failed): &mut (Pass, Vec<u8>, Option<Error>),
                      span: usize,
                      key: &[u8],
                      value: &[u8]| {
        let Some((only, category, mime)) = kinds.get(span) else { return Go::Past };
        let row = match Shown::decode(value) {
            Ok(row) => row,
            Err(error) => {
                failed.get_or_insert(error);
                return Go::On;
            }
        };
        if only.holds(&row) && judge.is_meant(&row) {
            let tail = tail_of(key);
            judge.rank(&row, (category, mime), tail, rank);
            pass.offer(rank, serial_of(tail));
        }
        Go::On
    };
    let (pass, _, failed) = walk.over(kv, state, visit).await?;
    failed.map_or(Ok(pass), Err)
}

impl Judge {
    fn is_meant(&self, row: &Shown<'_>) -> bool {
        self.needle.as_deref().is_none_or(|needle| contains(row.name(), needle))
    }

    /// Writes where a row stands in the page's order.
    fn rank(&self, row: &Shown<'_>, (category, mime): (&str, &str), tail: Tail, rank: &mut Vec<u8>) {
        rank.clear();
        match self.by {
            SortBy::UploadedAt => {}
            SortBy::FileName => {
                let name = fold(row.name());
                rank.extend_from_slice(name.as_bytes().get(..NAME_BYTES_MAX).unwrap_or(name.as_bytes()));
                rank.push(0);
            }
            SortBy::SizeBytes => rank.extend_from_slice(&row.size_bytes.to_be_bytes()),
            SortBy::MimeType => rank.extend_from_slice(mime.as_bytes()),
            SortBy::Category => rank.extend_from_slice(category.as_bytes()),
        }
        if self.is_descending {
            for byte in rank.iter_mut() {
                *byte = !*byte;
            }
        }
        if matches!(self.by, SortBy::MimeType | SortBy::Category) {
            rank.push(if self.is_descending { 0xFF } else { 0 });
        }
        let is_oldest_first = self.by == SortBy::UploadedAt && !self.is_descending;
        rank.extend(tail.iter().map(|byte| if is_oldest_first { !byte } else { *byte }));
    }
}

/// Whether a name contains a folded text. Most names are ASCII and need no copy.
fn contains(name: &str, needle: &str) -> bool {
    if !name.is_ascii() {
        return fold(name).contains(needle);
    }
    let (name, needle) = (name.as_bytes(), needle.as_bytes());
    let Some(first) = needle.first() else { return true };
    name.windows(needle.len()).any(|window| {
        window.first().is_some_and(|c| c.to_ascii_lowercase() == *first)
            && window.eq_ignore_ascii_case(needle)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_contain() {
        let table = [
            ("Devis Dupont.pdf", "dupont", true),
            ("Relevé.pdf", "releve", true),
            ("releve.pdf", "releve.pdf", true),
            ("a", "ab", false),
            ("Émile", "EMILE", true),
            ("дом.txt", "ДОМ", true),
            ("annual_2024", "annual-2024", false),
        ];
        for (name, needle, expected) in table {
            assert_eq!(contains(name, &fold(needle)), expected, "{name} {needle}");
        }
    }
}
