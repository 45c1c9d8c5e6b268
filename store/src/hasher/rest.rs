//! What lies between two blocks of a digest whose framing is Merkle's and Damgård's: SHA-256 and MD5. Pure.

/// Bytes of a block of both.
pub(crate) const BLOCK: usize = 64;
/// Bytes of the length at the end of both.
const LENGTH: usize = 8;

/// Bytes that are not a block yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    bytes: [u8; BLOCK],
    len: usize,
}

impl Rest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut rest = Self { bytes: [0; BLOCK], len: 0 };
        rest.fill(bytes);
        rest
    }

    /// Takes as many as fit; the others.
    pub(crate) fn fill<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let n = bytes.len().min(BLOCK - self.len);
        let (now, later) = bytes.split_at(n);
        if let Some(to) = self.bytes.get_mut(self.len..self.len + n) {
            to.copy_from_slice(now);
        }
        self.len += n;
        later
    }

    /// Cuts the rest and these bytes into blocks.
    pub(crate) fn take(&mut self, mut bytes: &[u8], mut compress: impl FnMut(&[[u8; BLOCK]])) {
        if self.len > 0 {
            bytes = self.fill(bytes);
            if self.len < BLOCK {
                return;
            }
            compress(&[self.bytes]);
            self.len = 0;
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        compress(blocks);
        self.fill(rest);
    }

    /// The last blocks: a bit, zeros, and the length in bits as its standard orders its bytes.
    pub(crate) fn end(mut self, length: [u8; LENGTH], mut compress: impl FnMut(&[[u8; BLOCK]])) {
        let zeros = (2 * BLOCK - 1 - LENGTH - self.len) % BLOCK;
        let mut tail = vec![0x80];
        tail.resize(1 + zeros, 0);
        tail.extend_from_slice(&length);
        self.take(&tail, &mut compress);
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Begins a run of whole blocks: fills up what is there, and tells which of `bytes` are whole blocks after it.
    pub(crate) fn open(
        &mut self,
        bytes: &[u8],
        compress: impl FnOnce(&[[u8; BLOCK]]),
    ) -> std::ops::Range<usize> {
        let mut begin = 0;
        if self.len > 0 {
            begin = bytes.len() - self.fill(bytes).len();
            if self.len < BLOCK {
                return bytes.len()..bytes.len();
            }
            compress(&[self.bytes]);
            self.len = 0;
        }
        begin..bytes.len() - (bytes.len() - begin) % BLOCK
    }
}

/// A digest's words as its bytes.
pub(crate) fn joined<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("a digest has as many bytes as its words")
}
