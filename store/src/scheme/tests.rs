//! The scheme as tables, and round trips of random places and keys.

use proptest::prelude::*;

use super::*;

const A: &str = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
const B: &str = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c";

fn parse(bucket: BuiltIn, key: &str) -> Option<Place> {
    Place::parse(bucket, &key.parse().unwrap())
}

#[expect(clippy::unnecessary_wraps, reason = "stands beside the keys that have no place")]
fn filing(client: Option<&str>, category: Category, subcategory: Option<&str>, name: &str) -> Option<Place> {
    Some(Place::Filing(Filing {
        client: client.map(str::to_owned),
        category,
        subcategory: subcategory.map(str::to_owned),
        name: name.to_owned(),
    }))
}

#[test]
fn filing_keys() {
    use Category::{Autre, Devis, Image};
    let table = [
        ("client/123/devis/annual/a.pdf", filing(Some("123"), Devis, Some("annual"), "a.pdf")),
        (
            "client/123/devis/DEVIS_2024_12_01_10_30_45.pdf",
            filing(Some("123"), Devis, None, "DEVIS_2024_12_01_10_30_45.pdf"),
        ),
        ("general/image/logos/a.png", filing(None, Image, Some("logos"), "a.png")),
        ("general/autre/a", filing(None, Autre, None, "a")),
        // the literal is the short form's other spelling
        ("general/devis/general/a.pdf", filing(None, Devis, None, "a.pdf")),
        // S3 may write any subcategory and client, not only slugs
        (
            "client/Dupont & Fils/autre/À voir/x y",
            filing(Some("Dupont & Fils"), Autre, Some("À voir"), "x y"),
        ),
        ("client/general/devis/a", filing(Some("general"), Devis, None, "a")),
        ("client/../devis/../a", filing(Some(".."), Devis, Some(".."), "a")),
        // a name of an editor's scratch (D6)
        ("general/autre/.hidden", None),
        ("general/autre/a.tmp", None),
        ("general/autre/a.swp", None),
        ("general/autre/a~", None),
        ("general/autre/~", None),
        // counts
        ("client/123/devis", None),
        ("client/123/a.pdf", None),
        ("client/123/devis/x/y/a.pdf", None),
        ("general/devis", None),
        ("general/devis/x/y/a.pdf", None),
        ("devis/a.pdf", None),
        ("a.pdf", None),
        // empty segments and directory markers
        ("client//devis/a.pdf", None),
        ("client/123/devis//a.pdf", None),
        ("client/123/devis/annual/", None),
        ("general/devis/", None),
        ("/general/devis/a", None),
        // other spellings
        ("client/123/Devis/a.pdf", None),
        ("Client/123/devis/a.pdf", None),
        ("client/123/facturs/a.pdf", None),
    ];
    for (key, expected) in table {
        assert_eq!(parse(BuiltIn::Filing, key), expected, "{key}");
    }
}

#[test]
fn places_that_cannot_be_keys() {
    let table = [
        filing(Some("a/b"), Category::Devis, None, "n"),
        filing(Some(""), Category::Devis, None, "n"),
        filing(None, Category::Devis, Some("a/b"), "n"),
        filing(None, Category::Devis, Some(""), "n"),
        filing(None, Category::Devis, None, ""),
        filing(None, Category::Devis, None, ".n"),
        filing(None, Category::Devis, None, "a/b"),
        filing(None, Category::Devis, None, &"n".repeat(1024)),
    ];
    for place in table.into_iter().flatten() {
        assert_eq!(place.key(), None, "{place:?}");
    }
    let general = filing(None, Category::Devis, Some("general"), "n").unwrap();
    assert_eq!(general.key().unwrap().as_str(), "general/devis/n");
}

