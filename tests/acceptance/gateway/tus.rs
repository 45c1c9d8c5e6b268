//! TUS 1.0.0 at `/api/v1/files/upload/multipart`: each status and header of the protocol, by raw sockets.

use std::time::{Duration, Instant};

use coffre_tests::daemon::{Daemon, wait_for};
use coffre_tests::rest::Rest;
use coffre_tests::s3::Answer;
use coffre_tests::seed;

use super::{assert_error, at, fetch, started, started_with};

const UP: &str = "/api/v1/files/upload/multipart";
const TUS: (&str, &str) = ("tus-resumable", "1.0.0");
const BYTES: (&str, &str) = ("content-type", "application/offset+octet-stream");
/// `test.mp4`, `video/mp4`, as the document has it.
const METADATA: (&str, &str) = ("upload-metadata", "filename dGVzdC5tcDQ=,contentType dmlkZW8vbXA0");

/// Begins an upload; where it is.
#[track_caller]
fn create(rest: &Rest, length: usize, more: &[(&str, &str)]) -> (String, Answer) {
    let length = length.to_string();
    let headers = [&[TUS, METADATA, ("upload-length", length.as_str())][..], more].concat();
    let answer = rest.send("POST", UP, &headers, b"").expect(201);
    (answer.header("location").unwrap().to_owned(), answer)
}

fn patch(rest: &Rest, location: &str, offset: usize, body: &[u8]) -> Answer {
    patch_with(rest, location, offset, body, &[])
}

fn patch_with(rest: &Rest, location: &str, offset: usize, body: &[u8], more: &[(&str, &str)]) -> Answer {
    let offset = offset.to_string();
    let headers = [&[TUS, BYTES, ("upload-offset", offset.as_str())][..], more].concat();
    rest.send("PATCH", location, &headers, body)
}

fn head(rest: &Rest, location: &str) -> Answer {
    rest.send("HEAD", location, &[TUS], b"")
}

#[track_caller]
fn offset(rest: &Rest, location: &str) -> usize {
    head(rest, location).expect(200).header("upload-offset").unwrap().parse().unwrap()
}

#[test]
fn the_documents_upload() {
    let (_folder, daemon) = started();
    let rest = Rest::admin(&daemon);
    let content = seed::bytes(1, 1_048_576);
    let (location, created) = create(&rest, content.len(), &[]);
    assert!(location.starts_with(&format!("{UP}/")), "{location}");
    assert_eq!(created.header("tus-resumable"), Some("1.0.0"));
    assert_eq!(created.header("upload-offset"), Some("0"));
    assert!(created.header("upload-expires").is_some_and(|date| date.ends_with(" GMT")));
    let key = created.header("x-s3-key").unwrap().to_owned();
    let url = created.header("x-public-url").unwrap().to_owned();
    assert!(
        url.ends_with(&key) && key.contains("/uploads/test_") && key.rsplit('.').next() == Some("mp4"),
        "{key} {url}"
    );

    let half = patch(&rest, &location, 0, &content[..500_000]).expect(204);
    assert_eq!(half.header("upload-offset"), Some("500000"));
    assert_eq!(half.header("upload-length"), Some("1048576"));
    assert_eq!((half.header("x-s3-key"), half.header("x-public-url")), (Some(key.as_str()), None));
    // by HEAD, and by GET without a version
    let get = rest.get(&location).expect(200);
    assert!(get.body.is_empty());
    for answer in [head(&rest, &location).expect(200), get] {
        assert_eq!(answer.header("upload-offset"), Some("500000"));
        assert_eq!(answer.header("upload-length"), Some("1048576"));
        assert_eq!(answer.header("upload-metadata"), Some(METADATA.1));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("tus-resumable"), Some("1.0.0"));
        assert_eq!((answer.header("x-s3-key"), answer.header("x-public-url")), (Some(key.as_str()), None));
    }
    daemon.admin().get(&at(&key)).unwrap().expect(404);

    let done = patch(&rest, &location, 500_000, &content[500_000..]).expect(204);
    assert_eq!(done.header("x-public-url"), Some(url.as_str()));
    assert_eq!(head(&rest, &location).header("x-public-url"), Some(url.as_str()));
    let object = daemon.admin().get(&at(&key)).unwrap().expect(200);
    assert_eq!((object.body.as_slice(), object.header("content-type")), (&content[..], Some("video/mp4")));
    // anybody may open the link; nobody may list
    assert_eq!(fetch(&daemon, &url).expect(200).body, content);
    fetch(&daemon, &format!("http://{}/gateway?list-type=2", daemon.s3_address())).expect(403);
    daemon.check_finds_nothing();
    daemon.stop_cleanly();
}

