//! Real clients, untouched, against a started daemon: the same bytes come out as went in, by SHA-256 (contract §3).
//!
//! A client that is missing fails its test; `make setup` installs them all.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by a panic, and tells its cases, and what it could not end, on stderr"
)]

mod aws_cli;
mod rclone;
mod restic;
mod s3cmd;
mod s3fs;
mod s5cmd;
mod stripe;
mod suites;

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use coffre_tests::daemon::Daemon;
use coffre_tests::s3::elements;
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};

/// Where `make setup` has put the Python clients.
fn venv(program: &str) -> PathBuf {
    let root = std::env::var_os("COFFRE_VENV")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(".venv"), PathBuf::from);
    root.join("bin").join(program)
}

/// A command with the first ADMIN's credentials and nothing of the caller's own configuration.
fn with_credentials(daemon: &Daemon, home: &Path, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let key = daemon.admin_key();
    let mut command = Command::new(program);
    command
        .env("HOME", home)
        .env("AWS_CONFIG_FILE", home.join("aws-config"))
        .env("AWS_SHARED_CREDENTIALS_FILE", home.join("aws-credentials"))
        .env("AWS_ACCESS_KEY_ID", key.id)
        .env("AWS_SECRET_ACCESS_KEY", key.secret)
        .env("AWS_DEFAULT_REGION", key.region)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_PAGER", "")
        // For proxies with certificates of their own; rclone refuses it where it cannot use it.
        .env_remove("AWS_CA_BUNDLE")
        .env_remove("AWS_PROFILE");
    command
}

/// Writes a file whose bytes follow from `tag`, a MiB at a time.
fn write_file(path: &Path, tag: u64, len: usize) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    let mut left = len;
    let mut step = 0;
    while left > 0 {
        let n = left.min(1 << 20);
        file.write_all(&coffre_tests::seed::bytes(tag * 100_000 + step, n)).unwrap();
        (left, step) = (left - n, step + 1);
    }
    file.flush().unwrap();
}

/// SHA-256 of a file, in hex.
fn sha256(path: &Path) -> String {
    let mut file = File::open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return hex::encode(hash.finalize()),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Relative path and SHA-256 of every file below a folder.
fn tree(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), sha256(&path)));
            }
        }
    }
    found.sort();
    found
}

/// Names that clients encode in different ways, with sizes on both sides of where a way of sending or storing begins.
const SAMPLES: [(&str, usize); 11] = [
    ("empty", 0),
    ("one", 1),
    ("sp ace", 4096),
    ("plus+plus", 4097),
    ("per%2Fcent%", 70_000),
    ("été 字🎉", 128 * 1024 + 1),
    ("a&b=c?d#e", 12),
    ("q'uote", 3),
    ("til~de!(x)", 5),
    ("five", 5 << 20),
    ("large", 23 * (1 << 20) + 17),
];

/// A folder with a file of each sample.
fn samples(root: &Path) {
    fs::create_dir_all(root).unwrap();
    for (tag, (name, len)) in (1..).zip(SAMPLES) {
        write_file(&root.join(name), tag, len);
    }
}

/// Every key of a bucket, as the daemon tells it without the client.
fn keys(daemon: &Daemon, bucket: &str) -> Vec<String> {
    let (admin, path) = (daemon.admin(), format!("/{bucket}"));
    let mut found: Vec<String> = Vec::new();
    loop {
        let after = found.last().map_or("", String::as_str);
        let query = [("list-type", "2"), ("encoding-type", "url"), ("start-after", after)];
        let page = admin.query(&path, &query).unwrap().expect(200);
        let decode = |key: String| percent_decode_str(&key).decode_utf8().unwrap().into_owned();
        found.extend(elements(&page.text(), "Key").into_iter().map(decode));
        if page.element("IsTruncated").as_deref() != Some("true") {
            return found;
        }
    }
}

/// A folder of `n` small files of many sizes and odd names in nested folders.
fn many_files(root: &Path, n: u64) {
    for i in 0..n {
        let folder = root.join(format!("d{}", i % 17)).join(format!("é {}", i % 5));
        fs::create_dir_all(&folder).unwrap();
        let len = usize::try_from(i * 37 % 9_000).unwrap();
        write_file(&folder.join(format!("f+{i} 字.bin")), i, len);
    }
}
