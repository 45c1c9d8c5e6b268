//! Uploads on a whole store (model engine, temporary folder), and their lists against a naive model.

mod known;
mod lists;

use std::sync::Arc;

use coffre_kv::{Commit, Write};
use futures_util::future::join_all;

use super::chunk::{Chunked, PutChunk};
use super::*;
use crate::codec::keys;
use crate::digest::{ChecksumKind, Sha256};
use crate::error::{BadParts, Error, Missing};
use crate::hasher::{Wanted, digest};
use crate::object::{BlobId, Digest, Extent, Manifest, PartSizes};
use crate::put::Stored;
use crate::sample::{Opened, at, body};
use crate::usage::{Measure, Of};
use crate::{Result, refs};

const MIN: usize = 5 * 1024 * 1024;

fn number(n: i64) -> PartNumber {
    PartNumber::try_from(n).unwrap()
}

/// Bytes that differ by seed and place.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

async fn create(o: &Opened, at: &At, checksum: Option<(Algorithm, UploadChecksum)>) -> UploadId {
    let create = CreateUpload { at: at.clone(), attributes: Attributes::default(), checksum };
    o.store.create_upload(&o.cx, create).await.unwrap().id
}

async fn put_part(
    o: &Opened,
    at: &At,
    upload: UploadId,
    n: i64,
    bytes: Vec<u8>,
    claims: Claims,
) -> Result<Part> {
    let size_bytes = Some(bytes.len() as u64);
    let part = PutPart { at: at.clone(), upload, number: number(n), body: body(&bytes), size_bytes, claims };
    o.store.put_part(&o.cx, part).await
}

async fn part(o: &Opened, at: &At, upload: UploadId, n: i64, bytes: Vec<u8>) -> Part {
    put_part(o, at, upload, n, bytes, Claims::default()).await.unwrap()
}

fn request(at: &At, upload: UploadId, parts: &[Part]) -> CompleteUpload {
    let named = |part: &Part| CompletePart { number: part.number, etag: part.etag.clone(), checksum: None };
    CompleteUpload {
        at: at.clone(),
        upload,
        parts: parts.iter().map(named).collect(),
        claim: None,
        size_bytes: None,
        conditions: Conditions::default(),
    }
}

async fn complete(o: &Opened, at: &At, upload: UploadId, parts: &[Part]) -> Result<Stored> {
    o.store.complete_upload(&o.cx, request(at, upload, parts)).await
}

async fn bucket_id(o: &Opened) -> Of {
    Of::Bucket(o.store.find_bucket(&"bucket".parse().unwrap()).await.unwrap().value.id)
}

async fn unfinished_bytes(o: &Opened) -> i64 {
    o.store.usage(Measure::UnfinishedBytes, &bucket_id(o).await).await.unwrap()
}

/// What derived rows say is what a recount says.
async fn assert_sound(o: &Opened) {
    let checked = o.store.check().await.unwrap();
    assert!(checked.findings.is_empty(), "{:#?}", checked.findings);
}

/// No row of any upload is left, and the rest is sound.
async fn assert_no_trace(o: &Opened) {
    assert_sound(o).await;
    assert!(o.rows(keys::UPLOAD).await.is_empty());
    assert!(o.rows(keys::PART).await.is_empty());
    assert_eq!(unfinished_bytes(o).await, 0);
}

