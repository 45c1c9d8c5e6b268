//! Pages against a naive model, over random histories, prefixes, delimiters and cursors.

use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

use coffre_kv::memory::Memory;
use coffre_kv::{Commit, Write};
use proptest::prelude::*;

use super::*;
use crate::VersionId;
use crate::codec::object::{encode_history, encode_version};
use crate::object::DeleteMarker;
use crate::sample;

const BUCKET: BucketId = BucketId(5);

/// Keys and their entries, newest first; the flag says whether the first is the head.
type Histories = BTreeMap<String, Vec<HistoryEntry>>;

/// Keys that share prefixes, and the characters that sort or escape oddly.
fn key() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop_oneof![Just("a"), Just("b"), Just("ab")],
        3 => Just("/"),
        1 => prop_oneof![Just("//"), Just("\0"), Just("\u{1}"), Just("é"), Just("😀"), Just("\u{10FFFF}"), Just("\u{FFFF}")],
    ];
    proptest::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![2 => Just(String::new()), 3 => key()]
}

fn delimiter() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just(String::new()),
        4 => Just("/".to_owned()),
        1 => Just("//".to_owned()),
        1 => Just("b".to_owned()),
        1 => Just("\0".to_owned()),
        1 => Just("😀".to_owned()),
        1 => Just("ab/".to_owned()),
    ]
}

/// What happened to a key, oldest first: a version (`false`) or a delete marker (`true`).
fn histories() -> impl Strategy<Value = Histories> {
    let history = proptest::collection::vec(proptest::bool::weighted(0.3), 1..5);
    proptest::collection::btree_map(key(), history, 0..24).prop_map(|keys| {
        let mut id = 0_u128;
        let mut make = |(key, events): (String, Vec<bool>)| {
            let count = events.len();
            let mut entries: Vec<HistoryEntry> = events
                .into_iter()
                .enumerate()
                .map(|(at, is_marker)| {
                    id += 1;
                    entry(id, at as u64 + 1, at + 1 == count && id.is_multiple_of(3), is_marker)
                })
                .collect();
            entries.reverse();
            (key, entries)
        };
        keys.into_iter().map(&mut make).collect()
    })
}

fn entry(id: u128, sequence: u64, is_null: bool, is_marker: bool) -> HistoryEntry {
    let id = VersionId(id.to_be_bytes());
    if is_marker {
        let (owner, modified_ms) = (None, 0);
        HistoryEntry::DeleteMarker(DeleteMarker {
            id,
            is_null,
            sequence,
            owner,
            modified_ms,
            identity: None,
            unknown: Vec::new(),
        })
    } else {
        HistoryEntry::Version(Box::new(Version { id, is_null, sequence, ..sample::version() }))
    }
}

/// The rows of the histories, between rows of neighbouring buckets.
async fn stored(histories: &Histories) -> Memory {
    let kv = Memory::default();
    let mut writes = Vec::new();
    for bucket in [BucketId(4), BUCKET, BucketId(6)] {
        let noise: Histories = [("a/b".to_owned(), vec![entry(999, 1, true, false)])].into();
        for (key, entries) in if bucket == BUCKET { histories } else { &noise } {
            let key: ObjectKey = key.parse().unwrap();
            for (at, entry) in entries.iter().enumerate() {
                writes.push(match entry {
                    HistoryEntry::Version(version) if at == 0 => {
                        Write::Put(keys::head(bucket, &key), encode_version(version))
                    }
                    entry => Write::Put(keys::version(bucket, &key, entry.sequence()), encode_history(entry)),
                });
            }
        }
    }
    kv.commit(Commit { writes, ..Commit::default() }).await.unwrap();
    kv
}

fn list(prefix: &str, delimiter: &str, after: &str, limit: usize) -> List {
    List {
        bucket: "bucket".parse().unwrap(),
        prefix: prefix.into(),
        delimiter: delimiter.into(),
        after: after.into(),
        limit,
    }
}

/// A unit as the model sees it: rolled up, or a key with what stands there.
#[derive(Clone, Debug, PartialEq)]
enum Expected {
    Common(String),
    Entry(String, HistoryEntry, bool),
}

