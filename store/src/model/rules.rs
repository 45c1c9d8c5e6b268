//! Rules that a model of contents does not see: who learns what, conditions, quotas, ids, numbers, buckets, digests.

use std::sync::Arc;

use coffre_kv::{Changes, KvExt, Range, Scan};
use uuid::Uuid;

use super::rig::{QUOTA_BYTES, Rig, cx, place};
use crate::bucket::Setting;
use crate::codec::keys;
use crate::condition::{Conditions, ETagCondition};
use crate::copy::CopyObject;
use crate::delete::{DeleteObject, DeleteOne};
use crate::digest::{Algorithm, ETag, Sha256};
use crate::error::{Error, Missing};
use crate::get::{Found, GetObject};
use crate::incoming::Incoming;
use crate::name::UserId;
use crate::object::{
    At, Attributes, BlobId, Digest, Door, Extent, Manifest, Principal, Version, Versioning, Who,
};
use crate::put::{Claims, PutObject, Stored};
use crate::rename::Replace;
use crate::usage::{Measure, Of};
use crate::watch::Note;
use crate::{Action, Cx, Decision, Result, Store, VersionId, VersionRef, views};

fn put_of(at: &At, bytes: &[u8]) -> PutObject {
    let (bytes, size_bytes) = (bytes::Bytes::copy_from_slice(bytes), Some(bytes.len() as u64));
    PutObject {
        at: at.clone(),
        attributes: Attributes::default(),
        body: Box::pin(futures_util::stream::once(async move { Ok(bytes) })),
        size_bytes,
        claims: Claims::default(),
        conditions: Conditions::default(),
    }
}

async fn put(store: &Store, at: &At, bytes: &[u8]) -> Stored {
    store.put(&cx(), put_of(at, bytes)).await.unwrap()
}

fn get_of(at: &At, version: Option<VersionRef>) -> GetObject {
    GetObject { at: at.clone(), version, conditions: Conditions::default(), range: None }
}

async fn head(store: &Store, at: &At) -> Result<Found> {
    store.head(&cx(), get_of(at, None)).await
}

fn delete_of(at: &At, version: Option<VersionRef>) -> DeleteObject {
    DeleteObject { at: at.clone(), version, conditions: Conditions::default() }
}

fn copy_of(source: &At, target: &At) -> CopyObject {
    CopyObject {
        source: source.clone(),
        source_version: None,
        source_conditions: Conditions::default(),
        target: target.clone(),
        target_conditions: Conditions::default(),
        attributes: None,
        tags: None,
        compute: None,
    }
}

async fn opened() -> (Rig, Store) {
    let rig = Rig::new(7);
    let store = rig.open().await;
    rig.make_buckets(&store).await;
    (rig, store)
}

async fn sound(store: &Store) {
    assert_eq!(store.check().await.unwrap().findings, []);
}

fn somebody() -> Cx {
    let who = Who::User(UserId(Uuid::from_bytes([9; 16])));
    Cx { principal: Arc::new(Principal { who, ..Principal::anonymous() }), ..cx() }
}

#[tokio::test]
async fn who_may_not_list_does_not_learn_what_is_missing() {
    let (rig, store) = opened().await;
    let at = place((0, 0));
    assert!(matches!(head(&store, &at).await, Err(Error::NotFound(Missing::Key(_)))));
    rig.forbidden.set(&[(Action::ListBucket, Decision::Deny)]);
    assert!(matches!(head(&store, &at).await, Err(Error::Denied)));
    let mount = Cx { door: Door::Mount, ..cx() };
    assert!(matches!(store.head(&mount, get_of(&at, None)).await, Err(Error::Hidden)));
    rig.forbidden.set(&[(Action::GetObject, Decision::Hide), (Action::PutObject, Decision::Deny)]);
    assert!(matches!(store.put(&cx(), put_of(&at, b"x")).await, Err(Error::Denied)));
    rig.forbidden.set(&[]);
    put(&store, &at, b"x").await;
    rig.forbidden.set(&[(Action::GetObject, Decision::Hide)]);
    assert!(matches!(head(&store, &at).await, Err(Error::Hidden)));
    // a version is another right than the object
    store.head(&cx(), get_of(&at, Some(VersionRef::Null))).await.unwrap();
    rig.forbidden.set(&[(Action::PutObjectTagging, Decision::Deny)]);
    let mut tagged = put_of(&at, b"y");
    tagged.attributes.tags = vec![("a".into(), "b".into())];
    assert!(matches!(store.put(&cx(), tagged).await, Err(Error::Denied)));
    sound(&store).await;
}

