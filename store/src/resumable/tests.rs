//! Resumable uploads on a whole store (model engine, temporary folder).

use std::collections::BTreeSet;
use std::sync::Arc;

use coffre_disk::RealDisk;
use coffre_disk::fault::{Fault, FaultDisk, Operation};
use coffre_kv::Check;
use futures_util::{FutureExt, StreamExt, stream};

use super::*;
use crate::codec::keys;
use crate::digest::{Algorithm, Checksum, ChecksumKind, ETag};
use crate::error::{Error, Missing};
use crate::hasher::{Wanted, digest};
use crate::object::{BlobId, Digest, Extent, Manifest};
use crate::sample::{Opened, at, body};
use crate::usage::{Measure, Of};
use crate::{Growth, QuotaGate, Result, usage};

const MIB: usize = 1024 * 1024;
const LIVES_MS: u64 = 10_000;
const NO_LIMIT: u64 = u64::MAX;

/// Bytes that differ by seed and place.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    coffre_disk::seed::Random::new(seed).bytes(len)
}

fn whole(at: &At, length: Option<u64>) -> CreateResumable {
    let attributes = Attributes { content_type: Some("text/x-declared".into()), ..Attributes::default() };
    let at = at.clone();
    CreateResumable {
        at,
        attributes,
        said: "said".into(),
        length_bytes: length,
        is_partial: false,
        lives_ms: LIVES_MS,
    }
}

async fn create(o: &Opened, at: &At, length: usize) -> UploadId {
    o.store.create_resumable(&o.cx, whole(at, Some(length as u64))).await.unwrap().id
}

fn appended(upload: UploadId, offset: usize, bytes: &[u8]) -> Append {
    Append {
        upload,
        offset_bytes: offset as u64,
        length_bytes: None,
        length_max: NO_LIMIT,
        body: body(bytes),
        size_bytes: Some(bytes.len() as u64),
        claims: Claims::default(),
    }
}

async fn append(o: &Opened, upload: UploadId, offset: usize, bytes: &[u8]) -> Result<Resumable> {
    o.store.append_resumable(&o.cx, appended(upload, offset, bytes)).await
}

/// A body that breaks off behind these bytes.
fn cut(bytes: &[u8]) -> ByteStream {
    let broken = stream::once(async { Err("the client has gone".into()) });
    body(bytes).chain(broken).boxed()
}

async fn offset(o: &Opened, upload: UploadId) -> u64 {
    o.store.resumable(&o.cx, upload).await.unwrap().offset_bytes
}

async fn unfinished(o: &Opened, bucket: &str) -> i64 {
    let id = o.store.find_bucket(&bucket.parse().unwrap()).await.unwrap().value.id;
    o.store.usage(Measure::UnfinishedBytes, &Of::Bucket(id)).await.unwrap()
}

async fn assert_sound(o: &Opened) {
    let checked = o.store.check().await.unwrap();
    assert!(checked.findings.is_empty(), "{:#?}", checked.findings);
    let scrubbed = o.store.scrub(u64::MAX).await.unwrap();
    assert!(scrubbed.damaged.is_empty(), "{:?}", scrubbed.damaged);
}

/// Files of blobs.
fn blob_files(o: &Opened) -> usize {
    o.files().len()
}

