//! Objects as clients meet them: bytes, headers, ranges, conditions, copies, tags, checksums.

use crate::support::server::World;
use crate::support::sign::{self, encode_key};
use crate::support::wire::{Answer, Call};

async fn world() -> World {
    let world = World::new().await;
    world.ok(Call::new("PUT", "/alpha")).await;
    world
}

fn put(key: &str, body: &str) -> Call {
    Call::new("PUT", &format!("/alpha/{key}")).body(body)
}

fn get(key: &str) -> Call {
    Call::new("GET", &format!("/alpha/{key}"))
}

fn head(key: &str) -> Call {
    Call::new("HEAD", &format!("/alpha/{key}"))
}

fn shown<'a>(answer: &'a Answer, names: &[&str]) -> Vec<Option<&'a str>> {
    names.iter().map(|name| answer.header(name)).collect()
}

#[tokio::test]
async fn an_object_and_its_headers() {
    let world = world().await;
    let stored = world
        .ok(put("k", "hello")
            .header("content-type", "text/plain; charset=utf-8")
            .header("content-disposition", "attachment; filename=\"a.txt\"")
            .header("cache-control", "max-age=60")
            .header("content-language", "fr")
            .header("content-encoding", "gzip")
            .header("expires", "Thu, 01 Dec 2033 16:00:00 GMT")
            .header("x-amz-meta-Colour", "blue")
            .header("x-amz-tagging", "a=1&b=2"))
        .await;
    assert_eq!(stored.header("etag"), Some("\"5d41402abc4b2a76b9719d911017c592\""));
    assert_eq!(stored.header("x-amz-version-id"), None, "no versioning");
    assert_eq!(stored.header("x-amz-checksum-type"), Some("FULL_OBJECT"));
    assert!(stored.header("x-amz-checksum-crc64nvme").is_some());
    for call in [get("k"), head("k")] {
        let is_head = call.method == "HEAD";
        let found = world.ok(call).await;
        let names =
            ["content-type", "content-disposition", "cache-control", "content-language", "content-encoding"];
        assert_eq!(
            shown(&found, &names),
            [
                Some("text/plain; charset=utf-8"),
                Some("attachment; filename=\"a.txt\""),
                Some("max-age=60"),
                Some("fr"),
                Some("gzip")
            ]
        );
        let names = [
            "content-length",
            "accept-ranges",
            "expires",
            "x-amz-meta-colour",
            "x-amz-tagging-count",
            "etag",
        ];
        assert_eq!(
            shown(&found, &names),
            [
                Some("5"),
                Some("bytes"),
                Some("Thu, 01 Dec 2033 16:00:00 GMT"),
                Some("blue"),
                Some("2"),
                Some("\"5d41402abc4b2a76b9719d911017c592\"")
            ]
        );
        assert!(found.header("last-modified").is_some());
        assert_eq!(found.text(), if is_head { "" } else { "hello" });
    }
    world.ok(Call::new("PUT", "/alpha/bare").body("")).await;
    let bare = world.ok(get("bare")).await;
    assert_eq!(shown(&bare, &["content-type", "content-length"]), [Some("binary/octet-stream"), Some("0")]);
    assert_eq!(world.alice(get("none")).await.verdict(), "404 NoSuchKey");
    let none = world.alice(head("none")).await;
    assert_eq!((none.status, none.header("content-type")), (404, None));
    assert_eq!(world.ok(Call::new("DELETE", "/alpha/none")).await.status, 204, "deleting nothing is fine");
}

#[tokio::test]
async fn user_metadata_is_utf8_by_rfc_2047() {
    let world = world().await;
    world.ok(put("k", "1").header("x-amz-meta-name", "=?UTF-8?B?Y2Fmw6k=?=")).await;
    let found = world.ok(head("k")).await;
    assert_eq!(
        found.header("x-amz-meta-name").unwrap().to_uppercase(),
        "=?UTF-8?B?Y2Fmw6k=?=".to_uppercase()
    );
    let large = put("k", "1").header("x-amz-meta-a", &"x".repeat(2048));
    assert_eq!(world.alice(large).await.verdict(), "400 MetadataTooLarge");
}

