//! The frame of every record: format byte, fields (tag varint, length varint, postcard bytes), CRC32C (be32).
//!
//! A field that holds its default is left out. Readers take the fields they know and keep the others, so that an
//! older daemon that rewrites a newer one's record loses nothing. A change of what a known field means raises the
//! format byte instead, and older daemons refuse the record.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

use super::corrupt;

/// The format written today.
pub(crate) const FORMAT: u8 = 1;

/// Every tag known today is below.
const TAGS: usize = 64;

/// Length of the checksum at the end.
const CRC_LEN: usize = 4;

/// Fields that this version of the program does not know.
pub(crate) type Unknown = Vec<(u32, Bytes)>;

/// CRC-32C (Castagnoli).
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let wide = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(wide).expect("a 32-bit checksum fits 32 bits")
}

/// A record being written.
pub(crate) struct Writer {
    out: Vec<u8>,
    scratch: Vec<u8>,
}

impl Writer {
    /// Begins a record of today's format.
    pub(crate) fn new() -> Self {
        let mut out = Vec::with_capacity(512);
        out.push(FORMAT);
        Self { out, scratch: Vec::with_capacity(128) }
    }

    /// Adds a field.
    pub(crate) fn put<T: Serialize + ?Sized>(&mut self, tag: u32, value: &T) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let bytes =
            postcard::to_extend(value, scratch).expect("plain values of known length always serialize");
        self.bytes(tag, &bytes);
        self.scratch = bytes;
    }

    /// Adds a field if there is something to say.
    pub(crate) fn put_some<T: Serialize>(&mut self, tag: u32, value: Option<&T>) {
        if let Some(value) = value {
            self.put(tag, value);
        }
    }

    /// Adds a field unless it holds its default.
    pub(crate) fn put_unless_default<T: Serialize + Default + PartialEq>(&mut self, tag: u32, value: &T) {
        if *value != T::default() {
            self.put(tag, value);
        }
    }

    /// Adds fields as they were read.
    pub(crate) fn put_unknown(&mut self, unknown: &Unknown) {
        for (tag, bytes) in unknown {
            self.bytes(*tag, bytes);
        }
    }

    /// Adds the checksum.
    pub(crate) fn finish(mut self) -> Bytes {
        let crc = crc32c(&self.out);
        self.out.extend_from_slice(&crc.to_be_bytes());
        self.out.into()
    }

    fn bytes(&mut self, tag: u32, bytes: &[u8]) {
        put_varint(&mut self.out, u64::from(tag));
        put_varint(&mut self.out, bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }
}

/// A record being read.
pub(crate) struct Reader<'a> {
    what: &'static str,
    /// By tag, what stands there until it is taken. A page of a list asks thirty thousand times.
    known: [Option<&'a [u8]>; TAGS],
    /// Fields with tags beyond, or that stand there again.
    others: Vec<(u32, &'a [u8])>,
}

impl<'a> Reader<'a> {
    /// Checks the frame and finds the fields. `what` names the record in errors.
    pub(crate) fn new(what: &'static str, whole: &'a [u8]) -> Result<Self> {
        let Some((body, crc)) = whole.split_last_chunk::<CRC_LEN>() else {
            return Err(corrupt(&format!("a {what} record is too short")));
        };
        if crc32c(body) != u32::from_be_bytes(*crc) {
            return Err(corrupt(&format!("a {what} record fails its checksum")));
        }
        let Some((&FORMAT, mut rest)) = body.split_first() else {
            return Err(corrupt(&format!("a {what} record is of an unknown format")));
        };
        let mut reader = Self { what, known: [None; TAGS], others: Vec::new() };
        while !rest.is_empty() {
            let Some(((tag, bytes), after)) = split_field(rest) else {
                return Err(corrupt(&format!("a {what} record is malformed")));
            };
            match reader.slot(tag) {
                Some(free @ None) => *free = Some(bytes),
                Some(_) | None => reader.others.push((tag, bytes)),
            }
            rest = after;
        }
        Ok(reader)
    }

    fn slot(&mut self, tag: u32) -> Option<&mut Option<&'a [u8]>> {
        self.known.get_mut(usize::try_from(tag).ok()?)
    }

    /// Takes a field out; `None` when it is not there.
    pub(crate) fn take<T: Deserialize<'a>>(&mut self, tag: u32) -> Result<Option<T>> {
        let Some(bytes) = self.slot(tag).and_then(Option::take) else { return Ok(None) };
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(Some(value)),
            Ok(_) | Err(_) => Err(self.malformed(tag)),
        }
    }

    /// The same of bytes of a fixed number, which stand as they are: quicker than one by one.
    pub(crate) fn take_array<const N: usize>(&mut self, tag: u32) -> Result<Option<[u8; N]>> {
        let Some(bytes) = self.slot(tag).and_then(Option::take) else { return Ok(None) };
        bytes.try_into().map(Some).map_err(|_| self.malformed(tag))
    }

    fn malformed(&self, tag: u32) -> Error {
        corrupt(&format!("field {tag} of a {} record is malformed", self.what))
    }

    /// Takes a field that every record of this kind has.
    pub(crate) fn need<T: Deserialize<'a>>(&mut self, tag: u32) -> Result<T> {
        self.take(tag)?.ok_or_else(|| corrupt(&format!("a {} record lacks field {tag}", self.what)))
    }

    /// Takes a field that is left out when it holds its default.
    pub(crate) fn or_default<T: Deserialize<'a> + Default>(&mut self, tag: u32) -> Result<T> {
        Ok(self.take(tag)?.unwrap_or_default())
    }

    /// What nobody took.
    pub(crate) fn unknown(&mut self) -> Unknown {
        let known = (0..).zip(&mut self.known).filter_map(|(tag, bytes)| Some((tag, bytes.take()?)));
        known.chain(self.others.drain(..)).map(|(tag, bytes)| (tag, Bytes::copy_from_slice(bytes))).collect()
    }
}

/// A tag with its bytes, and what follows them.
type Field<'a> = ((u32, &'a [u8]), &'a [u8]);

fn split_field(bytes: &[u8]) -> Option<Field<'_>> {
    let (tag, rest) = take_varint(bytes)?;
    let (len, rest) = take_varint(rest)?;
    let (value, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
    Some(((u32::try_from(tag).ok()?, value), rest))
}

fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    loop {
        let [low, ..] = n.to_le_bytes();
        n >>= 7;
        if n == 0 {
            return out.push(low & 0x7F);
        }
        out.push(low | 0x80);
    }
}

fn take_varint(mut bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        bytes = rest;
        let part = u64::from(byte & 0x7F);
        n |= part.checked_shl(shift).filter(|shifted| shifted >> shift == part)?;
        if byte & 0x80 == 0 {
            return Some((n, bytes));
        }
    }
    None
}
