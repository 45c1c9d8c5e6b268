//! Tests of the engine as a whole: which index is believed, that one built again is the same, compaction under
//! readers, and room.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use coffre_disk::{DirEntry, Disk, DiskExt, DiskFile, Open, RealDisk, Space};
use sha2::{Digest, Sha256};

use super::{Embedded, IndexKind, Options};
use crate::{Changes, Check, Commit, Error, Kv, KvExt, Position, Range, Scan, Wait, Write, follower_key};

/// Each of these tests, on each kind of index.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod on_sled {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::IndexKind::Sled).await;
            })+
        }
        mod on_fjall {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(super::IndexKind::Fjall).await;
            })+
        }
    };
}

on_both! {
    keeps_the_contract,
    comes_back_after_a_close_after_a_drop_and_rebuilt,
    only_a_clean_end_or_the_same_boot_is_believed,
    an_index_that_is_missing_or_broken_is_built_again,
    a_rebuild_from_snapshots_is_the_same_and_damaged_ones_have_a_substitute,
    a_log_that_lost_its_end_is_refused,
    a_store_in_use_is_refused,
    a_store_let_go_of_while_a_child_is_being_made_opens_again,
    compaction_gives_segments_back_and_readers_notice_nothing,
    a_follower_keeps_the_log,
    short_lives_do_not_pile_up_the_log,
    the_reserve_is_for_those_who_may_and_work_resumes_by_itself,
    checks_see_the_group_before_them,
    a_half_built_index_is_never_believed,
    a_failure_in_use_is_remembered,
}

/// Small segments, and no checkpoint but those asked for, so that little data meets every path.
pub(super) fn options(dir: &Path, index: IndexKind) -> Options {
    Options {
        index,
        segment_bytes: 64 * 1024,
        checkpoint_bytes: 1 << 40,
        index_cache_bytes: 16 * 1024 * 1024,
        reserve_bytes: 0,
        ..Options::new(Arc::new(RealDisk), dir.join("kv"), dir.join("index"))
    }
}

pub(super) fn open(dir: &Path, index: IndexKind) -> Embedded {
    Embedded::open(options(dir, index)).unwrap()
}

pub(super) fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Write {
    Write::Put(key.into(), value.into())
}

pub(super) async fn commit(kv: &Embedded, writes: Vec<Write>, wait: Wait) -> Position {
    kv.commit(Commit { writes, wait, ..Commit::default() }).await.unwrap()
}

/// Every row, as (key, value, position).
async fn everything(kv: &Embedded) -> Vec<(Bytes, Bytes, Position)> {
    let rows = kv.rows(Scan::forward(Range::all()), usize::MAX).await.unwrap();
    rows.into_iter().map(|(key, entry)| (key, entry.value, entry.position)).collect()
}

/// A hash over all rows and positions.
pub(super) async fn hash(kv: &Embedded) -> Vec<u8> {
    let mut hash = Sha256::new();
    for (key, value, position) in everything(kv).await {
        for part in [&key[..], &value[..]] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update(position.0.to_le_bytes());
    }
    hash.finalize().to_vec()
}

/// Segments of the log with the bytes in them that rows still name, as they are counted.
pub(super) fn live(kv: &Embedded) -> Vec<(u64, i64)> {
    let counted = kv.shared.segments.all().into_iter();
    let counted = counted.map(|segment| (segment.number, segment.live_bytes.load(Ordering::Relaxed)));
    counted.filter(|(_, live)| *live != 0).collect()
}

/// Some of everything: small and large values, replaced and deleted ones, counters.
pub(super) async fn work(kv: &Embedded, from: u32, count: u32) {
    for n in from..from + count {
        let len = match n % 7 {
            0 => 9000,
            3 => 1025,
            5 => 1024,
            _ => 40,
        };
        let mut writes = vec![
            put((n % 97).to_be_bytes().to_vec(), vec![n.to_le_bytes()[0]; len]),
            put(&b"hot"[..], n.to_be_bytes().to_vec()),
            Write::Add(Bytes::from_static(b"sum"), i64::from(n)),
        ];
        if n % 5 == 0 {
            writes.push(Write::Delete(((n + 13) % 97).to_be_bytes().to_vec().into()));
        }
        writes.dedup_by(|a, b| a.key() == b.key());
        commit(kv, writes, if n % 16 == 0 { Wait::Durable } else { Wait::Ordered }).await;
    }
}

