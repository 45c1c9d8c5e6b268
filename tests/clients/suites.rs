//! boto3: the cases stand in `boto3_suite.py`, run by the interpreter that has it.

use coffre_tests::command::run;
use coffre_tests::daemon::Daemon;

use super::{venv, with_credentials};

#[test]
fn boto3_suite() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("data"));
    let suite = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/boto3_suite.py");
    let mut python = with_credentials(&daemon, folder.path(), venv("python"));
    python.arg(suite).env("COFFRE_ENDPOINT", format!("http://{}", daemon.s3_address()));
    let said = run(&mut python);
    assert!(said.lines().last().is_some_and(|line| line.ends_with("cases passed")), "{said}");
    eprint!("{said}");
    daemon.check_finds_nothing();
}
