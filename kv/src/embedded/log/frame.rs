//! Frames: how a commit stands in the log, and how it is known to be whole.
//!
//! A frame is 40 bytes of header, a body, and zeros up to a multiple of 8:
//! `magic u32 · CRC-32C u32 · body length u32 · kind u8 · 0 0 0 · epoch u64 · position u64 · synced u64`.
//! The CRC covers store id, segment number, offset of the frame in the segment, the header from the length on, and the
//! body: a frame of another store, another place or another life of the file is no frame here.

use bytes::Bytes;

use crate::codec::{Crc, Cursor, put_bytes, put_varint};
use crate::{NOTE_BYTES_MAX, Position, WRITES_MAX};

/// Bytes before the body.
pub(crate) const FRAME_HEADER: usize = 40;
/// Frames begin at multiples of this.
pub(crate) const FRAME_ALIGN: u64 = 8;
const MAGIC: u32 = u32::from_le_bytes(*b"CfrF");
/// No body is longer: a commit's 32 MiB, its note, and the lengths of 100,000 writes.
pub(crate) const BODY_BYTES_MAX: usize = crate::COMMIT_BYTES_MAX + NOTE_BYTES_MAX + WRITES_MAX * 16;

/// What names a store; part of every checksum.
pub(crate) type StoreId = [u8; 16];

/// A place in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    /// Number of the segment; 0 stands before the first.
    pub(crate) segment: u64,
    /// Offset in it.
    pub(crate) offset: u64,
}

/// What a frame's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first frame of every segment: where the log before it ends. It carries the position of the last commit.
    Start,
    /// A commit; its position is one more than the last.
    Commit,
    /// Values moved here from an older segment, with the positions they have; the position of the last commit.
    Move,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Start => 1,
            Self::Commit => 2,
            Self::Move => 3,
        }
    }

    fn of(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Start),
            2 => Some(Self::Commit),
            3 => Some(Self::Move),
            _ => None,
        }
    }
}

/// A frame's header, read. Nothing in it is to be believed before [`Header::matches`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) body_len: usize,
    pub(crate) epoch: u64,
    pub(crate) position: Position,
    pub(crate) synced: Position,
    crc: u32,
    sealed: [u8; FRAME_HEADER - 8],
}

impl Header {
    /// `None` when the bytes are no header.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(bytes);
        if cursor.u32()? != MAGIC {
            return None;
        }
        let crc = cursor.u32()?;
        let body_len = usize::try_from(cursor.u32()?).ok()?;
        let kind = Kind::of(cursor.u8()?)?;
        if cursor.take(3)? != [0; 3] || body_len > BODY_BYTES_MAX {
            return None;
        }
        let (epoch, position, synced) = (cursor.u64()?, Position(cursor.u64()?), Position(cursor.u64()?));
        let sealed = bytes.get(8..FRAME_HEADER)?.try_into().ok()?;
        Some(Self { kind, body_len, epoch, position, synced, crc, sealed })
    }

    /// Whether header and body were written together for this place.
    pub(crate) fn matches(&self, store: &StoreId, place: Place, body: &[u8]) -> bool {
        body.len() == self.body_len && frame_crc(store, place, &self.sealed, body) == self.crc
    }

    /// Bytes from this frame to the next.
    pub(crate) fn frame_len(&self) -> u64 {
        frame_len(self.body_len)
    }
}

/// Whether a header may begin with these four bytes; the quick first look of a search.
pub(crate) fn may_begin(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC.to_le_bytes())
}

/// Bytes a frame with such a body takes.
pub(crate) fn frame_len(body_len: usize) -> u64 {
    ((FRAME_HEADER + body_len) as u64).next_multiple_of(FRAME_ALIGN)
}

fn frame_crc(store: &StoreId, place: Place, sealed: &[u8], body: &[u8]) -> u32 {
    Crc::new()
        .with(store)
        .with(&place.segment.to_le_bytes())
        .with(&place.offset.to_le_bytes())
        .with(sealed)
        .with(body)
        .finish()
}

/// The figures of a frame about to be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    pub(crate) kind: Kind,
    pub(crate) epoch: u64,
    pub(crate) position: Position,
    pub(crate) synced: Position,
}