#[tokio::test]
async fn ranges() {
    let world = world().await;
    world.ok(put("k", "0123456789")).await;
    let cells: &[(&str, &str, &str, Option<&str>)] = &[
        ("bytes=0-3", "206", "0123", Some("bytes 0-3/10")),
        ("bytes=8-", "206", "89", Some("bytes 8-9/10")),
        ("bytes=8-99", "206", "89", Some("bytes 8-9/10")),
        ("bytes=-3", "206", "789", Some("bytes 7-9/10")),
        ("bytes=-99", "206", "0123456789", Some("bytes 0-9/10")),
        ("bytes=0-1,4-5", "200", "0123456789", None),
        ("lines=1-2", "200", "0123456789", None),
    ];
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*",
        "Action":"s3:GetObject","Resource":"arn:aws:s3:::alpha/*"}]}"#;
    world.ok(Call::new("PUT", "/alpha").query("policy", "").body(policy)).await;
    for (range, verdict, body, content_range) in cells {
        // unsigned, as a browser with a presigned URL does
        let found = world.anonymous(get("k").header("range", range)).await;
        assert_eq!((found.verdict().as_str(), found.text().as_str()), (*verdict, *body), "{range}");
        assert_eq!(found.header("content-range"), *content_range, "{range}");
        let headed = world.anonymous(head("k").header("range", range)).await;
        assert_eq!(headed.verdict(), *verdict, "{range}");
        assert_eq!(headed.header("content-length"), found.header("content-length"), "{range}");
    }
    let signed =
        world.ok(get("k").header("range", "bytes=2-3").header("x-amz-checksum-mode", "ENABLED")).await;
    assert_eq!((signed.status, signed.text().as_str()), (206, "23"));
    assert_eq!(signed.header("x-amz-checksum-crc64nvme"), None, "a sum of the whole says nothing of a piece");
    let outside = world.alice(get("k").header("range", "bytes=10-")).await;
    assert_eq!(outside.verdict(), "416 InvalidRange");
    assert_eq!(outside.header("content-range"), Some("bytes */10"));
    let both = get("k").header("range", "bytes=0-1").query("partNumber", "1");
    assert_eq!(world.alice(both).await.verdict(), "400 InvalidRequest");
    let part = world.ok(get("k").query("partNumber", "1")).await;
    assert_eq!(part.text(), "0123456789");
}

#[tokio::test]
async fn conditions_of_reads() {
    let world = world().await;
    let etag = world.ok(put("k", "1")).await.header("etag").unwrap().to_owned();
    let (past, future) = ("Sat, 01 Jan 2000 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT");
    let cells: &[(&[(&str, &str)], &str)] = &[
        (&[("if-match", &etag)], "200"),
        (&[("if-match", "*")], "200"),
        (&[("if-match", etag.trim_matches('"'))], "200"),
        (&[("if-match", "\"other\"")], "412 PreconditionFailed"),
        (&[("if-none-match", &etag)], "304"),
        (&[("if-none-match", "*")], "304"),
        (&[("if-none-match", "\"other\"")], "200"),
        (&[("if-modified-since", past)], "200"),
        (&[("if-modified-since", future)], "304"),
        (&[("if-unmodified-since", past)], "412 PreconditionFailed"),
        (&[("if-unmodified-since", future)], "200"),
        (&[("if-match", &etag), ("if-unmodified-since", past)], "200"),
        (&[("if-none-match", &etag), ("if-modified-since", past)], "304"),
    ];
    for (headers, expected) in cells {
        let with = |call: Call| headers.iter().fold(call, |call, (name, value)| call.header(name, value));
        let found = world.alice(with(get("k"))).await;
        assert_eq!(found.verdict(), *expected, "{headers:?}");
        if found.status == 304 {
            assert_eq!((found.body.len(), found.header("etag")), (0, Some(etag.as_str())), "{headers:?}");
            assert!(found.header("last-modified").is_some());
        }
        let status = expected.split(' ').next().unwrap();
        assert_eq!(world.alice(with(head("k"))).await.verdict(), status, "{headers:?}");
    }
}

