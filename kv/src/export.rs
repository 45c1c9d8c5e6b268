//! The export stream: every row with its value, in key order, for backups and for changing the engine.
//!
//! Layout (integers little-endian): magic `COFFREKV`, version u32, then blocks, each `len u32, crc32c u32, body`. A
//! body is rows `key_len u32, value_len u32, key, value` one after another; a block holds whole rows. The last block
//! has `len` 0 and in place of a body the number of rows, u64, which its CRC covers: a stream cut at a block's edge
//! is noticed. Positions are left out: they begin anew where the rows are imported.

use std::io::{Read, Write};

use bytes::{Buf, Bytes};

use crate::{Error, KEY_BYTES_MAX, Result, VALUE_BYTES_MAX};

const MAGIC: &[u8; 8] = b"COFFREKV";
const VERSION: u32 = 1;
/// A block is written once it holds this much; one row may make it larger.
const BLOCK_BYTES: usize = 256 * 1024;
/// No block is longer: one that is not yet full, and one more row of the largest size.
const BLOCK_BYTES_MAX: usize = BLOCK_BYTES + 8 + KEY_BYTES_MAX + VALUE_BYTES_MAX;

/// Writes an export stream.
pub(crate) struct Writer<W> {
    to: W,
    block: Vec<u8>,
    rows: u64,
}

impl<W: Write> Writer<W> {
    pub(crate) fn new(mut to: W) -> Result<Self> {
        to.write_all(MAGIC).and_then(|()| to.write_all(&VERSION.to_le_bytes())).map_err(failed)?;
        Ok(Self { to, block: Vec::new(), rows: 0 })
    }

    /// Rows have to come in ascending order of keys.
    pub(crate) fn row(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        self.block.extend_from_slice(&length(key.len())?);
        self.block.extend_from_slice(&length(value.len())?);
        self.block.extend_from_slice(key);
        self.block.extend_from_slice(value);
        self.rows += 1;
        if self.block.len() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    /// Ends the stream; without it the stream is not valid.
    pub(crate) fn finish(mut self) -> Result<()> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        let rows = self.rows.to_le_bytes();
        self.frame(0, &rows)?;
        self.to.flush().map_err(failed)
    }

    fn end_block(&mut self) -> Result<()> {
        let body = std::mem::take(&mut self.block);
        let len = u32::from_le_bytes(length(body.len())?);
        self.frame(len, &body)?;
        self.block = body;
        self.block.clear();
        Ok(())
    }

    fn frame(&mut self, len: u32, body: &[u8]) -> Result<()> {
        let crc = crc_fast::crc32_iscsi(body);
        self.to
            .write_all(&len.to_le_bytes())
            .and_then(|()| self.to.write_all(&crc.to_le_bytes()))
            .and_then(|()| self.to.write_all(body))
            .map_err(failed)
    }
}

fn length(len: usize) -> Result<[u8; 4]> {
    let len =
        u32::try_from(len).map_err(|_| Error::Invalid { what: "a row longer than an export may hold" })?;
    Ok(len.to_le_bytes())
}

fn failed(source: std::io::Error) -> Error {
    Error::io("writing an export", source)
}

/// Reads an export stream; every row it gives has passed its checksum.
pub(crate) struct Reader<R> {
    from: R,
    block: Bytes,
    rows: u64,
    last: Option<Bytes>,
    ended: bool,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(mut from: R) -> Result<Self> {
        let mut head = [0; 12];
        read_exact(&mut from, &mut head)?;
        let mut rest = head.as_slice();
        let magic = rest.copy_to_bytes(MAGIC.len());
        if magic != MAGIC.as_slice() {
            return Err(damaged("it does not begin like an export"));
        }
        if rest.get_u32_le() != VERSION {
            return Err(damaged("it has a version this program does not know"));
        }
        Ok(Self { from, block: Bytes::new(), rows: 0, last: None, ended: false })
    }

    /// The next row; `None` once the end has been met and its count was right.
    pub(crate) fn next(&mut self) -> Result<Option<(Bytes, Bytes)>> {
        if self.ended {
            return Ok(None);
        }
        if self.block.is_empty() && !self.next_block()? {
            self.ended = true;
            return Ok(None);
        }
        let bad = || damaged("a row does not fit its block");
        let key_len = self.block.try_get_u32_le().map_err(|_| bad())? as usize;
        let value_len = self.block.try_get_u32_le().map_err(|_| bad())? as usize;
        if key_len == 0 || key_len > KEY_BYTES_MAX || value_len > VALUE_BYTES_MAX {
            return Err(damaged("a row is beyond the limits"));
        }
        if self.block.len() < key_len + value_len {
            return Err(bad());
        }
        // Copies, so that a kept key does not keep its whole block in memory.
        let key = Bytes::copy_from_slice(&self.block.split_to(key_len));
        let value = Bytes::copy_from_slice(&self.block.split_to(value_len));
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            return Err(damaged("rows are not in order"));
        }
        self.last = Some(key.clone());
        self.rows += 1;
        Ok(Some((key, value)))
    }

    fn next_block(&mut self) -> Result<bool> {
        let mut head = [0; 8];
        read_exact(&mut self.from, &mut head)?;
        let mut rest = head.as_slice();
        let (len, crc) = (rest.get_u32_le() as usize, rest.get_u32_le());
        if len > BLOCK_BYTES_MAX {
            return Err(damaged("a block is beyond the limits"));
        }
        let mut body = vec![0; if len == 0 { 8 } else { len }];
        read_exact(&mut self.from, &mut body)?;
        if crc_fast::crc32_iscsi(&body) != crc {
            return Err(damaged("a block's checksum does not match"));
        }
        self.block = body.into();
        if len == 0 {
            return if self.block.get_u64_le() == self.rows {
                Ok(false)
            } else {
                Err(damaged("rows are missing"))
            };
        }
        Ok(true)
    }
}

fn read_exact(from: &mut impl Read, buf: &mut [u8]) -> Result<()> {
    from.read_exact(buf).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => damaged("it ends too early"),
        _ => Error::io("reading an export", e),
    })
}

fn damaged(how: &str) -> Error {
    Error::Corrupt { what: format!("the export: {how}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(rows: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes).unwrap();
        for (key, value) in rows {
            writer.row(key, value).unwrap();
        }
        writer.finish().unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut reader = Reader::new(bytes)?;
        let mut rows = Vec::new();
        while let Some((key, value)) = reader.next()? {
            rows.push((key.to_vec(), value.to_vec()));
        }
        Ok(rows)
    }

    #[test]
    fn rows_come_back() {
        let rows: Vec<_> = (0u32..500)
            .map(|n| (n.to_be_bytes().to_vec(), vec![n.to_le_bytes()[0]; n as usize * 7]))
            .chain([(vec![9; KEY_BYTES_MAX], vec![7; VALUE_BYTES_MAX]), (vec![10], Vec::new())])
            .collect();
        assert_eq!(read(&stream(&rows)).unwrap(), rows);
        assert_eq!(read(&stream(&[])).unwrap(), []);
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_noticed() {
        let whole = stream(&[(vec![1], vec![2; 30]), (vec![3], Vec::new())]);
        for cut in 0..whole.len() {
            assert!(matches!(read(&whole[..cut]), Err(Error::Corrupt { .. })), "cut at {cut}");
        }
        for at in 0..whole.len() {
            let mut bad = whole.clone();
            bad[at] ^= 0x10;
            assert!(matches!(read(&bad), Err(Error::Corrupt { .. })), "flipped at {at}");
        }
    }
}