/// All units, by filtering and grouping every row there is.
fn naive(
    histories: &Histories,
    list: &List,
    after_version: Option<VersionRef>,
    is_versions: bool,
    shown: impl Fn(&str) -> bool,
) -> Vec<Expected> {
    let common_of = |key: &str| {
        let rest = key.strip_prefix(list.prefix.as_str())?;
        let at = (!list.delimiter.is_empty()).then(|| rest.find(&list.delimiter))??;
        Some(key[..list.prefix.len() + at + list.delimiter.len()].to_owned())
    };
    let after_is_common = common_of(&list.after).as_deref() == Some(&list.after) && !list.after.is_empty();
    let mut units = Vec::new();
    let mut commons = BTreeSet::new();
    for (key, entries) in histories {
        if !key.starts_with(&list.prefix) || !shown(key) || (after_is_common && key.starts_with(&list.after))
        {
            continue;
        }
        let is_current = matches!(entries.first(), Some(HistoryEntry::Version(_)));
        let mut of_key: Vec<_> = entries.iter().enumerate().map(|(at, e)| (e.clone(), at == 0)).collect();
        if !is_versions {
            of_key.truncate(usize::from(is_current));
        }
        if *key < list.after {
            of_key.clear();
        } else if *key == list.after {
            let marker = after_version.and_then(|v| of_key.iter().position(|(e, _)| e.is(v)));
            of_key = marker.map(|at| of_key.split_off(at + 1)).unwrap_or_default();
        }
        for (entry, is_latest) in of_key {
            match common_of(key) {
                Some(common) => {
                    if commons.insert(common.clone()) {
                        units.push(Expected::Common(common));
                    }
                }
                None => units.push(Expected::Entry(key.clone(), entry, is_latest)),
            }
        }
    }
    units
}

