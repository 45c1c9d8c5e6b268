//! Exactly once through crashes at every point, with torn and lost bytes; restored rows; reading.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex as Sync;

use coffre_kv::KvExt as _;
use coffre_kv::memory::Memory;
use coffre_kv::{Range, Scan, Stats, Visitor};
use coffre_store::object::{Door, Principal};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::sample::{At, NOW_MS, cx};

const DAY_MS: u64 = 86_400_000;

/// Where a step breaks off, as a crash would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    Writing,
    Written,
    Synced,
    Recorded,
}

#[derive(Debug, Default)]
pub(super) struct Faults {
    crash: Option<Point>,
    /// The canary: believe the file, not the place.
    trusts_file: bool,
}

impl Faults {
    pub(super) fn at(&mut self, point: Point) -> Result<()> {
        if self.crash == Some(point) { Err(Error::Stopped) } else { Ok(()) }
    }

    pub(super) fn write(&mut self, file: &mut File, text: &[u8]) -> Result<()> {
        if self.crash == Some(Point::Writing) {
            file.write_all(&text[..text.len() / 2]).unwrap();
            return Err(Error::Stopped);
        }
        Ok(())
    }

    pub(super) fn sabotaged(&self, recorded: Option<Place>) -> Option<Place> {
        recorded.map(|place| Place { len: if self.trusts_file { 1 << 40 } else { place.len }, ..place })
    }
}

fn audit(kv: &Arc<dyn Kv>, dir: &Path, faults: Faults) -> Audit {
    Audit {
        kv: Arc::clone(kv),
        clock: At::now(),
        segments: Segments::new(dir.join("audit")),
        keep_days: None,
        writer: Arc::new(Mutex::new(Writer { faults, ..Writer::default() })),
    }
}

fn note(number: u64, time_ms: u64, action: &str) -> Bytes {
    let mut cx = cx(Principal::anonymous(), Door::S3);
    cx.request_id = number.to_string().into();
    cx.now_ms = time_ms;
    Note::of(&cx, action, Some("b"), Some("k\n\"é")).encode()
}

async fn commit(kv: &Arc<dyn Kv>, note: Bytes) -> Position {
    kv.commit(Commit { note, ..Commit::default() }).await.unwrap()
}

/// The numbers of all lines, in the order of the log; `u64::MAX` for a line that is not readable.
fn numbers(dir: &Path) -> Vec<u64> {
    let segments = Segments::new(dir.join("audit"));
    let number = |line: &[u8]| {
        let line: Line = serde_json::from_slice(line).ok()?;
        line.note.request_id.parse::<u64>().ok()
    };
    let mut numbers = Vec::new();
    for day in segments.days().unwrap() {
        let text = std::fs::read(segments.path(day)).unwrap();
        let lines = text.split_inclusive(|b| *b == b'\n');
        numbers.extend(lines.map(|line| number(line).unwrap_or(u64::MAX)));
    }
    numbers
}

/// After a crash the bytes that were not synced are there, are not, or are something else.
fn tear(dir: &Path, kv_len: u64, rng: &mut StdRng) {
    let segments = Segments::new(dir.join("audit"));
    let Some(last) = segments.days().unwrap_or_default().pop() else { return };
    let path = segments.path(last);
    let len = std::fs::metadata(&path).unwrap().len();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    let kept = rng.random_range(kv_len.min(len)..=len);
    file.set_len(kept).unwrap();
    if rng.random() {
        // Blocks whose length was written and whose bytes were not.
        file.set_len(len).unwrap();
    }
}

