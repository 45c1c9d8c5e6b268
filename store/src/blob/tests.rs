//! The blob suite: what comes in comes out; what fails leaves nothing.

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};

use super::rig::{FIRST, OPTIONS, Rig, body, bytes, collect, seed, whole};
use super::{BlobOptions, Blobs, PartContent, Place, Slot, Wants, parse_name, slice};
use crate::digest::{Algorithm, Checksum, ChecksumKind};
use crate::hasher::{self, Wanted};
use crate::object::{BlobId, Extent};
use crate::put::Claims;
use crate::{Error, PartNumber, UploadId};

const MIB: usize = 1024 * 1024;

fn part(number: i64) -> PartNumber {
    PartNumber::try_from(number).unwrap()
}

#[tokio::test]
async fn what_comes_in_comes_out() {
    let seed = seed();
    let rig = Rig::new().await;
    let sizes =
        [1, 100, 16_385, 131_072, 131_073, 700_001, MIB - 1, MIB, MIB + 1, 5 * MIB, 8 * MIB, 9 * MIB + 77];
    for (i, size) in sizes.into_iter().enumerate() {
        let data = bytes(seed.wrapping_add(i as u64), size);
        let step = 1 + (usize::try_from(seed % 300_000).unwrap() + i * 7919) % 300_000;
        // Announced and not.
        for announced in [Some(size as u64), None] {
            let wants = Wants { md5: true };
            let mut staged =
                rig.blobs.take_in(body(&data, step), announced, Claims::default(), wants).await.unwrap();
            let expected = hasher::digest(&Wanted { md5: true, algorithms: vec![] }, &data);
            assert_eq!((staged.sha256, staged.md5), (expected.sha256, expected.md5), "{size}");
            assert_eq!(staged.crc64nvme, expected.crc64nvme);
            assert_eq!(staged.size_bytes, size as u64);
            assert_eq!(staged.head, data.slice(..size.min(4096)));
            let place = rig.blobs.publish(&mut staged).await.unwrap();
            assert_eq!(place == Place::Inline, size <= 131_072, "{size}");
            assert_eq!(rig.blobs.publish(&mut staged).await.unwrap(), place, "twice is fine");
            staged.settle(false);
        }
        let blob = rig.put(&data, [u8::try_from(i).unwrap(); 16]).await.unwrap();
        let extents = whole(blob, size);
        assert_eq!(rig.read(&extents).await.unwrap().unwrap(), data, "{size}");
        for (from, to) in [(0, 1), (size / 3, size / 2), (size - 1, size), (size / 2, size)] {
            let cut = slice(&extents, from as u64..to as u64);
            if from < to {
                assert_eq!(
                    rig.read(&cut).await.unwrap().unwrap(),
                    data.slice(from..to),
                    "{size} {from}..{to}"
                );
            }
        }
    }
    rig.until_files(8).await;
}

#[tokio::test]
async fn published_files_are_read_only_and_carry_the_epoch() {
    use std::os::unix::fs::PermissionsExt;
    let rig = Rig::new().await;
    for size in [200_000, 9 * MIB] {
        let blob = rig.put(&bytes(1, size), [1; 16]).await.unwrap();
        let name = rig.files().into_iter().find(|name| parse_name(name).unwrap().0 == blob).unwrap();
        assert_eq!(parse_name(&name).unwrap(), (blob, 1));
        let path = rig.path(&name);
        let meta = std::fs::metadata(path).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o444);
        assert_eq!(meta.len(), size as u64, "padding has been cut");
    }
}

#[tokio::test]
async fn no_bytes_make_no_blob() {
    let rig = Rig::new().await;
    let mut staged = rig
        .blobs
        .take_in(body(&Bytes::new(), 1), Some(0), Claims::default(), Wants { md5: true })
        .await
        .unwrap();
    rig.blobs.publish(&mut staged).await.unwrap();
    assert!(staged.new_blob().is_none());
    assert_eq!(staged.md5.map(hex::encode).unwrap(), "d41d8cd98f00b204e9800998ecf8427e");
}

fn claim(algorithm: Algorithm, value: Vec<u8>) -> Checksum {
    Checksum { algorithm, kind: ChecksumKind::FullObject, value }
}