#[test]
fn gateway_keys() {
    let gateway = |path: &str, stem: &str, epoch_ms, unique, extension: Option<&str>| {
        Some(Place::Gateway(Gateway {
            application: "app".into(),
            grant: A.into(),
            path: path.into(),
            stem: stem.into(),
            epoch_ms,
            unique,
            extension: extension.map(str::to_owned),
        }))
    };
    let short = Unique::Short(0x0bad_cafe);
    let id = Unique::Uuid(Uuid::parse_str(B).unwrap());
    let table = [
        ("uploads/a_17_0badcafe.pdf", gateway("uploads", "a", 17, short, Some("pdf"))),
        ("uploads/2024/01/a_17_0badcafe", gateway("uploads/2024/01", "a", 17, short, None)),
        ("u/a_b_3_17_0badcafe.tar.gz", None),
        ("u/a.tar_17_0badcafe.gz", gateway("u", "a.tar", 17, short, Some("gz"))),
        ("u/_17_0badcafe", gateway("u", "", 17, short, None)),
        (&format!("u/photo_0_{B}.JPG"), gateway("u", "photo", 0, id, Some("JPG"))),
        ("u/x.y z_17_0badcafe", gateway("u", "x.y z", 17, short, None)),
        ("u/a_017_0badcafe.pdf", None),
        ("u/a_17_0BADCAFE.pdf", None),
        ("u/a_17_0badcaf.pdf", None),
        ("u/a_x_0badcafe.pdf", None),
        ("u/a-17-0badcafe.pdf", None),
        ("u//a_17_0badcafe.pdf", None),
        ("a_17_0badcafe.pdf", None),
        ("u/", None),
    ];
    for (rest, expected) in table {
        assert_eq!(parse(BuiltIn::Gateway, &format!("app/{A}/{rest}")), expected, "{rest}");
    }
    assert_eq!(parse(BuiltIn::Gateway, "app//u/a_17_0badcafe.pdf"), None);
    for (name, expected) in [
        ("a.pdf", ("a", Some("pdf"))),
        ("a.b.c", ("a.b", Some("c"))),
        (".bashrc", (".bashrc", None)),
        ("a.", ("a.", None)),
        ("a.b c", ("a.b c", None)),
        ("", ("", None)),
    ] {
        assert_eq!(Gateway::divide(name), expected, "{name}");
    }
}

#[test]
fn media_and_company_keys() {
    let id = |text: &str| Uuid::parse_str(text).unwrap();
    let media = |subdirectory: &str, filename: &str| {
        Some(Place::Media(Media {
            user: UserId(id(A)),
            subdirectory: subdirectory.into(),
            file_id: id(B),
            filename: filename.into(),
        }))
    };
    let table = [
        (format!("{A}/uploads/{B}/a.mp4"), media("uploads", "a.mp4")),
        (format!("{A}/uploads/2024/{B}/.a"), media("uploads/2024", ".a")),
        (format!("{A}/{B}/a.mp4"), None),
        (format!("{A}//{B}/a.mp4"), None),
        (format!("{A}/uploads/{B}/"), None),
        (format!("{A}/uploads/x/a.mp4"), None),
        (format!("user/uploads/{B}/a.mp4"), None),
        (format!("{}/uploads/{B}/a.mp4", A.to_uppercase()), None),
        (format!("{{{A}}}/uploads/{B}/a.mp4"), None),
    ];
    for (key, expected) in table {
        assert_eq!(parse(BuiltIn::Media, &key), expected, "{key}");
    }
    let company =
        Some(Place::Company(Company { company: OrgId(id(A)), file_id: id(B), filename: "a b.pdf".into() }));
    let table = [
        (format!("{A}/{B}/a b.pdf"), company),
        (format!("{A}/{B}/c/a.pdf"), None),
        (format!("{A}/{B}"), None),
        (format!("{A}/{B}/"), None),
        (format!("companies/{B}/a.pdf"), None),
    ];
    for (key, expected) in table {
        assert_eq!(parse(BuiltIn::Companies, &key), expected, "{key}");
    }
}

