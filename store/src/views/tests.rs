//! Which rows an object has, and in which order lists find them.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::*;
use crate::object::{Attributes, BuiltIn};
use crate::sample;

const A: &str = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
const B: &str = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c";

fn built_in(place: BuiltIn) -> Bucket {
    Bucket { place: Some(place), ..sample::bucket() }
}

fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

fn user(n: u128) -> UserId {
    UserId(Uuid::from_u128(n))
}

fn file(serial: u64, modified_ms: u64, writer: u128, mime: &str) -> Version {
    Version {
        ids: ObjectIds { filing: Some(serial), ..ObjectIds::default() },
        modified_ms,
        owner: Some(user(writer)),
        writer: Some(user(writer)),
        attributes: Attributes { content_type: Some(mime.to_owned()), ..Attributes::default() },
        size_bytes: 10 * serial,
        ..sample::version()
    }
}

#[test]
fn how_many_rows() {
    let pdf = file(1, 5, 9, "application/pdf");
    let anonymous = Version { writer: None, owner: None, ..pdf.clone() };
    let edited = Version { writer: Some(user(8)), ..pdf.clone() };
    let pending = Version { sha256: Digest::Pending, ..pdf.clone() };
    let table = [
        (BuiltIn::Filing, "client/7/devis/a.pdf".to_owned(), &pdf, 5),
        (BuiltIn::Filing, "general/devis/x/a.pdf".to_owned(), &pdf, 4),
        (BuiltIn::Filing, "general/devis/x/a.pdf".to_owned(), &edited, 5),
        (BuiltIn::Filing, "general/devis/x/a.pdf".to_owned(), &pending, 3),
        (BuiltIn::Filing, "general/devis/x/a.pdf".to_owned(), &anonymous, 2),
        (BuiltIn::Filing, "general/devis/x/.a.pdf".to_owned(), &pdf, 0),
        (BuiltIn::Filing, "elsewhere/a.pdf".to_owned(), &pdf, 0),
        (BuiltIn::Gateway, "app/g/uploads/a_1_0badcafe.pdf".to_owned(), &pdf, 0),
        (BuiltIn::Media, format!("{A}/uploads/{B}/a.mp4"), &pdf, 2),
        (BuiltIn::Media, "a.mp4".to_owned(), &pdf, 0),
        (BuiltIn::Companies, format!("{A}/{B}/a.pdf"), &pdf, 1),
    ];
    for (place, name, version, expected) in table {
        assert_eq!(rows(&built_in(place), &key(&name), version).len(), expected, "{name}");
    }
    assert!(
        rows(&sample::bucket(), &key("client/7/devis/a.pdf"), &pdf).is_empty(),
        "a user's bucket has no views"
    );
}

#[test]
fn rows_are_distinct_and_point_back() {
    let bucket = built_in(BuiltIn::Filing);
    let (name, mut version) = (key("client/7/devis/a.pdf"), file(3, 5, 9, "application/pdf"));
    version.attributes.label = Some("Devis Dupont.pdf".into());
    version.attributes.is_public = true;
    let made = rows(&bucket, &name, &version);
    let distinct: BTreeMap<_, _> = made.iter().cloned().collect();
    assert_eq!(distinct.len(), made.len());
    for (row, value) in made {
        if row.starts_with(&Key::of(keys::BY).raw(&[5]).done()) {
            assert!(value.is_empty(), "what says that the same is there points at nothing but a number");
            continue;
        }
        let expected = Pointer {
            bucket: bucket.id,
            key: name.as_str().into(),
            size_bytes: 30,
            label: Some("Devis Dupont.pdf".into()),
            writer: Some(user(9)),
            is_public: true,
        };
        assert_eq!(Pointer::decode(&value).unwrap(), expected);
    }
}

