//! Digests that can be laid down and taken up again: what a resumable upload keeps with its offset.
//!
//! SHA-256 and MD5 are chains over blocks of 64 bytes: the chain's words and the bytes since the last whole block are
//! all there is to know, so a restart goes on without reading what is stored. The framing (FIPS 180-4 §5.1.1,
//! RFC 1321 §3.1) is ours (`hasher/`): what stands in a row must not depend on what a library calls its state. Pure.

use crc_fast::CrcAlgorithm;
use sha2::block_api::compress256;

use crate::digest::Sha256;
use crate::hasher::{MainLane, Md5, Md5Lane, Rest, Takes, TakesMd5, joined};

/// FIPS 180-4 §5.3.3.
const SHA256_START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// The digests of an upload's first bytes, and what it takes to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HashState {
    pub(crate) sha256: [u32; 8],
    pub(crate) md5: [u32; 4],
    /// Of the bytes so far.
    pub(crate) crc64nvme: u64,
    /// The bytes behind the last whole block.
    pub(crate) rest: Vec<u8>,
}

/// What the whole is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) sha256: Sha256,
    pub(crate) md5: [u8; 16],
    pub(crate) crc64nvme: u64,
}

/// SHA-256 and CRC-64/NVME of all bytes so far, and what a claim about this request's bytes needs.
pub(crate) struct LongLane {
    sha256: [u32; 8],
    rest: Rest,
    crc64nvme: crc_fast::Digest,
    claimed: Option<MainLane>,
}

/// The same for MD5.
pub(crate) struct LongMd5Lane {
    md5: Md5,
    claimed: Option<Md5Lane>,
}

impl HashState {
    /// Of no bytes.
    pub(crate) fn start() -> Self {
        Self { sha256: SHA256_START, md5: Md5::START, crc64nvme: 0, rest: Vec::new() }
    }

    /// Lanes that go on from here. `claimed` get this request's bytes alone.
    pub(crate) fn lanes(&self, claimed: Option<(MainLane, Md5Lane)>) -> (LongLane, LongMd5Lane) {
        let (main, md5) = claimed.unzip();
        let rest = Rest::of(&self.rest);
        // the register is the checksum with every bit turned
        let crc64nvme = crc_fast::Digest::new_with_init_state(CrcAlgorithm::Crc64Nvme, !self.crc64nvme);
        (
            LongLane { sha256: self.sha256, rest, crc64nvme, claimed: main },
            LongMd5Lane { md5: Md5 { chain: self.md5, rest, len: 0 }, claimed: md5 },
        )
    }

    /// What the lanes have come to.
    pub(crate) fn of(main: &LongLane, md5: &LongMd5Lane) -> Self {
        Self {
            sha256: main.sha256,
            md5: md5.md5.chain,
            crc64nvme: main.crc64nvme.finalize(),
            rest: main.rest.bytes().to_vec(),
        }
    }

    /// The digests, if the bytes end here; `len` is how many they are.
    pub(crate) fn whole(&self, len: u64) -> Whole {
        let rest = Rest::of(&self.rest);
        let mut sha256 = self.sha256;
        rest.end(len.wrapping_mul(8).to_be_bytes(), |blocks| compress256(&mut sha256, blocks));
        Whole {
            sha256: Sha256(joined(sha256.map(u32::to_be_bytes).as_flattened())),
            md5: Md5 { chain: self.md5, rest, len }.finish(),
            crc64nvme: self.crc64nvme,
        }
    }
}

impl LongLane {
    /// The lane of what was claimed, at the end.
    pub(crate) fn into_claimed(self) -> Option<MainLane> {
        self.claimed
    }
}

impl LongMd5Lane {
    /// The same.
    pub(crate) fn into_claimed(self) -> Option<Md5Lane> {
        self.claimed
    }
}

impl Takes for LongLane {
    fn take(&mut self, bytes: &[u8]) {
        self.rest.take(bytes, |blocks| compress256(&mut self.sha256, blocks));
        self.crc64nvme.update(bytes);
        if let Some(claimed) = &mut self.claimed {
            claimed.take(bytes);
        }
    }
}

impl Takes for LongMd5Lane {
    fn take(&mut self, bytes: &[u8]) {
        self.md5.take(bytes);
        if let Some(claimed) = &mut self.claimed {
            claimed.take(bytes);
        }
    }
}

impl TakesMd5 for LongMd5Lane {
    /// What is claimed of a request has a state of its own.
    fn alone(&mut self) -> Option<&mut Md5> {
        self.claimed.is_none().then_some(&mut self.md5)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hasher::{Wanted, digest};

    /// What `digest` says of bytes that come in pieces, the state laid down after each.
    fn in_pieces(pieces: &[Vec<u8>]) -> Whole {
        let mut state = HashState::start();
        for piece in pieces {
            let (mut main, mut md5) = state.lanes(None);
            main.take(piece);
            md5.take(piece);
            state = HashState::of(&main, &md5);
            assert!(state.rest.len() < 64 && md5.md5.rest.bytes() == state.rest);
        }
        state.whole(pieces.iter().map(|piece| piece.len() as u64).sum())
    }

    fn at_once(bytes: &[u8]) -> Whole {
        let digests = digest(&Wanted { md5: true, algorithms: Vec::new() }, bytes);
        Whole { sha256: digests.sha256, md5: digests.md5.unwrap(), crc64nvme: digests.crc64nvme }
    }

    #[test]
    fn every_length_around_the_blocks() {
        let bytes: Vec<u8> = (0..=255).cycle().take(300).collect();
        for len in 0..300_usize {
            for cut in [0, 1, len / 2, len.saturating_sub(1)] {
                let (a, b) = bytes[..len].split_at(cut.min(len));
                assert_eq!(
                    in_pieces(&[a.to_vec(), b.to_vec()]),
                    at_once(&bytes[..len]),
                    "{len} cut at {cut}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..500), 0..9)) {
            prop_assert_eq!(in_pieces(&pieces), at_once(&pieces.concat()));
        }
    }

    #[test]
    fn what_is_claimed_is_of_the_request_alone() {
        let mut state = HashState::start();
        let wanted = Wanted { md5: true, algorithms: Vec::new() };
        for piece in [&b"abc"[..], b"defg"] {
            let (mut main, mut md5) = state.lanes(Some(crate::hasher::lanes(&wanted)));
            main.take(piece);
            md5.take(piece);
            state = HashState::of(&main, &md5);
            let claimed = crate::hasher::finish(&wanted, main.claimed.unwrap(), md5.claimed.unwrap());
            assert_eq!(claimed, digest(&wanted, piece));
        }
        assert_eq!(state.whole(7), at_once(b"abcdefg"));
    }
}
