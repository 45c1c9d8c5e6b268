//! The company's API from outside (contract §5.6, D31): shapes as the document and Twake Drive have them, chunks,
//! previews, who may what, and the same files through the S3 door.

mod chunks;
mod memory;
mod refusals;

use coffre_tests::daemon::Daemon;
use coffre_tests::rest::Rest;
use coffre_tests::s3::Answer;
use serde_json::{Value, json};
use tempfile::TempDir;

const PREFIX: &str = "/internal/services/files/v1";
const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=limit");

/// A daemon with a company, a member of it and somebody else.
struct World {
    daemon: Daemon,
    company: String,
    member: Rest,
    stranger: Rest,
    application: Rest,
    _folder: TempDir,
}

fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("data"));
    let company = daemon.json(&["org", "create", "Company"])["id"].as_str().unwrap().to_owned();
    let (member, stranger) = (Rest::user(&daemon, "member", &[]), Rest::user(&daemon, "stranger", &[]));
    let application = {
        let id = daemon.json(&["user", "create", "app", "--role", "APP"])["id"].as_str().unwrap().to_owned();
        let token = daemon.json(&["token", "create", "--user", &id, "--name", "app"]);
        Rest { token: Some(token["token"].as_str().unwrap().to_owned()), ..member.clone() }
    };
    for user in ["member", "app"] {
        daemon.json(&["org", "add-member", &company, user]);
    }
    World { daemon, company, member, stranger, application, _folder: folder }
}

impl World {
    /// The address of the company's files, with what follows.
    fn files(&self, rest: &str) -> String {
        format!("{PREFIX}/companies/{}/files{rest}", self.company)
    }
}

/// A form with one section.
fn form(section: &str, name: &str, kind: &str, bytes: &[u8]) -> Vec<u8> {
    let head = format!(
        "--limit\r\nContent-Disposition: form-data; name=\"{section}\"; filename=\"{name}\"\r\n\
         Content-Type: {kind}\r\n\r\n"
    );
    [head.as_bytes(), bytes, b"\r\n--limit--\r\n"].concat()
}

fn send(rest: &Rest, path: &str, name: &str, kind: &str, bytes: &[u8]) -> Answer {
    rest.send("POST", path, &[FORM], &form("file", name, kind, bytes))
}

fn id_of(answer: &Answer) -> String {
    answer.json()["resource"]["id"].as_str().unwrap().to_owned()
}

