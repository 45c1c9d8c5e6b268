//! Running clients: a command that fails shows all it said.

use std::process::Command;

/// Runs it, expects success, gives its standard output.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let (ok, out, err) = output(command);
    assert!(ok, "{command:?} failed\n--- stdout\n{out}\n--- stderr\n{err}");
    out
}

/// Runs it, expects failure, gives both its outputs together.
#[track_caller]
pub fn fails(command: &mut Command) -> String {
    let (ok, out, err) = output(command);
    assert!(!ok, "{command:?} should have failed\n--- stdout\n{out}\n--- stderr\n{err}");
    out + &err
}

#[track_caller]
fn output(command: &mut Command) -> (bool, String, String) {
    let out = command.output().unwrap_or_else(|e| {
        panic!("{command:?} could not be started ({e}): `make setup` installs every client the suites need")
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.success(), text(&out.stdout), text(&out.stderr))
}