/// Appends a frame to `out`. `body` appends the body and is told nothing; offsets of values are computed by the caller
/// from `place`, [`FRAME_HEADER`] and the body's own layout.
pub(crate) fn put_frame(
    out: &mut Vec<u8>,
    store: &StoreId,
    place: Place,
    stamp: Stamp,
    body: impl FnOnce(&mut Vec<u8>),
) {
    let begin = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER]);
    body(out);
    let (_, frame) = out.split_at_mut(begin);
    let (header, body) = frame.split_at_mut(FRAME_HEADER);
    let body_len = u32::try_from(body.len()).expect("a commit's limits keep its body below 4 GiB");
    let mut sealed = Vec::with_capacity(FRAME_HEADER - 8);
    sealed.extend_from_slice(&body_len.to_le_bytes());
    sealed.extend_from_slice(&[stamp.kind.code(), 0, 0, 0]);
    sealed.extend_from_slice(&stamp.epoch.to_le_bytes());
    sealed.extend_from_slice(&stamp.position.0.to_le_bytes());
    sealed.extend_from_slice(&stamp.synced.0.to_le_bytes());
    let crc = frame_crc(store, place, &sealed, body);
    let (magic, rest) = header.split_at_mut(4);
    magic.copy_from_slice(&MAGIC.to_le_bytes());
    let (crc_bytes, rest) = rest.split_at_mut(4);
    crc_bytes.copy_from_slice(&crc.to_le_bytes());
    rest.copy_from_slice(&sealed);
    let padded = begin as u64 + frame_len(body_len as usize);
    out.resize(usize::try_from(padded).expect("a buffer in memory is shorter than usize"), 0);
}

/// A `Start` frame's body: the place where the log before this segment ends.
pub(crate) fn put_start(out: &mut Vec<u8>, previous: Place) {
    out.extend_from_slice(&previous.segment.to_le_bytes());
    out.extend_from_slice(&previous.offset.to_le_bytes());
}

pub(crate) fn parse_start(body: &[u8]) -> Option<Place> {
    let mut cursor = Cursor::new(body);
    let place = Place { segment: cursor.u64()?, offset: cursor.u64()? };
    cursor.is_empty().then_some(place)
}

/// One write as the log tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoggedWrite {
    pub(crate) key: Bytes,
    /// `None`: deleted.
    pub(crate) value: Option<Bytes>,
    /// Where the value begins, counted from the frame's begin.
    pub(crate) value_offset: u64,
    /// Position of the write: of its commit, or the one a moved value keeps.
    pub(crate) position: Position,
}

const DELETE: u8 = 0;
const PUT: u8 = 1;

/// The beginning of a `Commit` body: the note and how many writes follow.
pub(crate) fn put_commit_head(out: &mut Vec<u8>, note: &[u8], writes: usize) {
    put_bytes(out, note);
    put_varint(out, writes as u64);
}

/// One write of a `Commit` body.
pub(crate) fn put_write(out: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    put_bytes(out, key);
    match value {
        None => out.push(DELETE),
        Some(value) => {
            out.push(PUT);
            put_bytes(out, value);
        }
    }
}

/// Reads a `Commit` body: the note and the writes.
pub(crate) fn parse_commit(body: &Bytes, position: Position) -> Option<(Bytes, Vec<LoggedWrite>)> {
    let mut cursor = Cursor::new(body);
    let note = body.slice_ref(cursor.bytes()?);
    let count = usize::try_from(cursor.varint()?).ok()?;
    if count > WRITES_MAX {
        return None;
    }
    let mut writes = Vec::with_capacity(count);
    for _ in 0..count {
        let key = body.slice_ref(cursor.bytes()?);
        let value = match cursor.u8()? {
            DELETE => None,
            PUT => Some(body.slice_ref(cursor.bytes()?)),
            _ => return None,
        };
        let value_len = value.as_ref().map_or(0, Bytes::len);
        let value_offset = (FRAME_HEADER + cursor.at() - value_len) as u64;
        writes.push(LoggedWrite { key, value, value_offset, position });
    }
    cursor.is_empty().then_some((note, writes))
}

