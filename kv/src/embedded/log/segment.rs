//! Segment files: their header, the set of them, reading frames and values.
//!
//! A segment begins with 64 bytes: `"COFFRLOG" · version u32 · CRC-32C u32 · store id · number u64 · epoch u64 · zeros`;
//! the CRC covers the other 60 bytes. Frames follow ([`super::frame`]). Handles are shared: who reads a segment holds
//! it, and a removed one stays readable for who holds it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use coffre_disk::{Disk, DiskFile, DiskFileExt, Open};

use super::frame::{FRAME_HEADER, Header, Kind, Place, StoreId, parse_start};
use crate::codec::{Crc, crc32c};
use crate::embedded::row::ValueAddress;
use crate::{Error, Position, Result};

/// Bytes before the first frame.
pub(crate) const SEGMENT_HEADER: u64 = 64;
const MAGIC: &[u8; 8] = b"COFFRLOG";
const VERSION: u32 = 1;
/// Read at once when frames are read in order: more with each read, up to this. A follower at the feed's end wants a
/// frame or two, on another thread each time, and an allocator keeps what each thread has used.
const READ_BYTES: usize = 256 * 1024;
/// Read at first.
const FIRST_READ_BYTES: usize = 8 * 1024;

/// A segment's first frame: how the log came here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    /// Where the log before this segment ends.
    pub(crate) previous: Place,
    /// The last commit before this segment.
    pub(crate) position: Position,
}

/// One segment file.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    /// Length of the file: frames fit up to here without growing it.
    pub(crate) capacity: AtomicU64,
    /// Bytes of values over the inline limit that the index points to. Good for choosing what to compact, never for
    /// deciding what may go: a process death between index and count leaves it a little wrong.
    pub(crate) live_bytes: AtomicI64,
    start: OnceLock<Start>,
}

impl Segment {
    pub(crate) fn new(number: u64, file: Arc<dyn DiskFile>, capacity: u64) -> Self {
        Self {
            number,
            file,
            capacity: AtomicU64::new(capacity),
            live_bytes: AtomicI64::new(0),
            start: OnceLock::new(),
        }
    }
}

/// The header of a segment.
pub(crate) fn encode_header(store: &StoreId, number: u64, epoch: u64) -> Vec<u8> {
    let mut rest = store.to_vec();
    rest.extend_from_slice(&number.to_le_bytes());
    rest.extend_from_slice(&epoch.to_le_bytes());
    rest.resize(48, 0);
    let crc = Crc::new().with(MAGIC).with(&VERSION.to_le_bytes()).with(&rest).finish();
    let mut header = MAGIC.to_vec();
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&crc.to_le_bytes());
    header.extend_from_slice(&rest);
    header
}

/// The epoch in a whole header of this store and segment; `None` when it is not one.
fn decode_header(bytes: &[u8], store: &StoreId, number: u64) -> Result<Option<u64>> {
    let Some(epoch) = bytes.get(40..48).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes)
    else {
        return Ok(None);
    };
    if bytes == encode_header(store, number, epoch) {
        return Ok(Some(epoch));
    }
    // A whole header of a later version is not ours to cut.
    let (Some(version), Some(crc), Some(rest)) = (bytes.get(8..12), bytes.get(12..16), bytes.get(16..64))
    else {
        return Ok(None);
    };
    let is_whole = Crc::new().with(MAGIC).with(version).with(rest).finish().to_le_bytes() == crc;
    if bytes.starts_with(MAGIC) && version != VERSION.to_le_bytes() && is_whole {
        return Err(Error::Corrupt { what: "the log has a version that is not known here".into() });
    }
    Ok(None)
}

/// The name of a segment's file.
pub(crate) fn file_name(number: u64) -> String {
    format!("{number:016x}.seg")
}

fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    if digits.len() != 16 {
        return None;
    }
    u64::from_str_radix(digits, 16).ok().filter(|number| *number > 0)
}

/// All segments of a log.
#[derive(Debug)]
pub(crate) struct Segments {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) store: StoreId,
    map: RwLock<BTreeMap<u64, Arc<Segment>>>,
    /// Held for reading by who needs segments to stay (exports); removal does not wait for them, it comes again.
    pub(crate) hold: RwLock<()>,
}

