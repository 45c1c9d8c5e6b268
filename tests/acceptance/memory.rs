//! Memory does not grow with the object (contract D38): a large multipart upload by ten senders, and its download.
//! 1 GiB; 10 GiB with `COFFRE_LONG`.

use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use coffre_tests::daemon::{Daemon, peak_while};
use coffre_tests::s3::{Client, Request};
use coffre_tests::seed;
use sha2::{Digest, Sha256};

const PART: usize = 16 << 20;
const SENDERS: usize = 10;
/// D38: at most this above idle.
const GROWTH_MAX: u64 = 32_000_000;
/// D38: idle.
const IDLE_MAX: u64 = 150_000_000;

#[test]
fn a_large_upload_and_its_download_keep_memory_within_bounds() {
    let gib = if seed::is_long() { 10 } else { 1 };
    let parts = gib * (1 << 30) / PART;
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("data"));
    let s3 = daemon.admin();
    s3.put("/memory", b"").unwrap().expect(200);
    // Once round before measuring: threads, pools and connections are there.
    upload(&s3, "/memory/warm", SENDERS);
    download(&s3, "/memory/warm", SENDERS);
    let idle = daemon.rss_anon();
    assert!(idle <= IDLE_MAX, "idle: {idle} bytes");

    let pid = || Some(daemon.pid());
    let ((), peak) = peak_while(pid, || upload(&s3, "/memory/large", parts));
    eprintln!("upload of {gib} GiB: idle {idle}, peak {peak} bytes");
    assert!(peak <= idle + GROWTH_MAX, "upload: idle {idle}, peak {peak}");
    let ((), peak) = peak_while(pid, || download(&s3, "/memory/large", parts));
    eprintln!("download of {gib} GiB: idle {idle}, peak {peak} bytes");
    assert!(peak <= idle + GROWTH_MAX, "download: idle {idle}, peak {peak}");
    daemon.check_finds_nothing();
    daemon.stop_cleanly();
}

fn part(number: usize) -> Vec<u8> {
    // A few different parts are enough, and cheap to make.
    let mut bytes = seed::bytes(number as u64 % 5, PART);
    bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
    bytes
}

fn upload(s3: &Client, path: &str, parts: usize) {
    let begun = s3.post(path, &[("uploads", "")], b"").unwrap().expect(200);
    let id = begun.element("UploadId").unwrap();
    let next = AtomicU64::new(1);
    let lines = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                loop {
                    let number = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap();
                    if number > parts {
                        return;
                    }
                    let body = part(number);
                    let query = [("partNumber", &*number.to_string()), ("uploadId", &id)];
                    let request =
                        Request { method: "PUT", path, query: &query, body: &body, ..Request::default() };
                    let etag = s3.send(&request).unwrap().expect(200).header("etag").unwrap().to_owned();
                    let line = format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>");
                    lines.lock().unwrap().push((number, line));
                }
            });
        }
    });
    let mut lines = lines.into_inner().unwrap();
    lines.sort();
    let xml: String = lines.into_iter().map(|(_, line)| line).collect();
    let xml = format!("<CompleteMultipartUpload>{xml}</CompleteMultipartUpload>");
    s3.post(path, &[("uploadId", &id)], xml.as_bytes()).unwrap().expect(200);
}

/// Ten readers of the whole object would only test the loopback: one reads it all, and what it reads is right.
fn download(s3: &Client, path: &str, parts: usize) {
    let url = s3.presign("GET", path, 3600);
    let mut body = ureq::get(&url).call().unwrap().into_body().into_reader();
    let mut buffer = vec![0; PART];
    for number in 1..=parts {
        body.read_exact(&mut buffer).unwrap();
        assert_eq!(Sha256::digest(&buffer), Sha256::digest(part(number)), "part {number}");
    }
    assert_eq!(body.read(&mut buffer).unwrap(), 0, "more than was stored");
}