#[tokio::test]
async fn a_claim_that_does_not_hold_stores_nothing() {
    let rig = Rig::new().await;
    for size in [10, 300_000, 3 * MIB] {
        let data = bytes(7, size);
        let all =
            [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme, Algorithm::Sha1, Algorithm::Sha256];
        let good = hasher::digest(&Wanted { md5: true, algorithms: all.to_vec() }, &data);
        let announced = Some(size as u64);
        for algorithm in all {
            let value = good.checksums.iter().find(|c| c.algorithm == algorithm).unwrap().value.clone();
            assert_eq!(value.len(), algorithm.len_bytes());
            let mut bad = value.clone();
            bad[0] ^= 1;
            for (value, holds) in [(value, true), (bad, false)] {
                // Claimed up front, or in the trailer.
                let front = Claims { checksums: vec![claim(algorithm, value.clone())], ..Claims::default() };
                let trailer = Claims {
                    compute: vec![algorithm],
                    trailer: Some(Box::new(move || Ok(vec![claim(algorithm, value)]))),
                    ..Claims::default()
                };
                for claims in [front, trailer] {
                    let took =
                        rig.blobs.take_in(body(&data, 9000), announced, claims, Wants::default()).await;
                    match took {
                        Ok(staged) => {
                            assert!(holds, "{algorithm:?} {size}");
                            assert_eq!(staged.checksums.len(), 1);
                            assert!(staged.md5.is_none(), "nobody wanted it");
                        }
                        Err(Error::ChecksumMismatch { algorithm: named }) => {
                            assert!(!holds, "{algorithm:?} {size}");
                            assert_eq!(named, algorithm.name());
                        }
                        Err(other) => panic!("{other:?}"),
                    }
                }
            }
        }
        let claims = Claims { md5: Some([1; 16]), ..Claims::default() };
        let took = rig.blobs.take_in(body(&data, 9000), announced, claims, Wants::default()).await;
        assert!(matches!(took, Err(Error::ChecksumMismatch { algorithm: "MD5" })));
        let claims = Claims { signed_sha256: Some([1; 32]), ..Claims::default() };
        let took = rig.blobs.take_in(body(&data, 9000), announced, claims, Wants::default()).await;
        assert!(matches!(took, Err(Error::NotAsSigned)));
        let claims = Claims {
            trailer: Some(Box::new(|| Ok(vec![claim(Algorithm::Sha1, vec![0; 20])]))),
            ..Claims::default()
        };
        let took = rig.blobs.take_in(body(&data, 9000), announced, claims, Wants::default()).await;
        assert!(
            matches!(took, Err(Error::Invalid { .. })),
            "a trailer that was not announced cannot be verified"
        );
    }
    rig.until_files(0).await;
}

#[tokio::test]
async fn a_body_that_is_not_whole_stores_nothing() {
    let rig = Rig::new().await;
    for size in [10, 300_000, 3 * MIB, 9 * MIB] {
        let data = bytes(8, size);
        let n = size as u64;
        for announced in [n + 1, n - 1] {
            let took =
                rig.blobs.take_in(body(&data, 70_000), Some(announced), Claims::default(), Wants::default());
            assert!(matches!(took.await, Err(Error::IncompleteBody { .. })), "{size} as {announced}");
        }
        for announced in [Some(n), None] {
            let broken =
                body(&data.slice(..size / 2), 70_000).chain(stream::iter([Err("gone".into())])).boxed();
            let took = rig.blobs.take_in(broken, announced, Claims::default(), Wants::default()).await;
            assert!(matches!(took, Err(Error::IncompleteBody { .. })), "{size}");
        }
    }
    rig.until_files(0).await;
}

#[tokio::test]
async fn a_transfer_that_is_dropped_leaves_nothing() {
    let rig = Rig::new().await;
    for size in [300_000u64, 3 << 20, 20 << 20] {
        let data = bytes(9, 2 * MIB);
        let endless = body(&data.slice(..200_000), 50_000).chain(stream::pending()).boxed();
        let mut took =
            Box::pin(rig.blobs.take_in(endless, Some(size), Claims::default(), Wants { md5: true }));
        // Far enough for the file to be there, where one is made before the body is whole.
        for _ in 0..200 {
            assert!((&mut took).now_or_never().is_none());
            tokio::task::yield_now().await;
        }
    }
    rig.until_files(0).await;
}

#[tokio::test]
async fn the_loser_of_two_equal_uploads_refers_to_the_winner() {
    let rig = Rig::new().await;
    let data = bytes(3, 300_000);
    let (a, b) = tokio::join!(rig.put(&data, [1; 16]), rig.put(&data, [2; 16]));
    assert_eq!(a.unwrap(), b.unwrap());
    rig.until_files(1).await;
    assert_eq!(rig.rows().await, 1, "both owners stand in one row");
}

