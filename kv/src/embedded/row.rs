//! The index's rows: where a key's value is, and since when.
//!
//! `position u64`, then `0` and the value itself (up to [`INLINE_BYTES_MAX`]), or `1`, `segment u64`, `offset u64`,
//! `length u32`, `CRC-32C u32` of a value that stays in the log. Little-endian. A row is never empty.

use crate::Position;
use crate::codec::Cursor;

/// Values up to this many bytes stand in the index (design §2.2); larger ones stay in the log.
pub(crate) const INLINE_BYTES_MAX: usize = 1024;

const INLINE: u8 = 0;
const LOGGED: u8 = 1;

/// Where in the log a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ValueAddress {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) len_bytes: u32,
    pub(crate) crc: u32,
}

/// A row, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexRow<'a> {
    pub(crate) position: Position,
    pub(crate) value: Stored<'a>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored<'a> {
    Inline(&'a [u8]),
    Logged(ValueAddress),
}

impl<'a> IndexRow<'a> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let inline_len = if let Stored::Inline(value) = self.value { value.len() } else { 24 };
        let mut out = Vec::with_capacity(9 + inline_len);
        out.extend_from_slice(&self.position.0.to_le_bytes());
        match self.value {
            Stored::Inline(value) => {
                out.push(INLINE);
                out.extend_from_slice(value);
            }
            Stored::Logged(address) => {
                out.push(LOGGED);
                out.extend_from_slice(&address.segment.to_le_bytes());
                out.extend_from_slice(&address.offset.to_le_bytes());
                out.extend_from_slice(&address.len_bytes.to_le_bytes());
                out.extend_from_slice(&address.crc.to_le_bytes());
            }
        }
        out
    }

    /// `None` when the bytes are not a row.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        let position = Position(cursor.u64()?);
        let value = match cursor.u8()? {
            INLINE => Stored::Inline(cursor.rest()),
            LOGGED => {
                let address = ValueAddress {
                    segment: cursor.u64()?,
                    offset: cursor.u64()?,
                    len_bytes: cursor.u32()?,
                    crc: cursor.u32()?,
                };
                if !cursor.is_empty() {
                    return None;
                }
                Stored::Logged(address)
            }
            _ => return None,
        };
        Some(Self { position, value })
    }

    /// The address of a value that stands in the log.
    pub(crate) fn address(&self) -> Option<ValueAddress> {
        match self.value {
            Stored::Inline(_) => None,
            Stored::Logged(address) => Some(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_damage_is_refused() {
        let inline = IndexRow { position: Position(7), value: Stored::Inline(b"value") };
        let address = ValueAddress { segment: 3, offset: 4096, len_bytes: 70_000, crc: 9 };
        let logged = IndexRow { position: Position(u64::MAX), value: Stored::Logged(address) };
        for row in [inline, logged] {
            assert_eq!(IndexRow::decode(&row.encode()), Some(row));
        }
        let bytes = logged.encode();
        assert_eq!(IndexRow::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(IndexRow::decode(&[]), None);
        assert_eq!(IndexRow::decode(&[0, 0, 0, 0, 0, 0, 0, 0, 9]), None);
    }
}
