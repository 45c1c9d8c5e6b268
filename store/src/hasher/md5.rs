//! MD5 (RFC 1321) as a chain over blocks that can be laid down and taken up again, and up to eight chains at once.
//!
//! The steps of one chain wait for each other, so that one stream leaves most of a core idle; eight beside each other in
//! vector registers take about a third longer than one. One alone goes through a library made for that; several go
//! through the kernel here, in safe code: `fearless_simd` finds out which registers there are. Pure.
#![expect(
    clippy::indexing_slicing,
    clippy::inline_always,
    clippy::needless_range_loop,
    reason = "a kernel: all its lengths are the lanes' or were taken as the least of all; the letters are the RFC's"
)]

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch, u32x8};
use md5_simd::hazmat::compress_blocks;

use super::rest::{BLOCK, Rest, joined};

/// Chains at once.
pub(crate) const LANES: usize = 8;

/// The words between two blocks.
pub(crate) type Chain = [u32; 4];

/// MD5 of the bytes so far.
#[derive(Clone, Debug)]
pub(crate) struct Md5 {
    pub(crate) chain: Chain,
    pub(crate) rest: Rest,
    /// How many they are.
    pub(crate) len: u64,
}

impl Md5 {
    /// Of no bytes.
    pub(crate) const START: Chain = md5_simd::STATE_INIT;

    pub(crate) fn new() -> Self {
        Self { chain: Self::START, rest: Rest::of(&[]), len: 0 }
    }

    /// Takes the next bytes.
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        self.rest.take(bytes, |blocks| compress_blocks(&mut self.chain, blocks.as_flattened()));
    }

    /// Which of the next bytes are whole blocks: for whoever puts them through the chain, and then calls [`Self::close`].
    pub(crate) fn open(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        self.len += bytes.len() as u64;
        self.rest.open(bytes, |blocks| compress_blocks(&mut self.chain, blocks.as_flattened()))
    }

    /// The chain as it is behind those blocks, and the bytes after them.
    pub(crate) fn close(&mut self, chain: Chain, rest: &[u8]) {
        self.chain = chain;
        self.rest.fill(rest);
    }

    /// The digest, if the bytes end here.
    pub(crate) fn finish(self) -> [u8; 16] {
        let mut chain = self.chain;
        let bits = self.len.wrapping_mul(8).to_le_bytes();
        self.rest.end(bits, |blocks| compress_blocks(&mut chain, blocks.as_flattened()));
        joined(chain.map(u32::to_le_bytes).as_flattened())
    }
}

/// A chain and the blocks it is to take.
pub(crate) struct Job<'a> {
    pub(crate) chain: Chain,
    pub(crate) blocks: &'a [[u8; BLOCK]],
}

