//! Golden records, round trips, the order of keys, and bytes nobody wrote.

use std::fmt::Write as _;

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::keys::{self, Key};
use super::object::{
    decode_bucket, decode_history, decode_page, decode_version, encode_bucket, encode_history, encode_page,
    encode_version,
};
use super::record::{Reader, Writer};
use crate::digest::{Algorithm, Checksum, ChecksumKind, ETag, Sha256};
use crate::error::Error;
use crate::name::{BucketId, ObjectKey, OrgId, PartNumber, UploadId, UserId, VersionId};
use crate::object::{
    Attributes, BlobId, Bucket, BuiltIn, DeleteMarker, Digest, Extent, HistoryEntry, Identity, Manifest,
    ObjectIds, PartSizes, Posix, Version, Versioning,
};

/// Records as they were first written: name, hex.
const GOLDEN: &str = include_str!("golden.txt");

/// A version with nothing that can be left out.
fn plain() -> Version {
    Version {
        id: VersionId([1; 16]),
        is_null: true,
        sequence: 1,
        ino: 257,
        ids: ObjectIds::default(),
        owner: None,
        organisation: None,
        writer: None,
        size_bytes: 5,
        modified_ms: 1_700_000_000_000,
        etag: ETag::of_md5([0xAB; 16]),
        sha256: Digest::Known(Sha256([2; 32])),
        crc64nvme: None,
        checksums: vec![],
        sniffed_type: None,
        attributes: Attributes::default(),
        manifest: Manifest::Inline(vec![Extent {
            blob: BlobId::Content(Sha256([2; 32])),
            offset: 0,
            len: 5,
        }]),
        parts: None,
        unknown: vec![],
    }
}

/// A version with everything.
fn full() -> Version {
    Version {
        is_null: false,
        ids: ObjectIds { filing: Some(7), media: Some([3; 16]), company: Some([4; 16]) },
        owner: Some(UserId(Uuid::from_bytes([5; 16]))),
        organisation: Some(OrgId(Uuid::from_bytes([6; 16]))),
        writer: Some(UserId(Uuid::from_bytes([7; 16]))),
        sha256: Digest::Pending,
        crc64nvme: Some(u64::MAX),
        checksums: vec![Checksum {
            algorithm: Algorithm::Crc32c,
            kind: ChecksumKind::Composite { parts: 2 },
            value: vec![1, 2, 3, 4],
        }],
        sniffed_type: Some("image/png".into()),
        attributes: Attributes {
            content_type: Some("text/plain".into()),
            content_encoding: Some("gzip".into()),
            content_language: Some("fr".into()),
            content_disposition: Some("inline".into()),
            cache_control: Some("no-store".into()),
            expires: Some("0".into()),
            website_redirect: Some("/x".into()),
            user_metadata: vec![("a".into(), "é".into())],
            tags: vec![("k".into(), "v".into())],
            label: Some("facture.pdf".into()),
            description: Some("d".into()),
            is_public: true,
            posix: Some(Box::new(Posix {
                mode: Some(0o100_644),
                modified_ns: Some(-1),
                xattrs: vec![("user.x".into(), vec![0, 255])],
                symlink: Some("../y".into()),
                ..Posix::default()
            })),
        },
        manifest: Manifest::Paged { id: UploadId([8; 16]), pages: 3 },
        parts: Some(PartSizes::Listed(vec![(PartNumber::try_from(10_000).unwrap(), 5)])),
        unknown: vec![(9_000, Bytes::from_static(b"newer"))],
        ..plain()
    }
}

fn bucket() -> Bucket {
    Bucket {
        name: "files".parse().unwrap(),
        id: BucketId(1),
        place: Some(BuiltIn::Filing),
        owner: None,
        created_ms: 9,
        versioning: Versioning::Suspended,
        tags: vec![("a".into(), "b".into())],
        policy: Some("{}".into()),
        blocks_public: true,
        unknown: vec![(77, Bytes::from_static(&[1]))],
    }
}