#[test]
fn what_the_server_can_do() {
    let (_folder, daemon) = started_with(&[("COFFRE_GATEWAY__TUS_MAX_SIZE", "1000")]);
    let rest = Rest::admin(&daemon).without_token();
    for path in [UP.to_owned(), format!("{UP}/00000000000000000000000000000000")] {
        let answer = rest.send("OPTIONS", &path, &[], b"").expect(204);
        assert_eq!(answer.header("tus-resumable"), Some("1.0.0"));
        assert_eq!(answer.header("tus-version"), Some("1.0.0"));
        assert_eq!(answer.header("tus-max-size"), Some("1000"));
        assert_eq!(answer.header("tus-checksum-algorithm"), Some("sha1,sha256,md5,crc32c"));
        let extensions = answer.header("tus-extension").unwrap();
        assert_eq!(
            extensions,
            "creation,creation-with-upload,creation-defer-length,checksum,termination,expiration,concatenation"
        );
    }
    let rest = Rest::admin(&daemon);
    let too_large = rest.send("POST", UP, &[TUS, ("upload-length", "1001")], b"");
    assert_error(&too_large, 413, "PAYLOAD_TOO_LARGE");
    // deferred: found out when it comes
    let begun = rest.send("POST", UP, &[TUS, ("upload-defer-length", "1")], b"").expect(201);
    let location = begun.header("location").unwrap();
    assert_eq!(head(&rest, location).header("upload-defer-length"), Some("1"));
    assert_error(&patch(&rest, location, 0, &[1; 1001]), 413, "PAYLOAD_TOO_LARGE");
    assert_error(
        &patch_with(&rest, location, 0, b"", &[("upload-length", "1001")]),
        413,
        "PAYLOAD_TOO_LARGE",
    );
    patch_with(&rest, location, 0, &[1; 10], &[("upload-length", "10")]).expect(204);
}

#[test]
fn requests_that_are_refused() {
    let (_folder, daemon) = started();
    let rest = Rest::admin(&daemon);
    let (location, _) = create(&rest, 10, &[]);
    let missing = format!("{UP}/00000000000000000000000000000001");
    // another version, on every method but GET and OPTIONS
    for method in ["POST", "PATCH", "HEAD", "DELETE"] {
        for version in [None, Some(("tus-resumable", "0.2.2"))] {
            let path = if method == "POST" { UP } else { location.as_str() };
            let headers: Vec<_> = version.into_iter().chain([BYTES, ("upload-offset", "0")]).collect();
            let answer = rest.send(method, path, &headers, b"").expect(412);
            assert_eq!(answer.header("tus-version"), Some("1.0.0"), "{method}");
            assert_eq!(answer.header("tus-resumable"), Some("1.0.0"), "{method}");
        }
    }
    // lengths
    for headers in [
        &[][..],
        &[("upload-length", "-1")],
        &[("upload-length", "x")],
        &[("upload-defer-length", "2")],
        &[("upload-length", "1"), ("upload-defer-length", "1")],
        &[("upload-length", "1"), ("upload-metadata", "filename !")],
        &[("upload-length", "1"), ("upload-concat", "other")],
        &[("upload-concat", "final;/elsewhere")],
    ] {
        let answer = rest.send("POST", UP, &[&[TUS][..], headers].concat(), b"");
        assert_error(&answer, 400, "VALIDATION_ERROR");
    }
    // types
    for kind in ["application/json", "application/octet-stream"] {
        let headers = [TUS, ("content-type", kind), ("upload-offset", "0")];
        assert_error(&rest.send("PATCH", &location, &headers, b"x"), 415, "UNSUPPORTED_MEDIA_TYPE");
    }
    assert_error(
        &rest.send("PATCH", &location, &[TUS, ("upload-offset", "0")], b"x"),
        415,
        "UNSUPPORTED_MEDIA_TYPE",
    );
    let with_json = [TUS, ("upload-length", "1"), ("content-type", "application/json")];
    assert_error(&rest.send("POST", UP, &with_json, b"1"), 415, "UNSUPPORTED_MEDIA_TYPE");
    // offsets
    assert_error(&rest.send("PATCH", &location, &[TUS, BYTES], b"x"), 400, "VALIDATION_ERROR");
    assert_error(&patch(&rest, &location, 1, b"x"), 409, "CONFLICT");
    assert_error(&patch(&rest, &location, 0, &[0; 11]), 413, "PAYLOAD_TOO_LARGE");
    assert_error(&patch_with(&rest, &location, 0, b"x", &[("upload-length", "11")]), 400, "VALIDATION_ERROR");
    // nobody's
    for id in [missing.as_str(), &format!("{UP}/nonsense"), &format!("{UP}/..%2f..%2fetc")] {
        assert_error(&patch(&rest, id, 0, b"x"), 404, "NOT_FOUND");
        assert_eq!(head(&rest, id).status, 404);
        assert_error(&rest.get(id), 404, "NOT_FOUND");
        assert_error(&rest.send("DELETE", id, &[TUS], b""), 404, "NOT_FOUND");
    }
    // other methods
    assert_error(&rest.send("PUT", &location, &[TUS], b"x"), 405, "METHOD_NOT_ALLOWED");
    assert_error(&rest.send("POST", &location, &[TUS], b""), 405, "METHOD_NOT_ALLOWED");
    assert_eq!(offset(&rest, &location), 0);
    daemon.check_finds_nothing();
}