impl Segments {
    /// Opens every segment file there is.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: PathBuf, store: StoreId) -> Result<Self> {
        let io = |e| Error::io("opening the log", e);
        let mut map = BTreeMap::new();
        for entry in disk.list(&dir).map_err(io)? {
            let Some(number) = number_of(&entry.name) else { continue };
            let file = disk.open(&dir.join(&entry.name), Open::Write).map_err(io)?;
            let capacity = file.len_bytes().map_err(io)?;
            map.insert(number, Arc::new(Segment::new(number, file, capacity)));
        }
        Ok(Self { disk, dir, store, map: RwLock::new(map), hold: RwLock::new(()) })
    }

    pub(crate) fn get(&self, number: u64) -> Option<Arc<Segment>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    /// All of them, the oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Those after a number, the oldest first.
    pub(crate) fn after(&self, number: u64) -> Vec<Arc<Segment>> {
        let map = self.map.read().unwrap_or_else(PoisonError::into_inner);
        map.range(number.saturating_add(1)..).map(|(_, segment)| Arc::clone(segment)).collect()
    }

    pub(crate) fn insert(&self, segment: Arc<Segment>) {
        self.map.write().unwrap_or_else(PoisonError::into_inner).insert(segment.number, segment);
    }

    /// Forgets a segment and removes its file. Durable after a sync of the directory.
    pub(crate) fn remove(&self, number: u64) -> Result<()> {
        match self.disk.remove(&self.dir.join(file_name(number))) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("removing a log segment", e));
            }
            Ok(()) | Err(_) => {}
        }
        self.map.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
        Ok(())
    }

    /// The same for a segment that only the set itself holds; tells whether it went.
    pub(crate) fn remove_unheld(&self, number: u64) -> Result<bool> {
        {
            let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
            if map.get(&number).is_none_or(|segment| Arc::strong_count(segment) > 1) {
                return Ok(false);
            }
            map.remove(&number);
        }
        self.remove(number)?;
        Ok(true)
    }

    pub(crate) fn sync_dir(&self) -> Result<()> {
        self.disk.sync_dir(&self.dir).map_err(|e| Error::io("syncing the log's directory", e))
    }

    /// Bytes of all segment files.
    pub(crate) fn total_bytes(&self) -> u64 {
        self.all().iter().map(|segment| segment.capacity.load(Ordering::Relaxed)).sum()
    }

    /// The epoch in a segment's header; `None` when the header is not whole.
    pub(crate) fn epoch(&self, segment: &Segment) -> Result<Option<u64>> {
        let mut header = [0; 64];
        match segment.file.read_exact_at(&mut header, 0) {
            Ok(()) => decode_header(&header, &self.store, segment.number),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(Error::io("reading the log", e)),
        }
    }

    /// The first frame of a segment; `None` when it has none yet, or no whole one.
    pub(crate) fn start(&self, segment: &Arc<Segment>) -> Result<Option<Start>> {
        if let Some(start) = segment.start.get() {
            return Ok(Some(*start));
        }
        let Some(frame) = FrameReader::new(segment, self.store, SEGMENT_HEADER).next()? else {
            return Ok(None);
        };
        if frame.header.kind != Kind::Start {
            return Ok(None);
        }
        let Some(previous) = parse_start(&frame.body) else { return Ok(None) };
        let start = Start { previous, position: frame.header.position };
        Ok(Some(*segment.start.get_or_init(|| start)))
    }

    /// A value in the log; `None` when its segment is gone and the row has to be read again.
    pub(crate) fn value(&self, address: &ValueAddress) -> Result<Option<Bytes>> {
        let Some(segment) = self.get(address.segment) else { return Ok(None) };
        read_value(&segment, address).map(Some)
    }

    /// The same when it can be had without waiting for the device.
    pub(crate) fn value_nowait(&self, address: &ValueAddress) -> Result<Option<Bytes>> {
        let Some(segment) = self.get(address.segment) else { return Ok(None) };
        let mut value = vec![0; address.len_bytes as usize];
        match segment.file.read_at_nowait(&mut value, address.offset) {
            Ok(Some(len)) if len == value.len() => checked(value, address).map(Some),
            // Not in memory, or only a part of it.
            Ok(_) => Ok(None),
            Err(e) => Err(Error::io("reading a value", e)),
        }
    }
}

/// Reads a value from the segment that holds it.
pub(crate) fn read_value(segment: &Segment, address: &ValueAddress) -> Result<Bytes> {
    let mut value = vec![0; address.len_bytes as usize];
    segment.file.read_exact_at(&mut value, address.offset).map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            Error::Corrupt { what: "a value lies beyond its log segment".into() }
        }
        _ => Error::io("reading a value", e),
    })?;
    checked(value, address)
}

fn checked(value: Vec<u8>, address: &ValueAddress) -> Result<Bytes> {
    if crc32c(&value) == address.crc {
        return Ok(value.into());
    }
    Err(Error::Corrupt {
        what: format!("a value of {} bytes in log segment {}", address.len_bytes, address.segment),
    })
}