#[test]
fn golden_records_stay_as_they_are() {
    let marker = |identity| {
        HistoryEntry::DeleteMarker(DeleteMarker {
            id: VersionId([9; 16]),
            is_null: false,
            sequence: 300,
            owner: Some(UserId(Uuid::from_bytes([5; 16]))),
            modified_ms: 1,
            identity,
            unknown: Vec::new(),
        })
    };
    let (ended, moved) = (marker(Some(Identity { ino: 70_000, filing: Some(7) })), marker(None));
    let page = [
        Extent { blob: BlobId::Parts(UploadId([8; 16])), offset: 1, len: 300 },
        Extent { blob: BlobId::Content(Sha256([2; 32])), offset: 0, len: 1 },
    ];
    let made = [
        ("version-plain", encode_version(&plain())),
        ("version-full", encode_version(&full())),
        ("delete-marker", encode_history(&ended)),
        ("delete-marker-moved", encode_history(&moved)),
        ("bucket", encode_bucket(&bucket())),
        ("manifest-page", encode_page(&page)),
    ];
    let mut written = String::new();
    for (name, bytes) in &made {
        writeln!(written, "{name} {}", hex::encode(bytes)).unwrap();
    }
    assert_eq!(written, GOLDEN, "the format of stored records has changed");
    let golden: std::collections::BTreeMap<_, _> = GOLDEN.lines().filter_map(|l| l.split_once(' ')).collect();
    let read = |name| Bytes::from(hex::decode(golden[name]).unwrap());
    assert_eq!(decode_version(&read("version-plain")).unwrap(), plain());
    assert_eq!(decode_version(&read("version-full")).unwrap(), full());
    assert_eq!(decode_history(&read("delete-marker")).unwrap(), ended);
    assert_eq!(decode_history(&read("delete-marker-moved")).unwrap(), moved);
    assert_eq!(decode_bucket(&read("bucket")).unwrap(), bucket());
    assert_eq!(decode_page(&read("manifest-page")).unwrap(), page);
}

#[test]
fn golden_keys_stay_as_they_are() {
    let key: ObjectKey = "a\0/é".parse().unwrap();
    let id = UploadId([0xEE; 16]);
    let check = |key: Bytes, expected: &str| assert_eq!(hex::encode(&key), expected);
    check(keys::bucket(&"abc".parse().unwrap()), "10616263");
    check(keys::head(BucketId(258), &key), "200000010261002fc3a9");
    check(keys::version(BucketId(258), &key, 1), "21000001026100ff2fc3a90000fffffffffffffffe");
    check(keys::upload(BucketId(1), &key, id), &format!("22000000016100ff2fc3a90000{}", "ee".repeat(16)));
    check(keys::part(id, PartNumber::try_from(258).unwrap()), &format!("23{}0102", "ee".repeat(16)));
    check(keys::blob(&BlobId::Content(Sha256([1; 32]))), &format!("3001{}", "01".repeat(32)));
    check(keys::blob(&BlobId::Parts(id)), &format!("3002{}", "ee".repeat(16)));
    check(keys::manifest_page(id, 2), &format!("31{}00000002", "ee".repeat(16)));
    check(keys::manifest_owner(id, VersionId([1; 16])), &format!("32{}{}", "ee".repeat(16), "01".repeat(16)));
    check(keys::file_filing(2), "41010000000000000002");
    check(keys::serial("ino"), "51696e6f");
}

#[test]
fn unknown_fields_survive_a_change() {
    let mut version = decode_version(&encode_version(&full())).unwrap();
    version.attributes.tags.clear();
    let again = decode_version(&encode_version(&version)).unwrap();
    assert_eq!(again.unknown, full().unknown);
}

#[test]
fn a_changed_bit_is_corrupt() {
    let record = encode_version(&full());
    for bit in 0..record.len() * 8 {
        let mut bytes = record.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let outcome = decode_version(&bytes);
        assert!(matches!(outcome, Err(Error::Corrupt { .. })), "bit {bit}");
    }
}

#[test]
fn the_longest_key_fits_the_engine() {
    let key: ObjectKey = "\0".repeat(crate::name::KEY_BYTES_MAX).parse().unwrap();
    assert!(keys::version(BucketId(u32::MAX), &key, u64::MAX).len() <= coffre_kv::KEY_BYTES_MAX);
    assert!(keys::upload(BucketId(u32::MAX), &key, UploadId([0; 16])).len() <= coffre_kv::KEY_BYTES_MAX);
}

/// Keys that meet the escape often.
fn any_key() -> impl Strategy<Value = ObjectKey> {
    proptest::string::string_regex("[\\x00\\x01a/é\u{10FFFF}]{1,12}")
        .unwrap()
        .prop_map(|text| text.parse().unwrap())
}

