//! One story of puts, parts, deletes and sweeps, with a fault at each of its changes in turn.
//!
//! The rows are in memory and keep every commit, so a file whose bytes or name were not durable before its commit
//! is found out by a cut of the power right after it. After each fault the store is opened again: what was
//! acknowledged reads as it was written, and after a sweep no file is there that no row names.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use coffre_disk::fault::{Fault, FaultDisk};
use coffre_disk::power::PowerDisk;
use coffre_kv::memory::Memory;
use coffre_kv::{Kv, KvExt, Range, Scan};

use super::Slot;
use super::rig::{Rig, body, bytes, seed, whole};
use crate::codec::keys;
use crate::object::Extent;
use crate::put::Claims;
use crate::refs::{self, BlobKey};
use crate::{Error, PartNumber, Result, UploadId};

const A: [u8; 16] = [1; 16];
const B: [u8; 16] = [2; 16];
const UPLOAD: UploadId = UploadId([3; 16]);
const SLOT: usize = 400_000;

/// What was acknowledged: extents and their bytes.
type Acknowledged = Vec<(Vec<Extent>, Bytes)>;

async fn put_part(rig: &Rig, number: i64, data: &Bytes) -> Result<Extent> {
    let number = PartNumber::try_from(number)?;
    let body = body(data, 300_000);
    let part = rig
        .blobs
        .take_in_part(
            UPLOAD,
            number,
            Slot::AtLeast(SLOT as u64),
            body,
            Some(data.len() as u64),
            Claims::default(),
        )
        .await?;
    rig.put_part(part, UPLOAD).await
}

/// The story. Goes on after an error: each step stands by itself, as requests do. What was acknowledged, and the
/// errors.
async fn story(rig: &Rig) -> (Acknowledged, Vec<Error>) {
    let mut acknowledged = Acknowledged::new();
    let mut errors = Vec::new();
    let (small, block, long) = (bytes(1, 1000), bytes(2, 200_000), bytes(3, 1_300_000));
    for (data, owner) in [(&small, A), (&block, A), (&block, B), (&long, A)] {
        match rig.put(data, owner).await {
            Ok(blob) => acknowledged.push((whole(blob, data.len()), data.clone())),
            Err(error) => errors.push(error),
        }
    }
    // Two owners use the block, so that it stays when one goes; the long one has one, and goes.
    for (data, owner) in [(&block, A), (&long, A)] {
        let at = acknowledged.iter().position(|(_, bytes)| bytes == data);
        let Some((extents, _)) = at.map(|at| acknowledged.remove(at)) else { continue };
        if let Err(error) = rig.delete(extents[0].blob, owner).await {
            errors.push(error);
        }
    }
    // The third into a file of its own.
    for (number, data) in [(2, bytes(4, SLOT)), (1, bytes(5, SLOT)), (1, bytes(6, SLOT))] {
        match put_part(rig, number, &data).await {
            Ok(extent) => acknowledged.push((vec![extent], data)),
            Err(error) => errors.push(error),
        }
    }
    rig.blobs.forget_parts(UPLOAD, Some(2 * SLOT as u64));
    errors.extend(rig.gc().await.err());
    errors.extend(rig.gc().await.err());
    match rig.put(&long, B).await {
        Ok(blob) => acknowledged.push((whole(blob, long.len()), long)),
        Err(error) => errors.push(error),
    }
    (acknowledged, errors)
}

/// The files that rows name.
async fn named(kv: &Arc<dyn Kv>) -> BTreeSet<String> {
    let rows = kv.rows(Scan::forward(Range::prefix(vec![keys::BLOB])), usize::MAX).await.unwrap();
    let rows = rows.into_iter().filter(|(key, _)| matches!(refs::parse_blob_key(key), Some(BlobKey::Row(_))));
    rows.filter_map(|(_, entry)| refs::BlobRow::decode(&entry.value).unwrap().place.file().map(str::to_owned))
        .collect()
}

/// Opened again: everything acknowledged is there, and after a sweep nothing else.
async fn check(rig: &Rig, acknowledged: &Acknowledged, context: &str) -> Result<(), String> {
    let rig = rig.reopen().await.map_err(|error| format!("{context}: opening: {error:?}"))?;
    for _ in 0..2 {
        for (extents, data) in acknowledged {
            match rig.read(extents).await {
                Ok(Some(read)) if read == *data => {}
                Ok(read) => {
                    return Err(format!("{context}: {extents:?} reads {:?} bytes", read.map(|r| r.len())));
                }
                Err(error) => return Err(format!("{context}: {extents:?}: {error:?}")),
            }
        }
        rig.gc().await.map_err(|error| format!("{context}: sweeping: {error:?}"))?;
    }
    let (files, named) = (rig.files().into_iter().collect::<BTreeSet<_>>(), named(&rig.kv).await);
    if files != named {
        return Err(format!("{context}: files {files:?}, rows name {named:?}"));
    }
    Ok(())
}

