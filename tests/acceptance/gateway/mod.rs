//! The gateway's uploads (contract §5.1): direct, resumable by TUS, presigned. Statuses by raw sockets, shapes against
//! the document.

mod direct;
mod memory;
mod presigned;
mod tus;

use coffre_tests::daemon::Daemon;
use coffre_tests::s3::Answer;
use serde_json::Value;
use tempfile::TempDir;

fn started() -> (TempDir, Daemon) {
    started_with(&[])
}

fn started_with(environment: &[(&str, &str)]) -> (TempDir, Daemon) {
    let folder = tempfile::tempdir().unwrap();
    // these tests send more than a hundred uploads an hour
    let all = [&[("COFFRE_LIMITS__RATE__UPLOAD", "0"), ("COFFRE_LIMITS__RATE__GENERAL", "0")], environment]
        .concat();
    let daemon = Daemon::start_with(&folder.path().join("data"), &[], &all);
    (folder, daemon)
}

/// Path of an object at the S3 door, from its key.
fn at(key: &str) -> String {
    format!("/gateway/{key}")
}

/// The names of an object's members, in order.
fn names(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// An error in the gateway's style (contract D9).
#[track_caller]
fn assert_error(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["success"], false, "{body}");
    assert_eq!(body["code"], code, "{body}");
    assert!(body["error"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
}

/// What a URL's path is, decoded as S3's clients want it: it is sent as it stands.
fn fetch(daemon: &Daemon, url: &str) -> Answer {
    daemon.anonymous().exchange("GET", url, &[], b"").unwrap()
}