#[tokio::test]
async fn equal_parts_in_any_order_become_one_file() {
    let (o, at) = (Opened::new().await, at("bucket", "a"));
    let upload = create(&o, &at, None).await;
    let contents = [bytes(1, MIN), bytes(2, MIN), bytes(3, MIN), bytes(4, 1000)];
    let first = part(&o, &at, upload, 3, contents[2].clone()).await;
    let rest = join_all(
        [(4, 3), (1, 0), (2, 1)].map(|(n, i): (i64, usize)| part(&o, &at, upload, n, contents[i].clone())),
    );
    let mut parts: Vec<Part> = rest.await;
    parts.push(first);
    parts.sort_by_key(|part| part.number);
    let whole = contents.concat();
    assert_eq!(unfinished_bytes(&o).await, super::part::signed(whole.len() as u64));

    let stored = complete(&o, &at, upload, &parts).await.unwrap().version;
    let extent = Extent { blob: BlobId::Parts(upload), offset: 0, len: whole.len() as u64 };
    assert_eq!(stored.manifest, Manifest::Inline(vec![extent]));
    assert_eq!(stored.parts, Some(PartSizes::Uniform { count: 4, each: MIN as u64 }));
    assert!(stored.etag.as_str().ends_with("-4"));
    assert_eq!(o.get(&at, None).await, whole);
    assert_eq!(o.get(&at, Some(RangeRequest::Part(number(2)))).await, contents[1]);
    assert_no_trace(&o).await;

    o.store.digest_pending().await.unwrap();
    let digests = digest(&Wanted::default(), &whole);
    let head = o.head(&at).await.unwrap();
    assert_eq!(head.sha256, Digest::Known(digests.sha256));
    assert_eq!(head.crc64nvme, Some(digests.crc64nvme), "combined from the parts");
    assert_eq!(head.etag, stored.etag);
}

#[tokio::test]
async fn the_last_commit_of_a_number_wins() {
    let (o, at) = (Opened::new().await, at("bucket", "a"));
    let upload = create(&o, &at, None).await;
    let old = part(&o, &at, upload, 1, bytes(1, MIN)).await;
    let two = part(&o, &at, upload, 2, bytes(2, MIN)).await;
    let new = part(&o, &at, upload, 1, bytes(3, MIN + 5)).await;
    assert_eq!(unfinished_bytes(&o).await, super::part::signed(2 * MIN as u64 + 5));
    let refused = complete(&o, &at, upload, &[old, two.clone()]).await;
    assert!(matches!(refused, Err(Error::BadParts(BadParts::Missing))));
    let page = o.store.list_parts(&o.cx, at.clone(), upload, None, 10).await.unwrap();
    assert_eq!(page.parts, [new.clone(), two.clone()]);
    assert_sound(&o).await;
    complete(&o, &at, upload, &[new, two]).await.unwrap();
    assert_eq!(o.get(&at, None).await, [bytes(3, MIN + 5), bytes(2, MIN)].concat());
    assert_no_trace(&o).await;
}

#[tokio::test]
async fn parts_not_named_are_dropped() {
    let (o, at) = (Opened::new().await, at("bucket", "a"));
    let upload = create(&o, &at, None).await;
    let one = part(&o, &at, upload, 1, bytes(1, MIN)).await;
    part(&o, &at, upload, 2, bytes(2, MIN)).await;
    let three = part(&o, &at, upload, 3, bytes(3, 100)).await;
    complete(&o, &at, upload, &[one, three]).await.unwrap();
    assert_eq!(o.get(&at, None).await, [bytes(1, MIN), bytes(3, 100)].concat());
    assert_no_trace(&o).await;
}

#[tokio::test]
async fn completing_twice_gives_the_same_answer_while_current() {
    let (o, at) = (Opened::new().await, at("bucket", "a"));
    let upload = create(&o, &at, None).await;
    let parts = [part(&o, &at, upload, 1, bytes(1, MIN)).await, part(&o, &at, upload, 2, bytes(2, 10)).await];
    let first = complete(&o, &at, upload, &parts).await.unwrap().version;
    let mut again = request(&at, upload, &parts);
    again.conditions.if_none_match = Some(crate::condition::ETagCondition::Any);
    let second = o.store.complete_upload(&o.cx, again).await.unwrap().version;
    assert_eq!((first.id, first.etag, first.sequence), (second.id, second.etag, second.sequence));
    let other = complete(&o, &at, upload, &parts[..1]).await;
    assert!(matches!(other, Err(Error::NotFound(Missing::Upload(_)))));
    let late = put_part(&o, &at, upload, 3, bytes(3, 10), Claims::default()).await;
    assert!(matches!(late, Err(Error::NotFound(Missing::Upload(_)))));
    o.put(&at, b"new".to_vec()).await;
    let gone = complete(&o, &at, upload, &parts).await;
    assert!(matches!(gone, Err(Error::NotFound(Missing::Upload(_)))));
}