#[tokio::test]
async fn a_denied_write_reads_no_byte() {
    let (rig, store) = opened().await;
    rig.forbidden.set(&[(Action::PutObject, Decision::Deny)]);
    let mut put = put_of(&place((0, 0)), b"");
    put.size_bytes = None;
    put.body = Box::pin(futures_util::stream::poll_fn(|_| panic!("the body was read")));
    assert!(matches!(store.put(&cx(), put).await, Err(Error::Denied)));
}

#[tokio::test]
async fn delete_markers_and_promotion() {
    let (_rig, store) = opened().await;
    let at = place((0, 0));
    let versioning = Setting::Versioning(Versioning::Enabled);
    store.set_bucket(&cx(), &at.bucket, versioning).await.unwrap();
    let off = store.set_bucket(&cx(), &at.bucket, Setting::Versioning(Versioning::Off)).await;
    assert!(matches!(off, Err(Error::Invalid { .. })));
    let first = put(&store, &at, b"1").await.version;
    let second = put(&store, &at, b"2").await.version;
    assert_eq!((first.sequence, second.sequence, first.is_null), (1, 2, false));
    let deleted = store.delete(&cx(), delete_of(&at, None)).await.unwrap();
    assert!(deleted.is_delete_marker);
    let marker = deleted.version.unwrap();
    match head(&store, &at).await {
        Err(Error::NotFound(Missing::DeleteMarker(_, id))) => assert_eq!(id, marker),
        other => panic!("{other:?}"),
    }
    // without the marker the newest version is current again, then the one before
    let removed = store.delete(&cx(), delete_of(&at, Some(VersionRef::Id(marker)))).await.unwrap();
    assert_eq!((removed.version, removed.is_delete_marker), (Some(marker), true));
    assert_eq!(head(&store, &at).await.unwrap().version, second);
    store.delete(&cx(), delete_of(&at, Some(VersionRef::Id(second.id)))).await.unwrap();
    assert_eq!(head(&store, &at).await.unwrap().version, first);
    // a version that never was: fine, and nothing happens
    let nothing = store.delete(&cx(), delete_of(&at, Some(VersionRef::Id(second.id)))).await.unwrap();
    assert_eq!(nothing.version, None);
    // sequences never go back while there is history
    let third = put(&store, &at, b"3").await.version;
    assert_eq!(third.sequence, 2);
    let bucket = store.bucket(&cx(), &at.bucket, Action::ListBucket).await.unwrap();
    assert_eq!(store.usage(Measure::Objects, &Of::Bucket(bucket.id)).await.unwrap(), 1);
    assert_eq!(store.usage(Measure::Bytes, &Of::Bucket(bucket.id)).await.unwrap(), 2);
    sound(&store).await;
}

