//! What an open file is made of: pieces that cover it without gaps, each saying where its bytes are. Pure.
//!
//! Promises: pieces never overlap and end where the file ends; neighbours that continue each other are one piece, so
//! that a file written from end to end is one. Leaves out where blobs and the staging file lie, and all I/O.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;

use crate::object::{BlobId, Extent};

/// Longest piece held in memory: bounds what an overwrite in its middle copies.
const MEMORY_PIECE_MAX: usize = 128 * 1024;

/// Where the bytes of a piece are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// In a blob, from this offset on.
    Stored(BlobId, u64),
    /// Nowhere: they are zeros.
    Hole,
    /// Here; as many as the piece is long.
    Memory(Vec<u8>),
    /// In the staging file, at the offset they have in the file.
    Staged,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    len: u64,
    source: Source,
}

/// A part of a piece, for who reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// In a blob.
    Stored(Extent),
    /// So many zeros.
    Hole(u64),
    /// These.
    Memory(Bytes),
    /// In the staging file.
    Staged(Range<u64>),
}

impl Part {
    /// How many bytes.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Stored(extent) => extent.len,
            Self::Hole(len) => *len,
            Self::Memory(bytes) => bytes.len() as u64,
            Self::Staged(range) => range.end - range.start,
        }
    }
}

/// A stretch of the file that is one extent, or one that has to be stored yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) range: Range<u64>,
    pub(super) stored: Option<Extent>,
}

impl Span {
    /// How many bytes.
    pub(super) fn len(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// The pieces of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pieces {
    map: BTreeMap<u64, Piece>,
    size: u64,
    memory_bytes: u64,
}

impl Pieces {
    /// A file that is stored whole.
    pub(super) fn stored(extents: impl IntoIterator<Item = Extent>) -> Self {
        let mut pieces = Self::default();
        for extent in extents {
            pieces.put_stored(pieces.size, &extent);
        }
        pieces
    }

    /// Bytes of the file.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes held in memory.
    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Writes bytes into memory.
    pub(super) fn put_memory(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.grow(offset);
        if self.overwrite(offset, bytes) {
            return;
        }
        let end = offset + bytes.len() as u64;
        self.clear(offset..end);
        let mut at = offset;
        for chunk in bytes.chunks(MEMORY_PIECE_MAX) {
            self.insert(at, Piece { len: chunk.len() as u64, source: Source::Memory(chunk.to_vec()) });
            at += chunk.len() as u64;
        }
        self.size = self.size.max(end);
    }

    /// Says that a range is in the staging file now.
    pub(super) fn put_staged(&mut self, range: Range<u64>) {
        self.put(range, Source::Staged);
    }

    /// Refers to bytes of a blob.
    pub(super) fn put_stored(&mut self, offset: u64, extent: &Extent) {
        self.put(offset..offset + extent.len, Source::Stored(extent.blob, extent.offset));
    }

    /// Makes a range zeros; beyond the end the file grows.
    pub(super) fn put_hole(&mut self, range: Range<u64>) {
        self.put(range, Source::Hole);
    }

    fn put(&mut self, range: Range<u64>, source: Source) {
        if range.is_empty() {
            return;
        }
        self.grow(range.start);
        self.clear(range.clone());
        self.insert(range.start, Piece { len: range.end - range.start, source });
        self.size = self.size.max(range.end);
    }

    /// Cuts or grows (with a hole).
    pub(super) fn truncate(&mut self, len: u64) {
        if len < self.size {
            self.clear(len..self.size);
            self.size = len;
        } else {
            self.grow(len);
        }
    }

    fn grow(&mut self, len: u64) {
        if len > self.size {
            let from = std::mem::replace(&mut self.size, len);
            self.insert(from, Piece { len: len - from, source: Source::Hole });
        }
    }

    /// The parts of a range, as far as the file goes.
    pub(super) fn parts(&self, range: Range<u64>) -> Vec<Part> {
        let range = range.start..range.end.min(self.size);
        let mut parts = Vec::new();
        if range.is_empty() {
            return parts;
        }
        let first = self.map.range(..=range.start).next_back().map_or(range.start, |(offset, _)| *offset);
        for (&offset, piece) in self.map.range(first..range.end) {
            let from = range.start.max(offset);
            let to = range.end.min(offset + piece.len);
            if from < to {
                parts.push(piece.part(offset, from..to));
            }
        }
        parts
    }