#[tokio::test]
async fn the_reserve_is_kept() {
    let rig = Rig::with(BlobOptions { reserve_bytes: u64::MAX / 2, ..OPTIONS }).await;
    for size in [300_000, 2 * MIB, 9 * MIB] {
        let data = bytes(4, size);
        let took = rig
            .blobs
            .take_in(body(&data, 70_000), Some(size as u64), Claims::default(), Wants::default())
            .await;
        assert!(matches!(took, Err(Error::NoSpace)), "{size}");
    }
    rig.until_files(0).await;
}

#[tokio::test]
async fn opening_clears_staging_and_keeps_blobs() {
    let rig = Rig::new().await;
    let data = bytes(5, 300_000);
    let blob = rig.put(&data, [1; 16]).await.unwrap();
    std::fs::write(rig.root.join("staging/1-77"), b"left by a crash").unwrap();
    let rig = rig.reopen().await.unwrap();
    rig.until_files(1).await;
    assert_eq!(rig.read(&whole(blob, data.len())).await.unwrap().unwrap(), data);
}

#[tokio::test]
async fn parts_share_a_file_in_any_order() {
    let rig = Rig::new().await;
    // Through the page cache and past it; the last part is short and not a multiple of any block.
    for (i, slot) in [(1, 5 * MIB), (2, 8 * MIB), (3, 8 * MIB + 5)] {
        let upload = UploadId([i; 16]);
        let data = bytes(u64::from(i), 2 * slot + 12_345);
        let mut extents = Vec::new();
        for (number, range) in [(2, slot..2 * slot), (3, 2 * slot..data.len()), (1, 0..slot)] {
            let piece = data.slice(range);
            let known = if number == 2 { FIRST } else { Slot::Is(slot as u64) };
            let part = rig
                .blobs
                .take_in_part(
                    upload,
                    part(number),
                    known,
                    body(&piece, 99_999),
                    Some(piece.len() as u64),
                    Claims::default(),
                )
                .await
                .unwrap();
            assert!(matches!(part.content, PartContent::Shared { .. }));
            assert_eq!(part.slot(), Some(slot as u64));
            extents.push(rig.put_part(part, upload).await.unwrap());
        }
        extents.sort_by_key(|extent| extent.offset);
        assert_eq!(rig.read(&extents).await.unwrap().unwrap(), data);
        let joined = whole(BlobId::Parts(upload), data.len());
        assert_eq!(rig.read(&joined).await.unwrap().unwrap(), data, "one plain file");
        rig.blobs.forget_parts(upload, Some(data.len() as u64));
        let name = rig.files().into_iter().find(|name| name.starts_with(&upload.to_string())).unwrap();
        let path = rig.path(&name);
        while !std::fs::metadata(&path).unwrap().permissions().readonly() {
            tokio::task::yield_now().await;
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), data.len() as u64, "padding has been cut");
        assert_eq!(rig.gc().await.unwrap().blobs, 0);
        assert_eq!(rig.read(&joined).await.unwrap().unwrap(), data, "the sweep knows the file");
        rig.delete(BlobId::Parts(upload), upload.0).await.unwrap();
        assert_eq!(rig.gc().await.unwrap().freed_bytes, data.len() as u64);
    }
    assert_eq!((rig.files().len(), rig.rows().await), (0, 0));
}

#[tokio::test]
async fn a_part_that_comes_again_does_not_touch_the_first() {
    let rig = Rig::new().await;
    let upload = UploadId([7; 16]);
    let slot = 5 * MIB;
    let (first, second) = (bytes(1, slot), bytes(2, slot));
    let take = |data: &Bytes, claims: Claims| {
        rig.blobs.take_in_part(upload, part(1), FIRST, body(data, 99_999), Some(data.len() as u64), claims)
    };
    // One that fails gives its slot back.
    let failed = take(&second, Claims { md5: Some([0; 16]), ..Claims::default() }).await;
    assert!(matches!(failed, Err(Error::ChecksumMismatch { .. })));
    let one = take(&first, Claims::default()).await.unwrap();
    assert!(matches!(one.content, PartContent::Shared { .. }));
    let extent = rig.put_part(one, upload).await.unwrap();
    let again = take(&second, Claims::default()).await.unwrap();
    assert!(matches!(again.content, PartContent::Own(Some(_))));
    assert_eq!(rig.read(std::slice::from_ref(&extent)).await.unwrap().unwrap(), first, "before the commit");
    let other = rig.put_part(again, upload).await.unwrap();
    assert_eq!(rig.read(&[other]).await.unwrap().unwrap(), second);
    assert_eq!(rig.read(&[extent]).await.unwrap().unwrap(), first);
    // Too long for the slot, of unknown length, or after the upload was closed: files of their own.
    let long = bytes(3, slot + 1);
    let long = rig.blobs.take_in_part(
        upload,
        part(2),
        FIRST,
        body(&long, MIB),
        Some(long.len() as u64),
        Claims::default(),
    );
    assert!(long.await.unwrap().slot().is_none());
    let unknown = rig.blobs.take_in_part(upload, part(3), FIRST, body(&first, MIB), None, Claims::default());
    assert!(unknown.await.unwrap().slot().is_none());
    rig.blobs.forget_parts(upload, None);
    let late = rig.blobs.take_in_part(
        upload,
        part(4),
        Slot::Is(slot as u64),
        body(&first, MIB),
        Some(slot as u64),
        Claims::default(),
    );
    assert!(late.await.unwrap().slot().is_none());
}