/// One value of a `Move` body.
pub(crate) fn put_move(out: &mut Vec<u8>, key: &[u8], position: Position, value: &[u8]) {
    put_bytes(out, key);
    put_varint(out, position.0);
    put_bytes(out, value);
}

/// Reads a `Move` body.
pub(crate) fn parse_moves(body: &Bytes) -> Option<Vec<LoggedWrite>> {
    let mut cursor = Cursor::new(body);
    let mut writes = Vec::new();
    while !cursor.is_empty() {
        let key = body.slice_ref(cursor.bytes()?);
        let position = Position(cursor.varint()?);
        let value = body.slice_ref(cursor.bytes()?);
        let value_offset = (FRAME_HEADER + cursor.at() - value.len()) as u64;
        writes.push(LoggedWrite { key, value: Some(value), value_offset, position });
    }
    Some(writes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = [3; 16];
    const PLACE: Place = Place { segment: 2, offset: 64 };

    fn frame(place: Place) -> Vec<u8> {
        let stamp = Stamp { kind: Kind::Commit, epoch: 4, position: Position(9), synced: Position(8) };
        let mut out = Vec::new();
        put_frame(&mut out, &STORE, place, stamp, |body| {
            put_commit_head(body, b"note", 2);
            put_write(body, b"key", Some(b"value"));
            put_write(body, b"gone", None);
        });
        out
    }

    fn is_frame(bytes: &[u8], store: &StoreId, place: Place) -> bool {
        Header::parse(bytes).is_some_and(|header| {
            let body = bytes.get(FRAME_HEADER..FRAME_HEADER + header.body_len);
            body.is_some_and(|body| header.matches(store, place, body))
        })
    }

    #[test]
    fn a_frame_comes_back() {
        let bytes = frame(PLACE);
        assert_eq!(bytes.len() as u64 % FRAME_ALIGN, 0);
        let header = Header::parse(&bytes).unwrap();
        assert_eq!((header.kind, header.epoch), (Kind::Commit, 4));
        assert_eq!((header.position, header.synced), (Position(9), Position(8)));
        assert_eq!(header.frame_len(), bytes.len() as u64);
        let body = Bytes::copy_from_slice(&bytes[FRAME_HEADER..FRAME_HEADER + header.body_len]);
        assert!(header.matches(&STORE, PLACE, &body));
        let (note, writes) = parse_commit(&body, header.position).unwrap();
        assert_eq!(note[..], b"note"[..]);
        assert_eq!(writes.len(), 2);
        let at = usize::try_from(writes[0].value_offset).unwrap();
        assert_eq!(bytes[at..at + 5], b"value"[..]);
        assert_eq!(writes[1], LoggedWrite { value: None, ..writes[1].clone() });
    }

    #[test]
    fn a_frame_holds_only_where_it_was_written_and_whole() {
        let bytes = frame(PLACE);
        assert!(is_frame(&bytes, &STORE, PLACE));
        assert!(!is_frame(&bytes, &[4; 16], PLACE), "another store");
        assert!(!is_frame(&bytes, &STORE, Place { segment: 3, ..PLACE }), "another segment");
        assert!(!is_frame(&bytes, &STORE, Place { offset: 72, ..PLACE }), "another offset");
        let header = Header::parse(&bytes).unwrap();
        for at in 0..FRAME_HEADER + header.body_len {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(!is_frame(&bad, &STORE, PLACE), "byte {at}");
            assert!(!is_frame(&bytes[..at], &STORE, PLACE), "cut at {at}");
        }
    }

    #[test]
    fn bodies_that_are_nonsense_are_refused() {
        for bytes in [&b""[..], b"\x05ab", b"\x00\x01\x01k\x07", b"\x00\x01\x01k\x00extra"] {
            assert_eq!(parse_commit(&Bytes::copy_from_slice(bytes), Position(1)), None, "{bytes:?}");
        }
        assert_eq!(parse_moves(&Bytes::from_static(b"\x01k\x01\x09v")), None);
        assert_eq!(parse_start(b"short"), None);
    }
}