#[test]
fn who_may() {
    let (_folder, daemon) = started();
    let (ann, bob) = (Rest::user(&daemon, "ann", &[]), Rest::user(&daemon, "bob", &[]));
    let (location, _) = create(&ann, 4, &[]);
    // somebody else's is not there
    assert_error(&patch(&bob, &location, 0, b"evil"), 404, "NOT_FOUND");
    assert_eq!(head(&bob, &location).status, 404);
    assert_error(&bob.send("DELETE", &location, &[TUS], b""), 404, "NOT_FOUND");
    // nobody, and a wrong token
    let wrong = Rest { token: Some("1|x".into()), ..ann.clone() };
    for (rest, code) in [(&ann.without_token(), "AUTH_REQUIRED"), (&wrong, "AUTH_INVALID")] {
        assert_error(&patch(rest, &location, 0, b"x"), 401, code);
        assert_error(&rest.send("POST", UP, &[TUS, ("upload-length", "1")], b""), 401, code);
        let refused = head(rest, &location);
        assert_eq!((refused.status, refused.header("tus-resumable")), (401, Some("1.0.0")));
    }
    let reader = Rest::user(&daemon, "reader", &["--permission", "read_files"]);
    let refused = reader.send("POST", UP, &[TUS, ("upload-length", "1")], b"");
    assert_error(&refused, 403, "PERMISSION_DENIED");
    // a token's application and grant are where its files go; the piece of another is no piece
    let team = Rest::user(&daemon, "cid", &["--application", "app_1", "--grant", "grant_2"]);
    let (_, created) = create(&team, 0, &[("upload-concat", "partial")]);
    assert!(created.header("x-s3-key").unwrap().starts_with("app_1/grant_2/uploads/"));
    let concat = format!("final;{location}");
    assert_error(&team.send("POST", UP, &[TUS, ("upload-concat", &concat)], b""), 404, "NOT_FOUND");
    patch(&ann, &location, 0, b"good").expect(204);
    daemon.check_finds_nothing();
}

#[test]
fn bytes_come_along_with_the_creation() {
    let (_folder, daemon) = started();
    let rest = Rest::admin(&daemon);
    let content = seed::bytes(2, 300_000);
    for (first, status) in [(content.len(), true), (100, false), (0, false)] {
        let length = content.len().to_string();
        let headers = [TUS, BYTES, ("upload-length", &length), ("upload-metadata", "")];
        let answer = rest.send("POST", UP, &headers, &content[..first]).expect(201);
        assert_eq!(answer.header("upload-offset"), Some(first.to_string().as_str()));
        let location = answer.header("location").unwrap();
        if !status {
            patch(&rest, location, first, &content[first..]).expect(204);
        }
        let object = daemon.admin().get(&at(answer.header("x-s3-key").unwrap())).unwrap().expect(200);
        assert_eq!(object.body, content);
        assert_eq!(object.header("content-type"), Some("application/octet-stream"));
    }
    // nothing at all is an upload too
    let (location, created) = create(&rest, 0, &[]);
    assert_eq!(head(&rest, &location).header("upload-offset"), Some("0"));
    let object = daemon.admin().get(&at(created.header("x-s3-key").unwrap())).unwrap().expect(200);
    assert!(object.body.is_empty());
    daemon.check_finds_nothing();
}

