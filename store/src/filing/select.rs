//! The n-th to m-th of a million in constant memory: pure (contract D42).
//!
//! What is offered in one pass over all rows is kept in a heap when few enough come before the page. For a page that
//! lies deeper a first pass draws a sample, which says between which two ranks the page must lie, and the next pass
//! counts what is before and keeps what is between; if that is still too much, it has been sampled in the same pass,
//! and a narrower one follows. The sample is drawn by a hash of the serial number: no randomness, any order of rows.

use std::collections::BinaryHeap;

/// Most entries kept in a pass: four pages of a hundred pages. At most some MB.
const KEPT_MAX: usize = 40_000;
/// Size of the sample.
const SAMPLE: usize = 16_384;
/// How many standard deviations the page may lie from where the sample says.
const DEVIATIONS: f64 = 4.0;
/// More passes than any size of list needs: one for each factor of thirty, and those that guessed wrong.
pub(super) const PASSES_MAX: usize = 10;

/// What stands where: bytes that sort as the page does, no two equal.
pub(super) type Rank = Box<[u8]>;

/// One pass: what is offered comes in any order.
#[derive(Debug)]
pub(super) struct Pass {
    /// Ranks looked at, both included; outside them is only counted.
    from: Option<Rank>,
    until: Option<Rank>,
    /// How many are before `from`.
    before: u64,
    /// How many there are in all.
    total: u64,
    /// How many are between.
    between: u64,
    /// The least of those between, greatest first.
    kept: BinaryHeap<(Rank, u64)>,
    kept_max: usize,
    /// Those between with the least hashes, greatest first.
    sample: BinaryHeap<(u64, Rank)>,
    is_sampling: bool,
}

/// What a pass has come to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The page's serial numbers, in order.
    Page(Vec<u64>),
    /// Look again.
    Again(Box<Pass>),
}

impl Pass {
    /// The first pass for a page.
    pub(super) fn first(offset: u64, limit: usize) -> Self {
        Self::between(None, None, offset.saturating_add(limit as u64))
    }

    fn between(from: Option<Rank>, until: Option<Rank>, wanted: u64) -> Self {
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        Self {
            from,
            until,
            before: 0,
            total: 0,
            between: 0,
            kept: BinaryHeap::new(),
            kept_max: wanted.min(KEPT_MAX),
            sample: BinaryHeap::new(),
            is_sampling: wanted > KEPT_MAX,
        }
    }

    /// Another pass over other rows of the same time, to be [`Pass::join`]ed.
    pub(super) fn beside(&self) -> Self {
        Self {
            from: self.from.clone(),
            until: self.until.clone(),
            kept_max: self.kept_max,
            is_sampling: self.is_sampling,
            ..Self::between(None, None, 0)
        }
    }

    /// A file that is meant.
    pub(super) fn offer(&mut self, rank: &[u8], serial: u64) {
        self.total += 1;
        if self.from.as_deref().is_some_and(|from| rank < from) {
            self.before += 1;
            return;
        }
        if self.until.as_deref().is_some_and(|until| rank > until) {
            return;
        }
        self.between += 1;
        if self.is_sampling {
            self.draw(spread(serial), rank);
        }
        if self.kept.len() < self.kept_max {
            self.kept.push((rank.into(), serial));
        } else if let Some(mut greatest) = self.kept.peek_mut()
            && rank < &*greatest.0
        {
            *greatest = (rank.into(), serial);
        }
    }

    fn draw(&mut self, hash: u64, rank: &[u8]) {
        if self.sample.len() < SAMPLE {
            self.sample.push((hash, rank.into()));
        } else if let Some(mut greatest) = self.sample.peek_mut()
            && hash < greatest.0
        {
            *greatest = (hash, rank.into());
        }
    }

    /// Adds what was offered to another.
    pub(super) fn join(&mut self, other: Self) {
        let (total, before, between) = (self.total, self.before, self.between);
        for (rank, serial) in other.kept {
            self.offer(&rank, serial);
        }
        for (hash, rank) in other.sample {
            self.draw(hash, &rank);
        }
        self.total = total + other.total;
        self.before = before + other.before;
        self.between = between + other.between;
    }

