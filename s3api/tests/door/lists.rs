//! Listings: v1, v2, versions; pages, prefixes, names that XML cannot say.

use crate::support::server::World;
use crate::support::sign::encode_key;
use crate::support::wire::{Answer, Call};

async fn world(keys: &[&str]) -> World {
    let world = World::new().await;
    world.ok(Call::new("PUT", "/alpha")).await;
    for key in keys {
        world.ok(Call::new("PUT", &format!("/alpha/{}", encode_key(key))).body("1")).await;
    }
    world
}

fn v2() -> Call {
    Call::new("GET", "/alpha").query("list-type", "2")
}

fn prefixes(answer: &Answer) -> Vec<String> {
    answer
        .xml_all("CommonPrefixes")
        .iter()
        .map(|p| p.replace("<Prefix>", "").replace("</Prefix>", ""))
        .collect()
}

#[tokio::test]
async fn version_two() {
    let world = world(&["a/1", "a/2", "b", "c/d/e", "z"]).await;
    let all = world.ok(v2()).await;
    assert_eq!(all.xml_all("Key"), ["a/1", "a/2", "b", "c/d/e", "z"]);
    assert_eq!((all.xml("KeyCount").unwrap(), all.xml("IsTruncated").unwrap()), ("5".into(), "false".into()));
    assert_eq!(all.xml("Size").unwrap(), "1");
    assert_eq!(all.xml("Owner"), None, "only with fetch-owner");
    let owned = world.ok(v2().query("fetch-owner", "true")).await;
    assert_eq!(owned.xml("ID").unwrap(), world.alice.id.to_string());
    let rolled = world.ok(v2().query("delimiter", "/")).await;
    assert_eq!(rolled.xml_all("Key"), ["b", "z"]);
    assert_eq!(prefixes(&rolled), ["a/", "c/"]);
    assert_eq!(rolled.xml("KeyCount").unwrap(), "4");
    let within = world.ok(v2().query("delimiter", "/").query("prefix", "c/")).await;
    assert_eq!(prefixes(&within), ["c/d/"]);
    let after = world.ok(v2().query("start-after", "a/2")).await;
    assert_eq!(after.xml_all("Key"), ["b", "c/d/e", "z"]);
    let (mut found, mut token) = (vec![], None::<String>);
    for _ in 0..9 {
        let mut call = v2().query("delimiter", "/").query("max-keys", "1");
        if let Some(token) = &token {
            call = call.query("continuation-token", token);
        }
        let page = world.ok(call).await;
        found.extend(prefixes(&page));
        found.extend(page.xml_all("Key"));
        token = page.xml("NextContinuationToken");
        assert_eq!(page.xml("IsTruncated").unwrap(), token.is_some().to_string());
        if token.is_none() {
            break;
        }
    }
    assert_eq!(found, ["a/", "b", "c/", "z"]);
    let none = world.ok(v2().query("max-keys", "0")).await;
    assert_eq!((none.xml_all("Key").len(), none.xml("IsTruncated").unwrap()), (0, "false".into()));
    assert_eq!(world.alice(v2().query("max-keys", "-1")).await.verdict(), "400 InvalidArgument");
    assert_eq!(world.alice(v2().query("continuation-token", "é")).await.verdict(), "400 InvalidArgument");
    assert_eq!(world.bob(v2()).await.verdict(), "403 AccessDenied");
}

#[tokio::test]
async fn version_one() {
    let world = world(&["a/1", "b", "c"]).await;
    let list = || Call::new("GET", "/alpha");
    let first = world.ok(list().query("max-keys", "1").query("delimiter", "/")).await;
    assert_eq!((prefixes(&first), first.xml_all("Key").len()), (vec!["a/".to_owned()], 0));
    let marker = first.xml("NextMarker").unwrap();
    let rest = world.ok(list().query("delimiter", "/").query("marker", &marker)).await;
    assert_eq!(rest.xml_all("Key"), ["b", "c"]);
    assert_eq!(rest.xml("IsTruncated").unwrap(), "false");
    assert_eq!(rest.xml("ID").unwrap(), world.alice.id.to_string(), "v1 always says whose");
}

