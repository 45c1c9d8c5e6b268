//! Randomness that can be replayed: a seed is printed, and `COFFRE_SEED` gives it back.

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};

/// A generator for a test; its seed is printed.
pub fn rng(test: &str) -> StdRng {
    let seed = std::env::var("COFFRE_SEED")
        .ok()
        .map_or_else(|| rand::rng().next_u64(), |text| text.parse().expect("COFFRE_SEED is a number"));
    eprintln!("{test}: COFFRE_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// How many rounds a test makes: `COFFRE_ROUNDS`; else `long` in `make test-long`, `short` elsewhere.
pub fn rounds(short: usize, long: usize) -> usize {
    let default = if is_long() { long } else { short };
    std::env::var("COFFRE_ROUNDS").map_or(default, |text| text.parse().expect("COFFRE_ROUNDS is a number"))
}

/// `make test-long` runs.
pub fn is_long() -> bool {
    std::env::var_os("COFFRE_LONG").is_some()
}

/// Bytes that do not compress and differ by `tag`: the same tag and length give the same bytes.
pub fn bytes(tag: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    StdRng::seed_from_u64(tag).fill_bytes(&mut bytes);
    bytes
}