#[tokio::test]
async fn a_refused_completion_leaves_the_upload() {
    let (o, at) = (Opened::new().await, at("bucket", "a"));
    o.put(&at, b"there".to_vec()).await;
    let upload = create(&o, &at, None).await;
    let parts = [part(&o, &at, upload, 1, bytes(1, 10)).await];
    let mut conditional = request(&at, upload, &parts);
    conditional.conditions.if_none_match = Some(crate::condition::ETagCondition::Any);
    let refused = o.store.complete_upload(&o.cx, conditional).await;
    assert!(matches!(refused, Err(Error::Precondition { .. })));
    assert_eq!(o.get(&at, None).await, b"there");
    complete(&o, &at, upload, &parts).await.unwrap();
    assert_eq!(o.get(&at, None).await, bytes(1, 10));
}

#[tokio::test]
async fn checksums_of_parts_and_of_the_whole() {
    let (o, at) = (Opened::new().await, at("bucket", "a"));
    let upload = create(&o, &at, Some((Algorithm::Crc32c, UploadChecksum::FullObject))).await;
    let of = |bytes: &[u8]| {
        digest(&Wanted { md5: false, algorithms: vec![Algorithm::Crc32c] }, bytes).checksums[0].clone()
    };
    let (one, two) = (bytes(1, MIN), bytes(2, 77));
    let claim = |checksum: Checksum| Claims { checksums: vec![checksum], ..Claims::default() };
    let wrong = put_part(&o, &at, upload, 1, one.clone(), claim(of(b"other"))).await;
    assert!(matches!(wrong, Err(Error::ChecksumMismatch { .. })));
    let foreign = Checksum { algorithm: Algorithm::Sha1, kind: ChecksumKind::FullObject, value: vec![0; 20] };
    let foreign = put_part(&o, &at, upload, 1, one.clone(), claim(foreign)).await;
    assert!(matches!(foreign, Err(Error::Invalid { .. })));
    let page = o.store.list_parts(&o.cx, at.clone(), upload, None, 10).await.unwrap();
    assert!(page.parts.is_empty(), "a mismatch stores nothing");
    let first = put_part(&o, &at, upload, 1, one.clone(), claim(of(&one))).await.unwrap();
    assert_eq!(first.checksum, Some(of(&one)));
    let second = part(&o, &at, upload, 2, two.clone()).await;
    assert_eq!(second.checksum, Some(of(&two)), "computed where the client gives none");
    let mut wrong = request(&at, upload, &[first.clone(), second.clone()]);
    wrong.claim = Some(of(b"other"));
    let refused = o.store.complete_upload(&o.cx, wrong).await;
    assert!(matches!(refused, Err(Error::ChecksumMismatch { .. })));
    let mut right = request(&at, upload, &[first, second]);
    right.claim = Some(of(&[one, two].concat()));
    let stored = o.store.complete_upload(&o.cx, right.clone()).await.unwrap();
    assert_eq!(stored.version.checksums, [right.claim.unwrap()]);
}

#[tokio::test]
async fn checksums_that_cannot_be() {
    let (o, at) = (Opened::new().await, at("bucket", "a"));
    for checksum in [
        (Algorithm::Sha256, UploadChecksum::FullObject),
        (Algorithm::Sha1, UploadChecksum::FullObject),
        (Algorithm::Crc64Nvme, UploadChecksum::Composite),
    ] {
        let create =
            CreateUpload { at: at.clone(), attributes: Attributes::default(), checksum: Some(checksum) };
        assert!(
            matches!(o.store.create_upload(&o.cx, create).await, Err(Error::Invalid { .. })),
            "{checksum:?}"
        );
    }
}