proptest! {
    #[test]
    fn keys_sort_as_bucket_and_object_key(a in (any::<u32>(), any_key(), any::<u64>()), b in (any::<u32>(), any_key(), any::<u64>())) {
        let order = (a.0, &a.1).cmp(&(b.0, &b.1));
        prop_assert_eq!(keys::head(BucketId(a.0), &a.1).cmp(&keys::head(BucketId(b.0), &b.1)), order);
        let newest_first = order.then(b.2.cmp(&a.2));
        let version = |x: &(u32, ObjectKey, u64)| keys::version(BucketId(x.0), &x.1, x.2);
        prop_assert_eq!(version(&a).cmp(&version(&b)), newest_first);
        prop_assert_eq!(keys::parse_version(&version(&a)).unwrap(), (BucketId(a.0), a.1.to_string(), a.2));
        let head = keys::head(BucketId(a.0), &a.1);
        prop_assert_eq!(keys::parse_head(&head).unwrap(), (BucketId(a.0), a.1.as_str()));
        let upload = UploadId(u128::from(a.2).to_be_bytes());
        prop_assert_eq!(
            keys::parse_upload(&keys::upload(BucketId(a.0), &a.1, upload)).unwrap(),
            (BucketId(a.0), a.1.to_string(), upload)
        );
    }

    #[test]
    fn a_keys_history_is_one_prefix(a in any_key(), b in any_key(), sequence in any::<u64>()) {
        let row = keys::version(BucketId(1), &b, sequence);
        prop_assert_eq!(row.starts_with(&keys::versions(BucketId(1), &a)), a == b);
        let begins = b.as_str().starts_with(a.as_str());
        prop_assert_eq!(row.starts_with(&keys::versions_prefix(BucketId(1), a.as_str())), begins);
    }

    #[test]
    fn bytes_nobody_wrote_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), is_framed in any::<bool>()) {
        let mut record = bytes.clone();
        if is_framed {
            // past the checksum, so that the fields' readers meet the noise
            record.insert(0, super::record::FORMAT);
            let crc = super::record::crc32c(&record);
            record.extend_from_slice(&crc.to_be_bytes());
        }
        let record = Bytes::from(record);
        let outcomes = [
            decode_version(&record).err(),
            decode_history(&record).err(),
            decode_bucket(&record).err(),
            decode_page(&record).err(),
            keys::parse_head(&bytes).err(),
            keys::parse_version(&bytes).err(),
            keys::parse_upload(&bytes).err(),
            keys::parse_blob(&bytes).err(),
        ];
        for error in outcomes.into_iter().flatten() {
            let is_corrupt = matches!(error, Error::Corrupt { .. });
            prop_assert!(is_corrupt, "{error}");
        }
    }

    #[test]
    fn fields_of_noise_never_panic(tag in 1u32..64, bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut w = Writer::new();
        w.put_unknown(&vec![(tag, Bytes::from(bytes))]);
        let record = w.finish();
        prop_assert!(Reader::new("test", &record).is_ok());
        prop_assert!(decode_version(&record).is_err());
        drop(decode_history(&record));
        drop(decode_bucket(&record));
    }

    #[test]
    fn versions_round_trip(
        size in any::<u64>(), sequence in any::<u64>(), label in any::<Option<String>>(),
        tags in proptest::collection::vec(any::<(String, String)>(), 0..4),
        extents in proptest::collection::vec(any::<(bool, u64, u64)>(), 0..33),
        unknown in proptest::collection::vec((100u32..200, proptest::collection::vec(any::<u8>(), 0..9)), 0..3),
        is_full in any::<bool>(),
    ) {
        let mut version = if is_full { full() } else { plain() };
        version.size_bytes = size;
        version.sequence = sequence;
        version.attributes.label = label;
        version.attributes.tags = tags;
        version.unknown = unknown.into_iter().map(|(tag, bytes)| (tag, bytes.into())).collect();
        version.manifest = Manifest::Inline(
            extents
                .into_iter()
                .map(|(is_content, offset, len)| {
                    let blob = if is_content { BlobId::Content(Sha256([3; 32])) } else { BlobId::Parts(UploadId([3; 16])) };
                    Extent { blob, offset, len }
                })
                .collect(),
        );
        prop_assert_eq!(decode_version(&encode_version(&version)).unwrap(), version.clone());
        let entry = HistoryEntry::Version(Box::new(version));
        prop_assert_eq!(decode_history(&encode_history(&entry)).unwrap(), entry);
    }

    #[test]
    fn escaped_text_reads_back(text in any::<String>(), after in proptest::collection::vec(any::<u8>(), 0..9)) {
        let key = Key::of(1).escaped(&text).raw(&after).done();
        prop_assert_eq!(keys::unescape(&key[1..]).unwrap(), (text, after.as_slice()));
    }
}
