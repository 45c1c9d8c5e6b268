//! Pages of uploads and of parts.

use std::collections::{BTreeMap, BTreeSet};

use coffre_kv::{Kv, memory::Memory};
use proptest::prelude::*;

use super::*;
use crate::multipart::list::uploads_page;
use crate::multipart::record::UploadRecord;
use crate::sample;

fn key() -> impl Strategy<Value = String> {
    let piece = prop_oneof![Just("a"), Just("b"), Just("/"), Just("\0"), Just("\u{10FFFF}")];
    proptest::collection::vec(piece, 1..5).prop_map(|pieces| pieces.concat())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![2 => Just(String::new()), 1 => key()]
}

fn record() -> UploadRecord {
    UploadRecord {
        initiator: None,
        organisation: None,
        created_ms: 5,
        attributes: Attributes::default(),
        checksum: Some((Algorithm::Crc32, UploadChecksum::Composite)),
        slot: None,
        unknown: Vec::new(),
    }
}

type Units = Vec<(String, Option<UploadId>)>;

/// Everything that comes after the markers, in order: common prefixes have no upload.
fn naive(uploads: &BTreeMap<String, Vec<UploadId>>, list: &ListUploads) -> Units {
    let common_of = |key: &str| {
        let rest = key.strip_prefix(list.prefix.as_str())?;
        let at = (!list.delimiter.is_empty()).then(|| rest.find(&list.delimiter))??;
        Some(key[..list.prefix.len() + at + list.delimiter.len()].to_owned())
    };
    let after_is_common =
        !list.after_key.is_empty() && common_of(&list.after_key).as_ref() == Some(&list.after_key);
    let (mut units, mut commons) = (Vec::new(), BTreeSet::new());
    for (key, ids) in uploads {
        if !key.starts_with(&list.prefix) || (after_is_common && key.starts_with(&list.after_key)) {
            continue;
        }
        for id in ids {
            let is_after = match key.cmp(&list.after_key) {
                std::cmp::Ordering::Less => false,
                std::cmp::Ordering::Equal => list.after_upload.is_some_and(|after| *id > after),
                std::cmp::Ordering::Greater => true,
            };
            if !is_after {
                continue;
            }
            match common_of(key) {
                Some(common) if commons.insert(common.clone()) => units.push((common, None)),
                Some(_) => {}
                None => units.push((key.clone(), Some(*id))),
            }
        }
    }
    units
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn pages_of_uploads_are_the_naive_listing(
        keys_and_counts in proptest::collection::btree_map(key(), 1..4_u8, 0..16),
        prefix in text(),
        delimiter in prop_oneof![Just(""), Just("/"), Just("a"), Just("\0")],
        start in proptest::option::of((any::<prop::sample::Index>(), proptest::option::of(0..4_u8))),
        limit in 1..5_usize,
    ) {
        let mut uploads = BTreeMap::new();
        let mut writes = Vec::new();
        let bucket = sample::bucket();
        for (key, count) in &keys_and_counts {
            let ids: Vec<UploadId> = (0..*count).map(|n| UploadId([n * 2 + 1; 16])).collect();
            for id in &ids {
                writes.push(Write::Put(keys::upload(bucket.id, &key.parse().unwrap(), *id), record().encode()));
            }
            uploads.insert(key.clone(), ids);
        }
        let start = start.filter(|_| !uploads.is_empty());
        let (after_key, after_upload) = start.map_or((String::new(), None), |(index, n)| {
            let key = uploads.keys().nth(index.index(uploads.len())).unwrap().clone();
            // one that is there, or that was aborted since
            (key, n.map(|n| UploadId([n + 1; 16])))
        });
        let delimiter = delimiter.to_owned();
        let mut list = ListUploads { bucket: bucket.name.clone(), prefix, delimiter, after_key, after_upload, limit };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let kv = Memory::default();
            kv.commit(Commit { writes, ..Commit::default() }).await.unwrap();
            let mut expected = naive(&uploads, &list);
            loop {
                let page = uploads_page(&kv, &bucket, &list, None).await.unwrap();
                let rest = expected.split_off(limit.min(expected.len()));
                let got: Units =
                    page.uploads.iter().map(|u| (u.at.key.as_str().to_owned(), Some(u.id))).collect();
                let wanted: Units = expected.iter().filter(|(_, id)| id.is_some()).cloned().collect();
                assert_eq!(got, wanted);
                let commons = expected.iter().filter(|(_, id)| id.is_none()).map(|(text, _)| text.clone());
                assert_eq!(page.common_prefixes, commons.collect::<Vec<_>>());
                assert_eq!(page.next.is_some(), !rest.is_empty());
                let Some((key, upload)) = page.next else { break };
                (list.after_key, list.after_upload) = (key, upload);
                expected = rest;
            }
        });
    }
}

#[tokio::test]
async fn pages_of_parts() {
    let (o, at) = (Opened::new().await, at("bucket", "a"));
    let upload = create(&o, &at, None).await;
    let mut all = Vec::new();
    for n in [1, 2, 7, 9_999, 10_000] {
        all.push(part(&o, &at, upload, n, bytes(n.unsigned_abs(), 10)).await);
    }
    for limit in 1..7 {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = o.store.list_parts(&o.cx, at.clone(), upload, after, limit).await.unwrap();
            assert!(page.parts.len() <= limit);
            seen.extend(page.parts);
            after = page.next_after;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, all, "{limit} a page");
    }
    let none = o.store.list_parts(&o.cx, at.clone(), upload, None, 0).await.unwrap();
    assert!(none.parts.is_empty() && none.next_after.is_none());
    let page = o.store.list_parts(&o.cx, at, upload, Some(number(10_000)), 5).await.unwrap();
    assert!(page.parts.is_empty() && page.next_after.is_none());
}

#[test]
fn records_read_back() {
    let upload = UploadRecord {
        initiator: Some(UserId(uuid::Uuid::from_u128(3))),
        organisation: Some(crate::OrgId(uuid::Uuid::from_u128(4))),
        attributes: Attributes { label: Some("l".into()), is_public: true, ..Attributes::default() },
        slot: Some(77),
        ..record()
    };
    assert_eq!(UploadRecord::decode(&upload.encode()).unwrap(), upload);
    let bare = UploadRecord { checksum: None, ..record() };
    assert_eq!(UploadRecord::decode(&bare.encode()).unwrap(), bare);
    let part = record::PartRecord {
        size_bytes: 9,
        md5: [1; 16],
        crc64nvme: u64::MAX,
        modified_ms: 3,
        checksum: Some(Checksum {
            algorithm: Algorithm::Sha1,
            kind: ChecksumKind::FullObject,
            value: vec![5; 20],
        }),
        sniffed_type: Some("a/b".into()),
        extents: vec![Extent { blob: BlobId::Parts(UploadId([2; 16])), offset: 1, len: 2 }],
        unknown: Vec::new(),
    };
    assert_eq!(record::PartRecord::decode(&part.encode()).unwrap(), part);
    let row = keys::part(UploadId([2; 16]), number(300));
    assert_eq!(record::parse_part(&row).unwrap(), (UploadId([2; 16]), 300));
    for end in 0..row.len() {
        assert!(record::parse_part(&row[..end]).is_err());
    }
}
