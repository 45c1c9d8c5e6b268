//! The digest that runs along while a file is written from its beginning on. Pure.
//!
//! Valid for the first `upto` bytes as long as nobody changes any of them; who does breaks it, and only cutting the file
//! to nothing mends it.

use crc_fast::CrcAlgorithm;
use sha2::Digest as _;

use crate::digest::Sha256;

/// Digests of a file's first bytes.
#[derive(Clone, Debug)]
pub(super) struct Running {
    sha256: sha2::Sha256,
    crc64nvme: crc_fast::Digest,
    upto: u64,
    is_broken: bool,
}

impl Running {
    /// Of no bytes yet.
    pub(super) fn new() -> Self {
        Self {
            sha256: sha2::Sha256::new(),
            crc64nvme: crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme),
            upto: 0,
            is_broken: false,
        }
    }

    /// How many bytes it covers; `None`: it is broken.
    pub(super) fn upto(&self) -> Option<u64> {
        (!self.is_broken).then_some(self.upto)
    }

    /// These bytes were written at `offset`.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if offset < self.upto {
            self.is_broken = true;
        } else if offset == self.upto && !self.is_broken {
            self.sha256.update(bytes);
            self.crc64nvme.update(bytes);
            self.upto += bytes.len() as u64;
        }
    }

    /// Bytes from `offset` on became others in another way.
    pub(super) fn touch(&mut self, offset: u64) {
        self.is_broken |= offset < self.upto;
    }

    /// The file was cut to `len`.
    pub(super) fn truncate(&mut self, len: u64) {
        if len == 0 {
            *self = Self::new();
        } else {
            self.touch(len);
        }
    }

    /// SHA-256 and CRC-64/NVME of the bytes covered.
    pub(super) fn digests(&self) -> (Sha256, u64) {
        (Sha256(self.sha256.clone().finalize().into()), self.crc64nvme.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hasher::{Wanted, digest};

    #[test]
    fn covers_what_was_written_in_order() {
        let mut running = Running::new();
        running.write(0, b"ab");
        running.write(2, b"c");
        running.write(10, b"beyond");
        assert_eq!(running.upto(), Some(3));
        let whole = digest(&Wanted::default(), b"abc");
        assert_eq!(running.digests(), (whole.sha256, whole.crc64nvme));
        running.truncate(3);
        running.touch(3);
        assert_eq!(running.upto(), Some(3));
        running.write(3, b"d");
        assert_eq!(running.upto(), Some(4));
    }

    #[test]
    fn breaks_when_what_it_covers_changes() {
        for change in [
            |running: &mut Running| running.write(2, b"x"),
            |running: &mut Running| running.touch(0),
            |running: &mut Running| running.truncate(2),
        ] {
            let mut running = Running::new();
            running.write(0, b"abc");
            change(&mut running);
            assert_eq!(running.upto(), None);
            running.truncate(0);
            assert_eq!(running.upto(), Some(0));
        }
    }
}
