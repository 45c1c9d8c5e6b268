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

/// How many rounds a test makes: `COFFRE_ROUNDS`, or its own default.
pub fn rounds(default: usize) -> usize {
    std::env::var("COFFRE_ROUNDS").map_or(default, |text| text.parse().expect("COFFRE_ROUNDS is a number"))
}

/// Bytes that do not compress and differ by `tag`: the same tag and length give the same bytes.
pub fn bytes(tag: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    StdRng::seed_from_u64(tag).fill_bytes(&mut bytes);
    bytes
}
