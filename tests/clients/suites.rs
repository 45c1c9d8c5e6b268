//! Libraries: their cases stand in a file of the library's own language, run by the interpreter that has it.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use coffre_tests::command::run;
use coffre_tests::daemon::Daemon;
use coffre_tests::seed;

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
        .env("COFFRE_REST", format!("http://{}", daemon.rest_address()))
        .env("COFFRE_TOKEN", daemon.credentials()["token"].as_str().unwrap())
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

/// Resumable uploads: tus-js-client (also several at a time, which are composed) and Uppy.
#[test]
fn tus_js_client_and_uppy() {
    suite("node", "node/tus.mjs");
}

#[test]
fn tuspy_suite() {
    suite(venv("python"), "tuspy_suite.py");
}

/// Requests made up from the OpenAPI document, right ones and wrong ones, and from one another's answers: never a 5xx,
/// never a status or a body that the document does not have.
#[test]
fn schemathesis() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [
        ("COFFRE_LIMITS__RATE__GENERAL", "0"),
        ("COFFRE_LIMITS__RATE__UPLOAD", "0"),
        // without it a webhook is 503, as it should be
        ("COFFRE_BILLING__STRIPE__WEBHOOK_SECRET", "whsec_of_nobody"),
    ];
    let daemon = Daemon::start_with(&folder.path().join("data"), &[], &environment);
    let examples = seed::rounds(8, 200);
    // What would take the token or its user away comes last.
    let last = ["revoke_token", "disable_user"];
    for which in ["--exclude-operation-id", "--include-operation-id"] {
        let mut command = Command::new(venv("schemathesis"));
        command
            .current_dir(folder.path())
            .env("PYTHONPATH", Path::new(env!("CARGO_MANIFEST_DIR")).join("clients"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("SCHEMATHESIS_HOOKS", "schemathesis_hooks")
            .args(["run", "--no-color", "--generation-deterministic"])
            .args(["--checks=not_a_server_error,status_code_conformance,content_type_conformance"])
            .arg(format!("--max-examples={examples}"))
            .arg(format!(
                "--header=Authorization: Bearer {}",
                daemon.credentials()["token"].as_str().unwrap()
            ));
        for operation in last {
            command.args([which, operation]);
        }
        command.arg(format!("http://{}/openapi.json", daemon.rest_address()));
        eprint!("{}", run(&mut command));
    }
    daemon.check_finds_nothing();
    daemon.stop_cleanly();
}