async fn keeps_the_contract(index: IndexKind) {
    let dirs = std::sync::Mutex::new(Vec::new());
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        let kv: Arc<dyn Kv> = Arc::new(open(dir.path(), index));
        dirs.lock().unwrap().push(dir);
        kv
    };
    crate::suite::all(&make).await;
}

async fn comes_back_after_a_close_after_a_drop_and_rebuilt(index: IndexKind) {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = None;
    for (n, how) in ["new", "replayed", "clean", "rebuilt", "replayed", "clean"].into_iter().enumerate() {
        let rebuild_index = how == "rebuilt";
        let kv = Embedded::open(Options { rebuild_index, ..options(dir.path(), index) }).unwrap();
        assert_eq!(kv.stats().opened, Some(how), "open {n}");
        if let Some(expected) = expected {
            kv.verified().await.unwrap();
            assert_eq!((hash(&kv).await, live(&kv)), expected, "open {n}");
        }
        work(&kv, u32::try_from(n).unwrap() * 100, 100).await;
        if n == 2 {
            kv.checkpoint().unwrap();
            work(&kv, 1000, 50).await;
        }
        expected = Some((hash(&kv).await, live(&kv)));
        if how == "replayed" {
            kv.close().await.unwrap();
        }
    }
}

/// Ends a store like a power cut would, as far as opening can tell: another boot.
pub(super) fn other_boot(dir: &Path, index: IndexKind) -> Options {
    Options { boot_id: "another boot".into(), ..options(dir, index) }
}

async fn only_a_clean_end_or_the_same_boot_is_believed(index: IndexKind) {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path(), index);
    work(&kv, 0, 60).await;
    let expected = hash(&kv).await;
    drop(kv);
    let kv = Embedded::open(other_boot(dir.path(), index)).unwrap();
    assert_eq!((kv.stats().opened, hash(&kv).await), (Some("rebuilt"), expected.clone()));
    kv.close().await.unwrap();
    let kv = open(dir.path(), index);
    assert_eq!((kv.stats().opened, hash(&kv).await), (Some("clean"), expected.clone()), "in any boot");
    drop(kv);
    let unknown = Options { boot_id: String::new(), ..options(dir.path(), index) };
    let kv = Embedded::open(unknown.clone()).unwrap();
    assert_eq!(kv.stats().opened, Some("rebuilt"), "without a boot id nothing is known");
    drop(kv);
    let kv = Embedded::open(unknown).unwrap();
    assert_eq!((kv.stats().opened, hash(&kv).await), (Some("rebuilt"), expected));
}

/// The file that the rows are in, as long as they are few.
fn data_file(current: &Path, index: IndexKind) -> std::path::PathBuf {
    current.join(match index {
        IndexKind::Sled => "db",
        IndexKind::Fjall => "0.jnl",
    })
}

/// How far a file is used: fjall makes its journal longer than what it holds.
fn used(file: &Path) -> u64 {
    let bytes = std::fs::read(file).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1)
}