#[tokio::test]
async fn conditions_are_decided_on_what_stands_at_the_commit() {
    let (_rig, store) = opened().await;
    let at = place((0, 0));
    let new_only = Conditions { if_none_match: Some(ETagCondition::Any), ..Conditions::default() };
    let writers = (0..8u8).map(|n| {
        let (store, at, conditions) = (store.clone(), at.clone(), new_only.clone());
        tokio::spawn(async move { store.put(&cx(), PutObject { conditions, ..put_of(&at, &[n]) }).await })
    });
    let mut won = 0;
    for writer in writers.collect::<Vec<_>>() {
        match writer.await.unwrap() {
            Ok(_) => won += 1,
            Err(Error::Precondition { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(won, 1);
    let stale = ETagCondition::OneOf(vec![ETag::parse("\"00\"")]);
    let conditions = Conditions { if_match: Some(stale), ..Conditions::default() };
    let refused = store.put(&cx(), PutObject { conditions: conditions.clone(), ..put_of(&at, b"x") }).await;
    assert!(matches!(refused, Err(Error::Precondition { .. })));
    let refused = store.delete(&cx(), DeleteObject { conditions, ..delete_of(&at, None) }).await;
    assert!(matches!(refused, Err(Error::Precondition { .. })));
    sound(&store).await;
}

#[tokio::test]
async fn a_quota_holds_and_leaves_nothing_behind() {
    let (_rig, store) = opened().await;
    let (at, cx) = (place((0, 0)), somebody());
    let owner = Of::Owner(cx.principal.user().unwrap());
    let most = usize::try_from(QUOTA_BYTES).unwrap();
    store.put(&cx, put_of(&at, &vec![1; most])).await.unwrap();
    let beyond = store.put(&cx, put_of(&place((0, 1)), b"x")).await;
    assert!(matches!(beyond, Err(Error::QuotaExceeded)));
    // an overwrite counts as what it adds
    store.put(&cx, put_of(&at, &vec![2; most - 1])).await.unwrap();
    store.put(&cx, put_of(&place((0, 1)), b"x")).await.unwrap();
    assert_eq!(store.usage(Measure::Bytes, &owner).await.unwrap(), QUOTA_BYTES);
    assert_eq!(store.usage(Measure::Objects, &owner).await.unwrap(), 2);
    store.delete(&cx, delete_of(&at, None)).await.unwrap();
    assert_eq!(store.usage(Measure::Bytes, &owner).await.unwrap(), 1);
    sound(&store).await;
}

#[tokio::test]
async fn ids_of_filing_stay_with_the_file() {
    let (_rig, store) = opened().await;
    let cx = somebody();
    let (x, y, z, loose) = (place((1, 0)), place((1, 1)), place((1, 2)), place((1, 3)));
    let first = store.put(&cx, put_of(&x, b"one")).await.unwrap().version;
    let serial = first.ids.filing.unwrap();
    // an overwrite keeps id and inode, a copy has its own (contract D5)
    let second = store.put(&cx, put_of(&x, b"two")).await.unwrap().version;
    assert_eq!((second.ids.filing, second.ino, second.sequence), (Some(serial), first.ino, 2));
    let (copy, from) = store.copy(&cx, copy_of(&x, &z)).await.unwrap();
    assert_eq!(from, None);
    assert_ne!(copy.version.ids.filing, Some(serial));
    assert_ne!(copy.version.ino, first.ino);
    assert_eq!(copy.version.sha256, second.sha256);
    // a move over a file: the source's id stays, the target's is gone; out of the scheme and back it is the same file
    store.put(&cx, put_of(&y, b"three")).await.unwrap();
    let moved = store.rename(&cx, x.clone(), y.key.clone(), Replace::Yes).await.unwrap();
    assert_eq!((moved.ids.filing, moved.ino, moved.id), (Some(serial), first.ino, second.id));
    let out = store.rename(&cx, y.clone(), loose.key.clone(), Replace::Yes).await.unwrap();
    let rows = |store: &Store| {
        let kv = Arc::clone(store.inner.kv());
        async move { kv.get(&keys::file_filing(serial)).await.unwrap() }
    };
    assert!(rows(&store).await.is_none(), "outside the scheme there is no entry");
    let back = store.rename(&cx, loose, x.key.clone(), Replace::No).await.unwrap();
    assert_eq!((out.ids.filing, back.ids.filing), (Some(serial), Some(serial)));
    assert!(rows(&store).await.is_some());
    let taken = store.rename(&cx, x.clone(), z.key.clone(), Replace::No).await;
    assert!(matches!(taken, Err(Error::Precondition { .. })));
    // the lists' counters say what the lists hold
    let all = views::filing_scope_prefix(views::Scope::All);
    let counted = store.usage_of_lists(Measure::Objects, &all).await.unwrap();
    assert_eq!(counted.iter().map(|(_, n)| n).sum::<i64>(), 2, "{counted:?}");
    let bytes = store.usage_of_lists(Measure::Bytes, &all).await.unwrap();
    assert_eq!(bytes.iter().map(|(_, n)| n).sum::<i64>(), 6);
    sound(&store).await;
}

#[tokio::test]
async fn what_comes_back_is_the_same_file_unless_that_went_elsewhere() {
    let (_rig, store) = opened().await;
    let cx = somebody();
    let versioning = Setting::Versioning(crate::object::Versioning::Enabled);
    store.set_bucket(&crate::model::rig::cx(), &"files".parse().unwrap(), versioning).await.unwrap();
    let (x, y) = (place((1, 0)), place((1, 1)));
    let first = store.put(&cx, put_of(&x, b"one")).await.unwrap().version;
    let second = store.put(&cx, put_of(&x, b"two")).await.unwrap().version;
    let identity = (first.ino, first.ids.filing);
    let delete = async |version: VersionId| {
        store.delete(&cx, delete_of(&x, Some(VersionRef::Id(version)))).await.unwrap();
        let found = head(&store, &x).await.unwrap().version;
        (found.id, (found.ino, found.ids.filing))
    };
    // deleted and brought back
    let marker = store.delete(&cx, delete_of(&x, None)).await.unwrap().version.unwrap();
    let again = store.put(&cx, put_of(&x, b"three")).await.unwrap().version;
    assert_ne!((again.ino, again.ids.filing), identity, "what is put where nothing is, is another file");
    store.delete(&cx, delete_of(&x, Some(VersionRef::Id(again.id)))).await.unwrap();
    assert_eq!(delete(marker).await, (second.id, identity));
    // renamed, and what it left behind brought back: two files, whatever was deleted in between
    let moved = store.rename(&cx, x.clone(), y.key.clone(), Replace::No).await.unwrap();
    assert_eq!((moved.ino, moved.ids.filing), identity);
    let deleted = store.delete(&cx, delete_of(&x, None)).await.unwrap().version.unwrap();
    store.delete(&cx, delete_of(&x, Some(VersionRef::Id(deleted)))).await.unwrap();
    let Err(Error::NotFound(Missing::DeleteMarker(_, marker))) = head(&store, &x).await else {
        panic!("the rename left no marker");
    };
    let (back, other) = delete(marker).await;
    assert_eq!(back, second.id);
    assert!(other.0 != identity.0 && other.1.is_some() && other.1 != identity.1, "{other:?}");
    // the version below takes the place of the one above
    assert_eq!(delete(second.id).await, (first.id, other));
    sound(&store).await;
}

#[tokio::test]
async fn copies_share_bytes_and_compute_what_is_asked() {
    let (_rig, store) = opened().await;
    let (a, b) = (place((0, 0)), place((2, 0)));
    let bytes = vec![5; 9_000];
    put(&store, &a, &bytes).await;
    let compute = Some(Algorithm::Crc32c);
    let (copy, _) = store.copy(&cx(), CopyObject { compute, ..copy_of(&a, &b) }).await.unwrap();
    let crc = crc_fast::crc32_iscsi(&bytes).to_be_bytes().to_vec();
    assert_eq!(copy.version.checksums.iter().map(|c| c.value.clone()).collect::<Vec<_>>(), [crc]);
    let onto_itself = store.copy(&cx(), copy_of(&a, &a)).await;
    assert!(matches!(onto_itself, Err(Error::Invalid { .. })));
    let tags = Some(vec![("t".to_owned(), "v".to_owned())]);
    store.copy(&cx(), CopyObject { tags: tags.clone(), ..copy_of(&a, &a) }).await.unwrap();
    assert_eq!(Some(head(&store, &a).await.unwrap().version.attributes.tags), tags);
    store.delete(&cx(), delete_of(&a, None)).await.unwrap();
    store.gc(true).await.unwrap();
    let (_, stream) = store.get(&cx(), get_of(&b, None)).await.unwrap();
    let pieces: Vec<_> = futures_util::TryStreamExt::try_collect(stream).await.unwrap();
    let pieces: Vec<bytes::Bytes> = pieces;
    assert_eq!(pieces.concat(), bytes);
    sound(&store).await;
}

#[tokio::test]
async fn tags_are_held_to_s3s_limits() {
    let (_rig, store) = opened().await;
    let at = place((0, 0));
    let before = put(&store, &at, b"x").await.version;
    let tag = |n: usize, key: usize, value: usize| (format!("{n}{}", "k".repeat(key - 1)), "v".repeat(value));
    let refused = [
        (0..11).map(|n| tag(n, 2, 1)).collect(),
        vec![tag(0, 129, 1)],
        vec![tag(0, 2, 257)],
        vec![tag(0, 2, 1), tag(0, 2, 2)],
        vec![(String::new(), String::new())],
    ];
    for tags in refused {
        let outcome = store.set_tags(&cx(), at.clone(), None, tags).await;
        assert!(matches!(outcome, Err(Error::Invalid { what: "tags" })));
    }
    let most = vec![tag(0, 128, 256)];
    let after = store.set_tags(&cx(), at.clone(), None, most.clone()).await.unwrap().version;
    assert_eq!((after.id, after.modified_ms, &after.etag), (before.id, before.modified_ms, &before.etag));
    assert_eq!(store.tags(&cx(), at, None).await.unwrap().version.attributes.tags, most);
    sound(&store).await;
}

#[tokio::test]
async fn buckets_come_and_go() {
    let (rig, store) = opened().await;
    let at = place((2, 0));
    let again = store.create_bucket(&cx(), at.bucket.clone(), None).await;
    assert!(matches!(again, Err(Error::Exists(_))));
    put(&store, &at, b"x").await;
    assert!(matches!(store.delete_bucket(&cx(), &at.bucket).await, Err(Error::NotEmpty)));
    store.delete(&cx(), delete_of(&at, None)).await.unwrap();
    let old = store.bucket(&cx(), &at.bucket, Action::ListBucket).await.unwrap();
    store.delete_bucket(&cx(), &at.bucket).await.unwrap();
    assert!(matches!(store.put(&cx(), put_of(&at, b"x")).await, Err(Error::NotFound(Missing::Bucket(_)))));
    let new = store.create_bucket(&cx(), at.bucket.clone(), None).await.unwrap();
    assert_ne!(new.id, old.id, "rows of the old one can never be the new one's");
    let files = "files".parse().unwrap();
    assert!(matches!(store.delete_bucket(&cx(), &files).await, Err(Error::Denied)));
    let names = |page: &crate::bucket::BucketsPage| {
        page.buckets.iter().map(|bucket| bucket.name.to_string()).collect::<Vec<_>>()
    };
    let page = store.list_buckets(&cx(), "", "", 2).await.unwrap();
    assert_eq!(
        (names(&page), page.next_after.as_deref()),
        (vec!["bucket".into(), "companies".into()], Some("companies"))
    );
    let page = store.list_buckets(&cx(), "", "companies", 100).await.unwrap();
    assert_eq!((names(&page).len(), page.next_after), (4, None));
    assert_eq!(names(&store.list_buckets(&cx(), "me", "", 100).await.unwrap()), ["media"]);
    // public access is blocked on three of the built-in ones (contract D36)
    let blocked = page.buckets.iter().filter(|b| b.blocks_public).map(|b| b.name.to_string());
    assert_eq!(blocked.collect::<Vec<_>>(), ["files", "media"]);
    store.close().await.unwrap();
    let store = rig.open().await;
    assert_eq!(names(&store.list_buckets(&cx(), "", "", 100).await.unwrap()).len(), 6, "made once");
    sound(&store).await;
}

#[tokio::test]
async fn a_bucket_emptied_and_deleted_while_others_write_loses_nothing() {
    let (_rig, store) = opened().await;
    let at = place((2, 0));
    let writer = {
        let (store, at) = (store.clone(), at.clone());
        tokio::spawn(async move { store.put(&cx(), put_of(&at, &[1; 5_000])).await.map(drop) })
    };
    let gone = store.delete_bucket(&cx(), &at.bucket).await;
    let wrote = writer.await.unwrap();
    match (&gone, &wrote) {
        (Ok(()), Err(Error::NotFound(Missing::Bucket(_)))) | (Err(Error::NotEmpty), Ok(())) => {}
        other => panic!("{other:?}"),
    }
    sound(&store).await;
}

#[tokio::test]
async fn many_deleted_in_one_commit_are_many_lines() {
    let (_rig, store) = opened().await;
    let (a, b) = (place((0, 0)), place((0, 1)));
    put(&store, &a, b"a").await;
    put(&store, &b, b"b").await;
    let before = *store.inner.kv().applied().borrow();
    let one = |at: &At| DeleteOne { key: at.key.clone(), version: None, conditions: Conditions::default() };
    let missing = DeleteOne { key: "not there".parse().unwrap(), ..one(&a) };
    let answers =
        store.delete_many(&cx(), &a.bucket, vec![one(&a), missing, one(&b), one(&a)]).await.unwrap();
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let Changes::Items(changes) = store.inner.kv().changes(before, 10).await.unwrap() else { panic!("kept") };
    assert_eq!(changes.len(), 1, "one commit");
    let lines = Note::lines(&changes[0]);
    let said: Vec<_> =
        lines.iter().map(|note| (note.action.as_str(), note.key.as_deref().unwrap())).collect();
    assert_eq!(said, [("DeleteObject", a.key.as_str()), ("DeleteObject", b.key.as_str())]);
    let too_many = (0..=1_000).map(|_| one(&a)).collect();
    assert!(matches!(store.delete_many(&cx(), &a.bucket, too_many).await, Err(Error::TooLarge { .. })));
    sound(&store).await;
}

/// Makes a version of two blobs whose digest is pending, as a completed upload is.
async fn compose(store: &Store, at: &At, parts: [&[u8]; 2]) -> Version {
    let mut extents = Vec::new();
    for (n, part) in parts.iter().enumerate() {
        let stored = put(store, &place((2, n)), part).await.version;
        let Digest::Known(sha256) = stored.sha256 else { panic!("known") };
        extents.push(Extent { blob: BlobId::Content(sha256), offset: 0, len: part.len() as u64 });
    }
    let conditions = Conditions::default();
    let admitted = store.admit(&cx(), at, &conditions, false).await.unwrap();
    let version = Version {
        id: VersionId(store.inner.options.ids.next()),
        size_bytes: extents.iter().map(|extent| extent.len).sum(),
        sha256: Digest::Pending,
        etag: ETag::parse("\"00-2\""),
        manifest: Manifest::Inline(extents),
        ..crate::sample::version()
    };
    let incoming = Incoming {
        at,
        version,
        blobs: Vec::new(),
        conditions: &conditions,
        note: Note::own(0, "test"),
        checks: Vec::new(),
        writes: Vec::new(),
        extend: None,
    };
    store.make_current(&cx(), admitted, incoming).await.unwrap().0.version
}

fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256(<sha2::Sha256 as sha2::Digest>::digest(bytes).into())
}

#[tokio::test]
async fn a_pending_digest_becomes_known_and_moves_to_the_bytes() {
    let (rig, store) = opened().await;
    let whole = [vec![1; 3_000], vec![2; 3_000]].concat();
    let (plain, filed, twin) = (place((0, 0)), place((1, 0)), place((0, 1)));
    let pending = |store: &Store| {
        let kv = Arc::clone(store.inner.kv());
        let scan = Scan::forward(Range::prefix(keys::Key::of(keys::PENDING).done()));
        async move { kv.rows(scan, 10).await.unwrap().len() }
    };
    store.inner.background.kill().await;
    let composed = compose(&store, &plain, [&[1; 3_000], &[2; 3_000]]).await;
    assert_eq!(pending(&store).await, 1);
    sound(&store).await;
    store.digest_pending().await.unwrap();
    let known = head(&store, &plain).await.unwrap().version;
    assert_eq!(known.sha256, Digest::Known(sha256(&whole)));
    // in an ordinary bucket the bytes stay where they are; id, tag and time are the same
    assert_eq!(known.manifest, composed.manifest);
    assert_eq!(
        (known.id, &known.etag, known.modified_ms),
        (composed.id, &composed.etag, composed.modified_ms)
    );
    assert_eq!(pending(&store).await, 0);
    // in `files` it is joined, and then the bytes are a blob that others move to
    compose(&store, &filed, [&[1; 3_000], &[2; 3_000]]).await;
    store.digest_pending().await.unwrap();
    let joined = head(&store, &filed).await.unwrap().version;
    let one = Extent { blob: BlobId::Content(sha256(&whole)), offset: 0, len: 6_000 };
    assert_eq!(joined.manifest, Manifest::Inline(vec![one.clone()]));
    compose(&store, &twin, [&[1; 3_000], &[2; 3_000]]).await;
    store.close().await.unwrap();
    // what an earlier process left pending is taken up at open
    let store = rig.open().await;
    let mut applied = store.inner.kv().applied();
    while pending(&store).await > 0 {
        applied.changed().await.unwrap();
    }
    assert_eq!(head(&store, &twin).await.unwrap().version.manifest, Manifest::Inline(vec![one]));
    sound(&store).await;
}

#[tokio::test]
async fn rebuild_mends_what_check_finds() {
    let (_rig, store) = opened().await;
    let cx = somebody();
    for spot in [(0, 0), (1, 0), (1, 1), (1, 2)] {
        store.put(&cx, put_of(&place(spot), &[u8::try_from(spot.1).unwrap(); 3_000])).await.unwrap();
    }
    let kv = Arc::clone(store.inner.kv());
    let rows = kv.rows(Scan::forward(Range::all()), usize::MAX).await.unwrap();
    let table = |table: u8| rows.iter().filter(move |(row, _)| row.first() == Some(&table));
    let mut writes = Vec::new();
    writes.extend(table(keys::BY).take(2).map(|(row, _)| coffre_kv::Write::Delete(row.clone())));
    let stray = keys::Key::of(keys::FILE).raw(b"stray").done();
    writes.push(coffre_kv::Write::Put(stray, bytes::Bytes::from_static(b"x")));
    let (wrong, _) = table(keys::FILE).next().unwrap();
    writes.push(coffre_kv::Write::Put(wrong.clone(), bytes::Bytes::from_static(b"other")));
    writes.extend(table(keys::USE).take(3).map(|(row, _)| coffre_kv::Write::Add(row.clone(), 5)));
    let stranger = crate::refs::plan_add(&*kv, BlobId::Content(sha256(&[0; 3_000])), [3; 16], None).await;
    let stranger = stranger.unwrap();
    writes.extend(stranger.writes);
    kv.commit(coffre_kv::Commit { writes, ..coffre_kv::Commit::default() }).await.unwrap();
    let found = store.check().await.unwrap().findings;
    let of = |kind: &str| found.iter().filter(|finding| finding.kind == kind).count();
    assert_eq!((of("view"), of("usage"), of("reference")), (4, 3, 1), "{found:#?}");
    assert_eq!(store.rebuild().await.unwrap().findings.len(), 8);
    sound(&store).await;
    let after = kv.rows(Scan::forward(Range::all()), usize::MAX).await.unwrap();
    let values = |rows: &[(bytes::Bytes, coffre_kv::Entry)]| {
        let derived = [keys::BY, keys::FILE, keys::USE, keys::HEAD];
        let kept = rows.iter().filter(|(row, _)| derived.contains(&row[0]));
        kept.map(|(row, entry)| (row.clone(), entry.value.clone())).collect::<Vec<_>>()
    };
    assert_eq!(values(&after), values(&rows));
}

#[tokio::test]
async fn damage_is_found_and_told() {
    let (_rig, store) = opened().await;
    let at = place((0, 0));
    put(&store, &at, &[7; 5_000]).await;
    put(&store, &place((0, 1)), b"inline").await;
    let kv = Arc::clone(store.inner.kv());
    let bucket = store.find_bucket(&at.bucket).await.unwrap().value;
    let row = keys::head(bucket.id, &at.key);
    let mut record = kv.get(&row).await.unwrap().unwrap().value.to_vec();
    record[5] ^= 1;
    let inline = crate::refs::inline_key(&BlobId::Content(sha256(b"inline")));
    let writes = vec![coffre_kv::Write::Put(row, record.into()), coffre_kv::Write::Delete(inline)];
    kv.commit(coffre_kv::Commit { writes, ..coffre_kv::Commit::default() }).await.unwrap();
    assert!(matches!(head(&store, &at).await, Err(Error::Corrupt { .. })));
    let found = store.check().await.unwrap().findings;
    let kinds: std::collections::BTreeSet<_> = found.iter().map(|finding| finding.kind).collect();
    assert!(kinds.is_superset(&["record", "blob"].into()), "{found:#?}");
}