#[tokio::test]
async fn lists_of_entity_tags() {
    let world = world().await;
    let etag = world.ok(put("k", "1")).await.header("etag").unwrap().to_owned();
    let none = "\"other\", W/\"another\"".to_owned();
    let cells = [
        ("if-none-match", format!("\"other\", {etag}"), "304"),
        ("if-none-match", format!("W/{etag} ,\"other\""), "304"),
        ("if-none-match", none.clone(), "200"),
        ("if-match", format!("\"other\",{etag}"), "200"),
        ("if-match", format!("W/\"other\", \"a,b\", W/{etag}"), "200"),
        ("if-match", none.clone(), "412"),
        // no list: names nothing
        ("if-match", format!("{etag} \"other\""), "412"),
    ];
    for (name, list, expected) in &cells {
        for call in [get("k"), head("k")] {
            let signer = world.signer(&world.alice);
            let signed = signer.header(call.clone().header(name, list));
            for call in [signed, signer.presign(call, 60).header(name, list)] {
                let found = call.send(world.address).await.verdict();
                assert!(found.starts_with(expected), "{} {name}: {list}: {found}", call.method);
            }
        }
    }
    assert_eq!(
        world.alice(put("k", "2").header("if-match", &none)).await.verdict(),
        "412 PreconditionFailed"
    );
    assert_eq!(world.ok(get("k")).await.text(), "1");
    world.ok(put("k", "2").header("if-match", &format!("{none}, {etag}"))).await;
    assert_eq!(world.ok(get("k")).await.text(), "2");
}

#[tokio::test]
async fn conditions_of_writes() {
    let world = world().await;
    let absent = || put("k", "1").header("if-none-match", "*");
    let etag = world.ok(absent()).await.header("etag").unwrap().to_owned();
    assert_eq!(world.alice(absent()).await.verdict(), "412 PreconditionFailed");
    let matching = |etag: &str| put("k", "2").header("if-match", etag);
    assert_eq!(world.alice(matching("\"other\"")).await.verdict(), "412 PreconditionFailed");
    assert_eq!(world.ok(get("k")).await.text(), "1");
    world.ok(matching(&etag)).await;
    assert_eq!(world.ok(get("k")).await.text(), "2");
    let missing = put("none", "2").header("if-match", &etag);
    assert_eq!(world.alice(missing).await.verdict(), "404 NoSuchKey");
    let delete = Call::new("DELETE", "/alpha/k").header("if-match", &etag);
    assert_eq!(world.alice(delete).await.verdict(), "412 PreconditionFailed");
    assert_eq!(world.ok(get("k")).await.text(), "2");
}

#[tokio::test]
async fn response_overrides() {
    let world = world().await;
    world.ok(put("k", "1").header("content-type", "text/plain")).await;
    let call = get("k")
        .query("response-content-type", "text/html")
        .query("response-content-disposition", "attachment; filename=\"b.txt\"")
        .query("response-cache-control", "no-store")
        .query("response-content-language", "de")
        .query("response-content-encoding", "br")
        .query("response-expires", "Thu, 01 Dec 2033 16:00:00 GMT");
    let found = world.signer(&world.alice).presign(call, 60).send(world.address).await;
    let names =
        ["content-type", "content-disposition", "cache-control", "content-language", "content-encoding"];
    let expected = ["text/html", "attachment; filename=\"b.txt\"", "no-store", "de", "br"].map(Some);
    assert_eq!(shown(&found, &names), expected);
    assert_eq!(found.header("expires"), Some("Thu, 01 Dec 2033 16:00:00 GMT"));
}

#[tokio::test]
async fn checksums_are_kept_and_shown() {
    let world = world().await;
    // of "hello", computed apart (zlib, RFC 3720, coreutils)
    let cells = [
        ("crc32", "NhCmhg=="),
        ("crc32c", "mnG7TA=="),
        ("sha1", "qvTGHdzF6KLavt4PO0gs2a6pQ00="),
        ("sha256", "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="),
    ];
    for (name, value) in cells {
        let header = format!("x-amz-checksum-{name}");
        let stored = world.ok(put("k", "hello").header(&header, value)).await;
        assert_eq!(shown(&stored, &[&header, "x-amz-checksum-type"]), [Some(value), Some("FULL_OBJECT")]);
        for call in [get("k"), head("k")] {
            let silent = world.ok(call.clone()).await;
            assert_eq!(silent.header(&header), None, "only when asked");
            let found = world.ok(call.header("x-amz-checksum-mode", "ENABLED")).await;
            assert_eq!(shown(&found, &[&header, "x-amz-checksum-type"]), [Some(value), Some("FULL_OBJECT")]);
        }
    }
    let asked = world.ok(put("k", "hello").header("x-amz-sdk-checksum-algorithm", "CRC32")).await;
    assert_eq!(asked.header("x-amz-checksum-crc32"), Some("NhCmhg=="));
    let attributes = Call::new("GET", "/alpha/k")
        .query("attributes", "")
        .header("x-amz-object-attributes", "ETag,Checksum,ObjectSize,StorageClass");
    let found = world.ok(attributes).await;
    assert_eq!(found.xml("ChecksumCRC32").as_deref(), Some("NhCmhg=="));
    assert_eq!(found.xml("ObjectSize").as_deref(), Some("5"));
    assert_eq!(found.xml("StorageClass").as_deref(), Some("STANDARD"));
}