async fn an_index_that_is_missing_or_broken_is_built_again(index: IndexKind) {
    type Break = fn(&Path, IndexKind);
    let breaks: [(&str, Break); 9] = [
        ("all gone", |current, _| std::fs::remove_dir_all(current.parent().unwrap()).unwrap()),
        ("gone", |current, _| std::fs::remove_dir_all(current).unwrap()),
        ("empty", |current, _| {
            std::fs::remove_dir_all(current).unwrap();
            std::fs::create_dir(current).unwrap();
        }),
        ("a file in its place", |current, _| {
            std::fs::remove_dir_all(current).unwrap();
            std::fs::write(current, b"not a directory").unwrap();
        }),
        ("no file that tells who made it", |current, index| {
            std::fs::remove_file(super::index::identity_file(index, current)).unwrap();
        }),
        ("that one empty", |current, index| {
            std::fs::File::create(super::index::identity_file(index, current)).map(drop).unwrap();
        }),
        ("a cut data file", |current, index| {
            let file = std::fs::OpenOptions::new().write(true).open(data_file(current, index)).unwrap();
            file.set_len(used(&data_file(current, index)) / 2).unwrap();
        }),
        ("a garbage data file", |current, index| {
            let file = std::fs::OpenOptions::new().write(true).open(data_file(current, index)).unwrap();
            let garbage = vec![0x5A; usize::try_from(used(&data_file(current, index))).unwrap()];
            std::os::unix::fs::FileExt::write_all_at(&file, &garbage, 0).unwrap();
        }),
        ("another kind of index beside it", |current, index| {
            let other = IndexKind::ALL.into_iter().find(|kind| *kind != index).unwrap();
            std::fs::write(super::index::identity_file(other, current), b"").unwrap();
        }),
    ];
    for (what, broken) in breaks {
        for clean in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let kv = open(dir.path(), index);
            work(&kv, 0, 300).await;
            kv.checkpoint().unwrap();
            let expected = hash(&kv).await;
            if clean {
                kv.close().await.unwrap();
            }
            drop(kv);
            broken(&super::open::current(&dir.path().join("index")), index);
            let kv = open(dir.path(), index);
            assert_eq!(kv.stats().opened, Some("rebuilt"), "{what}, clean: {clean}");
            assert_eq!(hash(&kv).await, expected, "{what}, clean: {clean}");
        }
    }
}

#[tokio::test]
async fn a_left_over_of_sleds_does_not_keep_it_from_opening() {
    let index = IndexKind::Sled;
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path(), index);
    work(&kv, 0, 20).await;
    kv.close().await.unwrap();
    let current = super::open::current(&dir.path().join("index"));
    std::fs::write(current.join("snap.00000000000000FF.generating"), b"").unwrap();
    assert_eq!(open(dir.path(), index).stats().opened, Some("clean"));
}

async fn a_rebuild_from_snapshots_is_the_same_and_damaged_ones_have_a_substitute(index: IndexKind) {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path(), index);
    work(&kv, 0, 400).await;
    kv.snapshot().unwrap();
    work(&kv, 400, 400).await;
    kv.snapshot().unwrap();
    work(&kv, 800, 100).await;
    let expected = hash(&kv).await;
    drop(kv);
    let snapshots = super::snapshot::dir(&dir.path().join("kv"));
    let mut damaged = 0;
    loop {
        let kv = Embedded::open(Options { rebuild_index: true, ..options(dir.path(), index) }).unwrap();
        assert_eq!(hash(&kv).await, expected, "{damaged} snapshots damaged");
        drop(kv);
        // The newest whole one next; without any, the log from its beginning.
        let names = RealDisk.list(&snapshots).unwrap();
        let Some(name) = names.iter().rev().nth(damaged) else { break };
        let path = snapshots.join(&name.name);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
        damaged += 1;
    }
    assert_eq!(damaged, 2);
}

async fn a_log_that_lost_its_end_is_refused(index: IndexKind) {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path(), index);
    work(&kv, 0, 200).await;
    kv.close().await.unwrap();
    let log = dir.path().join("kv/log");
    // The last one with a frame in it; behind it stands the one made ahead.
    let has_frames = |name: &str| std::fs::read(log.join(name)).unwrap().get(64..68) != Some(&[0; 4][..]);
    let names = RealDisk.list(&log).unwrap();
    let last = names.iter().rfind(|entry| has_frames(&entry.name)).unwrap();
    RealDisk.open(&log.join(&last.name), Open::Write).unwrap().set_len(2000).unwrap();
    // The clean mark says how far the log reaches.
    assert!(matches!(Embedded::open(options(dir.path(), index)), Err(Error::Corrupt { .. })));
    let rebuild = Options { rebuild_index: true, ..options(dir.path(), index) };
    assert!(matches!(Embedded::open(rebuild), Err(Error::Corrupt { .. })));
}