/// Puts the blocks of up to [`LANES`] jobs through their chains.
pub(crate) fn compress_together(jobs: &mut [Job<'_>]) {
    let level = Level::new();
    loop {
        let mut live: Vec<&mut Job<'_>> = jobs.iter_mut().filter(|job| !job.blocks.is_empty()).collect();
        let Some(len) = live.iter().map(|job| job.blocks.len()).min() else { return };
        if let [job] = live.as_mut_slice() {
            compress_blocks(&mut job.chain, job.blocks.as_flattened());
            return;
        }
        let mut words = [[0; LANES]; 4];
        let mut blocks: [&[[u8; BLOCK]]; LANES] = [&[]; LANES];
        // Lanes without a job do the first one's once more.
        for (lane, job) in
            live.iter().chain(std::iter::repeat_n(&live[..1], LANES).flatten()).take(LANES).enumerate()
        {
            blocks[lane] = &job.blocks[..len];
            for (row, word) in words.iter_mut().zip(job.chain) {
                row[lane] = word;
            }
        }
        dispatch!(level, simd => compress(simd, &mut words, &blocks));
        for (lane, job) in live.iter_mut().enumerate() {
            job.chain = words.map(|row| row[lane]);
            job.blocks = &job.blocks[len..];
        }
    }
}

/// RFC 1321 §3.4: the sines.
#[rustfmt::skip]
const SINES: [u32; 64] = [
    0xd76a_a478, 0xe8c7_b756, 0x2420_70db, 0xc1bd_ceee, 0xf57c_0faf, 0x4787_c62a, 0xa830_4613, 0xfd46_9501,
    0x6980_98d8, 0x8b44_f7af, 0xffff_5bb1, 0x895c_d7be, 0x6b90_1122, 0xfd98_7193, 0xa679_438e, 0x49b4_0821,
    0xf61e_2562, 0xc040_b340, 0x265e_5a51, 0xe9b6_c7aa, 0xd62f_105d, 0x0244_1453, 0xd8a1_e681, 0xe7d3_fbc8,
    0x21e1_cde6, 0xc337_07d6, 0xf4d5_0d87, 0x455a_14ed, 0xa9e3_e905, 0xfcef_a3f8, 0x676f_02d9, 0x8d2a_4c8a,
    0xfffa_3942, 0x8771_f681, 0x6d9d_6122, 0xfde5_380c, 0xa4be_ea44, 0x4bde_cfa9, 0xf6bb_4b60, 0xbebf_bc70,
    0x289b_7ec6, 0xeaa1_27fa, 0xd4ef_3085, 0x0488_1d05, 0xd9d4_d039, 0xe6db_99e5, 0x1fa2_7cf8, 0xc4ac_5665,
    0xf429_2244, 0x432a_ff97, 0xab94_23a7, 0xfc93_a039, 0x655b_59c3, 0x8f0c_cc92, 0xffef_f47d, 0x8584_5dd1,
    0x6fa8_7e4f, 0xfe2c_e6e0, 0xa301_4314, 0x4e08_11a1, 0xf753_7e82, 0xbd3a_f235, 0x2ad7_d2bb, 0xeb86_d391,
];

type Words<S> = u32x8<S>;

/// One step in every lane: `a`, the function's value, and the word of the block with its sine.
#[inline(always)]
fn step<S: Simd, const SHIFT: u32>(a: Words<S>, b: Words<S>, f: Words<S>, word: Words<S>) -> Words<S> {
    let sum = a + f + word;
    ((sum << SHIFT) | (sum >> (32 - SHIFT))) + b
}

#[inline(always)]
fn first<S: Simd>(b: Words<S>, c: Words<S>, d: Words<S>) -> Words<S> {
    d ^ (b & (c ^ d))
}

#[inline(always)]
fn second<S: Simd>(b: Words<S>, c: Words<S>, d: Words<S>) -> Words<S> {
    c ^ (d & (b ^ c))
}

#[inline(always)]
fn third<S: Simd>(b: Words<S>, c: Words<S>, d: Words<S>) -> Words<S> {
    b ^ c ^ d
}

#[inline(always)]
fn fourth<S: Simd>(b: Words<S>, c: Words<S>, d: Words<S>) -> Words<S> {
    c ^ (b | !d)
}

/// Sixteen steps with one function: which words of the block they take, and how far they shift.
macro_rules! round {
    ($f:ident, $sine:literal, [$($word:literal)+], [$r0:literal $r1:literal $r2:literal $r3:literal],
     $words:ident, $a:ident $b:ident $c:ident $d:ident) => {
        round!(@four $f, $sine, [$($word)+], [$r0 $r1 $r2 $r3], $words, $a $b $c $d)
    };
    (@four $f:ident, $sine:expr, [], $shifts:tt, $words:ident, $($names:ident)+) => {};
    (@four $f:ident, $sine:expr, [$w0:literal $w1:literal $w2:literal $w3:literal $($more:literal)*],
     [$r0:literal $r1:literal $r2:literal $r3:literal], $words:ident, $a:ident $b:ident $c:ident $d:ident) => {
        $a = step::<S, $r0>($a, $b, $f($b, $c, $d), $words[$w0] + SINES[$sine]);
        $d = step::<S, $r1>($d, $a, $f($a, $b, $c), $words[$w1] + SINES[$sine + 1]);
        $c = step::<S, $r2>($c, $d, $f($d, $a, $b), $words[$w2] + SINES[$sine + 2]);
        $b = step::<S, $r3>($b, $c, $f($c, $d, $a), $words[$w3] + SINES[$sine + 3]);
        round!(@four $f, $sine + 4, [$($more)*], [$r0 $r1 $r2 $r3], $words, $a $b $c $d)
    };
}

/// As many blocks of every lane as the shortest has.
#[inline(always)]
fn compress<S: Simd>(simd: S, chains: &mut [[u32; LANES]; 4], lanes: &[&[[u8; BLOCK]]; LANES]) {
    let len = lanes.iter().map(|blocks| blocks.len()).min().unwrap_or_default();
    let lanes = lanes.map(|blocks| &blocks[..len]);
    let [mut a, mut b, mut c, mut d] = chains.map(|row| Words::<S>::from_slice(simd, &row));
    for n in 0..len {
        let mut turned = [[0; LANES]; 16];
        for lane in 0..LANES {
            for (row, word) in turned.iter_mut().zip(lanes[lane][n].as_chunks().0) {
                row[lane] = u32::from_le_bytes(*word);
            }
        }
        let words = turned.map(|row| Words::<S>::from_slice(simd, &row));
        let before = (a, b, c, d);
        round!(first, 0, [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15], [7 12 17 22], words, a b c d);
        round!(second, 16, [1 6 11 0 5 10 15 4 9 14 3 8 13 2 7 12], [5 9 14 20], words, a b c d);
        round!(third, 32, [5 8 11 14 1 4 7 10 13 0 3 6 9 12 15 2], [4 11 16 23], words, a b c d);
        round!(fourth, 48, [0 7 14 5 12 3 10 1 8 15 6 13 4 11 2 9], [6 10 15 21], words, a b c d);
        (a, b, c, d) = (a + before.0, b + before.1, c + before.2, d + before.3);
    }
    for (row, words) in chains.iter_mut().zip([a, b, c, d]) {
        words.store_slice(row);
    }
}

#[cfg(test)]
mod tests {
    use ::md5::Digest as _;
    use proptest::prelude::*;

    use super::*;

    fn plain(bytes: &[u8]) -> [u8; 16] {
        ::md5::Md5::digest(bytes).into()
    }

    /// Streams that take their bytes in turns, all that are left together.
    fn together(streams: &[Vec<Vec<u8>>]) -> Vec<[u8; 16]> {
        let mut md5s: Vec<Md5> = streams.iter().map(|_| Md5::new()).collect();
        for turn in 0..streams.iter().map(Vec::len).max().unwrap_or_default() {
            let ranges: Vec<_> = streams
                .iter()
                .zip(&mut md5s)
                .map(|(pieces, md5)| pieces.get(turn).map(|piece| md5.open(piece)).unwrap_or_default())
                .collect();
            let mut jobs: Vec<Job<'_>> = streams
                .iter()
                .zip(&ranges)
                .zip(&md5s)
                .map(|((pieces, range), md5)| {
                    let blocks = pieces.get(turn).map(|piece| piece[range.clone()].as_chunks().0);
                    Job { chain: md5.chain, blocks: blocks.unwrap_or_default() }
                })
                .collect();
            compress_together(&mut jobs);
            let chains: Vec<Chain> = jobs.iter().map(|job| job.chain).collect();
            for (((pieces, range), md5), chain) in streams.iter().zip(ranges).zip(&mut md5s).zip(chains) {
                if let Some(piece) = pieces.get(turn) {
                    md5.close(chain, &piece[range.end..]);
                }
            }
        }
        md5s.into_iter().map(Md5::finish).collect()
    }

    proptest! {
        /// However many there are, however long they are and however they are cut.
        #[test]
        fn streams_together_are_each_alone(streams in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..5), 0..=LANES,
        )) {
            let expected: Vec<_> = streams.iter().map(|pieces| plain(&pieces.concat())).collect();
            prop_assert_eq!(together(&streams), expected);
        }
    }

    #[test]
    fn long_streams_of_one_length() {
        let streams: Vec<Vec<Vec<u8>>> = (0_u8..8)
            .map(|n| {
                vec![(0_u32..100_000).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 ^ n).collect()]
            })
            .collect();
        let expected: Vec<_> = streams.iter().map(|pieces| plain(&pieces.concat())).collect();
        for count in 1..=LANES {
            assert_eq!(together(&streams[..count]), expected[..count], "{count}");
        }
    }
}
