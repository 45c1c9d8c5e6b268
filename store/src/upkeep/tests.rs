//! Sweep and scrub on real files.

use futures_util::StreamExt;

use super::scrub::scrub;
use crate::blob::rig::{FIRST, Rig, body, bytes, collect, whole};
use crate::object::BlobId;
use crate::put::Claims;
use crate::{Error, PartNumber, UploadId};

const A: [u8; 16] = [1; 16];
const B: [u8; 16] = [2; 16];
const BIG: usize = 300_000;
/// Fast enough not to wait.
const AT_ONCE: u64 = u64::MAX;

/// Changes one byte of a file, as a bad disk would.
fn flip(path: &std::path::Path, at: usize) {
    use std::os::unix::fs::PermissionsExt;
    let mut content = std::fs::read(path).unwrap();
    content[at] ^= 1;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(path, content).unwrap();
}

#[tokio::test]
async fn the_sweep_takes_what_nobody_uses_after_the_grace() {
    let rig = Rig::new().await;
    for (data, files) in [(bytes(1, 1000), 0), (bytes(2, BIG), 1)] {
        let size = data.len();
        let blob = rig.put(&data, A).await.unwrap();
        assert_eq!(rig.put(&data, B).await.unwrap(), blob);
        rig.delete(blob, A).await.unwrap();
        assert_eq!(rig.gc().await.unwrap().blobs, 0, "somebody uses it");
        rig.delete(blob, B).await.unwrap();
        for (now, blobs) in [(100, 0), (109, 0), (110, 1)] {
            assert_eq!(rig.read(&whole(blob, size)).await.unwrap().unwrap(), data);
            let freed = rig.sweep_at(now, 10).run().await.unwrap();
            assert_eq!((freed.blobs, freed.freed_bytes), (blobs, blobs * size as u64), "{now}");
            rig.until_files(if blobs == 0 { files } else { 0 }).await;
        }
        assert!(rig.read(&whole(blob, size)).await.unwrap().is_none());
        assert_eq!(rig.rows().await, 0);
    }
}

#[tokio::test]
async fn a_put_within_the_grace_wins() {
    let rig = Rig::new().await;
    let data = bytes(1, BIG);
    let blob = rig.put(&data, A).await.unwrap();
    rig.delete(blob, A).await.unwrap();
    rig.sweep_at(100, 10).run().await.unwrap();
    rig.put(&data, B).await.unwrap();
    assert_eq!(rig.sweep_at(200, 10).run().await.unwrap().blobs, 0);
    assert_eq!(rig.gc().await.unwrap().blobs, 0);
    assert_eq!(rig.read(&whole(blob, BIG)).await.unwrap().unwrap(), data);
    rig.until_files(1).await;
}

#[tokio::test]
async fn a_reader_keeps_its_blob() {
    let rig = Rig::new().await;
    for size in [9 << 20, 1000] {
        let data = bytes(3, size);
        let blob = rig.put(&data, A).await.unwrap();
        // Twice, so that the stream goes on after its first bytes.
        let extents = [whole(blob, size), whole(blob, size)].concat();
        let mut stream = rig.blobs.read(&rig.kv, extents).await.unwrap().unwrap();
        let first = stream.next().await.unwrap().unwrap();
        rig.delete(blob, A).await.unwrap();
        assert_eq!(rig.gc().await.unwrap().blobs, 0, "it is being read");
        let rest = collect(stream).await.unwrap();
        assert_eq!([&first[..], &rest].concat(), [&data[..], &data].concat());
        assert_eq!(rig.gc().await.unwrap().blobs, 1);
    }
    assert_eq!((rig.files().len(), rig.rows().await), (0, 0));
}

#[tokio::test]
async fn thousands_go_in_few_commits() {
    let rig = Rig::new().await;
    let before = rig.kv.stats().commits;
    for n in 0..3000u64 {
        let blob = rig.put(&bytes(n, 100), A).await.unwrap();
        rig.delete(blob, A).await.unwrap();
    }
    let swept = rig.kv.stats().commits;
    assert_eq!(rig.gc().await.unwrap().blobs, 3000);
    assert_eq!(rig.rows().await, 0);
    assert!(rig.kv.stats().commits - swept < 40, "{} commits before", swept - before);
}

#[tokio::test]
async fn files_a_crash_left_go_after_the_next_opening() {
    let rig = Rig::new().await;
    let data = bytes(4, BIG);
    let blob = rig.put(&data, A).await.unwrap();
    let kept = rig.files();
    // Published, its commit never queued: the process died.
    let mut staged = rig
        .blobs
        .take_in(
            body(&bytes(5, BIG), 9999),
            Some(BIG as u64),
            Claims::default(),
            crate::blob::Wants::default(),
        )
        .await
        .unwrap();
    rig.blobs.publish(&mut staged).await.unwrap();
    std::mem::forget(staged);
    rig.gc().await.unwrap();
    assert_eq!(rig.files().len(), 2, "of this opening, perhaps on its way");
    let rig = rig.reopen().await.unwrap();
    let freed = rig.sweep_at(0, 10).run().await.unwrap();
    assert_eq!(freed.freed_bytes, BIG as u64);
    assert_eq!(rig.files(), kept);
    assert_eq!(rig.read(&whole(blob, BIG)).await.unwrap().unwrap(), data);
}