async fn a_store_in_use_is_refused(index: IndexKind) {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path(), index);
    assert!(matches!(Embedded::open(options(dir.path(), index)), Err(Error::InUse)));
    drop(kv);
    open(dir.path(), index);
}

/// A child has its parent's files open from its making until it runs its own program.
async fn a_store_let_go_of_while_a_child_is_being_made_opens_again(index: IndexKind) {
    let dir = tempfile::tempdir().unwrap();
    for ends_cleanly in [false, true] {
        let kv = open(dir.path(), index);
        let of_the_child =
            kv.lock.lock().unwrap().as_ref().unwrap().0.std_file().unwrap().try_clone().unwrap();
        if ends_cleanly {
            kv.close().await.unwrap();
        }
        drop(kv);
        drop(open(dir.path(), index));
        drop(of_the_child);
    }
}

async fn compaction_gives_segments_back_and_readers_notice_nothing(index: IndexKind) {
    let dir = tempfile::tempdir().unwrap();
    let kv = Arc::new(open(dir.path(), index));
    // Few of the values written survive, and those are read all the time.
    for n in 0..200_u32 {
        let key = if n % 20 == 0 { format!("keep-{n:03}") } else { format!("churn-{}", n % 3) };
        commit(&kv, vec![put(key, vec![n.to_le_bytes()[0]; 6000])], Wait::Ordered).await;
    }
    let before = everything(&kv).await;
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (kv, stop, before) = (Arc::clone(&kv), Arc::clone(&stop), before.clone());
            tokio::spawn(async move {
                let mut rounds = 0;
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(everything(&kv).await, before);
                    for (key, value, position) in &before {
                        let entry = kv.get(key).await.unwrap().unwrap();
                        assert_eq!(
                            (&entry.value, entry.position),
                            (value, *position),
                            "a move keeps the position"
                        );
                    }
                    rounds += 1;
                }
                rounds
            })
        })
        .collect();
    let bytes_before = kv.stats().log_bytes.unwrap();
    assert_eq!(kv.compact().unwrap().segments_removed, 0, "nothing goes without two snapshots");
    let blocking = {
        let kv = Arc::clone(&kv);
        tokio::task::spawn_blocking(move || {
            let mut removed = 0;
            // The floor is the older snapshot; each round it moves on. Segments that are read just then wait.
            for _ in 0..50 {
                kv.checkpoint().unwrap();
                let runtime = tokio::runtime::Handle::current();
                runtime.block_on(commit(&kv, vec![Write::Delete("none".into())], Wait::Ordered));
                kv.snapshot().unwrap();
                removed += kv.compact().unwrap().segments_removed;
            }
            removed
        })
    };
    let removed = blocking.await.unwrap();
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
    let bytes_after = kv.stats().log_bytes.unwrap();
    assert!(
        removed >= 10 && bytes_after * 2 < bytes_before,
        "{removed} removed, {bytes_before} → {bytes_after}"
    );
    assert_eq!(everything(&kv).await, before);
    match kv.changes(Position(0), 10).await.unwrap() {
        Changes::Gone { oldest } => {
            let Changes::Items(items) = kv.changes(oldest, 1).await.unwrap() else {
                panic!("from the oldest on")
            };
            assert_eq!(items[0].position, Position(oldest.0 + 1));
        }
        Changes::Items(items) => panic!("the beginning is gone, but {} came", items.len()),
    }
    drop(kv);
    for rebuild_index in [false, true] {
        let kv = Embedded::open(Options { rebuild_index, ..options(dir.path(), index) }).unwrap();
        assert_eq!(everything(&kv).await, before, "rebuilt: {rebuild_index}");
    }
}

