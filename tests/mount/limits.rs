//! What the mount costs, and what it answers when nothing goes any more: device writes, memory, full and failing disks.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::time::{Duration, Instant};

use coffre_tests::daemon::wait_for;
use coffre_tests::loop_disk::LoopDisk;
use coffre_tests::seed;

use crate::rig::{Rig, is_mounted, sh};

const MIB: u64 = 1 << 20;

/// How long any call may take, whatever has happened.
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn an_fsync_costs_what_was_written_and_not_the_file() {
    let disk = LoopDisk::new(2048 * MIB);
    let rig = Rig::on(&disk, &[("COFFRE_STORAGE__RESERVE_BYTES", "1048576")]);
    fs::write(rig.at("log"), seed::bytes(1, 100 << 20)).unwrap();
    sh(rig.beside(), "sync");
    let before = disk.written_bytes();
    let mut file = OpenOptions::new().append(true).open(rig.at("log")).unwrap();
    let line = seed::bytes(2, 100);
    for _ in 0..10_000 {
        file.write_all(&line).unwrap();
        file.sync_all().unwrap();
    }
    drop(file);
    let appends = disk.written_bytes() - before;
    let made = "PRAGMA journal_mode=delete; CREATE TABLE t(n)";
    sh(&rig.root, &format!("sqlite3 db '{made}'; sync"));
    let before = disk.written_bytes();
    sh(&rig.root, "for i in $(seq 1000); do echo \"INSERT INTO t VALUES($i);\"; done | sqlite3 db");
    let commits = disk.written_bytes() - before;
    assert_eq!(
        sh(&rig.root, "sqlite3 db 'SELECT count(*), sum(n) FROM t; PRAGMA integrity_check'"),
        "1000|500500\nok\n"
    );
    eprintln!(
        "device writes: 10,000 appends with fsync {} MiB, 1,000 sqlite commits {} MiB",
        appends / MIB,
        commits / MIB
    );
    assert!(appends < 200 * MIB, "{appends} bytes for 10,000 appends of 100 bytes");
    assert!(commits < 200 * MIB, "{commits} bytes for 1,000 commits");
    let log = rig.s3_get("log");
    assert_eq!(log.len(), (100 << 20) + 1_000_000);
    assert!(log[100 << 20..].chunks(100).all(|written| written == line));
    rig.finish();
}

/// Inodes that the kernel holds.
fn held(rig: &Rig) -> u64 {
    rig.daemon().json(&["status"])["mounts"][0]["inodes"].as_u64().unwrap()
}

#[test]
fn only_what_the_kernel_holds_is_in_memory() {
    let rig = Rig::new();
    let script = "for d in $(seq 50); do mkdir -p m/$d; for f in $(seq 40); do echo $f > m/$d/$f; done; done";
    sh(&rig.root, script);
    assert_eq!(sh(&rig.root, "find m -type f | wc -l").trim(), "2000");
    assert!(held(&rig) > 2050, "{}", held(&rig));
    wait_for("the kernel to forget", Duration::from_secs(20), || {
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        (held(&rig) < 100).then_some(())
    });
    assert_eq!(fs::read(rig.at("m/50/40")).unwrap(), b"40\n");
    rig.finish();
}

/// Writes files until one fails; the errno, and what was written whole.
fn write_until_error(rig: &Rig, prefix: &str, size: usize) -> (i32, Vec<String>) {
    let mut written = Vec::new();
    for n in 0.. {
        let name = format!("{prefix}{n}");
        let began = Instant::now();
        let done = File::create(rig.at(&name)).and_then(|mut file| {
            file.write_all(&seed::bytes(n, size))?;
            file.sync_all()
        });
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        match done {
            Ok(()) => written.push(name),
            Err(error) => return (error.raw_os_error().unwrap(), written),
        }
        assert!(n < 10_000, "the disk does not end");
    }
    unreachable!("numbers do not end")
}

#[test]
fn a_full_disk_is_told_and_gone_again_after_a_delete() {
    let disk = LoopDisk::new(320 * MIB);
    let rig = Rig::on(
        &disk,
        &[
            ("COFFRE_STORAGE__SEGMENT_BYTES", "4194304"),
            ("COFFRE_STORAGE__RESERVE_BYTES", "16777216"),
            ("COFFRE_STORAGE__GRACE_SECONDS", "1"),
        ],
    );
    let size = 8 << 20;
    let (errno, written) = write_until_error(&rig, "f", size);
    assert_eq!(errno, rustix::io::Errno::NOSPC.raw_os_error());
    assert!(written.len() > 10);
    for (n, name) in written.iter().enumerate() {
        assert!(fs::read(rig.at(name)).unwrap() == seed::bytes(n as u64, size), "{name}");
    }
    let (kept, gone) = written.split_at(written.len() / 2);
    for name in gone {
        fs::remove_file(rig.at(name)).unwrap();
    }
    wait_for("room again", Duration::from_mins(2), || fs::write(rig.at("again"), seed::bytes(7, size)).ok());
    assert!(rig.s3_get("again") == seed::bytes(7, size));
    for name in kept {
        assert_eq!(fs::metadata(rig.at(name)).unwrap().len(), size as u64);
    }
    rig.finish();
}

#[test]
fn a_failing_disk_is_an_error_soon_and_the_mount_can_be_given_back() {
    let disk = LoopDisk::in_memory(512 * MIB);
    let mut rig = Rig::on(
        &disk,
        &[("COFFRE_STORAGE__SEGMENT_BYTES", "4194304"), ("COFFRE_STORAGE__RESERVE_BYTES", "1048576")],
    );
    fs::write(rig.at("before"), b"kept").unwrap();
    let mut open = File::create(rig.at("open")).unwrap();
    open.write_all(&seed::bytes(1, 300_000)).unwrap();
    disk.fail();
    let (errno, _) = write_until_error(&rig, "f", 300_000);
    assert_eq!(errno, rustix::io::Errno::IO.raw_os_error(), "{}", rig.daemon().log());
    // what is open fails, and does not hang
    let began = Instant::now();
    assert!(open.write_all(b"more").and_then(|()| open.sync_all()).is_err());
    drop(open);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    // a store that cannot write ends, and leaves no dead directory behind
    let daemon = rig.take();
    assert_eq!(daemon.ended().code(), Some(70));
    assert!(!is_mounted(&rig.root));
    assert_eq!(fs::read_dir(&rig.root).unwrap().count(), 0);
}