#[tokio::test]
async fn copies() {
    let world = world().await;
    let tagged = put("a b+é", "hello").header("content-type", "text/plain").header("x-amz-meta-m", "1");
    let tagged =
        Call { path: format!("/alpha/{}", encode_key("a b+é")), ..tagged }.header("x-amz-tagging", "t=1");
    world.ok(tagged).await;
    let source = format!("/alpha/{}", encode_key("a b+é"));
    let copy = |key: &str| Call::new("PUT", &format!("/alpha/{key}")).header("x-amz-copy-source", &source);
    let copied = world.ok(copy("c")).await;
    assert_eq!(copied.xml("ETag").as_deref(), Some("\"5d41402abc4b2a76b9719d911017c592\""));
    let found = world.ok(get("c")).await;
    let names = ["content-type", "x-amz-meta-m", "x-amz-tagging-count"];
    assert_eq!(
        (found.text().as_str(), shown(&found, &names)),
        ("hello", vec![Some("text/plain"), Some("1"), Some("1")])
    );
    let replaced = copy("d")
        .header("x-amz-metadata-directive", "REPLACE")
        .header("content-type", "text/html")
        .header("x-amz-tagging-directive", "REPLACE")
        .header("x-amz-tagging", "u=1&v=2");
    world.ok(replaced).await;
    let found = world.ok(get("d")).await;
    assert_eq!(shown(&found, &names), [Some("text/html"), None, Some("2")]);
    let conditional = copy("e").header("x-amz-copy-source-if-match", "\"other\"");
    assert_eq!(world.alice(conditional).await.verdict(), "412 PreconditionFailed");
    let onto_itself = Call::new("PUT", &source).header("x-amz-copy-source", &source);
    assert_eq!(world.alice(onto_itself).await.verdict(), "400 InvalidRequest");
    let missing = Call::new("PUT", "/alpha/e").header("x-amz-copy-source", "/alpha/none");
    assert_eq!(world.alice(missing).await.verdict(), "404 NoSuchKey");
    let unknown = copy("e").header("x-amz-metadata-directive", "MERGE");
    assert_eq!(world.alice(unknown).await.verdict(), "400 InvalidArgument");
    assert_eq!(world.alice(get("e")).await.status, 404);
}

#[tokio::test]
async fn a_plus_in_a_copys_source_is_a_space() {
    let world = world().await;
    world.ok(put("a%20b", "space")).await;
    world.ok(put("a%2Bb", "plus")).await;
    let upload = world.ok(Call::new("POST", "/alpha/p").query("uploads", "")).await.xml("UploadId").unwrap();
    for (source, expected) in [("/alpha/a+b", "space"), ("alpha/a%20b", "space"), ("/alpha/a%2Bb", "plus")] {
        let copy = put("copy", "").header("x-amz-copy-source", source);
        world.ok(copy).await;
        assert_eq!(world.ok(get("copy")).await.text(), expected, "{source}");
        let part = Call::new("PUT", "/alpha/p").query("partNumber", "1").query("uploadId", &upload);
        let part = world.ok(part.header("x-amz-copy-source", source)).await;
        let etag = world.ok(head("copy")).await.header("etag").unwrap().to_owned();
        assert_eq!(part.xml("ETag"), Some(etag), "{source}");
    }
}