/// A whole frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) place: Place,
    pub(crate) header: Header,
    pub(crate) body: Bytes,
}

impl Frame {
    /// Where the next frame begins.
    pub(crate) fn end(&self) -> u64 {
        self.place.offset + self.header.frame_len()
    }
}

/// Where a walk along the log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walked {
    /// The visitor had enough.
    Enough,
    /// No frame stands here, and no segment goes on from here.
    End(Place),
    /// The segment is gone.
    Gone,
}

/// Visits the frames from a place on, along the chain, until `visit` answers `false`. Frames are whole, nothing more
/// is checked: for logs that were found good when they were opened.
pub(crate) fn walk(
    segments: &Segments,
    from: Place,
    visit: &mut dyn FnMut(&Frame) -> Result<bool>,
) -> Result<Walked> {
    let mut at = from;
    loop {
        if at.segment > 0 {
            let Some(segment) = segments.get(at.segment) else { return Ok(Walked::Gone) };
            let mut reader = FrameReader::new(&segment, segments.store, at.offset.max(SEGMENT_HEADER));
            while let Some(frame) = reader.next()? {
                if !visit(&frame)? {
                    return Ok(Walked::Enough);
                }
            }
            at.offset = reader.offset();
        }
        let mut next = None;
        for segment in segments.after(at.segment) {
            if segments.start(&segment)?.is_some_and(|start| start.previous == at) {
                next = Some(segment.number);
                break;
            }
        }
        match next {
            Some(segment) => at = Place { segment, offset: SEGMENT_HEADER },
            None => return Ok(Walked::End(at)),
        }
    }
}

/// Reads the frames of one segment in order.
pub(crate) struct FrameReader {
    segment: Arc<Segment>,
    store: StoreId,
    offset: u64,
    window: Vec<u8>,
    window_at: u64,
    next_read: usize,
}

impl FrameReader {
    pub(crate) fn new(segment: &Arc<Segment>, store: StoreId, offset: u64) -> Self {
        let (window, window_at) = (Vec::new(), offset);
        Self { segment: Arc::clone(segment), store, offset, window, window_at, next_read: FIRST_READ_BYTES }
    }

    /// Where the next frame would begin.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next frame; `None` where no whole frame stands (the end, or damage), and then again.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>> {
        let Some(header) = self.bytes(self.offset, FRAME_HEADER)?.and_then(Header::parse) else {
            return Ok(None);
        };
        let place = Place { segment: self.segment.number, offset: self.offset };
        let store = self.store;
        let Some(bytes) = self.bytes(self.offset, FRAME_HEADER + header.body_len)? else { return Ok(None) };
        let body = bytes.get(FRAME_HEADER..).unwrap_or_default();
        if !header.matches(&store, place, body) {
            return Ok(None);
        }
        let frame = Frame { place, header, body: Bytes::copy_from_slice(body) };
        self.offset = frame.end();
        Ok(Some(frame))
    }

    /// Whether nothing but zeros follows: the unused end of a segment, not a damaged frame.
    pub(crate) fn is_empty_behind(&mut self) -> Result<bool> {
        let mut offset = self.offset;
        // Frames end at multiples of 8, and a file is cut only where one ends or lies in zeros.
        while let Some(bytes) = self.bytes(offset, 8)? {
            if bytes != [0; 8] {
                return Ok(false);
            }
            offset += 8;
        }
        Ok(true)
    }

    /// `len` bytes at `offset`; `None` when the file ends before.
    pub(crate) fn bytes(&mut self, offset: u64, len: usize) -> Result<Option<&[u8]>> {
        let held = usize::try_from(offset.wrapping_sub(self.window_at)).ok();
        let is_held = offset >= self.window_at
            && held.and_then(|at| at.checked_add(len)).is_some_and(|end| end <= self.window.len());
        if !is_held {
            self.window.resize(len.max(self.next_read), 0);
            self.next_read = (self.next_read * 2).min(READ_BYTES);
            let mut done = 0;
            while let Some(rest) = self.window.get_mut(done..).filter(|rest| !rest.is_empty()) {
                match self.segment.file.read_at(rest, offset + done as u64) {
                    Ok(0) => break,
                    Ok(n) => done += n,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) => return Err(Error::io("reading the log", e)),
                }
            }
            self.window.truncate(done);
            self.window_at = offset;
        }
        let at = usize::try_from(offset - self.window_at).expect("the window is in memory");
        Ok(self.window.get(at..at + len))
    }
}
