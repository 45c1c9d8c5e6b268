//! Computes digests and checksums while bytes stream by, in two independent lanes, and compares them with claims.
//!
//! Owns the choice of what is computed: SHA-256 and CRC-64/NVME always, MD5 where a client sees it or claims it
//! (it is three quarters of the hash bill), other checksums where they are claimed or announced.
//! Promises: a body whose claims do not hold yields an error and no digests. Leaves out threads: the lanes are plain
//! values, `blob/stage.rs` runs them beside each other.

mod md5;
mod rest;

use crc_fast::CrcAlgorithm;
use sha2::Digest as _;

pub(crate) use md5::{Chain, Job, LANES, Md5, compress_together};
pub(crate) use rest::{Rest, joined};

use crate::digest::{Algorithm, Checksum, ChecksumKind, Sha256};
use crate::put::Claims;
use crate::{Error, Result};

/// What to compute, said before the first byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// MD5 too.
    pub(crate) md5: bool,
    /// Checksums beside SHA-256 and CRC-64/NVME, each once.
    pub(crate) algorithms: Vec<Algorithm>,
}

impl Wanted {
    /// What the claims need to be verified, and `md5` when the caller wants it anyway.
    pub(crate) fn of(claims: &Claims, md5: bool) -> Self {
        let mut algorithms: Vec<Algorithm> =
            claims.checksums.iter().map(|c| c.algorithm).chain(claims.compute.iter().copied()).collect();
        algorithms.sort_unstable();
        algorithms.dedup();
        Self { md5: md5 || claims.md5.is_some(), algorithms }
    }
}

/// What bytes stream through.
pub(crate) trait Takes: Send + 'static {
    /// Takes the next bytes.
    fn take(&mut self, bytes: &[u8]);

    /// There is nothing to do in this lane.
    fn is_idle(&self) -> bool {
        false
    }
}

/// The lane of everything but MD5.
pub(crate) struct MainLane {
    sha256: sha2::Sha256,
    crc64nvme: crc_fast::Digest,
    crc32: Option<crc_fast::Digest>,
    crc32c: Option<crc_fast::Digest>,
    sha1: Option<sha1::Sha1>,
}

/// What takes bytes into an MD5, and lets others do so.
pub(crate) trait TakesMd5: Takes {
    /// The one MD5 that the next bytes go into; `None`: there is more to do with them than that.
    fn alone(&mut self) -> Option<&mut Md5>;
}

/// The lane of MD5, which takes longer than all others together.
pub(crate) struct Md5Lane(Option<Md5>);

impl MainLane {
    fn new(wanted: &Wanted) -> Self {
        let wants = |algorithm| wanted.algorithms.contains(&algorithm);
        Self {
            sha256: sha2::Sha256::new(),
            crc64nvme: crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme),
            crc32: wants(Algorithm::Crc32).then(|| crc_fast::Digest::new(CrcAlgorithm::Crc32IsoHdlc)),
            crc32c: wants(Algorithm::Crc32c).then(|| crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi)),
            sha1: wants(Algorithm::Sha1).then(sha1::Sha1::new),
        }
    }

    /// Takes the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.crc64nvme.update(bytes);
        if let Some(crc) = &mut self.crc32 {
            crc.update(bytes);
        }
        if let Some(crc) = &mut self.crc32c {
            crc.update(bytes);
        }
        if let Some(sha1) = &mut self.sha1 {
            sha1.update(bytes);
        }
    }
}

impl Md5Lane {
    /// Takes the next bytes.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        if let Some(md5) = &mut self.0 {
            md5.take(bytes);
        }
    }
}