#[test]
fn slugs() {
    let table = [
        ("annual_2024", "annual_2024"),
        ("  Été à Besançon! ", "ete-a-besancon"),
        ("Cœur & Straße", "coeur-strasse"),
        ("e\u{301}te\u{301}", "ete"),
        ("--a--b--", "a-b"),
        ("日本", "fichier"),
        ("", "fichier"),
        ("../..", "fichier"),
        ("__", "__"),
    ];
    for (text, expected) in table {
        assert_eq!(slug(text), expected, "{text}");
    }
    assert_eq!(slug(&"a".repeat(200)).len(), SLUG_BYTES_MAX);
    assert_eq!(slug(&format!("{} b", "a".repeat(79))), "a".repeat(79));
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9]{1,8}", "[a-zé_. ~-]{1,12}", Just("general".to_owned()), Just("client".to_owned())]
}

fn place() -> impl Strategy<Value = Place> {
    let filing = (proptest::option::of(segment()), 0..6_usize, proptest::option::of(segment()), segment())
        .prop_map(|(client, category, subcategory, name)| {
            Place::Filing(Filing { client, category: Category::ALL[category], subcategory, name })
        });
    let unique = prop_oneof![
        any::<u32>().prop_map(Unique::Short),
        any::<u128>().prop_map(|n| Unique::Uuid(Uuid::from_u128(n)))
    ];
    let path = proptest::collection::vec(segment(), 1..4).prop_map(|segments| segments.join("/"));
    let gateway = (segment(), segment(), path, "[a-z_.0-9]{0,20}", any::<u64>(), unique).prop_map(
        |(application, grant, path, file_name, epoch_ms, unique)| {
            let (stem, extension) = Gateway::divide(&file_name);
            let extension = extension.map(str::to_owned);
            Place::Gateway(Gateway {
                application,
                grant,
                path,
                stem: stem.to_owned(),
                epoch_ms,
                unique,
                extension,
            })
        },
    );
    let media = (any::<u128>(), any::<u128>(), segment(), segment()).prop_map(
        |(user, id, subdirectory, filename)| {
            let (user, file_id) = (UserId(Uuid::from_u128(user)), Uuid::from_u128(id));
            Place::Media(Media { user, subdirectory, file_id, filename })
        },
    );
    let company = (any::<u128>(), any::<u128>(), segment()).prop_map(|(company, id, filename)| {
        let (company, file_id) = (OrgId(Uuid::from_u128(company)), Uuid::from_u128(id));
        Place::Company(Company { company, file_id, filename })
    });
    prop_oneof![filing, gateway, media, company]
}

fn bucket_of(place: &Place) -> BuiltIn {
    match place {
        Place::Filing(_) => BuiltIn::Filing,
        Place::Gateway(_) => BuiltIn::Gateway,
        Place::Media(_) => BuiltIn::Media,
        Place::Company(_) => BuiltIn::Companies,
    }
}

proptest! {
    #[test]
    fn a_place_comes_back_from_its_key(place in place()) {
        if let Some(key) = place.key() {
            prop_assert_eq!(Place::parse(bucket_of(&place), &key), Some(place.normal()));
        } else {
            // only filing's own rule refuses such segments
            let Place::Filing(filing) = &place else { panic!("{place:?} has no key") };
            prop_assert!(!is_entry(&filing.name), "{:?} has no key", filing);
        }
    }

    #[test]
    fn a_key_comes_back_from_its_place(
        key in "(client/|general/)?[a-f0-9_./-]{0,10}(/devis/|/autre/general/|/)[a-z~.0-9_]{1,20}",
        bucket in 0..4_usize,
    ) {
        let bucket = [BuiltIn::Filing, BuiltIn::Gateway, BuiltIn::Media, BuiltIn::Companies][bucket];
        let key: ObjectKey = key.parse().unwrap();
        if let Some(place) = Place::parse(bucket, &key) {
            let back = place.key().unwrap();
            let is_literal = key.as_str().contains("/general/") && bucket == BuiltIn::Filing;
            prop_assert!(back == key || is_literal, "{:?} became {:?}", key, back);
        }
    }
}
