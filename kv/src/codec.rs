//! Bytes that several files of the crate share: varints, checksums and checked blocks.
//!
//! Promises: reading never panics, whatever the bytes; a damaged block is an error, never a wrong row. All numbers are
//! little-endian. Leaves out: what the rows mean.

use std::io::{self, Read, Write};

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};

use crate::{Error, KEY_BYTES_MAX, Result, VALUE_BYTES_MAX};

/// A CRC-32C in the making.
pub(crate) struct Crc(Digest);

impl Crc {
    pub(crate) fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    pub(crate) fn with(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes);
        self
    }

    pub(crate) fn finish(self) -> u32 {
        u32::try_from(self.0.finalize()).expect("a CRC-32 has 32 bits")
    }
}

/// CRC-32C of some bytes.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    u32::try_from(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes)).expect("a CRC-32 has 32 bits")
}

/// Appends a number in 7-bit groups, the lowest first.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    loop {
        let [low, ..] = n.to_le_bytes();
        n >>= 7;
        if n == 0 {
            out.push(low & 0x7F);
            return;
        }
        out.push(low | 0x80);
    }
}

/// Appends a length and the bytes.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads from the front of a slice; `None` where it is too short or says nonsense.
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(len)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at = self.bytes.len();
        rest
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(crate) fn varint(&mut self) -> Option<u64> {
        let mut n: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7F);
            if bits << shift >> shift != bits {
                return None;
            }
            n |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok()?;
        self.take(len)
    }
}

/// Rows per block are gathered up to this many bytes.
pub(crate) const BLOCK_BYTES: usize = 64 * 1024;
/// A block is never longer: one row of the largest key and value, beside a nearly full block.
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + KEY_BYTES_MAX + VALUE_BYTES_MAX + 64;
/// length u32, kind u8, CRC u32.
const BLOCK_HEADER: usize = 9;
/// A block of rows.
pub(crate) const BLOCK_ROWS: u8 = 1;
/// The last block: what is needed to know that nothing is missing.
pub(crate) const BLOCK_END: u8 = 2;

fn block_crc(seed: &[u8], index: u64, kind: u8, payload: &[u8]) -> u32 {
    Crc::new().with(seed).with(&index.to_le_bytes()).with(&[kind]).with(payload).finish()
}

/// Writes checked blocks. The checksum covers a seed and the block's number, so that blocks of another file or in
/// another order are refused.
pub(crate) struct BlockWriter<W> {
    to: W,
    seed: Vec<u8>,
    index: u64,
    pending: Vec<u8>,
}

impl<W: Write> BlockWriter<W> {
    pub(crate) fn new(to: W, seed: &[u8]) -> Self {
        Self { to, seed: seed.to_vec(), index: 0, pending: Vec::with_capacity(BLOCK_BYTES * 2) }
    }

    /// Appends a row: two length-prefixed byte strings.
    pub(crate) fn row(&mut self, first: &[u8], second: &[u8]) -> io::Result<()> {
        put_bytes(&mut self.pending, first);
        put_bytes(&mut self.pending, second);
        if self.pending.len() >= BLOCK_BYTES { self.write_pending() } else { Ok(()) }
    }

    fn write_pending(&mut self) -> io::Result<()> {
        let payload = std::mem::take(&mut self.pending);
        let written = self.write(BLOCK_ROWS, &payload);
        self.pending = payload;
        self.pending.clear();
        written
    }

    fn write(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let len = u32::try_from(payload.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.to.write_all(&len.to_le_bytes())?;
        self.to.write_all(&[kind])?;
        self.to.write_all(&block_crc(&self.seed, self.index, kind, payload).to_le_bytes())?;
        self.to.write_all(payload)?;
        self.index += 1;
        Ok(())
    }

    /// Writes what is pending and the end block, and gives the target back.
    pub(crate) fn finish(mut self, end: &[u8]) -> io::Result<W> {
        if !self.pending.is_empty() {
            self.write_pending()?;
        }
        self.write(BLOCK_END, end)?;
        self.to.flush()?;
        Ok(self.to)
    }
}

/// What [`BlockReader::next`] met.
pub(crate) enum Block {
    /// Some rows.
    Rows(Bytes),
    /// The end block's payload.
    End(Bytes),
}

/// Reads what [`BlockWriter`] wrote.
pub(crate) struct BlockReader<R> {
    from: R,
    seed: Vec<u8>,
    index: u64,
    what: &'static str,
}

impl<R: Read> BlockReader<R> {
    /// `what` names the file in errors.
    pub(crate) fn new(from: R, seed: &[u8], what: &'static str) -> Self {
        Self { from, seed: seed.to_vec(), index: 0, what }
    }