impl Takes for MainLane {
    fn take(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

impl Takes for Md5Lane {
    fn take(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }

    fn is_idle(&self) -> bool {
        self.0.is_none()
    }
}

impl TakesMd5 for Md5Lane {
    fn alone(&mut self) -> Option<&mut Md5> {
        self.0.as_mut()
    }
}

/// Fresh lanes.
pub(crate) fn lanes(wanted: &Wanted) -> (MainLane, Md5Lane) {
    (MainLane::new(wanted), Md5Lane(wanted.md5.then(Md5::new)))
}

/// The digests of a whole body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) sha256: Sha256,
    pub(crate) md5: Option<[u8; 16]>,
    pub(crate) crc64nvme: u64,
    /// Those of [`Wanted::algorithms`], full object.
    pub(crate) checksums: Vec<Checksum>,
}

/// Ends the lanes.
pub(crate) fn finish(wanted: &Wanted, main: MainLane, md5: Md5Lane) -> Digests {
    let MainLane { sha256, crc64nvme, crc32, crc32c, sha1 } = main;
    let sha256 = Sha256(sha256.finalize().into());
    let crc64nvme = crc64nvme.finalize();
    let (crc32, crc32c) = (crc32.map(|c| c.finalize()), crc32c.map(|c| c.finalize()));
    let sha1 = sha1.map(sha1::Sha1::finalize);
    let value = |algorithm| match algorithm {
        Algorithm::Crc64Nvme => Some(crc64nvme.to_be_bytes().to_vec()),
        Algorithm::Sha256 => Some(sha256.0.to_vec()),
        Algorithm::Crc32 => crc32.map(low_32_bits),
        Algorithm::Crc32c => crc32c.map(low_32_bits),
        Algorithm::Sha1 => sha1.map(|value| value.to_vec()),
    };
    let checksums = wanted.algorithms.iter().filter_map(|&algorithm| {
        Some(Checksum { algorithm, kind: ChecksumKind::FullObject, value: value(algorithm)? })
    });
    let checksums = checksums.collect();
    Digests { sha256, md5: md5.0.map(Md5::finish), crc64nvme, checksums }
}

/// The library gives every CRC as 64 bits; a 32-bit one stands in the low half.
fn low_32_bits(crc: u64) -> Vec<u8> {
    crc.to_be_bytes().into_iter().skip(4).collect()
}

/// Digests of bytes in hand.
pub(crate) fn digest(wanted: &Wanted, bytes: &[u8]) -> Digests {
    let (mut main, mut md5) = lanes(wanted);
    main.update(bytes);
    md5.update(bytes);
    finish(wanted, main, md5)
}

/// Compares what was computed with what was claimed, the trailer included.
pub(crate) fn verify(digests: &Digests, claims: Claims) -> Result<()> {
    if claims.signed_sha256.is_some_and(|signed| signed != digests.sha256.0) {
        return Err(Error::NotAsSigned);
    }
    if claims.md5.is_some() && claims.md5 != digests.md5 {
        return Err(Error::ChecksumMismatch { algorithm: "MD5" });
    }
    verify_checksums(digests, &claims.checksums)?;
    match claims.trailer {
        Some(trailer) => verify_checksums(digests, &trailer()?),
        None => Ok(()),
    }
}

fn verify_checksums(digests: &Digests, claimed: &[Checksum]) -> Result<()> {
    for claim in claimed {
        let computed = match claim.algorithm {
            // Computed always, announced or not.
            Algorithm::Sha256 => Some(digests.sha256.0.to_vec()),
            Algorithm::Crc64Nvme => Some(digests.crc64nvme.to_be_bytes().to_vec()),
            other => digests.checksums.iter().find(|c| c.algorithm == other).map(|c| c.value.clone()),
        };
        // A trailer may carry only what was announced; anything else cannot be verified any more.
        let computed =
            computed.ok_or(Error::Invalid { what: "trailer: a checksum that was not announced" })?;
        if computed != claim.value {
            return Err(Error::ChecksumMismatch { algorithm: claim.algorithm.name() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Algorithm; 5] =
        [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme, Algorithm::Sha1, Algorithm::Sha256];

    fn all() -> Wanted {
        Wanted { md5: true, algorithms: ALL.to_vec() }
    }

    fn value(digests: &Digests, algorithm: Algorithm) -> String {
        hex::encode(&digests.checksums.iter().find(|c| c.algorithm == algorithm).unwrap().value)
    }

    #[test]
    fn published_vectors() {
        // FIPS 180-4 and RFC 1321 for "abc", the CRC catalogue's check values for "123456789".
        let abc = digest(&all(), b"abc");
        assert_eq!(
            abc.sha256.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(value(&abc, Algorithm::Sha256), abc.sha256.to_string());
        assert_eq!(value(&abc, Algorithm::Sha1), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(hex::encode(abc.md5.unwrap()), "900150983cd24fb0d6963f7d28e17f72");
        let digits = digest(&all(), b"123456789");
        assert_eq!(value(&digits, Algorithm::Crc32), "cbf43926");
        assert_eq!(value(&digits, Algorithm::Crc32c), "e3069283");
        assert_eq!(value(&digits, Algorithm::Crc64Nvme), "ae8b14860a799888");
        assert_eq!(digits.crc64nvme, 0xae8b_1486_0a79_9888);
    }

    /// A reflected CRC, bit by bit, as its definition says.
    fn crc(polynomial: u64, width: u32, bytes: &[u8]) -> u64 {
        let ones = u64::MAX >> (64 - width);
        let mut crc = ones;
        for byte in bytes {
            crc ^= u64::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ polynomial } else { crc >> 1 };
            }
        }
        crc ^ ones
    }

    proptest! {
        /// However a body is cut into pieces, the lanes say what the whole says, and the CRCs what their definition
        /// says.
        #[test]
        fn pieces_do_not_matter(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..700), 0..12)) {
            let whole = pieces.concat();
            let (mut main, mut md5) = lanes(&all());
            for piece in &pieces {
                main.update(piece);
                md5.update(piece);
            }
            let digests = finish(&all(), main, md5);
            prop_assert_eq!(&digests, &digest(&all(), &whole));
            prop_assert_eq!(digests.md5, Some(::md5::Md5::digest(&whole).into()));
            let crc32 = crc(0xedb8_8320, 32, &whole).to_be_bytes();
            prop_assert_eq!(value(&digests, Algorithm::Crc32), hex::encode(&crc32[4..]));
            let crc32c = crc(0x82f6_3b78, 32, &whole).to_be_bytes();
            prop_assert_eq!(value(&digests, Algorithm::Crc32c), hex::encode(&crc32c[4..]));
            prop_assert_eq!(digests.crc64nvme, crc(0x9a6c_9329_ac4b_c9b5, 64, &whole));
        }
    }

    /// The MD5 that is fast against the one that is plain, over lengths around and far beyond its blocks of 64 bytes.
    #[test]
    fn md5_is_md5() {
        let bytes: Vec<u8> = (0_u32..300_000).map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()[3]).collect();
        for len in (0..260).chain([4095, 4096, 65_537, 299_999, 300_000]) {
            let expected: [u8; 16] = ::md5::Md5::digest(&bytes[..len]).into();
            for cut in [0, 1, 63, 64, 65, len / 2] {
                let cut = cut.min(len);
                let mut lane = Md5Lane(Some(Md5::new()));
                lane.update(&bytes[..cut]);
                lane.update(&bytes[cut..len]);
                assert_eq!(lane.0.unwrap().finish(), expected, "{len} bytes, cut at {cut}");
            }
        }
    }

    #[test]
    fn only_what_is_wanted_is_computed() {
        let digests = digest(&Wanted::default(), b"abc");
        assert_eq!((digests.md5, digests.checksums), (None, vec![]));
        let claims = Claims {
            md5: Some([0; 16]),
            compute: vec![Algorithm::Sha1, Algorithm::Sha1],
            ..Claims::default()
        };
        assert_eq!(Wanted::of(&claims, false), Wanted { md5: true, algorithms: vec![Algorithm::Sha1] });
    }
}