    /// The file in order: what is stored piece by piece, what is not as few ranges as it makes up.
    pub(super) fn layout(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for (&offset, piece) in &self.map {
            let range = offset..offset + piece.len;
            if let Source::Stored(blob, from) = piece.source {
                spans.push(Span { range, stored: Some(Extent { blob, offset: from, len: piece.len }) });
                continue;
            }
            match spans.last_mut() {
                Some(last) if last.stored.is_none() => last.range.end = range.end,
                _ => spans.push(Span { range, stored: None }),
            }
        }
        spans
    }

    /// The holes in a range.
    pub(super) fn holes(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let holes = self.map.iter().filter(|(_, piece)| piece.source == Source::Hole);
        let holes = holes.map(|(&at, piece)| at.max(range.start)..(at + piece.len).min(range.end));
        holes.filter(|hole| !hole.is_empty()).collect()
    }

    /// The ranges held in memory.
    pub(super) fn in_memory(&self) -> Vec<Range<u64>> {
        let memory = self.map.iter().filter(|(_, piece)| matches!(piece.source, Source::Memory(_)));
        memory.map(|(&offset, piece)| offset..offset + piece.len).collect()
    }

    /// The extents, if all of it is stored.
    pub(super) fn extents(&self) -> Option<Vec<Extent>> {
        self.map
            .values()
            .map(|piece| match piece.source {
                Source::Stored(blob, offset) => Some(Extent { blob, offset, len: piece.len }),
                Source::Hole | Source::Memory(_) | Source::Staged => None,
            })
            .collect()
    }

    /// The blobs referred to.
    pub(super) fn blobs(&self) -> impl Iterator<Item = BlobId> {
        self.map.values().filter_map(|piece| match piece.source {
            Source::Stored(blob, _) => Some(blob),
            Source::Hole | Source::Memory(_) | Source::Staged => None,
        })
    }

    /// The first byte at or after `offset` that is (not) in a hole. The end of the file counts as a hole.
    pub(super) fn seek(&self, offset: u64, hole: bool) -> Option<u64> {
        if offset >= self.size {
            return None;
        }
        let first = self.map.range(..=offset).next_back().map_or(offset, |(first, _)| *first);
        let found = self.map.range(first..).find(|(_, piece)| (piece.source == Source::Hole) == hole);
        match found {
            Some((&at, _)) => Some(at.max(offset)),
            None => hole.then_some(self.size),
        }
    }

    /// Overwrites bytes that are in memory where they are; `false`: they are not, all in one piece.
    fn overwrite(&mut self, offset: u64, bytes: &[u8]) -> bool {
        let Some((&at, piece)) = self.map.range_mut(..=offset).next_back() else { return false };
        let Source::Memory(held) = &mut piece.source else { return false };
        let Ok(from) = usize::try_from(offset - at) else { return false };
        match held.get_mut(from..from.saturating_add(bytes.len())) {
            Some(place) => {
                place.copy_from_slice(bytes);
                true
            }
            None => false,
        }
    }

    /// Takes a range out, which leaves a gap that the caller fills or that lies at the end.
    fn clear(&mut self, range: Range<u64>) {
        self.split(range.start);
        self.split(range.end);
        let gone: Vec<u64> = self.map.range(range).map(|(offset, _)| *offset).collect();
        for offset in gone {
            if let Some(Piece { source: Source::Memory(bytes), .. }) = self.map.remove(&offset) {
                self.memory_bytes -= bytes.len() as u64;
            }
        }
    }

    /// Makes two of a piece that goes over `at`.
    fn split(&mut self, at: u64) {
        let Some((&offset, piece)) = self.map.range_mut(..at).next_back() else { return };
        if offset + piece.len <= at {
            return;
        }
        let rest = offset + piece.len - at;
        piece.len = at - offset;
        let source = match &mut piece.source {
            Source::Stored(blob, from) => Source::Stored(*blob, *from + (at - offset)),
            Source::Hole => Source::Hole,
            Source::Staged => Source::Staged,
            Source::Memory(bytes) => {
                let n = usize::try_from(at - offset).unwrap_or(usize::MAX).min(bytes.len());
                Source::Memory(bytes.split_off(n))
            }
        };
        self.map.insert(at, Piece { len: rest, source });
    }

    /// Puts a piece into a gap, joined with the neighbours it continues.
    fn insert(&mut self, offset: u64, mut piece: Piece) {
        if let Source::Memory(bytes) = &piece.source {
            self.memory_bytes += bytes.len() as u64;
        }
        if let Some(next) = self.map.get(&(offset + piece.len))
            && continues(&piece, next)
            && let Some(next) = self.map.remove(&(offset + piece.len))
        {
            piece.join(next);
        }
        if let Some((&before, last)) = self.map.range_mut(..offset).next_back()
            && before + last.len == offset
            && continues(last, &piece)
        {
            last.join(piece);
            return;
        }
        self.map.insert(offset, piece);
    }
}

impl Piece {
    fn join(&mut self, next: Piece) {
        self.len += next.len;
        if let (Source::Memory(bytes), Source::Memory(more)) = (&mut self.source, next.source) {
            bytes.extend_from_slice(&more);
        }
    }