#[tokio::test]
async fn deleting_many() {
    let world = world().await;
    for key in ["a", "b", "c"] {
        world.ok(put(key, "1")).await;
    }
    let delete = |body: String| Call::new("POST", "/alpha").query("delete", "").body(body);
    let body = "<Delete><Object><Key>a</Key></Object><Object><Key>none</Key></Object>\
                <Object><Key>b</Key><VersionId>what</VersionId></Object></Delete>";
    let found = world.ok(delete(body.to_owned())).await;
    assert_eq!(found.xml_all("Deleted").len(), 2, "{}", found.text());
    assert_eq!(found.xml_all("Code"), ["InvalidArgument"], "one that is wrong fails alone");
    let quiet = "<Delete><Quiet>true</Quiet><Object><Key>c</Key></Object></Delete>";
    assert_eq!(world.ok(delete(quiet.to_owned())).await.xml_all("Deleted").len(), 0);
    let left = world.ok(Call::new("GET", "/alpha")).await;
    assert_eq!(left.xml_all("Key"), ["b"]);
    let many: String = (0..1001).map(|i| format!("<Object><Key>{i}</Key></Object>")).collect();
    assert_eq!(world.alice(delete(format!("<Delete>{many}</Delete>"))).await.verdict(), "400 MalformedXML");
    assert_eq!(world.alice(delete("<Delete>".to_owned())).await.verdict(), "400 MalformedXML");
    assert_eq!(world.bob(delete(quiet.to_owned())).await.xml_all("Deleted").len(), 0, "not his to delete");
}

#[tokio::test]
async fn object_tagging() {
    let world = world().await;
    world.ok(put("k", "1")).await;
    let tagging = |method| Call::new(method, "/alpha/k").query("tagging", "");
    assert_eq!(world.ok(tagging("GET")).await.xml_all("Tag").len(), 0);
    let body = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag><Tag><Key>b</Key><Value/></Tag></TagSet></Tagging>";
    world.ok(tagging("PUT").body(body)).await;
    assert_eq!(world.ok(tagging("GET")).await.xml_all("Key"), ["a", "b"]);
    let eleven: String = (0..11).map(|i| format!("<Tag><Key>{i}</Key><Value>v</Value></Tag>")).collect();
    let body = format!("<Tagging><TagSet>{eleven}</TagSet></Tagging>");
    assert_eq!(world.alice(tagging("PUT").body(body)).await.verdict(), "400 InvalidTag");
    assert_eq!(world.ok(tagging("DELETE")).await.status, 204);
    assert_eq!(world.ok(tagging("GET")).await.xml_all("Tag").len(), 0);
    assert_eq!(world.bob(tagging("GET")).await.verdict(), "403 AccessDenied");
}

/// Storing in clear what was to be encrypted, or without the lock that was asked for, would be a lie.
#[tokio::test]
async fn what_is_not_there_is_refused_not_ignored() {
    let world = world().await;
    let cells = [
        ("x-amz-server-side-encryption", "AES256", "501 NotImplemented"),
        ("x-amz-server-side-encryption", "aws:kms", "501 NotImplemented"),
        ("x-amz-server-side-encryption-customer-algorithm", "AES256", "501 NotImplemented"),
        ("x-amz-object-lock-mode", "GOVERNANCE", "400 InvalidRequest"),
        ("x-amz-object-lock-legal-hold", "ON", "400 InvalidRequest"),
        ("x-amz-acl", "public-read", "400 AccessControlListNotSupported"),
        ("x-amz-grant-read", "id=1", "400 AccessControlListNotSupported"),
        ("x-amz-write-offset-bytes", "1", "501 NotImplemented"),
    ];
    for (name, value, expected) in cells {
        assert_eq!(
            world.alice(put("k", "1").header(name, value)).await.verdict(),
            expected,
            "{name}: {value}"
        );
        // hoisted into a presigned URL it is the same
        if name != "x-amz-grant-read" && name != "x-amz-write-offset-bytes" {
            let call = put("k", "1").query(name, value);
            let found = world.signer(&world.alice).presign(call, 60).send(world.address).await;
            assert_eq!(found.verdict(), expected, "{name}: {value}, hoisted");
        }
    }
    for (method, path, query) in
        [("GET", "/alpha/k", "torrent"), ("POST", "/alpha/k", "restore"), ("GET", "/alpha/k", "legal-hold")]
    {
        let found = world.alice(Call::new(method, path).query(query, "")).await;
        assert!(found.status >= 400, "{query}: {}", found.verdict());
    }
    assert_eq!(world.alice(get("k")).await.verdict(), "404 NoSuchKey");
}