#[test]
fn checksums() {
    let (_folder, daemon) = started();
    let rest = Rest::admin(&daemon);
    // of "123456789"
    let right = [
        "md5 JfnnlDI7RTiF9RgfG2JNCw==",
        "sha1 98O8HYCOBHMq32eZZczDTKeuNEE=",
        "sha256 FeKw08M4keuw8e9gnsQZQgwg4yDOlMZfvIwzEkSOsiU=",
        "crc32c 4waSgw==",
    ];
    let (location, created) = create(&rest, 9 * right.len(), &[]);
    for (n, checksum) in right.into_iter().enumerate() {
        let with = [("upload-checksum", checksum)];
        let wrong = patch_with(&rest, &location, 9 * n, b"12345678X", &with);
        assert_error(&wrong, 460, "CHECKSUM_MISMATCH");
        assert_eq!(offset(&rest, &location), 9 * n, "nothing of it is kept");
        patch_with(&rest, &location, 9 * n, b"123456789", &with).expect(204);
    }
    let object = daemon.admin().get(&at(created.header("x-s3-key").unwrap())).unwrap().expect(200);
    assert_eq!(object.body, b"123456789".repeat(right.len()));
    let (location, _) = create(&rest, 9, &[]);
    for unknown in ["crc32 4waSgw==", "sha1 !", "sha1", "sha256 98O8HYCOBHMq32eZZczDTKeuNEE="] {
        let answer = patch_with(&rest, &location, 0, b"123456789", &[("upload-checksum", unknown)]);
        assert_error(&answer, 400, "VALIDATION_ERROR");
    }
    // with a checksum, half a body is nothing
    let mut open = rest.open(
        "PATCH",
        &location,
        &[TUS, BYTES, ("upload-offset", "0"), ("content-length", "9"), ("upload-checksum", right[0])],
    );
    open.write(b"1234").unwrap();
    drop(open);
    patch_with(&rest, &location, 0, b"123456789", &[("upload-checksum", right[0])]).expect(204);
    daemon.check_finds_nothing();
}

#[test]
fn what_arrived_before_a_cut_is_kept_and_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let daemon = Daemon::start(&data);
    let rest = Rest::admin(&daemon);
    let content = seed::bytes(3, 9 << 20);
    let (location, created) = create(&rest, content.len(), &[]);
    let key = created.header("x-s3-key").unwrap().to_owned();
    let length = content.len().to_string();
    let mut open =
        rest.open("PATCH", &location, &[TUS, BYTES, ("upload-offset", "0"), ("content-length", &length)]);
    open.write(&content[..3_000_000]).unwrap();
    drop(open);
    let kept = wait_for("what arrived", Duration::from_secs(20), || {
        Some(offset(&rest, &location)).filter(|offset| *offset > 0)
    });
    assert_eq!(kept, 3_000_000);
    daemon.kill();
    let daemon = Daemon::start(&data);
    let rest = Rest::admin(&daemon);
    assert_eq!(offset(&rest, &location), kept, "what was told is stored");
    patch(&rest, &location, kept, &content[kept..]).expect(204);
    assert_eq!(daemon.admin().get(&at(&key)).unwrap().expect(200).body, content);
    daemon.check_finds_nothing();
    daemon.stop_cleanly();
}

#[test]
fn one_request_at_a_time() {
    let (_folder, daemon) = started();
    let rest = Rest::admin(&daemon);
    let content = seed::bytes(4, 100_000);
    let (location, created) = create(&rest, content.len(), &[]);
    let length = content.len().to_string();
    let headers =
        [TUS, BYTES, ("upload-offset", "0"), ("content-length", length.as_str()), ("expect", "100-continue")];
    let mut first = rest.open("PATCH", &location, &headers);
    first.wait_for_continue();
    // while the first is at it and has just sent something, others are told so
    let began = Instant::now();
    for (n, method) in ["PATCH", "DELETE"].into_iter().enumerate() {
        first.write(&content[n..=n]).unwrap();
        let refused = rest.send(method, &location, &[TUS, BYTES, ("upload-offset", "0")], b"");
        assert_error(&refused, 423, "LOCKED");
    }
    assert!(began.elapsed() >= Duration::from_secs(4), "each waits a little");
    // after five silent seconds the first is asked to leave; what it sent is kept
    let taken_over = wait_for("the turn", Duration::from_secs(10), || {
        let answer = patch(&rest, &location, 0, &content);
        (answer.status != 423).then_some(answer)
    });
    assert_error(&taken_over, 409, "CONFLICT");
    assert_error(&first.answer(), 423, "LOCKED");
    assert_eq!(offset(&rest, &location), 2);
    patch(&rest, &location, 2, &content[2..]).expect(204);
    let object = daemon.admin().get(&at(created.header("x-s3-key").unwrap())).unwrap().expect(200);
    assert_eq!(object.body, content);
    daemon.check_finds_nothing();
}

