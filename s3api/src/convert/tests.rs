//! Conversions as data.

use super::*;

#[test]
fn encodings() {
    let check = |given: &str, expected: Option<&str>| {
        assert_eq!(content_encoding(Some(given.to_owned())).as_deref(), expected, "{given}");
    };
    check("aws-chunked", None);
    check("aws-chunked,gzip", Some("gzip"));
    check("gzip, AWS-Chunked", Some("gzip"));
    check("br, gzip", Some("br,gzip"));
    check("", None);
    assert_eq!(content_encoding(None), None);
}

#[test]
fn names_in_lists() {
    let plain = |names: &[&'static str]| Names::decide(None, names.iter().copied());
    assert_eq!(plain(&["a", "é", "a b", "😀", "a\tb\n"]), Names::Plain);
    for odd in ["a\u{1}", "\0", "\u{ffff}", "a\r"] {
        assert_eq!(Names::decide(None, ["a", odd].into_iter()), Names::Url, "{odd:?}");
    }
    let url = dto::EncodingType::from_static("url");
    assert_eq!(Names::decide(Some(&url), ["a"].into_iter()), Names::Url);
    assert_eq!(Names::Url.write("a b/c+d~é*-_."), "a%20b/c%2Bd%7E%C3%A9*-_.");
    assert_eq!(Names::Plain.write("a b"), "a b");
    assert_eq!(xml_name("a/b"), "a/b");
    assert_eq!(xml_name("a\u{1}"), "a%01");
}

#[test]
fn ranges() {
    let int = |first, last| Some(dto::Range::Int { first, last });
    assert_eq!(range(int(0, Some(4)), None).unwrap(), Some(RangeRequest::FromTo(0, 4)));
    assert_eq!(range(int(7, None), None).unwrap(), Some(RangeRequest::From(7)));
    assert_eq!(range(Some(dto::Range::Suffix { length: 3 }), None).unwrap(), Some(RangeRequest::Last(3)));
    assert!(matches!(range(None, Some(2)).unwrap(), Some(RangeRequest::Part(n)) if n.get() == 2));
    assert!(range(int(0, None), Some(1)).is_err(), "both");
    assert!(range(None, Some(0)).is_err());
    assert!(range(None, Some(10_001)).is_err());
    assert_eq!(copy_range(Some("bytes=0-9")).unwrap(), Some(RangeRequest::FromTo(0, 9)));
    for bad in ["bytes=0-", "bytes=-5", "0-9", "bytes=0-1,2-3"] {
        assert!(copy_range(Some(bad)).is_err(), "{bad}");
    }
}

#[test]
fn tags_of_a_header() {
    let check = |given: &str, expected: &[(&str, &str)]| {
        let found = tagging_header(Some(given)).unwrap();
        let found: Vec<_> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, expected, "{given}");
    };
    check("", &[]);
    check("a=1&b=2", &[("a", "1"), ("b", "2")]);
    check("a%20b=c%26d&e", &[("a b", "c&d"), ("e", "")]);
    check("a+b=c", &[("a b", "c")]);
    assert!(tagging_header(Some("=1")).is_err());
}

#[test]
fn metadata_of_other_doors_is_shown_or_counted() {
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect::<Vec<_>>()
    };
    let (shown, missing) = shown_metadata(&pairs(&[("a", "1"), ("é", "2"), ("b", "x\ny"), ("c", "é")]));
    let shown = shown.unwrap();
    assert_eq!((shown.len(), shown.get("c").map(String::as_str)), (2, Some("é")));
    assert_eq!(missing, Some(2));
    assert_eq!(shown_metadata(&[]), (None, None));
    let big = dto::Metadata::from_iter([("a".to_owned(), "x".repeat(2048))]);
    assert!(user_metadata(Some(big)).is_err());
    let two = dto::Metadata::from_iter([("B".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())]);
    assert_eq!(user_metadata(Some(two)).unwrap(), pairs(&[("a", "2"), ("b", "1")]));
}

#[test]
fn hoisted_parameters_only_beside_a_signature() {
    let presigned: Uri =
        "/b/k?X-Amz-Signature=0&x-amz-meta-A=caf%C3%A9&X-Amz-Tagging=a%3D1&other=2".parse().unwrap();
    let found = hoisted(&presigned);
    assert!(found.contains(&("x-amz-meta-a".to_owned(), "café".to_owned())));
    assert!(found.contains(&("x-amz-tagging".to_owned(), "a=1".to_owned())));
    assert!(!found.iter().any(|(name, _)| name == "other"));
    assert_eq!(hoisted(&"/b/k?x-amz-meta-a=1".parse().unwrap()), []);
}

#[test]
fn versions_are_named() {
    let id = VersionId([0xab; 16]);
    assert_eq!(version_id(id, false), "ab".repeat(16));
    assert_eq!(version_id(id, true), "null");
    assert_eq!(version_ref(Some("null")).unwrap(), Some(VersionRef::Null));
    assert_eq!(version_ref(Some(&"ab".repeat(16))).unwrap(), Some(VersionRef::Id(id)));
    assert!(version_ref(Some("x")).is_err());
    assert_eq!(version_ref(None).unwrap(), None);
}

#[test]
fn times() {
    assert_eq!(http_date(0).as_deref(), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
    assert_eq!(from_timestamp(timestamp(1_700_000_000_123).unwrap()), 1_700_000_000_123);
}

#[test]
fn lists_of_entity_tags() {
    let check = |list: &str, expected: Option<&[&str]>| {
        let found = etag_list(list);
        let found: Option<Vec<&str>> = found.as_ref().map(|tags| tags.iter().map(ETag::as_str).collect());
        assert_eq!(found.as_deref(), expected, "{list}");
    };
    check(r#""a""#, Some(&["a"]));
    check(r#""a", W/"b" ,,"c,d","""#, Some(&["a", "b", "c,d", ""]));
    check(r#""a" "b""#, None);
    check(r#""a", b"#, None);
    check(r#""a", *"#, None);
    check(r#""a", ""#, None);
}