/// Random commits, crashes and restarts; what the log says in the end, and what it should.
async fn crashes(seed: u64, trusts_file: bool) -> (Vec<u64>, Vec<u64>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let kv: Arc<dyn Kv> = Arc::new(Memory::new());
    let (mut expected, mut time_ms) = (Vec::new(), NOW_MS);
    for _ in 0..rng.random_range(1..12) {
        let crash =
            [None, Some(Point::Writing), Some(Point::Written), Some(Point::Synced), Some(Point::Recorded)];
        let crash = *crash.choose(&mut rng).unwrap();
        let audit = audit(&kv, dir.path(), Faults { crash, trusts_file });
        for _ in 0..rng.random_range(0..4) {
            for _ in 0..rng.random_range(0..5) {
                if rng.random_ratio(1, 4) {
                    commit(&kv, Bytes::new()).await;
                    continue;
                }
                // Mostly forward, sometimes by days, sometimes back: a request that began before midnight.
                time_ms = if rng.random_ratio(1, 5) {
                    time_ms + DAY_MS
                } else {
                    time_ms - rng.random_range(0..1000)
                };
                let number = expected.len() as u64;
                commit(&kv, note(number, time_ms, "PutObject")).await;
                expected.push(number);
            }
            if audit.catch_up().await.is_err() {
                break;
            }
        }
        if matches!(crash, Some(Point::Writing | Point::Written)) && !trusts_file {
            let row = kv.get(&codec::key(Kind::Audit, &[])).await.unwrap();
            let place = row.map(|row| codec::decode::<Place>("place", &row.value).unwrap());
            let days = Segments::new(dir.path().join("audit")).days().unwrap_or_default();
            let synced = place.filter(|p| days.last() == Some(&Day(p.day))).map_or(0, |p| p.len);
            tear(dir.path(), synced, &mut rng);
        }
    }
    audit(&kv, dir.path(), Faults { crash: None, trusts_file }).catch_up().await.unwrap();
    (numbers(dir.path()), expected)
}

fn seeds(rounds: u64) -> Vec<u64> {
    match std::env::var("COFFRE_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (0..rounds).map(|n| rand::random::<u64>() ^ n).collect(),
    }
}

#[tokio::test]
async fn each_change_has_one_line_whatever_crashes() {
    for seed in seeds(80) {
        println!("COFFRE_SEED={seed}");
        let (got, expected) = crashes(seed, false).await;
        assert_eq!(got, expected, "COFFRE_SEED={seed}");
    }
}

#[tokio::test]
async fn canary_a_follower_that_trusts_its_file_is_caught() {
    let mut caught = 0;
    for seed in 0..40 {
        let (got, expected) = crashes(seed, true).await;
        caught += usize::from(got != expected);
    }
    println!("caught {caught} of 40");
    assert!(caught > 5, "only {caught} of 40 rounds noticed lines written twice");
}

#[tokio::test]
async fn lines_beyond_restored_rows_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let kv: Arc<dyn Kv> = Arc::new(Memory::new());
    let ours = audit(&kv, dir.path(), Faults::default());
    for number in 0..3 {
        commit(&kv, note(number, NOW_MS, "PutObject")).await;
    }
    ours.catch_up().await.unwrap();
    // The backup's rows, and a log that went on.
    let old: Arc<dyn Kv> = Arc::new(Memory::new());
    let row = kv.get(&codec::key(Kind::Audit, &[])).await.unwrap().unwrap();
    for number in 3..10 {
        commit(&kv, note(number, NOW_MS, "PutObject")).await;
    }
    ours.catch_up().await.unwrap();
    let writes = vec![Write::Put(codec::key(Kind::Audit, &[]), row.value)];
    for _ in 0..4 {
        commit(&old, Bytes::new()).await;
    }
    old.commit(Commit { writes, ..Commit::default() }).await.unwrap();
    let restored = audit(&old, dir.path(), Faults::default());
    restored.catch_up().await.unwrap();
    commit(&old, note(10, NOW_MS, "PutObject")).await;
    restored.catch_up().await.unwrap();
    assert_eq!(numbers(dir.path()), (0..11).collect::<Vec<_>>());
    // And once more over that.
    commit(&old, note(11, NOW_MS, "PutObject")).await;
    audit(&old, dir.path(), Faults::default()).catch_up().await.unwrap();
    assert_eq!(numbers(dir.path()), (0..12).collect::<Vec<_>>());
}