#[tokio::test]
async fn bytes_in_pieces_of_any_size_become_an_object_like_any_other() {
    let (o, at) = (Opened::new().await, at("gateway", "a/b/c.txt"));
    let content = [b"%PDF-1.4\n".to_vec(), bytes(1, 300_000)].concat();
    let upload = create(&o, &at, content.len()).await;
    let mut from = 0;
    for len in [1, 63, 64, 65, 200_000, 0, 7] {
        let after = append(&o, upload, from, &content[from..from + len]).await.unwrap();
        from += len;
        assert_eq!((after.offset_bytes, after.is_complete), (from as u64, false));
        assert_eq!(unfinished(&o, "gateway").await, i64::try_from(from).unwrap());
        assert!(matches!(o.head(&at).await, Err(Error::NotFound(_))), "nobody sees it before it is whole");
    }
    assert_sound(&o).await;
    let done = append(&o, upload, from, &content[from..]).await.unwrap();
    assert!(done.is_complete && done.said == "said" && done.kind == Kind::Whole);
    let version = o.head(&at).await.unwrap();
    let digests = digest(&Wanted { md5: true, algorithms: vec![] }, &content);
    assert_eq!(version.etag, ETag::of_md5(digests.md5.unwrap()));
    assert_eq!(version.sha256, Digest::Known(digests.sha256));
    assert_eq!(version.crc64nvme, Some(digests.crc64nvme));
    assert_eq!(version.sniffed_type.as_deref(), Some("application/pdf"));
    assert_eq!(version.attributes.content_type.as_deref(), Some("text/x-declared"));
    let extent = Extent { blob: BlobId::Content(digests.sha256), offset: 0, len: content.len() as u64 };
    assert_eq!(version.manifest, Manifest::Inline(vec![extent]));
    assert_eq!(o.get(&at, None).await, content);
    assert_eq!(unfinished(&o, "gateway").await, 0);
    // who lost the answer asks, or sends nothing once more
    assert!(o.store.resumable(&o.cx, upload).await.unwrap().is_complete);
    assert!(append(&o, upload, content.len(), b"").await.unwrap().is_complete);
    assert!(matches!(append(&o, upload, content.len(), b"x").await, Err(Error::TooLarge { .. })));
    o.store.gc(true).await.unwrap();
    assert_eq!(blob_files(&o), 1);
    assert_sound(&o).await;
}

#[tokio::test]
async fn nothing_and_little_need_no_file() {
    let o = Opened::new().await;
    for (n, len) in [0, 1, 4096, 128 * 1024].into_iter().enumerate() {
        let (at, content) = (at("gateway", &format!("a/b/{n}")), bytes(n as u64, len));
        let upload = o.store.create_resumable(&o.cx, whole(&at, Some(len as u64))).await.unwrap();
        assert_eq!(upload.is_complete, len == 0);
        if len > 0 {
            assert!(append(&o, upload.id, 0, &content).await.unwrap().is_complete);
        }
        assert_eq!(o.get(&at, None).await, content);
    }
    o.store.gc(true).await.unwrap();
    assert_eq!(blob_files(&o), 0);
    assert_sound(&o).await;
}

#[tokio::test]
async fn a_request_has_to_fit_what_is_there() {
    let (o, at) = (Opened::new().await, at("gateway", "a/b/c"));
    let upload = create(&o, &at, 10).await;
    append(&o, upload, 0, b"1234").await.unwrap();
    let offset_is_wrong = |result| matches!(result, Err(Error::Precondition { condition: "offset" }));
    assert!(offset_is_wrong(append(&o, upload, 0, b"1234").await));
    assert!(offset_is_wrong(append(&o, upload, 5, b"67890").await));
    assert!(matches!(append(&o, upload, 4, b"1234567").await, Err(Error::TooLarge { max: 10, .. })));
    let unannounced = Append { size_bytes: None, ..appended(upload, 4, b"1234567") };
    assert!(matches!(
        o.store.append_resumable(&o.cx, unannounced).await,
        Err(Error::TooLarge { max: 10, .. })
    ));
    let other = Append { length_bytes: Some(11), ..appended(upload, 4, b"5") };
    assert!(matches!(o.store.append_resumable(&o.cx, other).await, Err(Error::Invalid { .. })));
    let nobody = append(&o, UploadId([9; 16]), 0, b"x").await;
    assert!(matches!(nobody, Err(Error::NotFound(Missing::Upload(_)))));
    let in_a_users_own =
        o.store.create_resumable(&o.cx, whole(&crate::sample::at("bucket", "k"), Some(1))).await;
    assert!(matches!(in_a_users_own, Err(Error::Invalid { .. })));
    assert_eq!(offset(&o, upload).await, 4);
    append(&o, upload, 4, b"567890").await.unwrap();
    assert_eq!(o.get(&at, None).await, b"1234567890");
    assert_sound(&o).await;
}