    fn damaged(&self) -> Error {
        Error::Corrupt { what: format!("block {} of {}", self.index, self.what) }
    }

    fn fill(&mut self, buf: &mut [u8]) -> Result<()> {
        self.from.read_exact(buf).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(),
            _ => Error::io("reading stored blocks", e),
        })
    }

    pub(crate) fn next(&mut self) -> Result<Block> {
        let mut header = [0; BLOCK_HEADER];
        self.fill(&mut header)?;
        let mut cursor = Cursor::new(&header);
        let (Some(len), Some(kind), Some(crc)) = (cursor.u32(), cursor.u8(), cursor.u32()) else {
            return Err(self.damaged());
        };
        let len = usize::try_from(len).map_err(|_| self.damaged())?;
        if len > BLOCK_BYTES_MAX {
            return Err(self.damaged());
        }
        let mut payload = vec![0; len];
        self.fill(&mut payload)?;
        if block_crc(&self.seed, self.index, kind, &payload) != crc {
            return Err(self.damaged());
        }
        let payload = Bytes::from(payload);
        let block = match kind {
            BLOCK_ROWS => Block::Rows(payload),
            BLOCK_END => Block::End(payload),
            _ => return Err(self.damaged()),
        };
        self.index += 1;
        Ok(block)
    }
}

/// Reads the rows of blocks one by one.
pub(crate) struct RowReader<R> {
    blocks: BlockReader<R>,
    rows: Bytes,
    at: usize,
    end: Option<Bytes>,
}

impl<R: Read> RowReader<R> {
    pub(crate) fn new(blocks: BlockReader<R>) -> Self {
        Self { blocks, rows: Bytes::new(), at: 0, end: None }
    }

    /// The next row; `None` after the last one, when [`RowReader::end`] is known.
    pub(crate) fn next(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        while self.at >= self.rows.len() {
            if self.end.is_some() {
                return Ok(None);
            }
            match self.blocks.next()? {
                Block::Rows(rows) => (self.rows, self.at) = (rows, 0),
                Block::End(end) => self.end = Some(end),
            }
        }
        let mut cursor = Cursor::new(self.rows.get(self.at..).unwrap_or_default());
        let (Some(first), Some(second)) = (cursor.bytes(), cursor.bytes()) else {
            return Err(self.blocks.damaged());
        };
        let row = (self.rows.slice_ref(first), self.rows.slice_ref(second));
        self.at += cursor.at();
        Ok(Some(row))
    }

    pub(crate) fn end(&self) -> Option<&Bytes> {
        self.end.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_come_back_and_nonsense_does_not() {
        for n in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, n);
            assert_eq!(Cursor::new(&bytes).varint(), Some(n));
            assert_eq!(Cursor::new(&bytes[..bytes.len() - 1]).varint(), None);
        }
        assert_eq!(Cursor::new(&[0xFF; 11]).varint(), None, "more than 64 bits");
    }

    fn blocks(rows: u32) -> Vec<u8> {
        let mut writer = BlockWriter::new(Vec::new(), b"seed");
        for n in 0..rows {
            writer.row(&n.to_be_bytes(), &vec![7; (n % 50) as usize]).unwrap();
        }
        writer.finish(b"end").unwrap()
    }

    fn read(bytes: &[u8], seed: &[u8]) -> Result<u32> {
        let mut reader = RowReader::new(BlockReader::new(bytes, seed, "a test"));
        let mut rows = 0;
        while let Some((key, value)) = reader.next()? {
            assert_eq!(key[..], u32::to_be_bytes(rows));
            assert_eq!(value.len(), (rows % 50) as usize);
            rows += 1;
        }
        assert_eq!(reader.end().unwrap()[..], b"end"[..]);
        Ok(rows)
    }

    #[test]
    fn blocks_come_back_and_every_damaged_byte_is_noticed() {
        assert_eq!(read(&blocks(20_000), b"seed").unwrap(), 20_000);
        let good = blocks(30);
        assert_eq!(read(&good, b"seed").unwrap(), 30);
        assert!(matches!(read(&good, b"other"), Err(Error::Corrupt { .. })));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            assert!(matches!(read(&bad, b"seed"), Err(Error::Corrupt { .. })), "byte {at}");
            assert!(matches!(read(&good[..at], b"seed"), Err(Error::Corrupt { .. })), "cut at {at}");
        }
    }
}
