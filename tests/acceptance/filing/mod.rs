//! Filing (contract §5.4) from outside: the document's examples, its shapes, what is refused, and one namespace.

mod doors;
mod examples;
mod refusals;

use coffre_tests::daemon::Daemon;
use coffre_tests::rest::Rest;
use coffre_tests::s3::Answer;
use serde_json::Value;
use tempfile::TempDir;

const PDF: &[u8] = b"%PDF-1.4\n1 0 obj\n<<>>\nendobj\n";

fn started() -> (TempDir, Daemon) {
    started_with(&[])
}

fn started_with(environment: &[(&str, &str)]) -> (TempDir, Daemon) {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start_with(&folder.path().join("data"), &[], environment);
    (folder, daemon)
}

/// A user with these clients.
fn user(daemon: &Daemon, name: &str, clients: &[&str]) -> Rest {
    let rest = Rest::user(daemon, name, &[]);
    for client in clients {
        daemon.json(&["client", "grant", client, "--user", name]);
    }
    rest
}

/// A form: fields, then the file.
fn form(fields: &[(&str, &str)], file: Option<(&str, &[u8])>) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in fields {
        let part = format!("--limit\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
        body.extend_from_slice(part.as_bytes());
    }
    if let Some((name, bytes)) = file {
        let head = format!(
            "--limit\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--limit--\r\n");
    body
}

const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=limit");

fn upload(rest: &Rest, fields: &[(&str, &str)], file: Option<(&str, &[u8])>) -> Answer {
    rest.send("POST", "/api/files", &[FORM], &form(fields, file))
}

/// Uploads, expects 201, gives the file's number and key.
#[track_caller]
fn stored(rest: &Rest, fields: &[(&str, &str)], name: &str, bytes: &[u8]) -> (u64, String) {
    let data = upload(rest, fields, Some((name, bytes))).expect(201).json()["data"].clone();
    (data["id"].as_u64().unwrap(), data["storage_uri"].as_str().unwrap().to_owned())
}

fn put_json(rest: &Rest, id: u64, body: &Value) -> Answer {
    let body = body.to_string();
    rest.send("PUT", &format!("/api/files/{id}"), &[("content-type", "application/json")], body.as_bytes())
}

/// The names of an object's members, sorted.
fn names(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

/// The file names of a list's page, in order.
fn listed(rest: &Rest, query: &str) -> Vec<String> {
    let page = rest.get(&format!("/api/files{query}")).expect(200).json();
    let files = page["data"].as_array().unwrap().iter();
    files.map(|file| file["file_name"].as_str().unwrap().to_owned()).collect()
}

/// `client/123/devis/name_2024_12_01_10_30_45.pdf` without its time.
fn without_time(key: &str) -> String {
    let (front, extension) = key.rsplit_once('.').unwrap();
    let (stem, time) = front.split_at(front.len() - "2024_12_01_10_30_45".len());
    assert!(time.bytes().all(|b| b.is_ascii_digit() || b == b'_'), "{key}");
    format!("{stem}*.{extension}")
}
