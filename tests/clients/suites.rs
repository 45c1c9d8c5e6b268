//! Libraries: their cases stand in a file of the library's own language, run by the interpreter that has it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use coffre_tests::command::run;
use coffre_tests::daemon::Daemon;

use super::{venv, with_credentials};

/// Runs a suite against a daemon of its own; its last line says how many cases have passed.
#[track_caller]
fn suite(interpreter: impl AsRef<OsStr>, file: &str) {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("data"));
    let mut command: Command = with_credentials(&daemon, folder.path(), interpreter);
    command
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(file))
        .env("COFFRE_ENDPOINT", format!("http://{}", daemon.s3_address()))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let said = run(&mut command);
    assert!(said.lines().last().is_some_and(|line| line.ends_with("cases passed")), "{said}");
    eprint!("{said}");
    daemon.check_finds_nothing();
}

#[test]
fn boto3_suite() {
    suite(venv("python"), "boto3_suite.py");
}

/// The AWS SDK for C++, as pyarrow has it.
#[test]
fn pyarrow_suite() {
    suite(venv("python"), "pyarrow_suite.py");
}

/// The crate `object_store`, as obstore has it.
#[test]
fn object_store_suite() {
    suite(venv("python"), "obstore_suite.py");
}

/// The AWS SDK for JavaScript.
#[test]
fn javascript_suite() {
    suite("node", "node/suite.mjs");
}