#[tokio::test]
async fn a_length_may_be_said_later() {
    let (o, at) = (Opened::new().await, at("gateway", "a/b/c"));
    for (n, last) in [b"".as_slice(), b"ij"].into_iter().enumerate() {
        let upload = o.store.create_resumable(&o.cx, whole(&at, None)).await.unwrap();
        assert_eq!((upload.length_bytes, upload.is_complete), (None, false));
        append(&o, upload.id, 0, b"abcd").await.unwrap();
        append(&o, upload.id, 4, b"efgh").await.unwrap();
        let short = Append { length_bytes: Some(7), ..appended(upload.id, 8, b"") };
        assert!(matches!(o.store.append_resumable(&o.cx, short).await, Err(Error::Invalid { .. })));
        let long = Append { length_bytes: Some(11), length_max: 10, ..appended(upload.id, 8, b"") };
        assert!(matches!(o.store.append_resumable(&o.cx, long).await, Err(Error::TooLarge { max: 10, .. })));
        let end = 8 + last.len() as u64;
        let say = Append { length_bytes: Some(end), ..appended(upload.id, 8, last) };
        let done = o.store.append_resumable(&o.cx, say).await.unwrap();
        assert!(done.is_complete && done.length_bytes == Some(end), "round {n}");
        assert_eq!(o.get(&at, None).await, [b"abcdefgh", last].concat());
    }
    let unlimited = o.store.create_resumable(&o.cx, whole(&at, None)).await.unwrap().id;
    let much = Append { length_max: 3, ..appended(unlimited, 0, b"abcd") };
    assert!(matches!(o.store.append_resumable(&o.cx, much).await, Err(Error::TooLarge { max: 3, .. })));
    assert_sound(&o).await;
}

#[tokio::test]
async fn what_arrived_before_a_cut_is_kept() {
    let (mut o, at) = (Opened::new().await, at("gateway", "a/b/c"));
    let content = bytes(2, 3 * MIB + 77);
    let upload = create(&o, &at, content.len()).await;
    let broken = Append { body: cut(&content[..MIB + 5]), ..appended(upload, 0, &content) };
    assert!(matches!(o.store.append_resumable(&o.cx, broken).await, Err(Error::IncompleteBody { .. })));
    assert_eq!(offset(&o, upload).await, MIB as u64 + 5);
    // ended where more was announced
    let short =
        Append { body: body(&content[MIB + 5..MIB + 9]), ..appended(upload, MIB + 5, &content[MIB + 5..]) };
    assert!(matches!(o.store.append_resumable(&o.cx, short).await, Err(Error::IncompleteBody { .. })));
    assert_eq!(offset(&o, upload).await, MIB as u64 + 9);
    o.reopen(|_| ()).await;
    assert_sound(&o).await;
    append(&o, upload, MIB + 9, &content[MIB + 9..]).await.unwrap();
    let digests = digest(&Wanted { md5: true, algorithms: vec![] }, &content);
    assert_eq!(o.head(&at).await.unwrap().etag, ETag::of_md5(digests.md5.unwrap()));
    assert_eq!(o.get(&at, None).await, content);
    assert_sound(&o).await;
}

#[tokio::test]
async fn what_is_claimed_and_does_not_hold_is_not_kept() {
    let (o, at) = (Opened::new().await, at("gateway", "a/b/c"));
    let content = bytes(3, 2 * MIB);
    let upload = create(&o, &at, content.len()).await;
    append(&o, upload, 0, &content[..10]).await.unwrap();
    let claim = |bytes: &[u8], algorithm| {
        let digests = digest(&Wanted { md5: true, algorithms: vec![algorithm] }, bytes);
        let checksum = digests.checksums[0].clone();
        (
            Claims { checksums: vec![checksum], ..Claims::default() },
            Claims { md5: digests.md5, ..Claims::default() },
        )
    };
    let mut from = 10;
    for algorithm in [Algorithm::Sha1, Algorithm::Sha256, Algorithm::Crc32c] {
        let next = &content[from..from + 100_000];
        for claims in [claim(b"other", algorithm).0, claim(b"other", algorithm).1] {
            let wrong = Append { claims, ..appended(upload, from, next) };
            assert!(matches!(
                o.store.append_resumable(&o.cx, wrong).await,
                Err(Error::ChecksumMismatch { .. })
            ));
            let (claims, _) = claim(next, algorithm);
            let broken = Append { claims, body: cut(next), ..appended(upload, from, next) };
            assert!(matches!(
                o.store.append_resumable(&o.cx, broken).await,
                Err(Error::IncompleteBody { .. })
            ));
            assert_eq!(offset(&o, upload).await, from as u64);
        }
        let (right, md5) = claim(next, algorithm);
        let half = from + 50_000;
        o.store
            .append_resumable(&o.cx, Append { claims: right, ..appended(upload, from, next) })
            .await
            .unwrap();
        assert!(half < from + next.len());
        from += next.len();
        drop(md5);
    }
    let rest = &content[from..];
    let claims =
        Claims { md5: digest(&Wanted { md5: true, algorithms: vec![] }, rest).md5, ..Claims::default() };
    o.store.append_resumable(&o.cx, Append { claims, ..appended(upload, from, rest) }).await.unwrap();
    assert_eq!(o.get(&at, None).await, content);
    let empty = Checksum { algorithm: Algorithm::Sha1, kind: ChecksumKind::FullObject, value: vec![0; 20] };
    let upload = create(&o, &at, 5).await;
    let claims = Claims { checksums: vec![empty], ..Claims::default() };
    let wrong = o.store.append_resumable(&o.cx, Append { claims, ..appended(upload, 0, b"") }).await;
    assert!(matches!(wrong, Err(Error::ChecksumMismatch { .. })));
    assert_sound(&o).await;
}