#[tokio::test]
async fn a_publish_whose_commit_nobody_saw_is_judged_by_the_rows() {
    let rig = Rig::new().await;
    for commits in [true, false] {
        let data = bytes(6 + u64::from(commits), BIG);
        let size = Some(BIG as u64);
        let wants = crate::blob::Wants::default();
        let mut staged = rig.blobs.take_in(body(&data, 9999), size, Claims::default(), wants).await.unwrap();
        rig.blobs.publish(&mut staged).await.unwrap();
        let (blob, new) = staged.new_blob().unwrap();
        if commits {
            let mut changes = crate::refs::Changes::new();
            changes.add(blob, A, Some(new));
            let plan = changes.plan(&*rig.kv).await.unwrap();
            let commit = coffre_kv::Commit { checks: plan.checks, writes: plan.writes, ..Default::default() };
            rig.kv.commit(commit).await.unwrap();
        }
        drop(staged);
        rig.gc().await.unwrap();
        assert_eq!(rig.read(&whole(blob, BIG)).await.unwrap().is_some(), commits);
    }
    assert_eq!(rig.files().len(), 1);
}

#[tokio::test]
async fn scrub_finds_a_flipped_bit_and_the_next_upload_heals() {
    let rig = Rig::new().await;
    let (data, other) = (bytes(1, BIG), bytes(2, 9 << 20));
    let blob = rig.put(&data, A).await.unwrap();
    let name = rig.files().remove(0);
    rig.put(&other, A).await.unwrap();
    rig.put(&bytes(3, 1000), A).await.unwrap();
    let sound = scrub(&rig.kv, &rig.blobs, AT_ONCE).await.unwrap();
    assert_eq!((sound.blobs, sound.bytes, sound.damaged.len()), (3, (BIG + (9 << 20) + 1000) as u64, 0));

    flip(&rig.path(&name), 200_000);
    let found = scrub(&rig.kv, &rig.blobs, AT_ONCE).await.unwrap();
    let BlobId::Content(sha256) = blob else { panic!() };
    assert_eq!(found.damaged, vec![sha256.to_string()]);
    assert!(rig.root.join("quarantine").join(&name).exists());
    assert!(matches!(rig.read(&whole(blob, BIG)).await, Err(Error::Corrupt { .. })));
    assert!(scrub(&rig.kv, &rig.blobs, AT_ONCE).await.unwrap().damaged.is_empty(), "told once");

    rig.put(&data, B).await.unwrap();
    assert_eq!(rig.read(&whole(blob, BIG)).await.unwrap().unwrap(), data, "for its first owner too");
    rig.gc().await.unwrap();
    assert_eq!(rig.files().len(), 2, "the damaged file has gone");
    for owner in [A, B] {
        rig.delete(blob, owner).await.unwrap();
    }
    assert_eq!(rig.gc().await.unwrap().blobs, 1);
}

#[tokio::test]
async fn scrub_finds_what_is_missing_cut_or_damaged_in_a_row() {
    let rig = Rig::new().await;
    let inline = rig.put(&bytes(1, 1000), A).await.unwrap();
    let put = coffre_kv::Write::Put(crate::refs::inline_key(&inline), bytes(9, 1000));
    rig.kv.commit(coffre_kv::Commit { writes: vec![put], ..Default::default() }).await.unwrap();
    let cut = rig.put(&bytes(2, BIG), A).await.unwrap();
    let name = rig.files().remove(0);
    std::fs::set_permissions(rig.path(&name), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::OpenOptions::new().write(true).open(rig.path(&name)).unwrap().set_len(1000).unwrap();
    let missing = rig.put(&bytes(3, BIG), A).await.unwrap();
    let name = rig.files().into_iter().find(|n| *n != name).unwrap();
    std::fs::remove_file(rig.path(&name)).unwrap();
    let found = scrub(&rig.kv, &rig.blobs, AT_ONCE).await.unwrap();
    assert_eq!(found.damaged.len(), 3);
    for (blob, data) in [(inline, bytes(1, 1000)), (cut, bytes(2, BIG)), (missing, bytes(3, BIG))] {
        let size = data.len();
        assert!(matches!(rig.read(&whole(blob, size)).await, Err(Error::Corrupt { .. })));
        rig.put(&data, B).await.unwrap();
        assert_eq!(rig.read(&whole(blob, size)).await.unwrap().unwrap(), data);
    }
    // What nobody uses is not kept for being damaged.
    for blob in [inline, cut, missing] {
        rig.delete(blob, A).await.unwrap();
        rig.delete(blob, B).await.unwrap();
    }
    assert_eq!(rig.gc().await.unwrap().blobs, 3);
    assert_eq!((rig.files().len(), rig.rows().await), (0, 0));
}

#[tokio::test]
async fn scrub_compares_a_parts_file_by_its_parts() {
    let rig = Rig::new().await;
    let upload = UploadId([7; 16]);
    let slot = 5 << 20;
    let mut extents = Vec::new();
    for (number, seed) in [(1, 1), (3, 3)] {
        let data = bytes(seed, slot);
        let number = PartNumber::try_from(number).unwrap();
        let size = Some(slot as u64);
        let part =
            rig.blobs.take_in_part(upload, number, FIRST, body(&data, 99_999), size, Claims::default()).await;
        extents.push(rig.put_part(part.unwrap(), upload).await.unwrap());
    }
    let sound = scrub(&rig.kv, &rig.blobs, AT_ONCE).await.unwrap();
    assert_eq!((sound.bytes, sound.damaged.len()), (2 * slot as u64, 0), "the hole between is nobody's");
    flip(&rig.path(&rig.files()[0]), slot + 7);
    assert!(scrub(&rig.kv, &rig.blobs, AT_ONCE).await.unwrap().damaged.is_empty());
    flip(&rig.path(&rig.files()[0]), 2 * slot + 7);
    assert_eq!(scrub(&rig.kv, &rig.blobs, AT_ONCE).await.unwrap().damaged, vec![upload.to_string()]);
    assert!(matches!(rig.read(&extents).await, Err(Error::Corrupt { .. })));
}