#[tokio::test]
async fn a_presigned_put_binds_type_and_metadata() {
    let world = world().await;
    let signer = world.signer(&world.alice);
    let call = Call::new("PUT", "/alpha/k")
        .query("x-amz-meta-colour", "blé")
        .query("x-amz-tagging", "a=1")
        .header("content-type", "text/plain");
    let signed = signer.presign(call, 60).body("1");
    let mut other = signed.clone();
    other.set("content-type", Some("text/html"));
    assert_eq!(other.send(world.address).await.verdict(), "403 SignatureDoesNotMatch");
    let mut changed = signed.clone();
    for (name, value) in &mut changed.query {
        if name == "x-amz-meta-colour" {
            "red".clone_into(value);
        }
    }
    assert_eq!(changed.send(world.address).await.verdict(), "403 SignatureDoesNotMatch");
    assert_eq!(signed.send(world.address).await.verdict(), "200");
    let found = world.ok(head("k")).await;
    assert_eq!(shown(&found, &["content-type", "x-amz-tagging-count"]), [Some("text/plain"), Some("1")]);
    let colour = found.header("x-amz-meta-colour").unwrap();
    assert_eq!(colour.to_uppercase(), format!("=?UTF-8?B?{}?=", base64_of("blé")).to_uppercase());
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// `Expect: 100-continue` is answered only once the request is let in; a refused one is not asked for its body.
#[tokio::test]
async fn expect_continue() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let world = world().await;
    let signer = world.signer(&world.alice);
    let mut good = put("k", "").header("expect", "100-continue").header("content-length", "5");
    signer.header_as(&mut good, sign::UNSIGNED);
    let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let head: String = good.headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
    let text = format!("PUT /alpha/k HTTP/1.1\r\nHost: {}\r\n{head}Connection: close\r\n\r\n", world.address);
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut first = [0; 25];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(Answer::parse(&rest, false).status, 200);
    assert_eq!(world.ok(get("k")).await.text(), "hello");

    let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    let text = text.replace("Signature=", "Signature=0000");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.starts_with(b"HTTP/1.1 403"), "{:?}", String::from_utf8_lossy(&rest));
}

/// A body cut off in the middle stores nothing.
#[tokio::test]
async fn half_a_body_is_no_object() {
    let world = world().await;
    let mut call = put("k", "").header("content-length", "1000000");
    world.signer(&world.alice).header_as(&mut call, sign::UNSIGNED);
    let head: String = call.headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
    let text = format!("PUT /alpha/k HTTP/1.1\r\nHost: {}\r\n{head}\r\nhalf", world.address);
    let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, text.as_bytes()).await.unwrap();
    let asked = world.asked();
    while world.asked() == asked {
        tokio::task::yield_now().await;
    }
    drop(stream);
    assert_eq!(world.alice(get("k")).await.verdict(), "404 NoSuchKey");
    assert!(world.stored().await.iter().all(|line| !line.starts_with("alpha/k")));
}

/// A document that is not the one that was signed is the client's fault, and nothing is done.
#[tokio::test]
async fn a_document_changed_on_the_way_is_refused() {
    let world = world().await;
    world.ok(put("kept", "1")).await;
    let upload = world.ok(Call::new("POST", "/alpha/p").query("uploads", "")).await.xml("UploadId").unwrap();
    let delete = "<Delete><Object><Key>none</Key></Object></Delete>";
    let tags = "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>";
    for call in [
        Call::new("POST", "/alpha").query("delete", "").body(delete),
        Call::new("PUT", "/alpha").query("tagging", "").body(tags),
        Call::new("PUT", "/alpha/kept").query("tagging", "").body(tags),
        Call::new("POST", "/alpha/p").query("uploadId", &upload).body("<CompleteMultipartUpload/>"),
    ] {
        let mut signed = world.signer(&world.alice).header(call);
        let text = String::from_utf8(signed.body).unwrap();
        signed.body = text.replace("none", "kept").replace("/>", " >").replace("<Value>1", "<Value>2").into();
        let answer = signed.send(world.address).await;
        assert_eq!(answer.verdict(), "400 XAmzContentSHA256Mismatch", "{:?}", signed.query);
        assert!(answer.xml("RequestId").is_some());
    }
    assert_eq!(world.ok(get("kept")).await.text(), "1");
    assert_eq!(world.alice(Call::new("GET", "/alpha").query("tagging", "")).await.status, 404);
}