#[tokio::test]
async fn imported_rows_begin_a_new_feed_in_the_same_log() {
    let dir = tempfile::tempdir().unwrap();
    let kv: Arc<dyn Kv> = Arc::new(Memory::new());
    for number in 0..3 {
        commit(&kv, note(number, NOW_MS, "PutObject")).await;
    }
    audit(&kv, dir.path(), Faults::default()).catch_up().await.unwrap();
    let fresh: Arc<dyn Kv> = Arc::new(Memory::new());
    let row = kv.get(&codec::key(Kind::Audit, &[])).await.unwrap().unwrap();
    let writes = vec![Write::Put(codec::key(Kind::Audit, &[]), row.value)];
    fresh.commit(Commit { writes, ..Commit::default() }).await.unwrap();
    commit(&fresh, note(3, NOW_MS, "PutObject")).await;
    audit(&fresh, dir.path(), Faults::default()).catch_up().await.unwrap();
    assert_eq!(numbers(dir.path()), [0, 1, 2, 3]);
}

/// An engine whose ordered commits stay undurable until a durable one comes.
#[derive(Debug, Default)]
struct Lazy {
    rows: Memory,
    durable: Sync<Position>,
}

#[async_trait::async_trait]
impl Kv for Lazy {
    async fn commit(&self, commit: Commit) -> coffre_kv::Result<Position> {
        let wait = commit.wait;
        let position = self.rows.commit(commit).await?;
        if wait == Wait::Durable {
            *self.durable.lock().unwrap() = position;
        }
        Ok(position)
    }
    async fn get(&self, key: &[u8]) -> coffre_kv::Result<Option<coffre_kv::Entry>> {
        self.rows.get(key).await
    }
    async fn scan(&self, scan: Scan, visit: Visitor) -> coffre_kv::Result<()> {
        self.rows.scan(scan, visit).await
    }
    async fn changes(&self, after: Position, limit: usize) -> coffre_kv::Result<Changes> {
        self.rows.changes(after, limit).await
    }
    fn applied(&self) -> tokio::sync::watch::Receiver<Position> {
        self.rows.applied()
    }
    fn stats(&self) -> Stats {
        Stats { durable: *self.durable.lock().unwrap(), ..self.rows.stats() }
    }
    async fn verified(&self) -> coffre_kv::Result<()> {
        self.rows.verified().await
    }
    async fn export(&self, to: Box<dyn std::io::Write + Send>) -> coffre_kv::Result<()> {
        self.rows.export(to).await
    }
    async fn import(&self, from: Box<dyn std::io::Read + Send>) -> coffre_kv::Result<()> {
        self.rows.import(from).await
    }
    async fn close(&self) -> coffre_kv::Result<()> {
        self.rows.close().await
    }
}

#[tokio::test]
async fn no_line_before_its_change_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let lazy = Arc::new(Lazy::default());
    let kv: Arc<dyn Kv> = Arc::clone(&lazy) as _;
    let audit = audit(&kv, dir.path(), Faults::default());
    audit.catch_up().await.unwrap();
    let ordered = Commit { note: note(0, NOW_MS, "PutObject"), wait: Wait::Ordered, ..Commit::default() };
    let position = kv.commit(ordered).await.unwrap();
    assert!(*lazy.durable.lock().unwrap() < position);
    audit.catch_up().await.unwrap();
    assert_eq!(numbers(dir.path()), [0]);
    assert!(*lazy.durable.lock().unwrap() >= position);
}