    /// How many were offered.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// What it has come to, for the page that was asked for.
    pub(super) fn end(self, offset: u64, limit: usize) -> Outcome {
        let limit = usize::try_from(self.total.saturating_sub(offset)).unwrap_or(usize::MAX).min(limit);
        if limit == 0 {
            return Outcome::Page(Vec::new());
        }
        let end = offset + limit as u64;
        // a sample lies once in ten thousand: then what it cut off is looked at again
        let Some(skipped) = offset.checked_sub(self.before) else {
            return Outcome::Again(Box::new(Self::between(None, self.until, end)));
        };
        let wanted = end - self.before;
        if wanted > self.between {
            return Outcome::Again(Box::new(Self::between(self.from, None, wanted)));
        }
        if wanted <= self.kept.len() as u64 {
            let kept = self.kept.into_sorted_vec();
            let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
            let page = kept.into_iter().skip(skipped).take(limit).map(|(_, serial)| serial);
            return Outcome::Page(page.collect());
        }
        let (from, until) = self.narrowed(skipped, wanted);
        Outcome::Again(Box::new(Self::between(from, until, u64::MAX)))
    }

    /// The ranks between which the sample says the page lies. It does so where the places asked for are `first` to
    /// `last` of those between.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate"
    )]
    fn narrowed(self, first: u64, last: u64) -> (Option<Rank>, Option<Rank>) {
        let mut ranks: Vec<Rank> = self.sample.into_iter().map(|(_, rank)| rank).collect();
        ranks.sort_unstable();
        let (drawn, there) = (ranks.len() as f64, self.between as f64);
        let place = |n: u64| {
            let share = n as f64 / there;
            (share * drawn, DEVIATIONS * (drawn * share * (1.0 - share)).max(1.0).sqrt() + 1.0)
        };
        let (at, off) = place(first);
        let from = if at - off < 0.0 { self.from } else { ranks.get((at - off) as usize).cloned() };
        let (at, off) = place(last);
        let until = ranks.get((at + off).ceil() as usize).cloned().or(self.until);
        (from, until)
    }
}

/// Spreads numbers that follow one another over all numbers (SplitMix64's finish).
fn spread(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use coffre_disk::seed::Random;

    use super::*;

    /// The page, and in how many passes, of numbers in any order.
    fn page(all: &[u64], offset: u64, limit: usize) -> (Vec<u64>, usize) {
        let mut pass = Pass::first(offset, limit);
        for passes in 1..=PASSES_MAX {
            let mut beside = pass.beside();
            for (n, at) in all.iter().enumerate() {
                let pass = if at % 3 == 0 { &mut beside } else { &mut pass };
                pass.offer(&at.to_be_bytes(), n as u64);
            }
            pass.join(beside);
            assert_eq!(pass.total(), all.len() as u64);
            match pass.end(offset, limit) {
                Outcome::Page(page) => {
                    return (page.into_iter().map(|n| all[usize::try_from(n).unwrap()]).collect(), passes);
                }
                Outcome::Again(next) => pass = *next,
            }
        }
        panic!("too many passes");
    }

    #[test]
    fn pages_are_those_of_a_sorted_list() {
        let mut random = Random::new(7);
        for size in [0, 1, 15, 1_000, 60_000, 300_000_u64] {
            let mut all: Vec<u64> = (0..size).map(|n| n * 10).collect();
            for i in (1..all.len()).rev() {
                all.swap(i, random.index(i + 1));
            }
            let mut sorted = all.clone();
            sorted.sort_unstable();
            let offsets =
                [0, 1, 14, size / 2, size.saturating_sub(15), size.saturating_sub(1), size, size + 99];
            for offset in offsets {
                let (found, passes) = page(&all, offset, 15);
                let from = usize::try_from(offset.min(size)).unwrap();
                let expected: Vec<u64> = sorted[from..].iter().copied().take(15).collect();
                assert_eq!(found, expected, "{size} {offset}");
                assert!(passes <= 3, "{size} {offset}: {passes}");
            }
        }
    }

    #[test]
    fn a_sample_that_lies_costs_a_pass() {
        let all: Vec<u64> = (0..1_000).collect();
        // as if the sample had said that the page is from 500 on, or until 100
        for (from, until, offset) in [(Some(500_u64), None, 90), (None, Some(100_u64), 300)] {
            let rank = |n: u64| Rank::from(n.to_be_bytes());
            let mut pass = Pass::between(from.map(rank), until.map(rank), u64::MAX);
            for n in &all {
                pass.offer(&n.to_be_bytes(), *n);
            }
            let Outcome::Again(mut pass) = pass.end(offset, 5) else { panic!("that is not there") };
            for n in &all {
                pass.offer(&n.to_be_bytes(), *n);
            }
            let Outcome::Page(page) = pass.end(offset, 5) else { panic!("once more") };
            assert_eq!(page, (offset..offset + 5).collect::<Vec<_>>());
        }
    }
}