/// How many changes the story makes without a fault, after opening.
async fn changes() -> u64 {
    let disk = FaultDisk::new(Arc::new(PowerDisk::new()));
    let rig = Rig::on(Arc::new(disk.clone()), Arc::new(Memory::new()), 1).await.unwrap();
    let before = disk.count();
    let (acknowledged, errors) = story(&rig).await;
    assert!(errors.is_empty(), "{errors:?}");
    assert_eq!(acknowledged.len(), 6);
    rig.blobs.idle().await;
    check(&rig, &acknowledged, "without a fault").await.unwrap();
    disk.count() - before
}

#[tokio::test]
async fn after_a_power_cut_at_any_change_nothing_acknowledged_is_missing() {
    let seed = seed();
    let all = changes().await;
    assert!(all > 40, "{all} changes");
    for n in 1..=all {
        let power = PowerDisk::new();
        let disk = FaultDisk::new(Arc::new(power.clone()));
        let kv: Arc<dyn Kv> = Arc::new(Memory::new());
        let rig = Rig::on(Arc::new(disk.clone()), Arc::clone(&kv), 1).await.unwrap();
        disk.plan(n, Fault::FreezeTorn(seed.wrapping_add(n)));
        let (acknowledged, _) = story(&rig).await;
        rig.blobs.idle().await;
        let cut = seed.wrapping_add(n);
        let rig = Rig::on(Arc::new(power.cut(cut)), copy(&kv).await, 2).await.unwrap();
        check(&rig, &acknowledged, &format!("change {n}, cut {cut}")).await.unwrap();
    }
}

async fn copy(kv: &Arc<dyn Kv>) -> Arc<dyn Kv> {
    let rows = kv.rows(Scan::forward(Range::all()), usize::MAX).await.unwrap();
    let copy = Memory::new();
    let writes = rows.into_iter().map(|(key, entry)| coffre_kv::Write::Put(key, entry.value)).collect();
    copy.commit(coffre_kv::Commit { writes, ..Default::default() }).await.unwrap();
    Arc::new(copy)
}

#[tokio::test]
async fn a_cut_that_no_sync_prevented_is_noticed() {
    // The canary of the test above: with syncs that do nothing, the same check has to fail for some cut.
    let mut lost = 0;
    for seed in 0..8 {
        let power = PowerDisk::new();
        let disk = FaultDisk::new(Arc::new(power.clone()));
        let rig = Rig::on(Arc::new(disk.clone()), Arc::new(Memory::new()), 1).await.unwrap();
        disk.swallow_syncs();
        let (acknowledged, _) = story(&rig).await;
        rig.blobs.idle().await;
        let rig = Rig::on(Arc::new(power.cut(seed)), copy(&rig.kv).await, 2).await.unwrap();
        lost += u32::from(check(&rig, &acknowledged, "canary").await.is_err());
    }
    assert!(lost > 0, "no cut lost anything");
}

#[tokio::test]
async fn a_change_that_fails_is_an_answer_and_leaves_nothing() {
    let all = changes().await;
    for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
        for n in 1..=all {
            let disk = FaultDisk::new(Arc::new(PowerDisk::new()));
            let rig = Rig::on(Arc::new(disk.clone()), Arc::new(Memory::new()), 1).await.unwrap();
            disk.plan(n, Fault::FailOnce(kind));
            let (acknowledged, errors) = story(&rig).await;
            let context = format!("{kind:?} at change {n}");
            if kind == ErrorKind::StorageFull {
                assert!(errors.iter().all(|error| matches!(error, Error::NoSpace)), "{context}: {errors:?}");
                // It goes on by itself: one fault, at most one step that failed.
                assert!(errors.len() <= 1, "{context}: {errors:?}");
            }
            rig.blobs.idle().await;
            // Writes of two lanes may come in either order: the fault may still be ahead.
            disk.heal();
            check(&rig, &acknowledged, &context).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_resumes_by_itself() {
    let disk = FaultDisk::new(Arc::new(PowerDisk::new()));
    let rig = Rig::on(Arc::new(disk.clone()), Arc::new(Memory::new()), 1).await.unwrap();
    let blob = rig.put(&bytes(9, 200_000), A).await.unwrap();
    disk.plan_on(coffre_disk::fault::Operation::Write, 1, Fault::FailFrom(ErrorKind::StorageFull));
    for len in [200_001, 1_300_001, SLOT] {
        assert!(matches!(rig.put(&bytes(10, len), A).await, Err(Error::NoSpace)), "{len}");
    }
    assert!(matches!(put_part(&rig, 1, &bytes(11, SLOT)).await, Err(Error::NoSpace)));
    // Deleting works.
    rig.delete(blob, A).await.unwrap();
    assert_eq!(rig.gc().await.unwrap().blobs, 1);
    disk.heal();
    let (acknowledged, errors) = story(&rig).await;
    assert!(errors.is_empty(), "{errors:?}");
    rig.blobs.idle().await;
    check(&rig, &acknowledged, "after a full disk").await.unwrap();
}
