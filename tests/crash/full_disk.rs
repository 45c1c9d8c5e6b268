//! A full disk is an answer: what was acknowledged stays, deletes work, and the daemon resumes by itself (design §2.5).

use std::time::Duration;

use coffre_tests::daemon::{Daemon, wait_for};
use coffre_tests::loop_disk::LoopDisk;
use coffre_tests::s3::Client;
use coffre_tests::seed;

const SETTINGS: &[(&str, &str)] = &[
    ("COFFRE_STORAGE__SEGMENT_BYTES", "4194304"),
    ("COFFRE_STORAGE__RESERVE_BYTES", "16777216"),
    ("COFFRE_STORAGE__GRACE_SECONDS", "1"),
];

/// Stores objects of one size until the disk is full; gives their numbers.
fn fill(s3: &Client, size: usize, first: u64) -> Vec<u64> {
    let mut stored = Vec::new();
    for number in first.. {
        match s3.put(&format!("/full/{number}"), &seed::bytes(number, size)) {
            Ok(answer) if answer.status == 200 => stored.push(number),
            // What S3 clients take as "come again".
            Ok(answer) if answer.status == 503 => return stored,
            Ok(answer) => panic!("{number}: {} {}", answer.status, answer.text()),
            // A large body is refused before it is read; this client then meets a closed connection first.
            Err(error) => {
                assert!(size > 1 << 20, "{number}: {error}");
                s3.get(&format!("/full/{number}")).unwrap().expect(404);
                return stored;
            }
        }
        assert!(number < first + 400_000, "a disk of 1 GiB does not end");
    }
    unreachable!("numbers do not end")
}

fn all_there(s3: &Client, size: usize, stored: &[u64]) {
    for number in stored {
        let answer = s3.get(&format!("/full/{number}")).unwrap().expect(200);
        assert!(answer.body == seed::bytes(*number, size), "{number} is not what was stored");
    }
}

#[test]
fn a_full_disk_loses_nothing_and_the_daemon_resumes() {
    let disk = LoopDisk::new(1 << 30);
    let data = disk.path().join("data");
    let daemon = Daemon::start_with(&data, &[], SETTINGS);
    let s3 = daemon.admin();
    s3.put("/full", b"").unwrap().expect(200);
    let (large, small) = (20 << 20, 64 << 10);
    let large_ones = fill(&s3, large, 0);
    let small_ones = fill(&s3, small, 1_000_000);
    assert!(large_ones.len() > 20, "{} large objects", large_ones.len());
    all_there(&s3, large, &large_ones);
    all_there(&s3, small, &small_ones);

    // It dies while full, and opens again unattended.
    daemon.kill();
    let daemon = Daemon::start_with(&data, &[], SETTINGS);
    let s3 = daemon.admin();
    all_there(&s3, large, &large_ones);
    all_there(&s3, small, &small_ones);
    let (gone, kept) = large_ones.split_at(large_ones.len() / 2);
    for number in gone {
        s3.delete(&format!("/full/{number}")).unwrap().expect(204);
    }
    wait_for("room again, without anyone's help", Duration::from_mins(2), || {
        s3.put("/full/again", &seed::bytes(7, large)).is_ok_and(|answer| answer.status == 200).then_some(())
    });
    all_there(&s3, large, kept);
    all_there(&s3, small, &small_ones);
    daemon.check_finds_nothing();
    daemon.stop_cleanly();
}
