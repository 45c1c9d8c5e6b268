//! Tests of the log: what is found again after damage, cuts and restarts.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use coffre_disk::power::PowerDisk;
use coffre_disk::{Disk, DiskExt, DiskFile, DiskFileExt, Open};

use super::frame::{FRAME_HEADER, Kind, Place, parse_commit, put_commit_head, put_write};
use super::prepare::{Preparer, Sizes};
use super::recover::{Found, read_log, settle};
use super::segment::{Segments, file_name};
use super::write::{NoRoom, Writer};
use crate::{Error, Position, Result};

const SIZES: Sizes = Sizes { segment_bytes: 16 * 1024, reserve_bytes: 0 };

/// A log on a disk in memory.
struct Log {
    disk: PowerDisk,
    segments: Arc<Segments>,
    writer: Option<Writer>,
    epoch: u64,
}

fn dir() -> PathBuf {
    PathBuf::from("/log")
}

fn open(disk: &PowerDisk) -> Result<(Arc<Segments>, Found, Vec<u64>)> {
    disk.create_dir_all(&dir()).unwrap();
    disk.sync_dir("/".as_ref()).unwrap();
    let segments = Arc::new(Segments::open(Arc::new(disk.clone()), dir(), [5; 16])?);
    let mut met = Vec::new();
    let found = read_log(&segments, Place::default(), Position(0), &mut |frame| {
        if frame.header.kind == Kind::Commit {
            let (note, writes) = parse_commit(&frame.body, frame.header.position).unwrap();
            assert_eq!(note[..], b"note"[..]);
            assert_eq!(writes[0].key[..], frame.header.position.0.to_be_bytes());
            met.push(frame.header.position.0);
        }
        Ok(())
    })?;
    Ok((segments, found, met))
}

impl Log {
    fn open(disk: &PowerDisk, epoch: u64) -> Self {
        let (segments, found, met) = open(disk).unwrap();
        assert_eq!(met, (1..=found.position.0).collect::<Vec<_>>());
        let next = segments.all().last().map_or(1, |segment| segment.number + 1);
        settle(&segments, &found).unwrap();
        let preparer = Preparer::start(Arc::clone(&segments), epoch, SIZES, next).unwrap();
        let writer = Writer::new(Arc::clone(&segments), preparer, epoch, found.end, found.position);
        Self { disk: disk.clone(), segments, writer: Some(writer), epoch }
    }

    fn writer(&mut self) -> &mut Writer {
        self.writer.as_mut().unwrap()
    }

    /// Appends one commit with a value of `len` bytes.
    fn append(&mut self, len: usize) -> Place {
        let position = Position(self.writer().last().0 + 1);
        let mut body = Vec::new();
        put_commit_head(&mut body, b"note", 1);
        put_write(&mut body, &position.0.to_be_bytes(), Some(&vec![0xAB; len]));
        match self.writer().make_room(body.len(), false) {
            Ok(()) => {}
            Err(NoRoom::Full) => panic!("the model disk is not full"),
            Err(NoRoom::Failed(error)) => panic!("{error}"),
        }
        let place = self.writer().at();
        self.writer().push(Kind::Commit, position, |out| out.extend_from_slice(&body));
        self.writer().write().unwrap();
        place
    }

    fn sync(&mut self) {
        self.writer().sync().unwrap();
    }

    fn reopen(mut self) -> Self {
        self.writer = None;
        let disk = self.disk.clone();
        Self::open(&disk, self.epoch + 1)
    }

    fn file(&self, segment: u64) -> Arc<dyn DiskFile> {
        self.disk.open(&dir().join(file_name(segment)), Open::Write).unwrap()
    }
}

fn new_log() -> Log {
    Log::open(&PowerDisk::new(), 1)
}

#[test]
fn commits_come_back_over_segments_and_restarts() {
    let mut log = new_log();
    let mut last = 0;
    for round in 0..4 {
        for n in 0..30 {
            log.append(if n % 10 == 3 { 5000 } else { 100 * round });
            last += 1;
        }
        log.sync();
        log = log.reopen();
        assert_eq!(log.writer().last(), Position(last));
    }
    // A commit larger than a segment has one of its own.
    log.append(3 * 16 * 1024);
    log.append(10);
    log.sync();
    let log = log.reopen();
    assert!(log.segments.all().len() > 4);
    let (_, found, met) = open(&log.disk).unwrap();
    assert_eq!((found.position, met.len() as u64), (Position(last + 2), last + 2));
}

#[test]
fn the_tail_that_was_never_synced_is_cut_wherever_it_is_damaged() {
    for damage in ["first byte", "body", "zeros"] {
        let mut log = new_log();
        log.append(50);
        log.sync();
        let place = log.append(50);
        let later = log.append(60);
        let file = log.file(place.segment);
        match damage {
            "first byte" => file.write_all_at(&[0], place.offset).unwrap(),
            "body" => file.write_all_at(&[0], place.offset + FRAME_HEADER as u64 + 20).unwrap(),
            _ => file.write_all_at(&[0; 64], place.offset).unwrap(),
        }
        let mut log = log.reopen();
        assert_eq!(log.writer().last(), Position(1), "{damage}: the later frame goes too");
        assert_eq!(log.file(later.segment).len_bytes().unwrap(), place.offset, "{damage}: the tail is cut");
        log.append(70);
        log.sync();
        assert_eq!(log.reopen().writer().last(), Position(2), "{damage}");
    }
}