fn names(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// A BMP: the left half red, the right half blue.
fn picture(width: u32, height: u32) -> Vec<u8> {
    let row = (width * 3).div_ceil(4) * 4;
    let mut bytes = b"BM".to_vec();
    bytes.extend((54 + row * height).to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend(54_u32.to_le_bytes());
    bytes.extend(40_u32.to_le_bytes());
    bytes.extend(width.to_le_bytes());
    bytes.extend(height.to_le_bytes());
    bytes.extend([1, 0, 24, 0]);
    bytes.extend([0; 24]);
    for _ in 0..height {
        let before = bytes.len();
        for x in 0..width {
            bytes.extend(if x < width / 2 { [0, 0, 255] } else { [255, 0, 0] });
        }
        bytes.resize(before + row as usize, 0);
    }
    bytes
}

#[test]
fn a_file_in_one_piece_has_the_documented_shape() {
    let world = world();
    let saved =
        send(&world.member, &world.files("?thumbnail_sync=1"), "é a.txt", "text/plain", b"hello").expect(200);
    let file = saved.json()["resource"].clone();
    assert_eq!(names(&saved.json()), ["resource"]);
    assert_eq!(
        names(&file),
        [
            "application_id",
            "company_id",
            "created_at",
            "id",
            "metadata",
            "thumbnails",
            "updated_at",
            "upload_data",
            "user_id"
        ]
    );
    assert_eq!(file["company_id"], json!(world.company));
    assert_eq!(file["application_id"], Value::Null);
    assert_eq!(file["user_id"].as_str().unwrap().len(), 36);
    assert!(file["created_at"].as_u64() <= file["updated_at"].as_u64(), "{file}");
    assert_eq!(
        file["metadata"],
        json!({"name": "é a.txt", "mime": "text/plain", "thumbnails_status": "done"})
    );
    assert_eq!(file["upload_data"], json!({"size": 5, "chunks": 1}));
    assert_eq!(file["thumbnails"], json!([]));

    let id = id_of(&saved);
    // both forms of the address, with and without a slash at their end
    for path in [
        world.files(&format!("/{id}")),
        world.files(&format!("/{id}/")),
        format!("{PREFIX}/{}/files/{id}", world.company),
    ] {
        assert_eq!(world.member.get(&path).expect(200).json()["resource"], file, "{path}");
    }
    let download = world.member.get(&world.files(&format!("/{id}/download"))).expect(200);
    assert_eq!(download.body, b"hello");
    assert_eq!(
        download.header("content-disposition"),
        Some("attachment; filename=\"_ a.txt\"; filename*=UTF-8''%C3%A9%20a.txt")
    );
    assert_eq!(download.header("content-type"), Some("text/plain"));
    let ranged =
        world.member.send("GET", &world.files(&format!("/{id}/download")), &[("range", "bytes=1-2")], b"");
    assert_eq!((ranged.status, ranged.body.as_slice()), (206, b"el".as_slice()));

    // One namespace: the S3 door has it under its key, and what it deletes is gone here.
    let key = format!("/companies/{}/{id}/é a.txt", world.company);
    let there = world.daemon.admin().get(&key).unwrap().expect(200);
    assert_eq!((there.body.as_slice(), there.header("etag")), (b"hello".as_slice(), download.header("etag")));
    assert_eq!(there.header("etag"), Some("\"5d41402abc4b2a76b9719d911017c592\""));
    world.daemon.admin().delete(&key).unwrap().expect(204);
    world.member.get(&world.files(&format!("/{id}"))).expect(404);
    world.daemon.check_finds_nothing();
    world.daemon.stop_cleanly();
}

#[test]
fn what_s3_puts_at_such_a_key_is_a_file_here() {
    let world = world();
    let id = "0190c8f0-1111-4111-8111-111111111111";
    let key = format!("/companies/{}/{id}/notes.txt", world.company);
    world.daemon.admin().put(&key, b"from s3").unwrap().expect(200);
    let file = world.member.get(&world.files(&format!("/{id}"))).expect(200).json()["resource"].clone();
    assert_eq!(file["metadata"]["name"], "notes.txt");
    assert_eq!(file["created_at"], file["updated_at"]);
    let deleted = world.member.send("DELETE", &world.files(&format!("/{id}")), &[], b"").expect(200);
    assert_eq!(deleted.json(), json!({"status": "success"}));
    world.daemon.admin().get(&key).unwrap().expect(404);
    world.daemon.stop_cleanly();
}

#[test]
fn images_have_a_preview() {
    let world = world();
    let saved =
        send(&world.member, &world.files("?thumbnail_sync=1"), "p.bmp", "image/bmp", &picture(1200, 600))
            .expect(200);
    let (id, file) = (id_of(&saved), saved.json()["resource"].clone());
    assert_eq!(file["metadata"]["thumbnails_status"], "done");
    let thumbnail = file["thumbnails"][0].clone();
    assert_eq!(names(&thumbnail), ["full_url", "height", "id", "index", "size", "type", "url", "width"]);
    assert_eq!((&thumbnail["width"], &thumbnail["height"]), (&json!(600), &json!(300)));
    assert_eq!((&thumbnail["index"], &thumbnail["type"]), (&json!(0), &json!("image/png")));
    let url = thumbnail["url"].as_str().unwrap();
    assert_eq!(url, world.files(&format!("/{id}/thumbnails/0")));
    for path in
        [url.to_owned(), world.files(&format!("/{id}/thumbnails/{}", thumbnail["id"].as_str().unwrap()))]
    {
        let png = world.member.get(&path).expect(200);
        assert_eq!(png.header("content-type"), Some("image/png"));
        assert!(png.header("content-disposition").unwrap().starts_with("inline"));
        assert_eq!(&png.body[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!(png.body.len() as u64, thumbnail["size"].as_u64().unwrap());
        assert_eq!(&png.body[16..24], [600_u32.to_be_bytes(), 300_u32.to_be_bytes()].concat());
    }
    for wrong in ["1", "x", "0190c8f0-1111-7111-8111-111111111111"] {
        world.member.get(&world.files(&format!("/{id}/thumbnails/{wrong}"))).expect(404);
    }
    // Without asking for it the answer does not wait; it is there soon after all the same.
    let quick = send(&world.member, &world.files(""), "q.bmp", "image/bmp", &picture(800, 800)).expect(200);
    let shown = world.member.get(&world.files(&format!("/{}", id_of(&quick)))).expect(200).json();
    assert_eq!(shown["resource"]["metadata"]["thumbnails_status"], "done");
    assert_eq!(shown["resource"]["thumbnails"][0]["height"], 400);
    let broken =
        send(&world.member, &world.files("?thumbnail_sync=1"), "b.bmp", "image/bmp", &picture(9, 9)[..60])
            .expect(200);
    assert_eq!(broken.json()["resource"]["metadata"]["thumbnails_status"], "error");
    world.daemon.stop_cleanly();
}
