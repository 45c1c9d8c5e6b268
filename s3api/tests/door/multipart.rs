//! Multipart uploads as clients meet them.

use crate::support::server::World;
use crate::support::wire::{Answer, Call};

/// The smallest part but the last (S3).
const PART: usize = 5 * 1024 * 1024;

async fn world() -> World {
    let world = World::new().await;
    world.ok(Call::new("PUT", "/alpha")).await;
    world
}

async fn begin(world: &World, call: Call) -> String {
    world.ok(call.query("uploads", "")).await.xml("UploadId").unwrap()
}

fn part(upload: &str, number: u32, body: Vec<u8>) -> Call {
    Call::new("PUT", "/alpha/k").query("partNumber", &number.to_string()).query("uploadId", upload).body(body)
}

fn complete(upload: &str, parts: &[(u32, String)]) -> Call {
    let parts: String = parts
        .iter()
        .map(|(number, etag)| format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>"))
        .collect();
    Call::new("POST", "/alpha/k")
        .query("uploadId", upload)
        .body(format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>"))
}

fn etag(answer: &Answer) -> String {
    answer.header("etag").unwrap().to_owned()
}

fn bytes(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i % 251).unwrap() ^ seed).collect()
}

#[tokio::test]
async fn a_life_of_an_upload() {
    let world = world().await;
    let create =
        Call::new("POST", "/alpha/k").header("content-type", "video/mp4").header("x-amz-meta-a", "1");
    let upload = begin(&world, create).await;
    let one = etag(&world.ok(part(&upload, 1, bytes(1, PART))).await);
    world.ok(part(&upload, 2, bytes(9, 10))).await;
    let two = etag(&world.ok(part(&upload, 2, bytes(2, 1000))).await);
    let listed = world.ok(Call::new("GET", "/alpha/k").query("uploadId", &upload)).await;
    assert_eq!(listed.xml_all("PartNumber"), ["1", "2"]);
    assert_eq!(
        listed.xml_all("Size"),
        [PART.to_string(), "1000".to_owned()],
        "the last write of a number wins"
    );
    let paged =
        world.ok(Call::new("GET", "/alpha/k").query("uploadId", &upload).query("max-parts", "1")).await;
    assert_eq!(
        (paged.xml("NextPartNumberMarker").unwrap(), paged.xml("IsTruncated").unwrap()),
        ("1".into(), "true".into())
    );
    let uploads = world.ok(Call::new("GET", "/alpha").query("uploads", "")).await;
    assert_eq!((uploads.xml("UploadId").unwrap(), uploads.xml("Key").unwrap()), (upload.clone(), "k".into()));
    assert_eq!(
        world.alice(Call::new("GET", "/alpha/k")).await.status,
        404,
        "nothing there before completion"
    );

    let cells = [
        (vec![(1, one.clone()), (3, two.clone())], "400 InvalidPart"),
        (vec![(1, one.clone()), (2, one.clone())], "400 InvalidPart"),
        (vec![(2, two.clone()), (1, one.clone())], "400 InvalidPartOrder"),
        (vec![], "400 MalformedXML"),
    ];
    for (parts, expected) in cells {
        assert_eq!(world.alice(complete(&upload, &parts)).await.verdict(), expected, "{parts:?}");
    }
    let parts = [(1, one), (2, two)];
    let done = world.ok(complete(&upload, &parts)).await;
    let tag = done.xml("ETag").unwrap();
    assert!(tag.ends_with("-2\""), "{tag}");
    assert_eq!(done.xml("Location").unwrap(), format!("http://{}/alpha/k", world.address));
    let again = world.ok(complete(&upload, &parts)).await;
    assert_eq!(again.xml("ETag").unwrap(), tag, "completing twice gives the same answer");
    let read = world.ok(Call::new("GET", "/alpha/k")).await;
    assert_eq!(read.body, [bytes(1, PART), bytes(2, 1000)].concat());
    assert_eq!((read.header("content-type"), read.header("x-amz-meta-a")), (Some("video/mp4"), Some("1")));
    let second = world.ok(Call::new("GET", "/alpha/k").query("partNumber", "2")).await;
    assert_eq!((second.status, second.body.clone()), (206, bytes(2, 1000)));
    assert_eq!(second.header("x-amz-mp-parts-count"), Some("2"));
    let over =
        world.ok(Call::new("GET", "/alpha/k").header("range", &format!("bytes={}-{}", PART - 1, PART))).await;
    assert_eq!(over.body, [bytes(1, PART)[PART - 1], bytes(2, 1000)[0]]);
    let attributes =
        Call::new("GET", "/alpha/k").query("attributes", "").header("x-amz-object-attributes", "ObjectParts");
    let found = world.ok(attributes).await;
    assert_eq!(found.xml("PartsCount").as_deref(), Some("2"), "{}", found.text());
    assert_eq!(found.xml_all("Size"), [PART.to_string(), "1000".to_owned()]);
}