#[tokio::test]
async fn names_that_are_odd_come_back_as_they_went() {
    let keys = [
        "/lead",
        "a//b",
        "a b",
        "a+b",
        "a&b<c>\"'",
        "..",
        "../up",
        "é😀",
        "a\u{1}b",
        "nul\0",
        "\u{ffff}",
        "\u{202e}rtl",
        "a\rb",
        "tab\tnew\nline",
        "%2F",
    ];
    let world = world(&keys).await;
    for key in keys {
        let read = world.ok(Call::new("GET", &format!("/alpha/{}", encode_key(key)))).await;
        assert_eq!(read.text(), "1", "{key:?}");
    }
    let mut sorted: Vec<String> = keys.iter().map(ToString::to_string).collect();
    sorted.sort();
    let decode = |answer: &Answer| -> Vec<String> {
        let decode =
            |key: &String| percent_encoding::percent_decode_str(key).decode_utf8().unwrap().into_owned();
        answer.xml_all("Key").iter().map(decode).collect()
    };
    let asked = world.ok(v2().query("encoding-type", "url")).await;
    assert_eq!(decode(&asked), sorted);
    assert_eq!(asked.xml("EncodingType").unwrap(), "url");
    // XML cannot say some of them: they come encoded, and the answer says so, though nobody asked
    let unasked = world.ok(v2()).await;
    assert_eq!((decode(&unasked), unasked.xml("EncodingType").unwrap()), (sorted, "url".into()));
    let plain = world.ok(v2().query("prefix", "a&")).await;
    assert_eq!((plain.xml_all("Key"), plain.xml("EncodingType")), (vec!["a&b<c>\"'".to_owned()], None));
    let delete =
        "<Delete><Object><Key>a&amp;b&lt;c&gt;\"'</Key></Object><Object><Key>..</Key></Object></Delete>";
    let deleted = world.ok(Call::new("POST", "/alpha").query("delete", "").body(delete)).await;
    assert_eq!(deleted.xml_all("Key"), ["a&b<c>\"'", ".."]);
    assert_eq!(world.ok(v2()).await.xml_all("Key").len(), keys.len() - 2);
    let long = world.alice(Call::new("PUT", &format!("/alpha/{}", "a".repeat(1025))).body("1")).await;
    assert_eq!(long.verdict(), "400 KeyTooLongError");
    world.ok(Call::new("PUT", &format!("/alpha/{}", "a".repeat(1024))).body("1")).await;
}

#[tokio::test]
async fn versions_and_markers() {
    let world = world(&[]).await;
    let enabled = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    world.ok(Call::new("PUT", "/alpha/k").body("null")).await;
    world.ok(Call::new("PUT", "/alpha").query("versioning", "").body(enabled)).await;
    let second = world.ok(Call::new("PUT", "/alpha/k").body("two")).await;
    let second = second.header("x-amz-version-id").unwrap().to_owned();
    let marker = world.ok(Call::new("DELETE", "/alpha/k")).await;
    assert_eq!(marker.header("x-amz-delete-marker"), Some("true"));
    let marker = marker.header("x-amz-version-id").unwrap().to_owned();
    let versions = || Call::new("GET", "/alpha").query("versions", "");
    let all = world.ok(versions()).await;
    assert_eq!(all.xml_all("Version").len(), 2);
    assert_eq!(all.xml_all("DeleteMarker").len(), 1);
    let ids = all.xml_all("VersionId");
    assert!(ids.contains(&second) && ids.contains(&marker) && ids.contains(&"null".to_owned()), "{ids:?}");
    assert_eq!(all.xml_all("IsLatest").iter().filter(|l| *l == "true").count(), 1);
    assert!(all.xml("DeleteMarker").unwrap().contains("<IsLatest>true</IsLatest>"));
    let (mut found, mut next) = (vec![], None::<(String, String)>);
    for _ in 0..9 {
        let mut call = versions().query("max-keys", "1");
        if let Some((key, version)) = &next {
            call = call.query("key-marker", key).query("version-id-marker", version);
        }
        let page = world.ok(call).await;
        found.extend(page.xml_all("VersionId"));
        next = page.xml("NextKeyMarker").zip(page.xml("NextVersionIdMarker"));
        if page.xml("IsTruncated").unwrap() == "false" {
            break;
        }
    }
    assert_eq!(found, [marker.clone(), second.clone(), "null".to_owned()], "newest first, a page each");
    // reading: gone, by version there, a marker has no bytes
    let gone = world.alice(Call::new("GET", "/alpha/k")).await;
    assert_eq!((gone.verdict(), gone.header("x-amz-delete-marker")), ("404 NoSuchKey".into(), Some("true")));
    let by = |id: &str| Call::new("GET", "/alpha/k").query("versionId", id);
    assert_eq!(world.ok(by(&second)).await.text(), "two");
    assert_eq!(world.ok(by("null")).await.text(), "null");
    assert_eq!(world.alice(by(&marker)).await.verdict(), "405 MethodNotAllowed");
    assert_eq!(world.alice(by(&"0".repeat(32))).await.verdict(), "404 NoSuchVersion");
    assert_eq!(world.alice(by("what")).await.verdict(), "400 InvalidArgument");
    // the marker removed, the object is back
    let removed = world.ok(Call::new("DELETE", "/alpha/k").query("versionId", &marker)).await;
    assert_eq!(removed.header("x-amz-delete-marker"), Some("true"));
    assert_eq!(world.ok(Call::new("GET", "/alpha/k")).await.text(), "two");
    let alone = versions().query("version-id-marker", "null");
    assert_eq!(world.alice(alone).await.verdict(), "400 InvalidArgument");
}