#[tokio::test]
async fn lines_the_feed_could_not_give_again_are_not_cut() {
    let dir = tempfile::tempdir().unwrap();
    let kv: Arc<dyn Kv> = Arc::new(Memory::with_feed(2));
    let ours = audit(&kv, dir.path(), Faults::default());
    ours.catch_up().await.unwrap();
    for number in 0..3 {
        commit(&kv, note(number, NOW_MS, "PutObject")).await;
    }
    ours.catch_up().await.unwrap();
    let row = kv.get(&codec::key(Kind::Audit, &[])).await.unwrap().unwrap();
    for number in 3..9 {
        commit(&kv, note(number, NOW_MS, "PutObject")).await;
    }
    ours.catch_up().await.unwrap();
    // The place of before, as if its last moves had been lost, and a feed that went on without waiting.
    let lost =
        vec![Write::Put(codec::key(Kind::Audit, &[]), row.value), Write::Delete(follower_key(FOLLOWER))];
    kv.commit(Commit { writes: lost, ..Commit::default() }).await.unwrap();
    for _ in 0..4 {
        commit(&kv, Bytes::new()).await;
    }
    audit(&kv, dir.path(), Faults::default()).catch_up().await.unwrap();
    assert_eq!(numbers(dir.path())[..9], (0..9).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_log_follows_the_embedded_engine_through_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let disk: Arc<dyn coffre_disk::Disk> = Arc::new(coffre_disk::RealDisk);
        let options =
            coffre_kv::embedded::Options::new(disk, dir.path().join("log"), dir.path().join("index"));
        coffre_kv::embedded::Embedded::open(options).unwrap()
    };
    let mut number = 0;
    for _ in 0..4 {
        let engine = Arc::new(open());
        let kv: Arc<dyn Kv> = Arc::clone(&engine) as _;
        for wait in [Wait::Durable, Wait::Ordered, Wait::Ordered, Wait::Durable, Wait::Ordered] {
            let note = note(number, NOW_MS, "PutObject");
            kv.commit(Commit { note, wait, ..Commit::default() }).await.unwrap();
            number += 1;
            if number % 3 == 0 {
                audit(&kv, dir.path(), Faults::default()).catch_up().await.unwrap();
                assert!(kv.stats().durable.0 > 0);
            }
        }
        engine.compact().unwrap();
        kv.close().await.unwrap();
    }
    let kv: Arc<dyn Kv> = Arc::new(open());
    audit(&kv, dir.path(), Faults::default()).catch_up().await.unwrap();
    assert_eq!(numbers(dir.path()), (0..number).collect::<Vec<_>>());
    kv.close().await.unwrap();
}

#[tokio::test]
async fn a_long_feed_is_written_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let kv: Arc<dyn Kv> = Arc::new(Memory::with_feed(100_000));
    let count = APPEND_LINES as u64 + 100;
    for number in 0..count {
        commit(&kv, note(number, NOW_MS, "PutObject")).await;
    }
    for _ in 0..APPEND_COMMITS + 100 {
        commit(&kv, Bytes::new()).await;
    }
    commit(&kv, note(count, NOW_MS, "PutObject")).await;
    audit(&kv, dir.path(), Faults::default()).catch_up().await.unwrap();
    assert_eq!(numbers(dir.path()), (0..=count).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_gap_in_the_feed_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let kv: Arc<dyn Kv> = Arc::new(Memory::with_feed(2));
    commit(&kv, note(0, NOW_MS, "PutObject")).await;
    let audit = audit(&kv, dir.path(), Faults::default());
    audit.catch_up().await.unwrap();
    // Somebody removed the follower's row.
    let gone = vec![Write::Delete(follower_key(FOLLOWER))];
    kv.commit(Commit { writes: gone, ..Commit::default() }).await.unwrap();
    for number in 1..10 {
        commit(&kv, note(number, NOW_MS, "PutObject")).await;
    }
    let page = audit.read(Filter::default(), 1, 100).await.unwrap();
    assert!(page.lines.iter().any(|line| line.note.action == "AuditGap"), "{page:?}");
    assert_eq!(page.lines[0].note.request_id, "9");
}