fn texts(units: &[Expected]) -> (Vec<String>, Vec<String>) {
    let (mut entries, mut commons) = (Vec::new(), Vec::new());
    for unit in units {
        match unit {
            Expected::Common(text) => commons.push(text.clone()),
            Expected::Entry(key, ..) => entries.push(key.clone()),
        }
    }
    (entries, commons)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Hides keys that contain `ab`.
fn hiding(is_hiding: bool) -> Shown {
    is_hiding.then(|| Arc::new(|key: &str, _: Option<&Version>| !key.contains("ab")) as ShownRow)
}

/// What has to be shown of a version.
fn shortened(version: &Version) -> Brief {
    let Version { size_bytes, modified_ms, etag, owner, checksums, .. } = version.clone();
    Brief { size_bytes, modified_ms, etag, owner, checksums }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn pages_are_the_naive_listing(
        histories in histories(),
        prefix in text(),
        delimiter in delimiter(),
        after in text(),
        limit in 1..6_usize,
        is_hiding in any::<bool>(),
    ) {
        block_on(async {
            let kv = stored(&histories).await;
            let mut request = list(&prefix, &delimiter, &after, limit);
            let mut expected =
                naive(&histories, &request, None, false, |key| !is_hiding || !key.contains("ab"));
            loop {
                let brief = page::<Brief>(&kv, BUCKET, &request, hiding(is_hiding)).await.unwrap();
                let page: Page = page(&kv, BUCKET, &request, hiding(is_hiding)).await.unwrap();
                let shortened: Vec<_> =
                    page.entries.iter().map(|(key, version)| (key.clone(), shortened(version))).collect();
                assert_eq!(brief.entries, shortened);
                assert_eq!((&brief.common_prefixes, &brief.next_after), (&page.common_prefixes, &page.next_after));
                let rest = expected.split_off(limit.min(expected.len()));
                let keys: Vec<String> = page.entries.iter().map(|(key, _)| key.clone()).collect();
                assert_eq!((keys, page.common_prefixes), texts(&expected));
                assert_eq!(page.next_after.is_some(), !rest.is_empty());
                let Some(next) = page.next_after else { break };
                request.after = next;
                expected = rest;
            }
        });
    }

    #[test]
    fn pages_of_versions_are_the_naive_listing(
        histories in histories(),
        prefix in text(),
        delimiter in delimiter(),
        start in proptest::option::of((any::<prop::sample::Index>(), any::<prop::sample::Index>())),
        limit in 1..6_usize,
        is_hiding in any::<bool>(),
    ) {
        block_on(async {
            let kv = stored(&histories).await;
            // begin anywhere: at a key, or at one of its versions
            let (after, after_version) = start.filter(|_| !histories.is_empty()).map_or((String::new(), None), |(k, v)| {
                let (key, entries) = histories.iter().nth(k.index(histories.len())).unwrap();
                let entry = entries.get(v.index(entries.len() + 1));
                let marker = entry.map(|e| if e.is_null() { VersionRef::Null } else { VersionRef::Id(e.id()) });
                (key.clone(), marker)
            });
            let mut request = ListVersions { list: list(&prefix, &delimiter, &after, limit), after_version };
            let mut expected = naive(&histories, &request.list, after_version, true, |key| {
                !is_hiding || !key.contains("ab")
            });
            loop {
                let page = versions_page(&kv, BUCKET, &request, hiding(is_hiding)).await.unwrap();
                let rest = expected.split_off(limit.min(expected.len()));
                let got: Vec<_> =
                    page.entries.iter().map(|(k, e, l)| Expected::Entry(k.clone(), e.clone(), *l)).collect();
                let wanted: Vec<_> = expected.iter().filter(|e| matches!(e, Expected::Entry(..))).cloned().collect();
                assert_eq!(got, wanted);
                assert_eq!(page.common_prefixes, texts(&expected).1);
                assert_eq!(page.next.is_some(), !rest.is_empty());
                let Some((key, version)) = page.next else { break };
                (request.list.after, request.after_version) = (key, version);
                expected = rest;
            }
        });
    }
}

#[test]
fn no_room_is_an_empty_page_without_a_next() {
    block_on(async {
        let histories: Histories = [("a".to_owned(), vec![entry(1, 1, true, false)])].into();
        let kv = stored(&histories).await;
        let empty: Page = page(&kv, BUCKET, &list("", "", "", 0), None).await.unwrap();
        assert!(empty.entries.is_empty() && empty.next_after.is_none());
        let request = ListVersions { list: list("", "", "", 0), after_version: None };
        let empty = versions_page(&kv, BUCKET, &request, None).await.unwrap();
        assert!(empty.entries.is_empty() && empty.next.is_none());
    });
}

/// Keys under a common prefix cost one seek, old versions cost a plain list nothing.
#[test]
fn what_a_page_reads() {
    block_on(async {
        let mut histories = Histories::new();
        for directory in ["a", "b", "c"] {
            for n in 0..300 {
                let old = (1..20).rev().map(|s| entry(s.into(), s, false, false));
                histories.insert(format!("{directory}/{n:03}"), old.collect());
            }
        }
        let kv = stored(&histories).await;
        let seen = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counting = Arc::clone(&seen);
        let walk = Walk::new("", "/", "", false, 1000);
        let range = walk.range(BUCKET, keys::head_prefix, &[]).unwrap();
        let walk = kv
            .scan_into(Scan::forward(range), walk, move |walk, row| {
                counting.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                match step::<HistoryEntry>(BUCKET, HEADS, walk, None, None, row) {
                    Stepped::Unit(_, step) | Stepped::Nothing(step) => step,
                }
            })
            .await
            .unwrap();
        assert_eq!(seen.load(std::sync::atomic::Ordering::Relaxed), 3);
        assert!(!walk.has_more());
    });
}

/// A version marker that was deleted since: the list goes on with what is older.
#[test]
fn a_marker_that_has_gone() {
    block_on(async {
        let versions = |ids: &[u64]| -> Vec<HistoryEntry> {
            ids.iter().map(|id| entry(u128::from(*id), *id, false, false)).collect()
        };
        let histories: Histories = [("k".to_owned(), versions(&[9, 7, 5, 3]))].into();
        let kv = stored(&histories).await;
        for (marker, expected) in
            [(10_u32, vec![9, 7, 5, 3]), (8, vec![7, 5, 3]), (5, vec![3]), (4, vec![3]), (1, vec![])]
        {
            let after_version = Some(VersionRef::Id(VersionId(u128::from(marker).to_be_bytes())));
            let request = ListVersions { list: list("", "", "k", 10), after_version };
            let page = versions_page(&kv, BUCKET, &request, None).await.unwrap();
            let got: Vec<u64> = page.entries.iter().map(|(_, e, _)| e.sequence()).collect();
            assert_eq!(got, expected, "after {marker}");
        }
    });
}

/// One damaged record is left out; the others are there.
#[test]
fn a_damaged_record_hides_nothing_else() {
    block_on(async {
        let one = |id| vec![entry(id, 1, true, false)];
        let histories: Histories =
            [("a".to_owned(), one(1)), ("b".to_owned(), one(2)), ("c".to_owned(), one(3))].into();
        let kv = stored(&histories).await;
        let damage = Write::Put(keys::head(BUCKET, &"b".parse().unwrap()), Bytes::from_static(b"?"));
        kv.commit(Commit { writes: vec![damage], ..Commit::default() }).await.unwrap();
        let page: Page = page(&kv, BUCKET, &list("", "", "", 10), None).await.unwrap();
        let keys: Vec<&str> = page.entries.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["a", "c"]);
    });
}