#[tokio::test]
async fn long_requests_are_committed_on_the_way_and_aligned_ones_pass_the_cache() {
    let (mut o, at) = (Opened::new().await, at("gateway", "a/b/c"));
    o.reopen(|options| options.direct_io = true).await;
    let content = bytes(4, 90 * MIB);
    let upload = create(&o, &at, content.len()).await;
    // dropped behind 70 MiB: the first 64 are committed
    let never = body(&content[..70 * MIB]).chain(stream::pending()).boxed();
    let mut request =
        Box::pin(o.store.append_resumable(&o.cx, Append { body: never, ..appended(upload, 0, &content) }));
    while offset(&o, upload).await == 0 {
        assert!(request.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(request);
    assert_eq!(offset(&o, upload).await, 64 * MIB as u64);
    o.reopen(|_| ()).await;
    assert_eq!(o.store.inner.lines.try_enter(upload).map(drop), Some(()));
    // aligned and long, then to an odd place, then from there
    let mut from = 64 * MIB;
    for to in [from + 9 * MIB, from + 9 * MIB + 13, from + 20 * MIB, content.len()] {
        append(&o, upload, from, &content[from..to]).await.unwrap();
        from = to;
    }
    assert_eq!(o.get(&at, None).await, content);
    let digests = digest(&Wanted { md5: true, algorithms: vec![] }, &content);
    assert_eq!(o.head(&at).await.unwrap().etag, ETag::of_md5(digests.md5.unwrap()));
    assert_sound(&o).await;
}

#[tokio::test]
async fn a_request_that_was_dropped_leaves_no_write_behind_it() {
    let (o, at) = (Opened::new().await, at("gateway", "a/b/c"));
    let (wrong, right) = (bytes(5, 5 * MIB), bytes(6, 5 * MIB));
    let upload = create(&o, &at, right.len()).await;
    append(&o, upload, 0, &right[..100]).await.unwrap();
    for polls in 1..8 {
        let never = body(&wrong).chain(stream::pending()).boxed();
        let request = Append { body: never, size_bytes: None, ..appended(upload, 100, b"") };
        let request = Append { length_max: NO_LIMIT, ..request };
        let mut request = Box::pin(o.store.append_resumable(&o.cx, request));
        for _ in 0..polls {
            assert!(request.as_mut().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(offset(&o, upload).await, 100);
    append(&o, upload, 100, &right[100..]).await.unwrap();
    assert_eq!(o.get(&at, None).await, right);
    assert_sound(&o).await;
}

#[tokio::test]
async fn the_same_bytes_are_stored_once() {
    let o = Opened::new().await;
    let content = bytes(7, 400_000);
    o.put(&at("bucket", "first"), content.clone()).await;
    for key in ["a/b/one", "a/b/two"] {
        let at = at("gateway", key);
        let upload = create(&o, &at, content.len()).await;
        append(&o, upload, 0, &content).await.unwrap();
        assert_eq!(o.get(&at, None).await, content);
    }
    o.store.gc(true).await.unwrap();
    assert_eq!(blob_files(&o), 1);
    assert_sound(&o).await;
}

async fn piece(o: &Opened, bytes: &[u8]) -> UploadId {
    piece_in(o, "gateway", bytes).await
}

async fn piece_in(o: &Opened, bucket: &str, bytes: &[u8]) -> UploadId {
    let at = at(bucket, "a/b/piece");
    let create = CreateResumable { is_partial: true, ..whole(&at, Some(bytes.len() as u64)) };
    let made = o.store.create_resumable(&o.cx, create).await.unwrap();
    if !bytes.is_empty() {
        assert!(append(o, made.id, 0, bytes).await.unwrap().is_complete);
    }
    made.id
}

fn composed(at: &At, partials: &[UploadId]) -> Concatenate {
    Concatenate {
        at: at.clone(),
        attributes: Attributes::default(),
        said: "final".into(),
        partials: partials.to_vec(),
        length_max: NO_LIMIT,
        lives_ms: LIVES_MS,
    }
}

#[tokio::test]
async fn pieces_are_composed_without_copying() {
    let (o, at) = (Opened::new().await, at("gateway", "a/b/whole"));
    let contents = [bytes(8, 300_000), bytes(9, 200_000), Vec::new(), bytes(10, 50)];
    let mut pieces = Vec::new();
    for content in &contents {
        pieces.push(piece(&o, content).await);
    }
    let all = contents.concat();
    assert_eq!(unfinished(&o, "gateway").await, i64::try_from(all.len()).unwrap());
    assert_sound(&o).await;
    let made = o.store.concatenate(&o.cx, composed(&at, &pieces)).await.unwrap();
    assert_eq!(made.kind, Kind::Final(pieces.clone()));
    assert!(
        made.is_complete
            && made.offset_bytes == all.len() as u64
            && made.length_bytes == Some(made.offset_bytes)
    );
    assert_eq!(unfinished(&o, "gateway").await, 0);
    assert_eq!(o.get(&at, None).await, all);
    let md5s: Vec<_> =
        contents.iter().map(|c| digest(&Wanted { md5: true, algorithms: vec![] }, c).md5.unwrap()).collect();
    let version = o.head(&at).await.unwrap();
    assert_eq!(version.etag, ETag::of_parts(&md5s));
    assert_eq!(version.crc64nvme, Some(digest(&Wanted::default(), &all).crc64nvme));
    assert_sound(&o).await;
    // the answer was lost: asked again
    let again = o.store.concatenate(&o.cx, composed(&at, &pieces)).await.unwrap();
    assert_eq!(again, made);
    let otherwise: Vec<_> = pieces.iter().rev().copied().collect();
    let taken = o.store.concatenate(&o.cx, composed(&at, &otherwise)).await;
    assert!(matches!(taken, Err(Error::NotFound(Missing::Upload(_)))));
    assert!(matches!(append(&o, made.id, all.len(), b"").await, Err(Error::Denied)));
    // without pieces and upload the object stays, and what nobody needs goes
    for id in pieces.into_iter().chain([made.id]) {
        o.store.terminate_resumable(&o.cx, id).await.unwrap();
    }
    o.store.digest_pending().await.unwrap();
    o.store.gc(true).await.unwrap();
    assert_eq!(o.get(&at, None).await, all);
    assert_sound(&o).await;
    assert!(o.rows(keys::TUS).await.is_empty() && o.rows(keys::TUS_DUE).await.is_empty());
}

#[tokio::test]
async fn many_pieces_and_one_and_the_same_twice() {
    let o = Opened::new().await;
    let contents: Vec<_> = (0..40).map(|n| bytes(100 + n, 60)).collect();
    let mut pieces = Vec::new();
    for content in &contents {
        pieces.push(piece(&o, content).await);
    }
    let many = at("gateway", "a/b/many");
    o.store.concatenate(&o.cx, composed(&many, &pieces)).await.unwrap();
    assert!(matches!(o.head(&many).await.unwrap().manifest, Manifest::Paged { .. }));
    assert_eq!(o.get(&many, None).await, contents.concat());
    let one = at("gateway", "a/b/one");
    let only = piece(&o, b"only").await;
    o.store.concatenate(&o.cx, composed(&one, &[only])).await.unwrap();
    let version = o.head(&one).await.unwrap();
    assert_eq!(
        version.etag,
        ETag::of_md5(digest(&Wanted { md5: true, algorithms: vec![] }, b"only").md5.unwrap())
    );
    assert!(matches!(version.sha256, Digest::Known(_)));
    let (twice, half) = (at("files", "general/devis/twice"), piece_in(&o, "files", b"half").await);
    o.store.concatenate(&o.cx, composed(&twice, &[half, half])).await.unwrap();
    assert_eq!(o.get(&twice, None).await, b"halfhalf");
    assert!(matches!(o.head(&twice).await.unwrap().sha256, Digest::Known(_)), "filing shows it");
    assert_eq!((unfinished(&o, "gateway").await, unfinished(&o, "files").await), (0, 0));
    let stranger = piece(&o, b"of another bucket").await;
    let refused = o.store.concatenate(&o.cx, composed(&twice, &[stranger])).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })));
    assert_sound(&o).await;
    o.store.gc(true).await.unwrap();
    assert_eq!(o.get(&many, None).await, contents.concat());
    assert_sound(&o).await;
}

#[tokio::test]
async fn only_whole_pieces_are_composed() {
    let (o, at) = (Opened::new().await, at("gateway", "a/b/whole"));
    let open = o.store.create_resumable(&o.cx, CreateResumable { is_partial: true, ..whole(&at, Some(5)) });
    let open = open.await.unwrap().id;
    let done = create(&o, &at, 0).await;
    let ready = piece(&o, b"ready").await;
    for pieces in [vec![], vec![ready, open], vec![done], vec![ready; PARTIALS_MAX + 1]] {
        let refused = o.store.concatenate(&o.cx, composed(&at, &pieces)).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{} pieces", pieces.len());
    }
    let long = Concatenate { length_max: 4, ..composed(&at, &[ready]) };
    assert!(matches!(o.store.concatenate(&o.cx, long).await, Err(Error::TooLarge { max: 4, .. })));
    let missing = o.store.concatenate(&o.cx, composed(&at, &[ready, UploadId([7; 16])])).await;
    assert!(matches!(missing, Err(Error::NotFound(_))));
    assert_sound(&o).await;
}

#[tokio::test]
async fn what_is_given_up_or_expires_is_freed() {
    let (o, at) = (Opened::new().await, at("gateway", "a/b/c"));
    let content = bytes(11, 200_000);
    let (given_up, left, kept) =
        (create(&o, &at, 300_000).await, create(&o, &at, 300_000).await, create(&o, &at, 300_000).await);
    let untouched = create(&o, &at, 1).await;
    for upload in [given_up, left, kept] {
        append(&o, upload, 0, &content).await.unwrap();
    }
    let lost = piece(&o, &content).await;
    o.store.terminate_resumable(&o.cx, given_up).await.unwrap();
    let again = o.store.terminate_resumable(&o.cx, given_up).await;
    assert!(matches!(again, Err(Error::NotFound(Missing::Upload(_)))));
    assert!(matches!(append(&o, given_up, 200_000, b"x").await, Err(Error::NotFound(_))));
    o.clock.advance(LIVES_MS - 1);
    append(&o, kept, 200_000, b"x").await.unwrap();
    o.clock.advance(1);
    // its time has come, whether or not somebody has looked
    assert!(o.store.resumable(&o.cx, left).await.unwrap().is_expired);
    assert!(matches!(append(&o, left, 200_000, b"x").await, Err(Error::NotFound(_))));
    assert!(!o.store.resumable(&o.cx, kept).await.unwrap().is_expired);
    assert_sound(&o).await;
    o.store.gc(true).await.unwrap();
    for gone in [left, lost, untouched] {
        assert!(matches!(o.store.resumable(&o.cx, gone).await, Err(Error::NotFound(_))));
    }
    assert_eq!(unfinished(&o, "gateway").await, 200_001);
    assert_eq!(offset(&o, kept).await, 200_001);
    o.store.gc(true).await.unwrap();
    assert_eq!(blob_files(&o), 1, "the one that goes on");
    assert_sound(&o).await;
    o.clock.advance(LIVES_MS);
    o.store.gc(true).await.unwrap();
    o.store.gc(true).await.unwrap();
    assert_eq!((blob_files(&o), unfinished(&o, "gateway").await), (0, 0));
    assert!(o.rows(keys::TUS).await.is_empty() && o.rows(keys::TUS_DUE).await.is_empty());
    assert_sound(&o).await;
}

/// So many unfinished bytes in a bucket.
#[derive(Debug)]
struct Ceiling(i64, Of, Arc<dyn coffre_kv::Kv>);

#[async_trait::async_trait]
impl QuotaGate for Ceiling {
    async fn checks(&self, growth: &[Growth]) -> Result<Vec<Check>> {
        let of_bucket = growth.iter().filter(|growth| growth.of == self.1);
        let check = |growth: &Growth| {
            Check::AtMost(usage::counter(Measure::UnfinishedBytes, &growth.of), self.0 - growth.bytes)
        };
        crate::sample::hold(&*self.2, of_bucket.map(check).collect()).await
    }
}

#[tokio::test]
async fn a_quota_is_asked_at_the_beginning_and_at_each_request() {
    let (mut o, at) = (Opened::new().await, at("gateway", "a/b/c"));
    let id = o.store.find_bucket(&"gateway".parse().unwrap()).await.unwrap().value.id;
    o.reopen(|options| {
        options.quota = Arc::new(Ceiling(1_000, Of::Bucket(id), Arc::clone(&options.kv)));
    })
    .await;
    let announced = o.store.create_resumable(&o.cx, whole(&at, Some(1_001))).await;
    assert!(matches!(announced, Err(Error::QuotaExceeded)));
    let (a, b) = (create(&o, &at, 900).await, create(&o, &at, 900).await);
    append(&o, a, 0, &[1; 600]).await.unwrap();
    assert!(matches!(append(&o, b, 0, &[1; 600]).await, Err(Error::QuotaExceeded)));
    // not announced: found out when it has come
    let silent = Append { size_bytes: None, ..appended(b, 0, &[1; 600]) };
    assert!(matches!(o.store.append_resumable(&o.cx, silent).await, Err(Error::QuotaExceeded)));
    assert_eq!(offset(&o, b).await, 0);
    o.store.terminate_resumable(&o.cx, a).await.unwrap();
    append(&o, b, 0, &[1; 600]).await.unwrap();
    append(&o, b, 600, &[1; 300]).await.unwrap();
    o.store.gc(true).await.unwrap();
    assert_sound(&o).await;
}

#[tokio::test]
async fn a_disk_that_fails_moves_no_offset() {
    let (mut o, at) = (Opened::new().await, at("gateway", "a/b/c"));
    let disk = FaultDisk::new(Arc::new(RealDisk));
    let faulty = disk.clone();
    o.reopen(move |options| options.disk = Arc::new(faulty)).await;
    let content = bytes(12, 300_000);
    let upload = create(&o, &at, content.len()).await;
    let mut from = 0;
    for operation in [Operation::Create, Operation::SyncDir, Operation::Write, Operation::SyncData] {
        disk.plan_on(operation, 1, Fault::FailOnce(std::io::ErrorKind::StorageFull));
        let failed = append(&o, upload, from, &content[from..from + 1000]).await;
        assert!(matches!(failed, Err(Error::NoSpace)), "{operation:?}: {failed:?}");
        assert_eq!(offset(&o, upload).await, from as u64);
        if operation == Operation::SyncDir {
            append(&o, upload, from, &content[from..from + 1000]).await.unwrap();
            from += 1000;
        }
    }
    append(&o, upload, from, &content[from..]).await.unwrap();
    assert_eq!(o.get(&at, None).await, content);
    o.store.gc(true).await.unwrap();
    assert_eq!(blob_files(&o), 1);
    assert_sound(&o).await;
}

#[tokio::test]
async fn rebuild_mends_the_rows_that_follow_from_uploads() {
    let (o, at) = (Opened::new().await, at("gateway", "a/b/c"));
    let upload = create(&o, &at, 1_000).await;
    append(&o, upload, 0, &[1; 500]).await.unwrap();
    let before: BTreeSet<_> = o.rows(keys::TUS_DUE).await.into_iter().map(|(key, _)| key).collect();
    let mut writes: Vec<_> = before.iter().cloned().map(coffre_kv::Write::Delete).collect();
    writes.push(coffre_kv::Write::Put(super::record::due(5, UploadId([1; 16])), bytes::Bytes::new()));
    o.kv.commit(coffre_kv::Commit { writes, ..coffre_kv::Commit::default() }).await.unwrap();
    assert_eq!(o.store.check().await.unwrap().findings.len(), 2);
    o.store.rebuild().await.unwrap();
    let after: BTreeSet<_> = o.rows(keys::TUS_DUE).await.into_iter().map(|(key, _)| key).collect();
    assert_eq!(after, before);
    assert_sound(&o).await;
}