async fn a_follower_keeps_the_log(index: IndexKind) {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path(), index);
    commit(&kv, vec![put(follower_key("audit"), 5_u64.to_be_bytes().to_vec())], Wait::Ordered).await;
    for round in 0..4 {
        work(&kv, round * 100, 100).await;
        kv.checkpoint().unwrap();
        kv.snapshot().unwrap();
        assert_eq!(kv.compact().unwrap().segments_removed, 0);
    }
    assert!(matches!(kv.changes(Position(5), 1).await.unwrap(), Changes::Items(items) if items.len() == 1));
    commit(&kv, vec![Write::Delete(follower_key("audit"))], Wait::Ordered).await;
    assert!(kv.compact().unwrap().segments_removed > 0, "with the follower goes what only it needed");
}

/// No life comes to a checkpoint, and all together do not log more than a few may.
async fn short_lives_do_not_pile_up_the_log(index: IndexKind) {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = super::snapshot::dir(&dir.path().join("kv"));
    let options = || Options { checkpoint_bytes: 512 * 1024, ..options(dir.path(), index) };
    for life in 0.. {
        let kv = Embedded::open(options()).unwrap();
        work(&kv, life * 100, 100).await;
        let log_bytes = kv.stats().log_bytes.unwrap();
        kv.close().await.unwrap();
        assert!(life > 0 || log_bytes < 512 * 1024, "one life alone does");
        if !RealDisk.list(&snapshots).unwrap().is_empty() {
            return;
        }
        assert!(log_bytes < 2048 * 1024, "{life} lives, and no snapshot");
    }
}

/// A disk whose free space is what the test says.
#[derive(Debug)]
struct Roomy {
    free_bytes: AtomicU64,
}

impl Disk for Roomy {
    fn open(&self, path: &Path, how: Open) -> std::io::Result<Arc<dyn DiskFile>> {
        RealDisk.open(path, how)
    }
    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> std::io::Result<()> {
        RealDisk.remove(path)
    }
    fn create_dir_all(&self, path: &Path) -> std::io::Result<()> {
        RealDisk.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> std::io::Result<Vec<DirEntry>> {
        RealDisk.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> std::io::Result<()> {
        RealDisk.sync_dir(dir)
    }
    fn space(&self, _path: &Path) -> std::io::Result<Space> {
        let free_bytes = self.free_bytes.load(Ordering::Relaxed);
        Ok(Space { free_bytes, total_bytes: free_bytes })
    }
}

async fn the_reserve_is_for_those_who_may_and_work_resumes_by_itself(index: IndexKind) {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Roomy { free_bytes: AtomicU64::new(1 << 30) });
    let options = Options {
        disk: Arc::clone(&disk) as Arc<dyn Disk>,
        reserve_bytes: 1 << 20,
        ..options(dir.path(), index)
    };
    let kv = Embedded::open(options).unwrap();
    work(&kv, 0, 10).await;
    let big = |n: u32| vec![put(format!("big-{n}"), vec![1; 50_000])];
    let ordinary = |n| Commit { writes: big(n), ..Commit::default() };
    disk.free_bytes.store(1 << 19, Ordering::Relaxed);
    assert!(matches!(kv.commit(ordinary(0)).await, Err(Error::NoSpace)));
    // Over several segments, so that one has to be made of the reserve.
    for n in 0..5 {
        let freeing = Commit { may_use_reserve: true, ..ordinary(n) };
        kv.commit(freeing).await.unwrap();
        assert!(matches!(kv.commit(ordinary(100)).await, Err(Error::NoSpace)));
    }
    assert_eq!(kv.get(b"big-100").await.unwrap(), None, "nothing happened");
    disk.free_bytes.store(1 << 30, Ordering::Relaxed);
    for n in 5..10 {
        kv.commit(ordinary(n)).await.unwrap();
    }
    assert!(!*kv.poisoned().borrow());
    let expected = hash(&kv).await;
    drop(kv);
    let kv = open(dir.path(), index);
    assert_eq!(hash(&kv).await, expected);
}

async fn checks_see_the_group_before_them(index: IndexKind) {
    let dir = tempfile::tempdir().unwrap();
    let kv = Arc::new(open(dir.path(), index));
    let mut tasks = Vec::new();
    for n in 0..64_u8 {
        let kv = Arc::clone(&kv);
        tasks.push(tokio::spawn(async move {
            let checks = vec![Check::PrefixEmpty("p/".into()), Check::AtMost("n".into(), 0)];
            let writes = vec![put(vec![b'p', b'/', n], "x"), Write::Add("n".into(), 1)];
            kv.commit(Commit { checks, writes, ..Commit::default() }).await.is_ok()
        }));
    }
    let mut won = 0;
    for task in tasks {
        won += usize::from(task.await.unwrap());
    }
    assert_eq!((won, everything(&kv).await.len()), (1, 2));
}

async fn a_half_built_index_is_never_believed(index: IndexKind) {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path(), index);
    work(&kv, 0, 100).await;
    let expected = hash(&kv).await;
    drop(kv);
    // As a death in the middle of a rebuild leaves it: rows, in the same boot, and no mark.
    let current = super::open::current(&dir.path().join("index"));
    let half = super::index::open(index, &current, 1 << 20).unwrap();
    half.apply(&mut std::iter::once((&b""[..], None))).unwrap();
    drop(half);
    let kv = open(dir.path(), index);
    assert_eq!((kv.stats().opened, hash(&kv).await), (Some("rebuilt"), expected));
    kv.close().await.unwrap();
    assert!(RealDisk.read_whole(&dir.path().join("kv/checkpoint")).unwrap().is_some());
}

