//! Memory does not grow with the file (contract D38): 1 GiB in a form and by TUS; 5 GiB with `COFFRE_LONG`. Who vanishes in
//! the middle leaves nothing that is not swept.

use std::time::Duration;

use coffre_tests::daemon::{peak_while, wait_for};
use coffre_tests::rest::Rest;
use coffre_tests::s3::Answer;
use coffre_tests::seed;

use super::{at, started, started_with};

const MIB: usize = 1 << 20;
/// Bytes sent in one piece.
const PIECE: usize = 4 * MIB;
/// D38: at most this above idle.
const GROWTH_MAX: u64 = 32_000_000;
const TUS: (&str, &str) = ("tus-resumable", "1.0.0");
const UP: &str = "/api/v1/files/upload/multipart";
const FORM_HEAD: &str =
    "--limit\r\nContent-Disposition: form-data; name=\"files\"; filename=\"large.bin\"\r\n\r\n";
const FORM_TAIL: &str = "\r\n--limit--\r\n";

/// Sends a body of so many bytes without having all of it.
fn stream(rest: &Rest, request: (&str, &str, &[(&str, &str)]), parts: (&str, usize, &str)) -> Answer {
    let ((method, path, headers), (head, bytes, tail)) = (request, parts);
    let length = (head.len() + bytes + tail.len()).to_string();
    let mut open = rest.open(method, path, &[headers, &[("content-length", length.as_str())]].concat());
    open.write(head.as_bytes()).unwrap();
    let mut piece = seed::bytes(1, PIECE);
    for n in 0..bytes / PIECE {
        piece[..8].copy_from_slice(&(n as u64).to_be_bytes());
        open.write(&piece).unwrap();
    }
    open.write(tail.as_bytes()).unwrap();
    open.answer()
}

/// The object's key.
fn direct(rest: &Rest, bytes: usize) -> String {
    let kind = [("content-type", "multipart/form-data; boundary=limit")];
    let request = ("POST", "/api/v1/files/upload/direct", &kind[..]);
    let answer = stream(rest, request, (FORM_HEAD, bytes, FORM_TAIL)).expect(200).json();
    answer["files"][0]["path"].as_str().unwrap().to_owned()
}

fn resumable(rest: &Rest, bytes: usize) -> String {
    let length = bytes.to_string();
    let begun = rest.send("POST", UP, &[TUS, ("upload-length", &length)], b"").expect(201);
    let headers = [TUS, ("content-type", "application/offset+octet-stream"), ("upload-offset", "0")];
    let request = ("PATCH", begun.header("location").unwrap(), &headers[..]);
    stream(rest, request, ("", bytes, "")).expect(204);
    begun.header("x-s3-key").unwrap().to_owned()
}

#[test]
fn large_uploads_keep_memory_within_bounds() {
    let (_folder, daemon) = started();
    let rest = Rest::admin(&daemon);
    let bytes = if seed::is_long() { 5 << 30 } else { 1 << 30 };
    for upload in [direct, resumable] {
        // Once before measuring: threads and pools are there.
        upload(&rest, 64 * MIB);
        let idle = daemon.rss_anon();
        let (key, peak) = peak_while(|| Some(daemon.pid()), || upload(&rest, bytes));
        eprintln!("{bytes} bytes: idle {idle}, peak {peak} bytes");
        assert!(peak <= idle + GROWTH_MAX, "idle {idle}, peak {peak}");
        let (size, last) = (bytes as u64, (bytes / PIECE - 1) as u64);
        let url = daemon.admin().presign("GET", &at(&key), 600);
        let tail = format!("bytes={}-{}", size - PIECE as u64, size - PIECE as u64 + 7);
        let answer = ureq::get(&url).header("range", &tail).call().unwrap();
        let range = answer.headers()["content-range"].to_str().unwrap().to_owned();
        assert!(range.ends_with(&format!("/{size}")), "{range}");
        assert_eq!(answer.into_body().read_to_vec().unwrap(), last.to_be_bytes());
        daemon.admin().delete(&at(&key)).unwrap().expect(204);
    }
    daemon.stop_cleanly();
}

#[test]
fn who_vanishes_leaves_nothing_behind() {
    let (_folder, daemon) = started_with(&[("COFFRE_STORAGE__GRACE_SECONDS", "1")]);
    let rest = Rest::admin(&daemon);
    let kind = ("content-type", "multipart/form-data; boundary=limit");
    for _ in 0..3 {
        let length = ("content-length", "100000000");
        let mut open = rest.open("POST", "/api/v1/files/upload/direct", &[kind, length]);
        open.write(FORM_HEAD.as_bytes()).unwrap();
        open.write(&seed::bytes(2, 20 * MIB)).unwrap();
        drop(open);
    }
    let staging = daemon.data().join("staging");
    wait_for("staging is empty", Duration::from_secs(90), || {
        std::fs::read_dir(&staging).unwrap().next().is_none().then_some(())
    });
    daemon.check_finds_nothing();
    daemon.stop_cleanly();
}