#[test]
fn a_hole_before_a_frame_that_calls_it_synced_is_corrupt() {
    let mut log = new_log();
    log.append(50);
    let place = log.append(50);
    log.sync();
    log.append(50);
    log.sync();
    // Damage in what the last frame calls synced …
    let file = log.file(place.segment);
    file.write_all_at(&[0xFF], place.offset + FRAME_HEADER as u64).unwrap();
    assert!(matches!(open(&log.disk), Err(Error::Corrupt { .. })));
    // … even where the frame's whole beginning is gone.
    file.write_all_at(&[0; 48], place.offset).unwrap();
    assert!(matches!(open(&log.disk), Err(Error::Corrupt { .. })));
}

#[test]
fn a_segment_missing_in_the_middle_is_corrupt() {
    let mut log = new_log();
    while log.segments.all().len() < 4 {
        log.append(3000);
    }
    log.append(10);
    log.sync();
    log.append(10);
    log.sync();
    let middle = log.segments.all()[1].number;
    log.disk.remove(&dir().join(file_name(middle))).unwrap();
    assert!(matches!(open(&log.disk), Err(Error::Corrupt { .. })));
    let whole = log.segments.all();
    for segment in &whole[1..] {
        match log.disk.remove(&dir().join(file_name(segment.number))) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("{e}"),
            _ => {}
        }
    }
    let (_, found, _) = open(&log.disk).unwrap();
    assert!(found.position > Position(0), "what only a checkpoint could miss is the checkpoint's to miss");
}

#[test]
fn frames_of_an_earlier_life_do_not_come_back() {
    let mut log = new_log();
    log.append(50);
    log.sync();
    let place = log.append(50);
    log.append(50);
    // Lost: the second commit. Its successor stays in the file.
    log.file(place.segment).write_all_at(&[0; 8], place.offset).unwrap();
    let mut log = log.reopen();
    // As many bytes as were lost, so that the old third frame would stand exactly where a reader comes next.
    let again = log.append(50);
    assert_ne!(again.segment, place.segment, "the log goes on in a new segment");
    log.sync();
    let log = log.reopen();
    let (_, found, met) = open(&log.disk).unwrap();
    assert_eq!((found.position, met), (Position(2), vec![1, 2]));
}

#[test]
fn what_nobody_called_synced_is_written_again() {
    let mut log = new_log();
    log.append(50);
    log.sync();
    let place = log.append(50);
    log.append(60);
    let (_, found, _) = open(&log.disk).unwrap();
    // The first commit is known synced only from the second frame on.
    assert_eq!(found.unsynced_from, Some(place.offset));
    assert_eq!(found.position, Position(3));
}

#[test]
fn every_power_cut_leaves_every_synced_commit() {
    let seed = coffre_disk::seed::from_env();
    println!("COFFRE_SEED={seed}");
    for round in 0..60 {
        let mut random = coffre_disk::seed::Random::new(seed.wrapping_add(round));
        let mut disk = PowerDisk::new();
        let mut promised = 0;
        for life in 1..5 {
            let mut log = Log::open(&disk, life);
            assert!(log.writer().last().0 >= promised, "round {round}, life {life}: {promised} was promised");
            for _ in 0..random.below(40) {
                log.append(random.index(4000));
                if random.chance(30) {
                    log.sync();
                    promised = log.writer().last().0;
                }
            }
            promised = promised.max(log.writer().durable().0);
            log.writer = None;
            disk = log.disk.cut(random.next_u64());
        }
    }
}

#[test]
fn a_newer_version_is_refused_and_kept() {
    let mut log = new_log();
    log.append(10);
    log.sync();
    let segment = log.segments.all()[0].number;
    let file = log.file(segment);
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0).unwrap();
    header[8] = 2;
    let crc = crate::codec::Crc::new().with(&header[..12]).with(&header[16..]).finish();
    header[12..16].copy_from_slice(&crc.to_le_bytes());
    file.write_all_at(&header, 0).unwrap();
    assert!(matches!(log.segments.epoch(&log.segments.all()[0]), Err(Error::Corrupt { .. })));
    let path = dir().join(file_name(segment));
    assert!(log.disk.read_whole(&path).unwrap().is_some());
}

#[test]
fn values_are_checked_when_they_are_read() {
    let mut log = new_log();
    let place = log.append(2000);
    let value = vec![0xAB; 2000];
    let address = crate::embedded::row::ValueAddress {
        segment: place.segment,
        offset: place.offset + (FRAME_HEADER + 1 + 4 + 1 + 1 + 8 + 1 + 2) as u64,
        len_bytes: 2000,
        crc: crate::codec::crc32c(&value),
    };
    assert_eq!(log.segments.value(&address).unwrap(), Some(Bytes::from(value)));
    log.file(place.segment).write_all_at(&[1], address.offset + 1999).unwrap();
    assert!(matches!(log.segments.value(&address), Err(Error::Corrupt { .. })));
    let gone = crate::embedded::row::ValueAddress { segment: 99, ..address };
    assert_eq!(log.segments.value(&gone).unwrap(), None);
}