#[tokio::test]
async fn too_small_aborted_unknown() {
    let world = world().await;
    let upload = begin(&world, Call::new("POST", "/alpha/k")).await;
    let one = etag(&world.ok(part(&upload, 1, bytes(1, 10))).await);
    let two = etag(&world.ok(part(&upload, 2, bytes(2, 10))).await);
    let small = world.alice(complete(&upload, &[(1, one), (2, two)])).await;
    assert_eq!(small.verdict(), "400 EntityTooSmall");
    let number = world.alice(part(&upload, 10_001, vec![1])).await;
    assert_eq!(number.verdict(), "400 InvalidArgument");
    assert_eq!(world.bob(part(&upload, 1, vec![1])).await.verdict(), "403 AccessDenied");
    let abort = || Call::new("DELETE", "/alpha/k").query("uploadId", &upload);
    assert_eq!(world.bob(abort()).await.verdict(), "403 AccessDenied");
    assert_eq!(world.ok(abort()).await.status, 204);
    assert_eq!(world.alice(part(&upload, 1, vec![1])).await.verdict(), "404 NoSuchUpload");
    assert_eq!(world.alice(part("what", 1, vec![1])).await.verdict(), "404 NoSuchUpload");
    let listed = world.alice(Call::new("GET", "/alpha/k").query("uploadId", &upload)).await;
    assert_eq!(listed.verdict(), "404 NoSuchUpload");
    assert_eq!(world.ok(Call::new("GET", "/alpha").query("uploads", "")).await.xml_all("Upload").len(), 0);
}

#[tokio::test]
async fn parts_by_copy() {
    let world = world().await;
    let source = bytes(3, PART + 100);
    world.ok(Call::new("PUT", "/alpha/source").body(source.clone())).await;
    let upload = begin(&world, Call::new("POST", "/alpha/k")).await;
    let copy = |number: u32, range: &str| {
        part(&upload, number, vec![])
            .header("x-amz-copy-source", "/alpha/source")
            .header("x-amz-copy-source-range", range)
    };
    let one = world.ok(copy(1, &format!("bytes=100-{}", PART + 99))).await.xml("ETag").unwrap();
    let two = world.ok(copy(2, "bytes=0-9")).await.xml("ETag").unwrap();
    for bad in ["bytes=0-", "bytes=-5", "0-5"] {
        assert_eq!(world.alice(copy(3, bad)).await.verdict(), "400 InvalidArgument", "{bad}");
    }
    let outside = world.alice(copy(3, &format!("bytes=0-{}", 2 * PART))).await;
    assert!(matches!(outside.status, 400 | 416), "{}", outside.verdict());
    world.ok(complete(&upload, &[(1, one), (2, two)])).await;
    let read = world.ok(Call::new("GET", "/alpha/k")).await;
    assert_eq!(read.body, [&source[100..PART + 100], &source[..10]].concat());
}

#[tokio::test]
async fn checksums_of_uploads() {
    let world = world().await;
    for (algorithm, kind) in [
        ("CRC32", "COMPOSITE"),
        ("CRC32", "FULL_OBJECT"),
        ("CRC64NVME", "FULL_OBJECT"),
        ("SHA256", "COMPOSITE"),
    ] {
        let create = Call::new("POST", "/alpha/k")
            .header("x-amz-checksum-algorithm", algorithm)
            .header("x-amz-checksum-type", kind);
        let created = world.ok(create.query("uploads", "")).await;
        assert_eq!(created.header("x-amz-checksum-type"), Some(kind));
        let upload = created.xml("UploadId").unwrap();
        let header = format!("x-amz-checksum-{}", algorithm.to_lowercase());
        let mut parts = Vec::new();
        for (number, body) in [(1, bytes(1, PART)), (2, bytes(2, 100))] {
            let stored =
                world.ok(part(&upload, number, body).header("x-amz-sdk-checksum-algorithm", algorithm)).await;
            assert!(stored.header(&header).is_some(), "{algorithm} {kind}: {:?}", stored.headers);
            parts.push((number, etag(&stored)));
        }
        let done = world.ok(complete(&upload, &parts)).await;
        assert_eq!(done.xml("ChecksumType").as_deref(), Some(kind), "{algorithm}: {}", done.text());
        let value = done.xml(&format!("Checksum{algorithm}")).unwrap();
        assert_eq!(value.ends_with("-2"), kind == "COMPOSITE", "{algorithm} {kind}: {value}");
        let read = world.ok(Call::new("HEAD", "/alpha/k").header("x-amz-checksum-mode", "ENABLED")).await;
        assert_eq!(
            (read.header(&header), read.header("x-amz-checksum-type")),
            (Some(value.as_str()), Some(kind))
        );
        if kind == "FULL_OBJECT" {
            let whole = world
                .ok(Call::new("PUT", "/alpha/whole")
                    .body([bytes(1, PART), bytes(2, 100)].concat())
                    .header("x-amz-sdk-checksum-algorithm", algorithm))
                .await;
            assert_eq!(whole.header(&header), Some(value.as_str()), "the same as of one put");
        }
    }
}

#[tokio::test]
async fn presigned_parts() {
    let world = world().await;
    let upload = begin(&world, Call::new("POST", "/alpha/k")).await;
    let signer = world.signer(&world.alice);
    let one = signer.presign(part(&upload, 1, vec![]), 60).body(bytes(1, 100)).send(world.address).await;
    assert_eq!(one.status, 200, "{}", one.text());
    // the number is signed
    let mut other = signer.presign(part(&upload, 1, vec![]), 60).body(bytes(1, 100));
    for (name, value) in &mut other.query {
        if name == "partNumber" {
            "2".clone_into(value);
        }
    }
    assert_eq!(other.send(world.address).await.verdict(), "403 SignatureDoesNotMatch");
    world.ok(complete(&upload, &[(1, etag(&one))])).await;
    assert_eq!(world.ok(Call::new("GET", "/alpha/k")).await.body, bytes(1, 100));
}