fn copy(at: &At, upload: UploadId, n: i64, source: &At, range: Option<RangeRequest>) -> CopyPart {
    CopyPart {
        at: at.clone(),
        upload,
        number: number(n),
        source: source.clone(),
        source_version: None,
        source_conditions: Conditions::default(),
        range,
    }
}

#[tokio::test]
async fn ranges_of_an_object_become_parts_without_moving() {
    let (o, source, at) = (Opened::new().await, at("bucket", "source"), at("bucket", "a"));
    let content = bytes(9, 12 * 1024 * 1024);
    let put = o.put(&source, content.clone()).await;
    let upload = create(&o, &at, Some((Algorithm::Crc32, UploadChecksum::FullObject))).await;
    let cut = 6 * 1024 * 1024_u64;
    let mut parts = Vec::new();
    for (n, first, last) in [(1, 0, cut - 1), (2, cut, 2 * cut - 2), (3, 5, 9)] {
        let copy = copy(&at, upload, n, &source, Some(RangeRequest::FromTo(first, last)));
        parts.push(o.store.copy_part(&o.cx, copy).await.unwrap().0);
    }
    assert_sound(&o).await;
    let beyond = copy(&at, upload, 4, &source, Some(RangeRequest::FromTo(5, 2 * cut)));
    assert!(matches!(o.store.copy_part(&o.cx, beyond).await, Err(Error::InvalidRange { .. })));
    let stored = complete(&o, &at, upload, &parts).await.unwrap().version;
    let Digest::Known(sha256) = put.sha256 else { panic!("a put's digest is known") };
    let blob = BlobId::Content(sha256);
    let expected = vec![Extent { blob, offset: 0, len: 2 * cut - 1 }, Extent { blob, offset: 5, len: 5 }];
    assert_eq!(stored.manifest, Manifest::Inline(expected));
    o.put(&source, b"other".to_vec()).await;
    let expected = [&content[..content.len() - 1], &content[5..10]].concat();
    assert_eq!(o.get(&at, None).await, expected);
    assert_eq!(
        stored.checksums[0],
        digest(&Wanted { md5: false, algorithms: vec![Algorithm::Crc32] }, &expected).checksums[0]
    );
    assert_no_trace(&o).await;
}

#[tokio::test]
async fn aborting_leaves_no_rows() {
    let (o, at) = (Opened::new().await, at("bucket", "a"));
    let upload = create(&o, &at, None).await;
    part(&o, &at, upload, 1, bytes(1, MIN)).await;
    part(&o, &at, upload, 2, bytes(2, MIN + 1)).await;
    let three = part(&o, &at, upload, 3, bytes(3, 10)).await;
    o.store.abort_upload(&o.cx, at.clone(), upload).await.unwrap();
    assert_no_trace(&o).await;
    let missing = |error: &Error| matches!(error, Error::NotFound(Missing::Upload(_)));
    assert!(missing(&o.store.abort_upload(&o.cx, at.clone(), upload).await.unwrap_err()));
    assert!(missing(&complete(&o, &at, upload, &[three]).await.unwrap_err()));
    assert_nothing_stored(&o).await;
}