#[test]
fn pieces_are_composed() {
    let (_folder, daemon) = started();
    let rest = Rest::admin(&daemon);
    let contents = [seed::bytes(5, 400_000), seed::bytes(6, 70_000), seed::bytes(7, 1)];
    let mut pieces = Vec::new();
    for content in &contents {
        let (location, _) = create(&rest, content.len(), &[("upload-concat", "partial")]);
        assert_eq!(head(&rest, &location).header("upload-concat"), Some("partial"));
        pieces.push(location);
    }
    let concat = format!("final;{}", pieces.join(" "));
    let compose = |headers: &[(&str, &str)]| {
        let all = [&[TUS, METADATA, ("upload-concat", concat.as_str())][..], headers].concat();
        rest.send("POST", UP, &all, b"")
    };
    assert_error(&compose(&[]), 400, "VALIDATION_ERROR");
    for (piece, content) in pieces.iter().zip(&contents) {
        patch(&rest, piece, 0, content).expect(204);
    }
    assert_error(&compose(&[("upload-length", "470001")]), 400, "VALIDATION_ERROR");
    let made = compose(&[]).expect(201);
    let whole = contents.concat();
    let object = daemon.admin().get(&at(made.header("x-s3-key").unwrap())).unwrap().expect(200);
    assert_eq!(object.body, whole);
    assert_eq!(fetch(&daemon, made.header("x-public-url").unwrap()).expect(200).body, whole);
    let location = made.header("location").unwrap();
    let shown = head(&rest, location).expect(200);
    assert_eq!(shown.header("upload-concat"), Some(concat.as_str()));
    assert_eq!(
        (shown.header("upload-offset"), shown.header("upload-length")),
        (Some("470001"), Some("470001"))
    );
    assert_error(&patch(&rest, location, 470_001, b""), 403, "PERMISSION_DENIED");
    // the answer was lost
    assert_eq!(compose(&[]).expect(201).header("location"), Some(location));
    daemon.check_finds_nothing();
}

#[test]
fn given_up_and_expired() {
    let (_folder, daemon) = started();
    let rest = Rest::admin(&daemon);
    let (location, _) = create(&rest, 10, &[]);
    patch(&rest, &location, 0, b"12345").expect(204);
    rest.send("DELETE", &location, &[TUS], b"").expect(204);
    assert_error(&patch(&rest, &location, 5, b"67890"), 404, "NOT_FOUND");
    assert_eq!(head(&rest, &location).status, 404);
    // by an override, as clients behind old proxies do
    let (location, _) = create(&rest, 10, &[]);
    let over = [TUS, BYTES, ("upload-offset", "0"), ("x-http-method-override", "PATCH")];
    rest.send("POST", &location, &over, b"12345").expect(204);
    assert_eq!(rest.send("POST", &location, &[TUS, ("x-http-method-override", "HEAD")], b"").status, 200);
    rest.send("POST", &location, &[TUS, ("x-http-method-override", "DELETE")], b"").expect(204);
    assert_eq!(head(&rest, &location).status, 404);
    daemon.stop_cleanly();

    let (_folder, daemon) = started_with(&[("COFFRE_GATEWAY__TUS_EXPIRY_HOURS", "0")]);
    let rest = Rest::admin(&daemon);
    let (location, _) = create(&rest, 10, &[]);
    assert_error(&patch(&rest, &location, 0, b"12345"), 410, "GONE");
    assert_eq!(head(&rest, &location).status, 410);
    daemon.json(&["gc"]);
    assert_error(&patch(&rest, &location, 0, b"12345"), 404, "NOT_FOUND");
    daemon.check_finds_nothing();
}