#[tokio::test]
async fn reading_filters_and_pages_newest_first() {
    let dir = tempfile::tempdir().unwrap();
    let kv: Arc<dyn Kv> = Arc::new(Memory::new());
    let audit = Audit::open(Arc::clone(&kv), dir.path().join("audit"), At::now(), None).await.unwrap();
    for number in 0..25 {
        let action = if number % 2 == 0 { "PutObject" } else { "DeleteObject" };
        commit(&kv, note(number, NOW_MS + number * DAY_MS / 5, action)).await;
    }
    let page = async |filter: Filter, page, per_page| {
        let page = audit.read(filter, page, per_page).await.unwrap();
        let numbers: Vec<u64> = page.lines.iter().map(|line| line.note.request_id.parse().unwrap()).collect();
        (numbers, page.total)
    };
    assert_eq!(page(Filter::default(), 1, 3).await, (vec![24, 23, 22], 25));
    assert_eq!(page(Filter::default(), 9, 3).await, (vec![0], 25));
    assert_eq!(page(Filter::default(), 10, 3).await, (vec![], 25));
    let deleted = Filter { action: Some("DeleteObject".into()), ..Filter::default() };
    assert_eq!(page(deleted.clone(), 2, 5).await, (vec![13, 11, 9, 7, 5], 12));
    let from_ms = Some(NOW_MS + 5 * DAY_MS / 5);
    let to_ms = Some(NOW_MS + 9 * DAY_MS / 5);
    assert_eq!(page(Filter { from_ms, to_ms, ..deleted }, 1, 10).await, (vec![7, 5], 2));
    let other = Filter { principal: Some("system".into()), ..Filter::default() };
    assert_eq!(page(other, 1, 10).await, (vec![], 0));
    assert!(audit.read(Filter::default(), 0, 10).await.is_err());
    assert!(audit.read(Filter::default(), usize::MAX, 10).await.is_err());
    let line = audit.read(Filter::default(), 1, 1).await.unwrap().lines.remove(0);
    assert_eq!((line.note.key.as_deref(), line.note.door.as_str()), (Some("k\n\"é"), "s3"));
}

#[tokio::test]
async fn a_note_of_a_newer_version_still_leaves_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let kv: Arc<dyn Kv> = Arc::new(Memory::new());
    commit(&kv, Bytes::from_static(&[99, 1, 2, 3])).await;
    let page = audit(&kv, dir.path(), Faults::default()).read(Filter::default(), 1, 10).await.unwrap();
    assert_eq!((page.total, page.lines[0].note.action.as_str()), (1, "UnreadableNote"));
}

#[tokio::test]
async fn a_damaged_line_costs_only_itself() {
    let dir = tempfile::tempdir().unwrap();
    let kv: Arc<dyn Kv> = Arc::new(Memory::new());
    let audit = audit(&kv, dir.path(), Faults::default());
    for number in 0..3 {
        commit(&kv, note(number, NOW_MS, "PutObject")).await;
    }
    audit.catch_up().await.unwrap();
    let path = audit.segments.path(Day::of_ms(NOW_MS));
    let text = std::fs::read_to_string(&path).unwrap().replace("\"1\"", "\"1'");
    std::fs::write(&path, text).unwrap();
    let page = audit.read(Filter::default(), 1, 10).await.unwrap();
    assert_eq!(page.total, 2);
}

#[tokio::test]
async fn old_segments_go_and_the_last_stays() {
    let dir = tempfile::tempdir().unwrap();
    let kv: Arc<dyn Kv> = Arc::new(Memory::new());
    for day in 0..5 {
        commit(&kv, note(day, NOW_MS - (10 - day) * DAY_MS, "PutObject")).await;
    }
    let open = |days| Audit::open(Arc::clone(&kv), dir.path().join("audit"), At::now(), days);
    drop(open(Some(8)).await.unwrap());
    assert_eq!(numbers(dir.path()), [2, 3, 4]);
    drop(open(Some(1)).await.unwrap());
    assert_eq!(numbers(dir.path()), [4]);
}

#[tokio::test]
async fn it_follows_until_stopped_and_moves_its_place_when_idle() {
    let dir = tempfile::tempdir().unwrap();
    let kv: Arc<dyn Kv> = Arc::new(Memory::new());
    let audit = Audit::open(Arc::clone(&kv), dir.path().join("audit"), At::now(), None).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(audit.clone().run(async { drop(stopped.await) }));
    for _ in 0..IDLE_COMMITS + 10 {
        commit(&kv, Bytes::new()).await;
    }
    commit(&kv, note(0, NOW_MS, "PutObject")).await;
    drop(stop);
    running.await.unwrap();
    assert_eq!(numbers(dir.path()), [0]);
    let scan = Scan::forward(Range::prefix(follower_key(FOLLOWER)));
    let rows = kv.rows(scan, 2).await.unwrap();
    let position = u64::from_be_bytes(rows[0].1.value[..].try_into().unwrap());
    assert!(position > IDLE_COMMITS, "{position}");
}
