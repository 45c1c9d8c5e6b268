//! Digests, checksums and entity tags as values; `hasher` computes them while bytes stream by.

use std::fmt;

use crc_fast::CrcAlgorithm;
use sha2::Digest as _;

/// SHA-256 of content: our own name for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256(pub [u8; 32]);

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The S3 entity tag, without quotes: MD5 in hex, `md5(md5s)-n`, or another `{32 hex}-1` (contract D40).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ETag(String);

impl ETag {
    /// Of a simple put.
    pub fn of_md5(md5: [u8; 16]) -> Self {
        Self(hex::encode(md5))
    }

    /// Of content whose MD5 nobody needs (contract D40): `{first 32 hex of SHA-256}-1`.
    pub fn of_sha256(sha256: &Sha256) -> Self {
        let mut text = sha256.to_string();
        text.truncate(32);
        Self(text + "-1")
    }

    /// From a record or a request, quotes and a weak mark stripped.
    pub fn parse(text: &str) -> Self {
        let text = text.strip_prefix("W/").unwrap_or(text);
        Self(text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text).to_owned())
    }

    /// Without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<ETag> for String {
    fn from(etag: ETag) -> Self {
        etag.0
    }
}

impl From<&ETag> for String {
    fn from(etag: &ETag) -> Self {
        etag.0.clone()
    }
}

/// A checksum algorithm of S3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// CRC-32 (ISO-HDLC), 4 bytes big-endian.
    Crc32,
    /// CRC-32C (Castagnoli), 4 bytes big-endian.
    Crc32c,
    /// CRC-64/NVME, 8 bytes big-endian.
    Crc64Nvme,
    /// SHA-1, 20 bytes.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
}

impl Algorithm {
    /// As S3 spells it: `CRC32`, `CRC32C`, `CRC64NVME`, `SHA1`, `SHA256`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// Length of its value in bytes.
    pub fn len_bytes(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }
}

/// Whether a checksum covers the whole object or is made of its parts' checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumKind {
    /// Over all bytes.
    FullObject,
    /// Over the concatenation of the parts' values; rendered `value-n`.
    Composite {
        /// How many parts.
        parts: u32,
    },
}

/// A checksum claimed by a client and verified by us.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Checksum {
    /// Which.
    pub algorithm: Algorithm,
    /// Over what.
    pub kind: ChecksumKind,
    /// The raw value, [`Algorithm::len_bytes`] long.
    pub value: Vec<u8>,
}

impl ETag {
    /// Of an object completed from parts: the MD5 of their MD5s, and how many they are.
    pub fn of_parts(md5s: &[[u8; 16]]) -> Self {
        let mut hash = md5_simd::Md5::new();
        for md5 in md5s {
            hash.update(md5);
        }
        Self(format!("{}-{}", hex::encode(hash.finalize()), md5s.len()))
    }

    /// The MD5 it is, when it is one: of a simple put or a part.
    pub(crate) fn as_md5(&self) -> Option<[u8; 16]> {
        let mut md5 = [0; 16];
        let is_lower = !self.0.bytes().any(|b| b.is_ascii_uppercase());
        (is_lower && hex::decode_to_slice(&self.0, &mut md5).is_ok()).then_some(md5)
    }
}

impl Algorithm {
    /// Whether the checksum of a whole follows from those of its pieces and their lengths.
    pub fn is_crc(self) -> bool {
        self.crc().is_some()
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }

    /// The checksum of no bytes combined with pieces: value and length of each, in order. `None` for algorithms that
    /// are no CRC, and for values of another length.
    pub(crate) fn combine<'a>(self, pieces: impl IntoIterator<Item = (&'a [u8], u64)>) -> Option<Vec<u8>> {
        let crc = self.crc()?;
        let mut whole: Option<u64> = None;
        for (value, len) in pieces {
            if value.len() != self.len_bytes() {
                return None;
            }
            let piece = value.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            whole = Some(match whole {
                None => piece,
                Some(before) => crc_fast::checksum_combine(crc, before, piece, len),
            });
        }
        let bytes = whole.unwrap_or(0).to_be_bytes();
        bytes.get(bytes.len() - self.len_bytes()..).map(<[u8]>::to_vec)
    }

    /// The checksum of checksums: over the parts' raw values, in order.
    pub(crate) fn composite<'a>(self, values: impl IntoIterator<Item = &'a [u8]>) -> Checksum {
        let (mut all, mut parts) = (Vec::new(), 0);
        for value in values {
            all.extend_from_slice(value);
            parts += 1;
        }
        let value = match self.crc() {
            Some(crc) => {
                let bytes = crc_fast::checksum(crc, &all).to_be_bytes();
                bytes.into_iter().skip(bytes.len() - self.len_bytes()).collect()
            }
            None if self == Self::Sha1 => sha1::Sha1::digest(&all).to_vec(),
            None => sha2::Sha256::digest(&all).to_vec(),
        };
        Checksum { algorithm: self, kind: ChecksumKind::Composite { parts }, value }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hasher::{Wanted, digest};

    const ALL: [Algorithm; 5] =
        [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme, Algorithm::Sha1, Algorithm::Sha256];

    fn of(algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
        let wanted = Wanted { md5: false, algorithms: vec![algorithm] };
        digest(&wanted, bytes).checksums.remove(0).value
    }

    #[test]
    fn etags() {
        assert_eq!(ETag::of_md5([0xAB; 16]).as_md5(), Some([0xAB; 16]));
        assert_eq!(ETag::parse("\"abc\"").as_md5(), None);
        let parts = ETag::of_parts(&[[1; 16], [2; 16]]);
        let expected = hex::encode(md5::Md5::digest([[1; 16], [2; 16]].concat()));
        assert_eq!(parts.as_str(), format!("{expected}-2"));
        assert_eq!(parts.as_md5(), None);
        for text in ["\"x\"", "W/\"x\"", "x", "W/x"] {
            assert_eq!(ETag::parse(text).as_str(), "x", "{text}");
        }
    }

    #[test]
    fn composites_are_known_values() {
        // the check values of "123456789", as their standards give them
        let table = [
            (Algorithm::Crc32, "cbf43926"),
            (Algorithm::Crc32c, "e3069283"),
            (Algorithm::Crc64Nvme, "ae8b14860a799888"),
            (Algorithm::Sha1, "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
            (Algorithm::Sha256, "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
        ];
        for (algorithm, expected) in table {
            let made = algorithm.composite([&b"12345"[..], b"6789"]);
            assert_eq!(hex::encode(&made.value), expected, "{algorithm:?}");
            assert_eq!(made.kind, ChecksumKind::Composite { parts: 2 });
            assert_eq!(hex::encode(of(algorithm, b"123456789")), expected, "{algorithm:?}");
        }
    }

    proptest! {
        #[test]
        fn combined_crcs_are_those_of_the_whole(
            pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..6)
        ) {
            for algorithm in ALL {
                let crcs: Vec<_> = pieces.iter().map(|p| (of(algorithm, p), p.len() as u64)).collect();
                let combined = algorithm.combine(crcs.iter().map(|(value, len)| (value.as_slice(), *len)));
                let expected = algorithm.is_crc().then(|| of(algorithm, &pieces.concat()));
                prop_assert_eq!(combined, expected);
            }
        }
    }
}
