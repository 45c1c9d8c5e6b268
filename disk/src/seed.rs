//! Chance that can be had again: the generator behind faults, power cuts and random tests.
//!
//! Not for secrets or ids. A test takes [`from_env`], prints it, and comes out the same when given it back.

/// SplitMix64 (Steele, Lea and Flood, 2014): every seed is as good as any other, and the whole state is one number.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The same seed gives the same sequence.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        // The high half of the product: no division, and a bias no test can see.
        u64::try_from((u128::from(self.next_u64()) * u128::from(end)) >> 64).unwrap_or(0)
    }

    /// An index below `len`; 0 when `len` is 0.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// True `percent` times of a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of them; `None` when there is none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.index(items.len()))
    }

    /// `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next_u64().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// How many rounds a proof makes: `COFFRE_ROUNDS`; else `long` when `COFFRE_LONG` is set (`make test-long`), `short`
/// when not.
pub fn rounds(short: u64, long: u64) -> u64 {
    let asked = std::env::var("COFFRE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    asked.unwrap_or(if std::env::var_os("COFFRE_LONG").is_some() { long } else { short })
}

/// The seed in `COFFRE_SEED`, else a new one.
pub fn from_env() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::env::var("COFFRE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| std::hash::RandomState::new().build_hasher().finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers_below_the_end() {
        let (mut a, mut b) = (Random::new(7), Random::new(7));
        let mut met = [0u32; 10];
        for _ in 0..1000 {
            let n = a.index(10);
            assert_eq!(n, b.index(10));
            met[n] += 1;
        }
        assert!(met.iter().all(|&n| n > 50), "{met:?}");
        assert_eq!(a.bytes(13).len(), 13);
        assert_eq!(a.below(0), 0);
        assert!(a.pick::<u8>(&[]).is_none());
    }
}