#[test]
fn a_list_is_a_scan_newest_first() {
    let bucket = built_in(BuiltIn::Filing);
    let mut index = BTreeMap::new();
    let files = [
        ("client/7/devis/a", file(1, 50, 1, "application/pdf")),
        ("client/7/devis/b", file(2, 70, 1, "Application/PDF; x=y")),
        ("client/7/devis/c", file(3, 50, 2, "application/pdf")),
        ("client/7/image/d", file(4, 90, 1, "image/png")),
        ("client/70/devis/e", file(5, 60, 1, "application/pdf")),
        ("general/devis/f", file(6, 80, 1, "application/pdf")),
    ];
    for (name, version) in &files {
        index.extend(rows(&bucket, &key(name), version));
    }
    let serials = |prefix: Bytes| -> Vec<u64> {
        let rows = index.range(prefix.clone()..).take_while(|(row, _)| row.starts_with(&prefix));
        rows.map(|(row, _)| !u64::from_be_bytes(*row.last_chunk().unwrap())).collect()
    };
    let one = |scope: Scope<'_>, category, mime| serials(filing_list_prefix(scope, category, mime));
    assert_eq!(one(Scope::Client("7"), Category::Devis, "application/pdf"), [2, 3, 1]);
    assert_eq!(one(Scope::All, Category::Devis, "application/pdf"), [6, 2, 5, 3, 1]);
    assert_eq!(one(Scope::ForClients(user(2)), Category::Devis, "application/pdf"), [3]);
    assert_eq!(one(Scope::Own(user(1)), Category::Devis, "application/pdf"), [6]);
    assert_eq!(one(Scope::Client("7"), Category::Facture, "application/pdf"), [0; 0]);
    let scope = filing_scope_prefix(Scope::Client("7"));
    let all = serials(scope.clone());
    assert_eq!(all, [2, 3, 1, 4], "by category, then time; a client's name is not a prefix of another's");
    let last = filing_list_prefix(Scope::Client("7"), Category::Image, "image/png");
    let (category, mime, rest) = parse_filing_list(&last[scope.len()..]).unwrap();
    assert_eq!((category, mime.as_str(), rest), (Category::Image, "image/png", &[][..]));
    assert!(parse_filing_list(&[99]).is_err());
}

#[test]
fn ids_come_from_the_key_and_serials_stay() {
    let media = ids_at(&built_in(BuiltIn::Media), &key(&format!("{A}/u/{B}/a")), Some(4));
    let id = Uuid::parse_str(B).unwrap().into_bytes();
    assert_eq!(media, ObjectIds { filing: Some(4), media: Some(id), company: None });
    let company = ids_at(&built_in(BuiltIn::Companies), &key(&format!("{A}/{B}/a")), Some(4));
    assert_eq!(company, ObjectIds { filing: Some(4), media: None, company: Some(id) });
    let filing = built_in(BuiltIn::Filing);
    assert!(needs_serial(&filing, &key("general/devis/a")));
    assert!(!needs_serial(&filing, &key("general/a")));
    assert!(!needs_serial(&built_in(BuiltIn::Media), &key("general/devis/a")));
}

#[test]
fn the_type_shown() {
    let shown = |declared: Option<&str>, sniffed: Option<&str>| {
        let mut version = sample::version();
        version.attributes.content_type = declared.map(str::to_owned);
        version.sniffed_type = sniffed.map(str::to_owned);
        shown_type(&version).to_owned()
    };
    assert_eq!(shown(Some("text/csv"), Some("text/plain")), "text/csv");
    assert_eq!(shown(Some("binary/octet-stream"), Some("text/plain")), "text/plain");
    assert_eq!(shown(None, Some("text/plain")), "text/plain");
    assert_eq!(shown(Some(""), None), "application/octet-stream");
    let mut long = sample::version();
    long.attributes.content_type = Some(format!("text/{}", "x".repeat(5000)));
    assert_eq!(type_essence(&long), "application/octet-stream");
    assert_eq!(MediaKind::of("video/mp4"), MediaKind::Video);
    assert_eq!(MediaKind::of("application/pdf"), MediaKind::Document);
}