async fn a_failure_in_use_is_remembered(index: IndexKind) {
    let dir = tempfile::tempdir().unwrap();
    let kv = open(dir.path(), index);
    work(&kv, 0, 50).await;
    let expected = hash(&kv).await;
    drop(kv);
    // Its rows add up, and it said that it failed.
    std::fs::write(super::open::current(&dir.path().join("index")).join("failed"), b"").unwrap();
    for how in ["rebuilt", "replayed"] {
        let kv = open(dir.path(), index);
        assert_eq!((kv.stats().opened, hash(&kv).await), (Some(how), expected.clone()));
    }
}

/// The setting changed, after a clean end and after a death, there and back; what was done in between is there.
#[tokio::test]
async fn another_kind_of_index_is_built_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let current = super::open::current(&dir.path().join("index"));
    let (sled, fjall) = (IndexKind::Sled, IndexKind::Fjall);
    let mut expected = hash(&open(dir.path(), sled)).await;
    let steps = [
        (fjall, "rebuilt", true),
        (fjall, "clean", true),
        (sled, "rebuilt", false),
        (sled, "replayed", false),
        (fjall, "rebuilt", false),
        (sled, "rebuilt", true),
    ];
    for (n, (index, how, is_clean)) in (0..).zip(steps) {
        let kv = open(dir.path(), index);
        assert_eq!((kv.stats().opened, hash(&kv).await), (Some(how), expected), "step {n}");
        assert_eq!(super::index::makers(&current).collect::<Vec<_>>(), [index], "never both");
        work(&kv, n * 100, 60).await;
        kv.checkpoint().unwrap();
        work(&kv, n * 100 + 60, 20).await;
        expected = hash(&kv).await;
        if is_clean {
            kv.close().await.unwrap();
        }
    }
}

/// What one engine exports the other imports, and both say the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_moves_between_the_kinds() {
    for (from, to) in [(IndexKind::Sled, IndexKind::Fjall), (IndexKind::Fjall, IndexKind::Sled)] {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (kv, imported) = (open(dir.path(), from), open(other.path(), to));
        work(&kv, 0, 300).await;
        let path = dir.path().join("rows");
        kv.export(Box::new(std::fs::File::create(&path).unwrap())).await.unwrap();
        imported.import(Box::new(std::fs::File::open(&path).unwrap())).await.unwrap();
        let rows = async |kv: &Embedded| {
            everything(kv).await.into_iter().map(|(key, value, _)| (key, value)).collect::<Vec<_>>()
        };
        assert_eq!(rows(&imported).await, rows(&kv).await, "{from:?} to {to:?}");
        drop(imported);
        assert_eq!(rows(&open(other.path(), to)).await, rows(&kv).await, "and after a death");
    }
}
