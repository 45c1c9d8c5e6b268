//! (d) The disk runs full: a 1 GiB ext4 of its own, mounted from a loop image (root is needed for that, and the test
//! fails without).
//!
//! Commits answer `NoSpace` and nothing happens; what frees space may use the reserve; after the process ends on the
//! full disk the store opens again unattended with everything acknowledged, and works on when space returns.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use coffre_disk::seed::Random;
use coffre_disk::{Disk, Open, RealDisk};
use coffre_kv::embedded::{Embedded, IndexKind, Options};
use coffre_kv::{Commit, Error, Kv, Wait, Write};
use tempfile::TempDir;

use crate::oracle::{Death, Failure, Oracle, verify};
use crate::setup::{DEPTH, open, options, seed, write};

const MIB: u64 = 1024 * 1024;
const IMAGE_BYTES: u64 = 1024 * MIB;
const RESERVE_BYTES: u64 = 16 * MIB;

/// A file system of its own size, surely unmounted.
struct LoopDisk {
    folder: TempDir,
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output();
    let output =
        output.unwrap_or_else(|e| panic!("{program} cannot be run ({e}); the full-disk proof needs it"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\nthe full-disk proof mounts a loop image: run it as root on a kernel with loop \
         devices",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl LoopDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let disk = Self { folder };
        let (image, mount) = (disk.folder.path().join("image"), disk.path());
        std::fs::create_dir(&mount).unwrap();
        std::fs::File::create(&image).unwrap().set_len(IMAGE_BYTES).unwrap();
        let (image, mount) = (image.to_str().unwrap(), mount.to_str().unwrap());
        run("mkfs.ext4", &["-q", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", image]);
        run("mount", &["-o", "loop", image, mount]);
        disk
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    fn free_bytes(&self) -> u64 {
        RealDisk.space(&self.path()).unwrap().free_bytes
    }

    /// Something else takes room until this much is left.
    fn fill_to(&self, left_bytes: u64) {
        let path = self.path().join("ballast");
        let how = if path.exists() { Open::Write } else { Open::Create };
        let ballast = RealDisk.open(&path, how).unwrap();
        let have = ballast.len_bytes().unwrap();
        let mut more = self.free_bytes().saturating_sub(left_bytes);
        // What is free in sum need not be free in one piece, and the file system's own records take some.
        while more >= 4096 {
            match ballast.allocate(have + more) {
                Ok(()) => break,
                Err(_) => more -= more.div_ceil(64).min(more),
            }
        }
        ballast.set_len(have + more).unwrap();
    }

    fn free_again(&self) {
        RealDisk.remove(&self.path().join("ballast")).unwrap();
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let mount = self.path();
        let unmounted = Command::new("umount").arg(&mount).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            // Something still has a file open: detach, so that nothing stays behind once that ends.
            let _status = Command::new("umount").arg("--lazy").arg(&mount).status();
        }
    }
}

struct Case {
    disk: LoopDisk,
    kind: IndexKind,
    oracle: Oracle,
    filled: u64,
}

impl Case {
    fn new(seed: u64, kind: IndexKind) -> Self {
        let disk = LoopDisk::new();
        std::fs::create_dir(disk.path().join("meta")).unwrap();
        Self { disk, kind, oracle: Oracle::new(seed, 2, DEPTH), filled: 0 }
    }

    fn options(&self) -> Options {
        let (meta, index) = (self.disk.path().join("meta"), self.disk.path().join("index"));
        let mut options = options(Arc::new(RealDisk), &meta, (self.kind, &index), "boot");
        options.segment_bytes = 4 * MIB;
        options.checkpoint_bytes = 4 * MIB;
        options.reserve_bytes = RESERVE_BYTES;
        options
    }

    async fn write(&mut self, engine: &Arc<Embedded>, batches: u64, seed: u64) {
        let mut scripts = self.oracle.scripts();
        assert!(!write(engine, &mut self.oracle, &mut scripts, batches, seed).await);
    }

    /// Commits one row after another until the disk is full.
    async fn write_until_full(&mut self, engine: &Arc<Embedded>) -> Result<(), Failure> {
        let mut random = Random::new(self.filled);
        loop {
            let (key, value) = (fill_key(self.filled), Bytes::from(random.bytes(100_000)));
            self.filled += 1;
            assert!(self.filled < 20_000, "the disk never ran full");
            let wait = if random.chance(50) { Wait::Ordered } else { Wait::Durable };
            let writes = vec![Write::Put(key.clone(), value.clone())];
            match engine.commit(Commit { writes, wait, ..Commit::default() }).await {
                Ok(_) => drop(self.oracle.rows_mut().insert(key, value)),
                Err(Error::NoSpace) => {
                    if engine.get(&key).await?.is_some() {
                        return Err("a commit that found no space happened".into());
                    }
                    return Ok(());
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Deletes some of the rows, with what the reserve is for.
    async fn make_room(&mut self, engine: &Arc<Embedded>, rows: u64) -> Result<(), Failure> {
        for n in 0..rows {
            let key = fill_key(n);
            let writes = vec![Write::Delete(key.clone())];
            engine.commit(Commit { writes, may_use_reserve: true, ..Commit::default() }).await?;
            self.oracle.rows_mut().remove(&key);
        }
        Ok(())
    }
}

fn fill_key(n: u64) -> Bytes {
    Bytes::from(format!("fill/{n:08}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_and_works_on_when_space_returns() {
    let seed = seed("full disk");
    for kind in IndexKind::ALL {
        let mut case = Case::new(seed, kind);
        full_disk(&mut case, seed).await.unwrap_or_else(|e| panic!("{kind:?}, COFFRE_SEED={seed}: {e:?}"));
    }
}

async fn full_disk(case: &mut Case, seed: u64) -> Result<(), Failure> {
    case.disk.fill_to(150 * MIB);
    let engine = open(case.options()).await?;
    case.write(&engine, 20, seed).await;
    verify(&*engine, &mut case.oracle, Death::Process).await?;

    case.write_until_full(&engine).await?;
    println!("full at {} rows, {} KiB free", case.filled, case.disk.free_bytes() / 1024);
    // Reading goes on, and what frees space is still taken.
    verify(&*engine, &mut case.oracle, Death::Process).await?;
    case.make_room(&engine, 20).await?;
    verify(&*engine, &mut case.oracle, Death::Process).await?;
    drop(engine);

    // The next start finds a disk on which only the reserve is left.
    let engine = open(case.options()).await?;
    verify(&*engine, &mut case.oracle, Death::Process).await?;
    drop(engine);

    // Something else takes the reserve as well, down to the last block, while the store writes.
    let engine = open(case.options()).await?;
    case.disk.fill_to(0);
    let full = case.write_until_full(&engine).await;
    println!("on the last block: {full:?}, {} KiB free", case.disk.free_bytes() / 1024);
    if let Err(wrong @ Failure::Wrong(_)) = full {
        return Err(wrong);
    }
    drop(engine);
    // An engine may answer that there is no room to open in; it may not answer wrong, nor break anything.
    match open(case.options()).await {
        Ok(engine) => {
            let verified = verify(&*engine, &mut case.oracle, Death::Process).await;
            println!("opened without a free block: {verified:?}");
            if let Err(wrong @ Failure::Wrong(_)) = verified {
                return Err(wrong);
            }
        }
        Err(e) => println!("not opened without a free block: {e:?}"),
    }

    case.disk.free_again();
    let engine = open(case.options()).await?;
    forget_unanswered(case, &engine).await?;
    verify(&*engine, &mut case.oracle, Death::Process).await?;
    case.write(&engine, 20, !seed).await;
    verify(&*engine, &mut case.oracle, Death::Process).await?;
    engine.close().await?;
    let engine = open(case.options()).await?;
    verify(&*engine, &mut case.oracle, Death::Process).await?;
    engine.close().await?;
    Ok(())
}

/// The last row may be there or not, if its commit was never answered.
async fn forget_unanswered(case: &mut Case, engine: &Arc<Embedded>) -> Result<(), Failure> {
    let key = fill_key(case.filled - 1);
    if let Some(entry) = engine.get(&key).await? {
        case.oracle.rows_mut().insert(key, entry.value);
    }
    Ok(())
}

/// The same proof told that a refused commit was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canary_a_refused_commit_taken_for_acknowledged_is_noticed() {
    let mut case = Case::new(seed("canary of the full disk"), IndexKind::default());
    case.disk.fill_to(60 * MIB);
    let engine = open(case.options()).await.unwrap();
    case.write_until_full(&engine).await.unwrap();
    verify(&*engine, &mut case.oracle, Death::Process).await.unwrap();
    let refused = fill_key(case.filled - 1);
    case.oracle.rows_mut().insert(refused, Bytes::from_static(b"acknowledged"));
    let result = verify(&*engine, &mut case.oracle, Death::Process).await;
    assert!(matches!(result, Err(Failure::Wrong(_))), "{result:?}");
}

/// The image goes away with its guard, also when a test panics.
#[test]
fn the_loop_image_is_unmounted() {
    let disk = LoopDisk::new();
    let path = disk.path();
    assert!(disk.free_bytes() < IMAGE_BYTES);
    assert!(is_mounted(&path));
    disk.fill_to(8 * MIB);
    assert!(disk.free_bytes() < 10 * MIB, "{}", disk.free_bytes());
    let panicked = std::thread::spawn(move || {
        let _disk = disk;
        panic!("as a failing test does");
    });
    assert!(panicked.join().is_err());
    assert!(!is_mounted(&path));
}

fn is_mounted(path: &Path) -> bool {
    std::fs::read_to_string("/proc/self/mounts").unwrap().contains(path.to_str().unwrap())
}
