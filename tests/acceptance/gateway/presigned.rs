//! `POST /api/v1/files/upload/generate/presigned-url` (document 2.8.10): links that work at the S3 door, and bind what
//! they were asked for.

use coffre_tests::daemon::Daemon;
use coffre_tests::rest::Rest;
use coffre_tests::s3::Answer;
use serde_json::{Value, json};

use super::{assert_error, at, fetch, names, started};

const PRESIGNED: &str = "/api/v1/files/upload/generate/presigned-url";

fn ask(rest: &Rest, request: &Value) -> Answer {
    rest.send("POST", PRESIGNED, &[("content-type", "application/json")], request.to_string().as_bytes())
}

fn put(daemon: &Daemon, url: &str, content_type: &str, body: &[u8]) -> Answer {
    let headers = [("content-type".to_owned(), content_type.to_owned())];
    daemon.anonymous().exchange("PUT", url, &headers, body).unwrap()
}

#[test]
fn the_documents_single_file() {
    let (_folder, daemon) = started();
    let rest = Rest::user(&daemon, "ann", &["--application", "app_1", "--grant", "grant_2"]);
    let request = json!({
        "fileName": "demo.mp4",
        "contentType": "video/mp4",
        "path": "videos/user-123",
        "expiresIn": 3600,
        "metadata": {"tag": "marketing", "campaign": "été & spring"},
    });
    let answer = ask(&rest, &request).expect(200).json();
    let documented = ["expiresAt", "expiresIn", "filePath", "publicUrl", "success", "uploadPath", "url"];
    assert_eq!(names(&answer), documented);
    assert_eq!((&answer["success"], &answer["expiresIn"]), (&Value::from(true), &Value::from(3600)));
    assert_eq!(answer["uploadPath"], "app_1/grant_2/videos/user-123");
    let (url, public) = (answer["url"].as_str().unwrap(), answer["publicUrl"].as_str().unwrap());
    assert!(
        url.starts_with(&format!("{public}?")) && url.contains("X-Amz-Algorithm=AWS4-HMAC-SHA256"),
        "{url}"
    );
    let key = answer["filePath"].as_str().unwrap();
    let name = key.strip_prefix("app_1/grant_2/videos/user-123/demo_").unwrap();
    let (ms, uuid) = name.strip_suffix(".mp4").unwrap().split_once('_').unwrap();
    assert!(ms.parse::<u64>().is_ok() && uuid.len() == 36, "{key}");
    let expires = answer["expiresAt"].as_str().unwrap();
    assert!(expires.len() == 24 && expires.ends_with('Z'), "{expires}");
    // another type, other metadata, other bytes' length matter; then the upload itself
    put(&daemon, url, "video/webm", b"x").expect(403);
    put(&daemon, &url.replace("marketing", "sales"), "video/mp4", b"x").expect(403);
    put(&daemon, &url.replace("&x-amz-meta-tag=marketing", ""), "video/mp4", b"x").expect(403);
    put(&daemon, &url.replace("demo_", "other_"), "video/mp4", b"x").expect(403);
    put(&daemon, url, "video/mp4", b"content").expect(200);
    let object = daemon.admin().get(&at(key)).unwrap().expect(200);
    assert_eq!((object.body.as_slice(), object.header("content-type")), (&b"content"[..], Some("video/mp4")));
    assert_eq!(object.header("x-amz-meta-tag"), Some("marketing"));
    assert!(object.header("x-amz-meta-campaign").is_some());
    assert_eq!(fetch(&daemon, public).expect(200).body, b"content");
    daemon.check_finds_nothing();
    daemon.stop_cleanly();
}

#[test]
fn the_documents_many_files() {
    let (_folder, daemon) = started();
    let rest = Rest::admin(&daemon);
    let request = json!({
        "files": [
            {"fileName": "photo1.jpg", "contentType": "image/jpeg"},
            {"fileName": "video2.mp4", "contentType": "video/mp4"},
            {"fileName": "sp ace +(1).txt"},
        ],
        "path": "uploads/batch-456",
        "expiresIn": 60,
    });
    let answer = ask(&rest, &request).expect(200).json();
    assert_eq!(names(&answer), ["count", "expiresIn", "success", "uploadPath", "urls"]);
    assert_eq!((&answer["count"], &answer["expiresIn"]), (&Value::from(3), &Value::from(60)));
    let documented =
        ["expiresAt", "expiresIn", "fileName", "filePath", "originalFileName", "preSignedUrl", "publicUrl"];
    for (url, kind) in
        answer["urls"].as_array().unwrap().iter().zip(["image/jpeg", "video/mp4", "application/octet-stream"])
    {
        assert_eq!(names(url), documented);
        let (signed, public) = (url["preSignedUrl"].as_str().unwrap(), url["publicUrl"].as_str().unwrap());
        assert!(signed.starts_with(&format!("{public}?")));
        assert!(url["filePath"].as_str().unwrap().ends_with(url["fileName"].as_str().unwrap()));
        put(&daemon, signed, kind, kind.as_bytes()).expect(200);
        assert_eq!(fetch(&daemon, public).expect(200).body, kind.as_bytes());
    }
    assert_eq!(answer["urls"][2]["originalFileName"], "sp ace +(1).txt");
}

#[test]
fn links_die_with_their_token_and_requests_are_refused() {
    let (_folder, daemon) = started();
    let admin = Rest::admin(&daemon);
    let user = daemon.json(&["user", "create", "ann"]);
    let user = user["id"].as_str().unwrap();
    let token = daemon.json(&["token", "create", "--user", user, "--name", "t"]);
    let text = token["token"].as_str().unwrap().to_owned();
    let rest = Rest { token: Some(text.clone()), ..admin.clone() };
    let one = json!({"fileName": "a.txt", "contentType": "text/plain"});
    let url = ask(&rest, &one).expect(200).json()["url"].as_str().unwrap().to_owned();
    put(&daemon, &url, "text/plain", b"x").expect(200);
    let id = text.split('|').next().unwrap();
    daemon.json(&["token", "revoke", id]);
    put(&daemon, &url, "text/plain", b"y").expect(403);
    for wrong in [
        json!({}),
        json!({"fileName": ""}),
        json!({"fileName": "a", "expiresIn": 0}),
        json!({"fileName": "a", "expiresIn": 604_801}),
        json!({"fileName": "a", "expiresIn": "soon"}),
        json!({"fileName": "a", "metadata": {"a b": "x"}}),
        json!({"fileName": "a", "metadata": "x"}),
        json!({"fileName": "a", "contentType": "a\nb"}),
        json!({"files": []}),
        json!({"files": [{"contentType": "x/y"}]}),
        json!([]),
    ] {
        assert_error(&ask(&admin, &wrong), 400, "VALIDATION_ERROR");
    }
    assert_error(
        &admin.send("POST", PRESIGNED, &[("content-type", "application/json")], b"{"),
        400,
        "VALIDATION_ERROR",
    );
    assert_error(
        &admin.send("POST", PRESIGNED, &[("content-type", "text/plain")], b"{}"),
        415,
        "UNSUPPORTED_MEDIA_TYPE",
    );
    assert_error(&ask(&admin.without_token(), &one), 401, "AUTH_REQUIRED");
    assert_error(&ask(&rest, &one), 401, "AUTH_INVALID");
    assert_error(&admin.get(PRESIGNED), 405, "METHOD_NOT_ALLOWED");
    let reader = Rest::user(&daemon, "reader", &["--permission", "read_files"]);
    assert_error(&ask(&reader, &one), 403, "PERMISSION_DENIED");
}