#[tokio::test]
async fn a_parts_file_that_nobody_committed_to_goes() {
    let rig = Rig::new().await;
    let (upload, data) = (UploadId([8; 16]), bytes(1, 5 * MIB));
    let size = Some(data.len() as u64);
    let part = rig
        .blobs
        .take_in_part(upload, part(1), FIRST, body(&data, MIB), size, Claims::default())
        .await
        .unwrap();
    rig.blobs.forget_parts(upload, None);
    // The commit may still be on its way while the part is held.
    rig.gc().await.unwrap();
    assert_eq!(rig.files().len(), 1);
    drop(part);
    rig.gc().await.unwrap();
    assert_eq!((rig.files().len(), rig.rows().await), (0, 0));
}

#[tokio::test]
async fn ten_transfers_stay_within_their_blocks() {
    let rig = Rig::new().await;
    let transfers = (0..10u64).map(|i| {
        let blobs = rig.blobs.clone();
        async move {
            let data = bytes(i, 12 * MIB);
            let size = Some(data.len() as u64);
            blobs.take_in(body(&data, 64 * 1024), size, Claims::default(), Wants { md5: true }).await.unwrap()
        }
    });
    let staged = futures_util::future::join_all(transfers).await;
    assert_eq!(staged.len(), 10);
    let (most, kept) = rig.blobs.blocks();
    assert!((10..=24).contains(&most), "{most} blocks of 1 MiB at a time");
    assert!(kept <= 12, "{kept} blocks kept");
}

#[test]
fn extents_are_cut() {
    let extent = |n: u8, offset, len| Extent { blob: BlobId::Parts(UploadId([n; 16])), offset, len };
    let extents = [extent(1, 10, 5), extent(2, 0, 3), extent(3, 7, 4)];
    let check =
        |range: std::ops::Range<u64>, expected: &[Extent]| assert_eq!(slice(&extents, range), expected);
    check(0..12, &extents);
    check(0..0, &[]);
    check(4..6, &[extent(1, 14, 1), extent(2, 0, 1)]);
    check(5..8, &[extent(2, 0, 3)]);
    check(6..9, &[extent(2, 1, 2), extent(3, 7, 1)]);
    check(11..99, &[extent(3, 10, 1)]);
}

#[tokio::test]
async fn a_missing_row_is_for_the_caller_and_a_missing_file_is_damage() {
    let rig = Rig::new().await;
    let data = bytes(5, 300_000);
    let nowhere = whole(BlobId::Parts(UploadId([1; 16])), 10);
    assert!(rig.read(&nowhere).await.unwrap().is_none());
    let blob = rig.put(&data, [1; 16]).await.unwrap();
    let name = rig.files().remove(0);
    let path = rig.path(&name);
    let long = [Extent { blob, offset: 299_000, len: 2000 }];
    let stream = rig.blobs.read(&rig.kv, long.to_vec()).await.unwrap().unwrap();
    assert!(collect(stream).await.is_err(), "shorter than the extent says");
    let rig = rig.reopen().await.unwrap();
    std::fs::remove_file(path).unwrap();
    assert!(matches!(rig.read(&whole(blob, 300_000)).await, Err(Error::Corrupt { .. })));
}

#[tokio::test]
async fn the_same_directory_is_synced_once_for_many() {
    let rig = Rig::new().await;
    let blobs: Blobs = rig.blobs.clone();
    let all = (0..32).map(|_| blobs.sync_dir_of("00.1-1"));
    futures_util::future::join_all(all).await.into_iter().for_each(Result::unwrap);
}
