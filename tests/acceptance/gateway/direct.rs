//! `POST /api/v1/files/upload/direct` (document 2.8.3).

use coffre_tests::rest::Rest;
use coffre_tests::s3::Answer;
use coffre_tests::seed;
use md5::{Digest, Md5};
use serde_json::Value;

use super::{assert_error, at, fetch, names, started, started_with};

const DIRECT: &str = "/api/v1/files/upload/direct";

/// A part of a form: name, file name and type, bytes.
type Part<'a> = (&'a str, Option<(&'a str, &'a str)>, &'a [u8]);

fn form(parts: &[Part<'_>]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file, bytes) in parts {
        body.extend_from_slice(
            format!("--limit\r\nContent-Disposition: form-data; name=\"{name}\"").as_bytes(),
        );
        if let Some((file_name, kind)) = file {
            body.extend_from_slice(format!("; filename=\"{file_name}\"\r\nContent-Type: {kind}").as_bytes());
        }
        body.extend_from_slice(b"\r\n\r\n");
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--limit--\r\n");
    body
}

fn upload(rest: &Rest, parts: &[Part<'_>]) -> Answer {
    rest.send("POST", DIRECT, &[("content-type", "multipart/form-data; boundary=limit")], &form(parts))
}

fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", hex::encode(Md5::digest(bytes)))
}

#[test]
fn the_documents_example() {
    let (_folder, daemon) = started();
    let rest = Rest::user(&daemon, "ann", &["--application", "slidefabrik", "--grant", "team"]);
    let content = seed::bytes(1, 31_517);
    // the path stands behind the file, as curl sends it
    let parts: [Part<'_>; 2] = [
        ("files", Some(("instruction_API(3).md", "text/markdown")), &content),
        ("path", None, b"uploads/documents"),
    ];
    let answer = upload(&rest, &parts).expect(200).json();
    assert_eq!(names(&answer), ["files", "success", "summary", "uploadPath"]);
    assert_eq!(answer["success"], true);
    assert_eq!(answer["uploadPath"], "slidefabrik/team/uploads/documents");
    let summary = serde_json::json!({"totalFiles": 1, "successful": 1, "failed": 0, "totalSize": 31517});
    assert_eq!(answer["summary"], summary);
    let file = &answer["files"][0];
    let documented = [
        "etag",
        "index",
        "originalName",
        "path",
        "rawOriginalName",
        "size",
        "timestamp",
        "type",
        "uploadSuccess",
        "url",
    ];
    assert_eq!(names(file), documented);
    assert_eq!(file["originalName"], "instruction_API(3).md");
    assert_eq!(file["rawOriginalName"], "instruction_API(3).md");
    assert_eq!((&file["size"], &file["type"]), (&Value::from(31517), &Value::from("text/markdown")));
    assert_eq!((&file["uploadSuccess"], &file["index"]), (&Value::from(true), &Value::from(0)));
    assert_eq!(file["etag"], etag(&content));
    let (path, timestamp) = (file["path"].as_str().unwrap(), file["timestamp"].as_u64().unwrap());
    let begins = format!("slidefabrik/team/uploads/documents/instruction_API(3)_{timestamp}_");
    let rest_of_name = path.strip_prefix(&begins).unwrap_or_else(|| panic!("{path}"));
    let (unique, extension) = rest_of_name.split_once('.').unwrap();
    assert!(
        unique.len() == 8 && unique.bytes().all(|b| b.is_ascii_hexdigit()) && extension == "md",
        "{path}"
    );
    // the same object at the S3 door, and for anybody at its address
    let object = daemon.admin().get(&at(path)).unwrap().expect(200);
    assert_eq!((&object.body, object.header("content-type")), (&content, Some("text/markdown")));
    assert_eq!(object.header("etag").map(str::to_owned), file["etag"].as_str().map(str::to_owned));
    assert_eq!(fetch(&daemon, file["url"].as_str().unwrap()).expect(200).body, content);
    daemon.check_finds_nothing();
    daemon.stop_cleanly();
}

/// The document's command as it stands there, whose content type names no boundary; and a file that curl announces with
/// `Expect: 100-continue`.
#[test]
fn the_documents_command() {
    let (folder, daemon) = started();
    let rest = Rest::user(&daemon, "ann", &["--application", "slidefabrik"]);
    let said = ("https://qa.gateway.intelligenceindustrielle.com", "Bearer token");
    for (seed, size) in [(1, 31_517), (2, 3_000_000)] {
        let content = seed::bytes(seed, size);
        std::fs::write(folder.path().join("instruction_API(3).md"), &content).unwrap();
        let command = [
            "-X",
            "POST",
            "https://qa.gateway.intelligenceindustrielle.com/api/v1/files/upload/direct",
            "-H",
            "accept: application/json",
            "-H",
            "Authorization: Bearer token",
            "-H",
            "Content-Type: multipart/form-data",
            "-F",
            "files=@instruction_API(3).md;type=text/markdown",
            "-F",
            "path=uploads/documents",
        ];
        let answer = rest.curl(folder.path(), said, &command);
        assert_eq!((&answer["success"], &answer["summary"]["totalSize"]), (&Value::from(true), &size.into()));
        assert_eq!(answer["files"][0]["originalName"], "instruction_API(3).md");
        assert_eq!(fetch(&daemon, answer["files"][0]["url"].as_str().unwrap()).expect(200).body, content);
    }
    daemon.stop_cleanly();
}

#[test]
fn many_files_and_odd_names() {
    let (_folder, daemon) = started();
    let rest = Rest::admin(&daemon);
    let (small, large) = (seed::bytes(2, 10), seed::bytes(3, 2_000_000));
    let parts: [Part<'_>; 6] = [
        ("path", None, b"/../a//b/./c\\d/"),
        ("files", Some(("été 字🎉+%.txt", "text/plain")), &small),
        ("files", Some(("../../etc/passwd", "text/plain")), b""),
        ("ignored", None, b"whatever"),
        ("files[]", Some(("no-extension", "")), &large),
        ("file", Some(("dot.", "x/y")), &small),
    ];
    let answer = upload(&rest, &parts).expect(200).json();
    assert!(answer["uploadPath"].as_str().unwrap().ends_with("/a/b/c/d"), "{answer}");
    assert_eq!(answer["summary"]["successful"], 4);
    assert_eq!(answer["summary"]["totalSize"], 2_000_020);
    let contents = [&small[..], b"", &large, &small];
    for (n, (file, content)) in answer["files"].as_array().unwrap().iter().zip(contents).enumerate() {
        assert_eq!(file["index"], n);
        let path = file["path"].as_str().unwrap();
        assert!(path.contains("/a/b/c/d/") && !path.contains(".."), "{path}");
        assert_eq!(daemon.admin().get(&at(path)).unwrap().expect(200).body, content);
        assert_eq!(fetch(&daemon, file["url"].as_str().unwrap()).expect(200).body, content, "{path}");
    }
    assert_eq!(answer["files"][0]["originalName"], "été 字🎉+%.txt");
    assert_eq!(answer["files"][1]["rawOriginalName"], "../../etc/passwd");
    assert_eq!(answer["files"][1]["originalName"], "passwd");
    assert_eq!(answer["files"][2]["type"], "application/octet-stream");
    daemon.check_finds_nothing();
}

#[test]
fn one_bad_file_does_not_fail_the_others() {
    let (_folder, daemon) = started_with(&[("COFFRE_GATEWAY__TUS_MAX_SIZE", "1000")]);
    let rest = Rest::admin(&daemon);
    let (good, bad) = ([1; 1000], [2; 1001]);
    let parts: [Part<'_>; 3] = [
        ("files", Some(("a", "x/y")), &good),
        ("files", Some(("b", "x/y")), &bad),
        ("files", Some(("c", "x/y")), &good),
    ];
    let answer = upload(&rest, &parts).expect(200).json();
    assert_eq!(answer["success"], true);
    assert_eq!(
        answer["summary"],
        serde_json::json!({"totalFiles": 3, "successful": 2, "failed": 1, "totalSize": 2000})
    );
    let failed = &answer["files"][1];
    assert_eq!((&failed["uploadSuccess"], &failed["url"]), (&Value::from(false), &Value::Null));
    assert!(failed["error"].as_str().is_some_and(|text| !text.is_empty()));
    assert_eq!(answer["files"][2]["uploadSuccess"], true);
    // all bad
    let all_large = upload(&rest, &[("files", Some(("b", "x/y")), &bad)]).expect(413).json();
    assert_eq!(all_large["success"], false);
    assert_eq!(all_large["summary"]["failed"], 1);
    let long = "x".repeat(1100);
    let mixed: [Part<'_>; 2] = [("files", Some(("b", "x/y")), &bad), ("files", Some((&long, "x/y")), b"x")];
    let answer = upload(&rest, &mixed).expect(400).json();
    assert_eq!((&answer["success"], &answer["summary"]["failed"]), (&Value::from(false), &Value::from(2)));
    daemon.check_finds_nothing();
}

#[test]
fn requests_that_are_refused() {
    let (_folder, daemon) = started();
    let rest = Rest::admin(&daemon);
    assert_error(&upload(&rest, &[("path", None, b"x")]), 400, "VALIDATION_ERROR");
    assert_error(
        &rest.send("POST", DIRECT, &[("content-type", "application/json")], b"{}"),
        415,
        "UNSUPPORTED_MEDIA_TYPE",
    );
    assert_error(&rest.send("POST", DIRECT, &[], b""), 415, "UNSUPPORTED_MEDIA_TYPE");
    assert_error(&rest.get(DIRECT), 405, "METHOD_NOT_ALLOWED");
    let file: [Part<'_>; 1] = [("files", Some(("a", "x/y")), b"x")];
    assert_error(&upload(&rest.without_token(), &file), 401, "AUTH_REQUIRED");
    let wrong = Rest { token: Some("1|x".into()), ..rest.clone() };
    assert_error(&upload(&wrong, &file), 401, "AUTH_INVALID");
    let reader = Rest::user(&daemon, "reader", &["--permission", "read_files"]);
    assert_error(&upload(&reader, &file), 403, "PERMISSION_DENIED");
    // a client that vanishes leaves nothing
    let body = form(&[("files", Some(("a", "x/y")), &seed::bytes(1, 1_000_000))]);
    let length = body.len().to_string();
    let mut open = rest.open(
        "POST",
        DIRECT,
        &[("content-type", "multipart/form-data; boundary=limit"), ("content-length", &length)],
    );
    open.write(&body[..600_000]).unwrap();
    drop(open);
    assert_eq!(upload(&rest, &file).expect(200).json()["success"], true);
    assert_eq!(daemon.admin().list("gateway").unwrap().len(), 1);
    daemon.check_finds_nothing();
}

#[test]
fn links_are_signed_where_nobody_may_read() {
    let (_folder, daemon) = started_with(&[("COFFRE_GATEWAY__PUBLIC_READ", "false")]);
    let rest = Rest::user(&daemon, "ann", &["--application", "app", "--grant", "team"]);
    let answer = upload(&rest, &[("files", Some(("a.txt", "text/plain")), b"secret")]).expect(200).json();
    let url = answer["files"][0]["url"].as_str().unwrap();
    let (address, query) = url.split_once('?').unwrap();
    assert!(query.contains("X-Amz-Signature="));
    assert_eq!(fetch(&daemon, url).expect(200).body, b"secret");
    assert_eq!(fetch(&daemon, address).status, 403);
}