    /// The bytes in `range`, which lies in this piece that begins at `offset`.
    fn part(&self, offset: u64, range: Range<u64>) -> Part {
        let (skip, len) = (range.start - offset, range.end - range.start);
        match &self.source {
            Source::Stored(blob, from) => Part::Stored(Extent { blob: *blob, offset: from + skip, len }),
            Source::Hole => Part::Hole(len),
            Source::Staged => Part::Staged(range),
            Source::Memory(bytes) => {
                let (from, to) = (usize::try_from(skip), usize::try_from(skip + len));
                let bytes = from.ok().zip(to.ok()).and_then(|(from, to)| bytes.get(from..to));
                Part::Memory(Bytes::copy_from_slice(bytes.unwrap_or_default()))
            }
        }
    }
}

/// Whether two neighbours are one piece.
fn continues(piece: &Piece, next: &Piece) -> bool {
    match (&piece.source, &next.source) {
        (Source::Stored(a, from), Source::Stored(b, to)) => a == b && from + piece.len == *to,
        (Source::Hole, Source::Hole) | (Source::Staged, Source::Staged) => true,
        (Source::Memory(a), Source::Memory(b)) => a.len() + b.len() <= MEMORY_PIECE_MAX,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::digest::Sha256;

    /// Length of the blobs below: byte i of blob b is b + i.
    const BLOB_LEN: u64 = 5_000;

    #[derive(Clone, Debug)]
    enum Op {
        Memory(u64, Vec<u8>),
        Staged(u64, u64, u8),
        Stored(u64, u8, u64, u64),
        Hole(u64, u64),
        Truncate(u64),
    }

    fn blob(n: u8) -> BlobId {
        BlobId::Content(Sha256([n; 32]))
    }

    fn byte(n: u8, at: u64) -> u8 {
        n.wrapping_add(at.to_le_bytes()[0])
    }

    fn op() -> impl Strategy<Value = Op> {
        let at = 0..3_000_u64;
        prop_oneof![
            (at.clone(), prop::collection::vec(any::<u8>(), 0..700)).prop_map(|(at, b)| Op::Memory(at, b)),
            (at.clone(), 0..700_u64, any::<u8>()).prop_map(|(at, len, with)| Op::Staged(at, len, with)),
            (at.clone(), 0..3_u8, 0..4_000_u64, 0..1_000_u64)
                .prop_map(|(at, b, from, len)| Op::Stored(at, b, from, len)),
            (at.clone(), 0..700_u64).prop_map(|(at, len)| Op::Hole(at, len)),
            at.prop_map(Op::Truncate),
        ]
    }

    /// The pieces beside the plain bytes they stand for, and a staging file.
    #[derive(Default)]
    struct Both {
        pieces: Pieces,
        plain: Vec<u8>,
        staging: Vec<u8>,
    }

    impl Both {
        fn put(&mut self, at: u64, bytes: &[u8]) {
            let at = usize::try_from(at).unwrap();
            if bytes.is_empty() {
                return;
            }
            if self.plain.len() < at + bytes.len() {
                self.plain.resize(at + bytes.len(), 0);
            }
            self.plain[at..at + bytes.len()].copy_from_slice(bytes);
        }

        fn perform(&mut self, op: &Op) {
            match op {
                Op::Memory(at, bytes) => {
                    self.pieces.put_memory(*at, bytes);
                    self.put(*at, bytes);
                }
                Op::Staged(at, len, with) => {
                    let bytes = vec![*with; usize::try_from(*len).unwrap()];
                    let from = usize::try_from(*at).unwrap();
                    let end = self.staging.len().max(from + bytes.len());
                    self.staging.resize(end, 0xEE);
                    self.staging[from..from + bytes.len()].copy_from_slice(&bytes);
                    self.pieces.put_staged(*at..at + len);
                    self.put(*at, &bytes);
                }
                Op::Stored(at, n, from, len) => {
                    self.pieces.put_stored(*at, &Extent { blob: blob(*n), offset: *from, len: *len });
                    let bytes: Vec<u8> = (*from..from + len).map(|i| byte(*n, i)).collect();
                    assert!(from + len <= BLOB_LEN);
                    self.put(*at, &bytes);
                }
                Op::Hole(at, len) => {
                    self.pieces.put_hole(*at..at + len);
                    self.put(*at, &vec![0; usize::try_from(*len).unwrap()]);
                }
                Op::Truncate(len) => {
                    self.pieces.truncate(*len);
                    self.plain.resize(usize::try_from(*len).unwrap(), 0);
                }
            }
        }

        fn read(&self, range: Range<u64>) -> Vec<u8> {
            let mut read = Vec::new();
            for part in self.pieces.parts(range) {
                match part {
                    Part::Stored(Extent { blob: BlobId::Content(sha), offset, len }) => {
                        read.extend((offset..offset + len).map(|i| byte(sha.0[0], i)));
                    }
                    Part::Stored(_) => unreachable!(),
                    Part::Hole(len) => read.resize(read.len() + usize::try_from(len).unwrap(), 0),
                    Part::Memory(bytes) => read.extend_from_slice(&bytes),
                    Part::Staged(range) => {
                        let (from, to) = (range.start.try_into().unwrap(), range.end.try_into().unwrap());
                        let range: Range<usize> = from..to;
                        read.extend_from_slice(&self.staging[range]);
                    }
                }
            }
            read
        }

        fn check(&self) {
            let pieces = &self.pieces;
            assert_eq!(pieces.size, self.plain.len() as u64);
            let mut end = 0;
            let mut memory = 0;
            for (offset, piece) in &pieces.map {
                assert_eq!(*offset, end, "pieces leave no gap");
                assert!(piece.len > 0);
                end += piece.len;
                if let Source::Memory(bytes) = &piece.source {
                    assert_eq!(bytes.len() as u64, piece.len);
                    memory += piece.len;
                }
            }
            assert_eq!((end, memory), (pieces.size, pieces.memory_bytes));
            assert_eq!(self.read(0..u64::MAX), self.plain);
        }
    }

    proptest! {
        #[test]
        fn pieces_are_the_bytes(ops in prop::collection::vec(op(), 1..40), from in 0..3_500_u64, len in 0..900_u64) {
            let mut both = Both::default();
            for op in &ops {
                both.perform(op);
                both.check();
            }
            let plain = both.plain.iter().copied().skip(from.try_into().unwrap());
            let plain: Vec<u8> = plain.take(len.try_into().unwrap()).collect();
            prop_assert_eq!(both.read(from..from + len), plain);
            let layout = both.pieces.layout();
            let dirty: u64 = layout.iter().filter(|span| span.stored.is_none()).map(Span::len).sum();
            let holes: u64 = both.pieces.holes(0..u64::MAX).iter().map(|hole| hole.end - hole.start).sum();
            prop_assert!(holes <= dirty);
            let stored: u64 = both.pieces.parts(0..u64::MAX).iter().map(|part| match part {
                Part::Stored(extent) => extent.len,
                _ => 0,
            }).sum();
            prop_assert_eq!(dirty + stored, both.pieces.size());
            prop_assert_eq!(both.pieces.extents().is_some(), dirty == 0);
        }
    }

    #[test]
    fn a_file_written_from_end_to_end_is_one_piece() {
        let mut pieces = Pieces::default();
        for n in 0..100 {
            pieces.put_staged(n * 10..(n + 1) * 10);
        }
        assert_eq!(pieces.parts(0..u64::MAX), [Part::Staged(0..1_000)]);
        let extent = |offset, len| Extent { blob: blob(1), offset, len };
        let stored = Pieces::stored([extent(0, 5), extent(5, 5), extent(11, 5)]);
        assert_eq!(stored.extents().unwrap(), [extent(0, 10), extent(11, 5)]);
        let mut bytes = Pieces::default();
        for n in 0..1_000_000_u64 {
            bytes.put_memory(n, &[1]);
        }
        assert_eq!(bytes.map.len(), 1_000_000_usize.div_ceil(MEMORY_PIECE_MAX));
    }

    #[test]
    fn holes() {
        let mut pieces = Pieces::default();
        pieces.put_memory(10, b"ab");
        pieces.put_hole(20..30);
        pieces.put_memory(30, b"c");
        let cases = [(0, Some(10), Some(0)), (10, Some(10), Some(12)), (11, Some(11), Some(12))];
        for (at, data, hole) in cases.into_iter().chain([(12, Some(30), Some(12)), (30, Some(30), Some(31))])
        {
            assert_eq!((pieces.seek(at, false), pieces.seek(at, true)), (data, hole), "{at}");
        }
        assert_eq!((pieces.seek(31, false), pieces.seek(31, true)), (None, None));
        pieces.truncate(40);
        assert_eq!((pieces.seek(31, false), pieces.seek(31, true)), (None, Some(31)));
    }
}