/// A forced sweep leaves neither a blob's row nor a file.
async fn assert_nothing_stored(o: &Opened) {
    o.store.gc(true).await.unwrap();
    assert_eq!(o.rows(keys::BLOB).await, []);
    assert_eq!(o.rows(keys::MANIFEST).await, []);
    assert_eq!(o.files(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn deleting_what_was_completed_leaves_nothing() {
    let (o, at) = (Opened::new().await, at("bucket", "a"));
    let (source, paged) = (crate::sample::at("bucket", "b"), crate::sample::at("bucket", "c"));
    let upload = create(&o, &at, None).await;
    let mut parts = vec![part(&o, &at, upload, 1, bytes(1, MIN)).await];
    parts.push(part(&o, &at, upload, 2, bytes(2, MIN + 1)).await);
    part(&o, &at, upload, 3, bytes(3, 10)).await;
    complete(&o, &at, upload, &parts).await.unwrap();
    o.put(&source, bytes(4, MIN)).await;
    let upload = create(&o, &paged, None).await;
    let mut parts = Vec::new();
    for n in 1..=40 {
        parts.push(o.store.copy_part(&o.cx, copy(&paged, upload, n, &source, None)).await.unwrap().0);
    }
    let stored = complete(&o, &paged, upload, &parts).await.unwrap().version;
    assert_eq!(stored.manifest, Manifest::Paged { id: upload, pages: 1 });
    for at in [at, source, paged] {
        assert!(!o.files().is_empty());
        let conditions = Conditions::default();
        let delete = crate::delete::DeleteObject { at, version: None, conditions };
        o.store.delete(&o.cx, delete).await.unwrap();
    }
    assert_nothing_stored(&o).await;
}

#[tokio::test]
async fn an_upload_is_of_one_key() {
    let (o, here, there) = (Opened::new().await, at("bucket", "a"), at("bucket", "b"));
    let upload = create(&o, &here, None).await;
    let refused = put_part(&o, &there, upload, 1, bytes(1, 10), Claims::default()).await;
    assert!(matches!(refused, Err(Error::NotFound(Missing::Upload(_)))));
    let refused = o.store.abort_upload(&o.cx, there, upload).await;
    assert!(matches!(refused, Err(Error::NotFound(Missing::Upload(_)))));
}

/// Uploads are their initiator's; everything else is everybody's.
#[derive(Debug)]
struct Initiators;

impl crate::Authority for Initiators {
    fn decide(&self, ask: &crate::Ask<'_>) -> crate::Decision {
        let is_allowed = ask.initiator.is_none() || ask.initiator == ask.cx.principal.user();
        if is_allowed { crate::Decision::Allow } else { crate::Decision::Deny }
    }
}

#[tokio::test]
async fn to_others_an_upload_does_not_exist() {
    let mut o = Opened::guarded_by(Arc::new(Initiators)).await;
    let at = at("files", "general/devis/a");
    let user = |n| crate::object::Principal {
        who: crate::object::Who::User(UserId(uuid::Uuid::from_u128(n))),
        ..crate::object::Principal::anonymous()
    };
    o.cx.principal = Arc::new(user(1));
    let upload = create(&o, &at, None).await;
    let own = part(&o, &at, upload, 1, bytes(1, 10)).await;
    let list = ListUploads {
        bucket: at.bucket.clone(),
        prefix: String::new(),
        delimiter: String::new(),
        after_key: String::new(),
        after_upload: None,
        limit: 10,
    };
    let seen = o.store.list_uploads(&o.cx, list.clone()).await.unwrap().uploads;
    assert_eq!(seen.len(), 1);

    o.cx.principal = Arc::new(user(2));
    let missing = |error: &Error| matches!(error, Error::NotFound(Missing::Upload(_)));
    assert!(o.store.list_uploads(&o.cx, list).await.unwrap().uploads.is_empty());
    assert!(missing(&put_part(&o, &at, upload, 2, bytes(2, 10), Claims::default()).await.unwrap_err()));
    assert!(missing(&o.store.copy_part(&o.cx, copy(&at, upload, 2, &at, None)).await.unwrap_err()));
    assert!(missing(&o.store.list_parts(&o.cx, at.clone(), upload, None, 9).await.unwrap_err()));
    assert!(missing(&complete(&o, &at, upload, std::slice::from_ref(&own)).await.unwrap_err()));
    assert!(missing(&o.store.abort_upload(&o.cx, at.clone(), upload).await.unwrap_err()));

    o.cx.principal = Arc::new(user(1));
    complete(&o, &at, upload, &[own]).await.unwrap();
}

#[tokio::test]
async fn in_files_the_digest_is_known_at_once() {
    let (o, at) = (Opened::new().await, at("files", "general/devis/a.txt"));
    let upload = create(&o, &at, None).await;
    let content = [vec![b'a'; MIN], b"end".to_vec()];
    let parts = [
        part(&o, &at, upload, 1, content[0].clone()).await,
        part(&o, &at, upload, 2, content[1].clone()).await,
    ];
    let stored = complete(&o, &at, upload, &parts).await.unwrap().version;
    assert_eq!(stored.sha256, Digest::Known(digest(&Wanted::default(), &content.concat()).sha256));
    assert_eq!(stored.sniffed_type.as_deref(), Some("text/plain"));
    assert!(stored.ids.filing.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_races_with_the_completion_is_in_it_or_refused() {
    let (o, at) = (Arc::new(Opened::new().await), at("bucket", "a"));
    for round in 0..20 {
        let upload = create(&o, &at, None).await;
        let one = part(&o, &at, upload, 1, bytes(round, 100)).await;
        let racers = (0..4).map(|n| {
            let (o, at) = (Arc::clone(&o), at.clone());
            tokio::spawn(async move {
                put_part(&o, &at, upload, 1 + n % 3, bytes(round + 100, 200), Claims::default()).await
            })
        });
        let racers: Vec<_> = racers.collect();
        let done = complete(&o, &at, upload, &[one]).await;
        for racer in racers {
            let raced = racer.await.unwrap();
            assert!(matches!(raced, Ok(_) | Err(Error::NotFound(Missing::Upload(_)))), "{raced:?}");
        }
        match done {
            Ok(_) => assert_eq!(o.get(&at, None).await, bytes(round, 100)),
            // replaced before it was completed
            Err(Error::BadParts(BadParts::Missing)) => {
                o.store.abort_upload(&o.cx, at.clone(), upload).await.unwrap();
            }
            Err(other) => panic!("{other}"),
        }
        assert_no_trace(&o).await;
    }
}

/// Ten thousand parts of one blob: one object copied over and over.
#[tokio::test]
async fn ten_thousand_parts_of_one_blob() {
    let (o, source, at) = (Opened::new().await, at("bucket", "source"), at("bucket", "a"));
    let content = bytes(1, MIN);
    o.put(&source, content.clone()).await;
    let upload = create(&o, &at, None).await;
    let mut parts = Vec::new();
    for n in 1..=10_000 {
        let copied = o.store.copy_part(&o.cx, copy(&at, upload, n, &source, None)).await.unwrap();
        parts.push(copied.0);
    }
    let stored = complete(&o, &at, upload, &parts).await.unwrap().version;
    assert_eq!(stored.manifest, Manifest::Paged { id: upload, pages: 10 });
    assert_eq!(stored.size_bytes, 10_000 * MIN as u64);
    let first = 7_777 * MIN as u64 - 3;
    let range = o.get(&at, Some(RangeRequest::FromTo(first, first + 5))).await;
    assert_eq!(range, [&content[MIN - 3..], &content[..3]].concat());
    assert_no_trace(&o).await;
    let blobs = o.rows(keys::BLOB).await;
    assert_eq!(blobs.len(), 1, "the further owners' rows are gone");
}

/// Ten thousand parts that are ten thousand blobs: the largest completion fits one commit. The blobs' rows are made
/// by hand; no byte of them is read.
#[tokio::test]
async fn ten_thousand_blobs_fit_one_commit() {
    let (o, at) = (Opened::new().await, at("bucket", "a"));
    let upload = create(&o, &at, None).await;
    let mut parts = Vec::new();
    for n in 1..=10_000_u16 {
        let mut sha256 = [0; 32];
        sha256[..2].copy_from_slice(&n.to_be_bytes());
        let (blob, len) = (BlobId::Content(Sha256(sha256)), MIN as u64);
        let record = record::PartRecord {
            size_bytes: len,
            md5: [n.to_be_bytes()[1]; 16],
            crc64nvme: 0,
            modified_ms: 0,
            checksum: None,
            sniffed_type: None,
            extents: vec![Extent { blob, offset: 0, len }],
            unknown: Vec::new(),
        };
        let number = number(i64::from(n));
        let place =
            crate::blob::Place::File { name: format!("{}.1-{n}", hex::encode(sha256)), offset: 0, len };
        let new = refs::NewBlob { place, size_bytes: len, inline: None, stretch: None };
        let owner = record::part_owner(upload, number);
        let planned = refs::plan_add(&*o.kv, blob, owner, Some(new)).await.unwrap();
        let mut writes = planned.writes;
        writes.push(Write::Put(keys::part(upload, number), record.encode()));
        o.kv.commit(Commit { writes, ..Commit::default() }).await.unwrap();
        parts.push(record.part(number));
    }
    let stored = complete(&o, &at, upload, &parts).await.unwrap().version;
    assert_eq!(stored.manifest, Manifest::Paged { id: upload, pages: 10 });
    for (_, entry) in o.rows(keys::BLOB).await {
        assert_eq!(refs::BlobRow::decode(&entry.value).unwrap().owners, [upload.0]);
    }
}

/// A source in more pieces than a part's row holds is copied into one blob. Its record is made by hand: the mount
/// makes such objects.
#[tokio::test]
async fn a_scattered_source_is_gathered() {
    let (o, small, scattered, at) =
        (Opened::new().await, at("bucket", "s"), at("bucket", "m"), at("bucket", "a"));
    let content = bytes(1, 5_000);
    let put = o.put(&small, content.clone()).await;
    let Digest::Known(sha256) = put.sha256 else { panic!("a put's digest is known") };
    let id = UploadId([9; 16]);
    let extents: Vec<Extent> =
        (0..1_500).map(|n| Extent { blob: BlobId::Content(sha256), offset: 3 * n, len: 2 }).collect();
    let mut writes: Vec<Write> = extents
        .chunks(1_000)
        .zip(0..)
        .map(|(page, n)| Write::Put(keys::manifest_page(id, n), crate::codec::object::encode_page(page)))
        .collect();
    let manifest = Manifest::Paged { id, pages: 2 };
    let version = crate::object::Version { manifest, size_bytes: 3_000, etag: ETag::parse("x-1"), ..put };
    let bucket = o.store.find_bucket(&scattered.bucket).await.unwrap().value;
    writes.push(Write::Put(
        keys::head(bucket.id, &scattered.key),
        crate::codec::object::encode_version(&version),
    ));
    o.kv.commit(Commit { writes, ..Commit::default() }).await.unwrap();

    let upload = create(&o, &at, None).await;
    let range = Some(RangeRequest::FromTo(1, 2_998));
    let gathered = o.store.copy_part(&o.cx, copy(&at, upload, 1, &scattered, range)).await.unwrap().0;
    let some = Some(RangeRequest::FromTo(0, 1_999));
    let shared = o.store.copy_part(&o.cx, copy(&at, upload, 2, &scattered, some)).await.unwrap().0;
    let expected = o.get(&scattered, None).await;
    assert_eq!((gathered.size_bytes, shared.size_bytes), (2_998, 2_000));
    let stored = complete(&o, &at, upload, &[gathered]).await.unwrap().version;
    assert!(
        matches!(&stored.manifest, Manifest::Inline(extents) if extents.len() == 1),
        "{:?}",
        stored.manifest
    );
    assert_eq!(o.get(&at, None).await, expected[1..2_999]);
}

/// What check is for: it says when a part's reference, an upload's usage or an upload itself is gone.
#[tokio::test]
async fn check_tells_what_is_wrong_with_an_upload() {
    let (o, at) = (Opened::new().await, at("bucket", "a"));
    let upload = create(&o, &at, None).await;
    part(&o, &at, upload, 1, bytes(1, MIN)).await;
    // longer than its place in the parts file: a blob of its own
    part(&o, &at, upload, 2, bytes(2, MIN + 1)).await;
    assert_sound(&o).await;
    let owner = record::part_owner(upload, number(2));
    let kinds = || async {
        let checked = o.store.check().await.unwrap();
        checked.findings.iter().map(|finding| finding.kind).collect::<Vec<_>>()
    };
    let (rows, break_reference) = (o.rows(keys::PART).await, |blob| refs::plan_remove(&*o.kv, blob, owner));
    let record = record::PartRecord::decode(&rows[2].1.value).unwrap();
    let planned = break_reference(record.extents[0].blob).await.unwrap();
    o.kv.commit(Commit { writes: planned.writes, ..Commit::default() }).await.unwrap();
    assert_eq!(kinds().await, ["reference"]);
    let mended = o.store.rebuild().await.unwrap();
    assert_eq!(mended.findings.len(), 1, "{:#?}", mended.findings);
    assert_sound(&o).await;
    let counter = crate::usage::counter(Measure::UnfinishedBytes, &bucket_id(&o).await);
    let write = Write::Add(counter, 5);
    o.kv.commit(Commit { writes: vec![write], ..Commit::default() }).await.unwrap();
    assert_eq!(kinds().await, ["usage"]);
    o.store.rebuild().await.unwrap();
    assert_sound(&o).await;
    let bucket = o.store.find_bucket(&at.bucket).await.unwrap().value;
    let write = Write::Delete(keys::upload(bucket.id, &at.key, upload));
    o.kv.commit(Commit { writes: vec![write], ..Commit::default() }).await.unwrap();
    let found = kinds().await;
    assert!(
        found.contains(&"record") && found.contains(&"reference") && found.contains(&"usage"),
        "{found:?}"
    );
}

async fn put_chunk(
    o: &Opened,
    at: &At,
    upload: UploadId,
    n: i64,
    total: u16,
    bytes: &[u8],
) -> Result<Chunked> {
    let size_bytes = Some(bytes.len() as u64);
    let (number, body, claims) = (number(n), body(bytes), Claims::default());
    let part = PutPart { at: at.clone(), upload, number, body, size_bytes, claims };
    o.store.put_chunk(&o.cx, PutChunk { part, total }).await
}

/// Chunks as a company's client sends them: 5,000,000 bytes, five at a time, one again.
#[tokio::test]
async fn chunks_in_any_order_become_one_file_with_the_last() {
    let (o, at) = (Opened::new().await, at("companies", "a/b/c"));
    let contents: Vec<_> = (1..=6).map(|n| bytes(n, if n == 6 { 1_234 } else { 5_000_000 })).collect();
    let upload = create(&o, &at, None).await;
    let wrong = put_chunk(&o, &at, upload, 7, 6, b"x").await;
    assert!(matches!(wrong, Err(Error::Invalid { .. })));
    let first = put_chunk(&o, &at, upload, 4, 6, &bytes(99, 5_000_000)).await.unwrap();
    assert!(matches!(first, Chunked::Waiting(1)));
    let numbers = [3, 6, 1, 4, 5, 2];
    let sent = join_all(numbers.map(|n: i64| {
        let content = contents[usize::try_from(n).unwrap() - 1].clone();
        let (o, at) = (&o, &at);
        async move { put_chunk(o, at, upload, n, 6, &content).await }
    }))
    .await;
    let is_complete = |answer: &Result<Chunked>| matches!(answer, Ok(Chunked::Complete(_)));
    assert!(sent.iter().any(is_complete), "{sent:?}");
    let whole = contents.concat();
    let sha256 = digest(&Wanted::default(), &whole).sha256;
    let head = o.head(&at).await.unwrap();
    assert_eq!(head.etag, ETag::of_sha256(&sha256));
    assert_eq!(head.sha256, Digest::Known(sha256));
    assert_eq!(o.get(&at, None).await, whole);
    let late = put_chunk(&o, &at, upload, 2, 6, b"late").await;
    assert!(matches!(late, Err(Error::NotFound(Missing::Upload(_)))));
    assert_no_trace(&o).await;
}
