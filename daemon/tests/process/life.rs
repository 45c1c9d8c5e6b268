//! Start, readiness, credentials, a second start, a port in use, kill −9, the stop.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::process::{Daemon, coffre, run, stderr};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_data_directory_by_its_name_alone_is_in_the_working_directory() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coffre();
    command.current_dir(folder.path());
    command.args(["serve", "--s3-listen", "127.0.0.1:0", "--rest-listen", "127.0.0.1:0"]);
    let daemon = Daemon::spawn(folder.path(), command);
    assert!(folder.path().join("data/credentials.json").is_file(), "the default is data");
    daemon.stop();
}

#[test]
fn a_start_a_life_and_a_stop() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(folder.path());
    let data = daemon.data.clone();
    // READY was told, so everything is there: nothing is waited for from here on.
    assert_eq!(daemon.rest("GET", "/readyz", "").status, 200);
    assert_eq!(daemon.rest("GET", "/healthz", "").status, 200);

    let credentials = data.join("credentials.json");
    assert_eq!(mode(&credentials), 0o600);
    let credentials: Value = serde_json::from_slice(&std::fs::read(credentials).unwrap()).unwrap();
    let mut keys: Vec<&str> = credentials.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["access_key_id", "secret_access_key", "token", "user_id"]);
    assert!(
        credentials
            .as_object()
            .unwrap()
            .values()
            .all(|value| value.as_str().is_some_and(|text| text.len() >= 16))
    );
    assert_eq!(mode(&data.join("coffre.sock")), 0o600);
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("master.key")), 0o600);

    let status = daemon.json(&["status"]);
    assert_eq!(status["state"], "ready");
    assert_eq!(status["pid"], daemon.child.id());
    assert_eq!(status["listen"], daemon.listen());
    assert_eq!(status["kv"]["opened"], "new");
    let buckets: Vec<&str> =
        status["buckets"].as_array().unwrap().iter().map(|b| b["name"].as_str().unwrap()).collect();
    assert_eq!(buckets, ["companies", "files", "gateway", "media"]);

    daemon.signal(Signal::TERM);
    daemon.supervisor.expect("STOPPING=1", &mut daemon.child);
    let log = daemon.log();
    assert_eq!(daemon.ended().code(), Some(0), "{log}");
    assert!(!data.join("listen.json").exists() && !data.join("coffre.sock").exists());
    for secret in ["token", "secret_access_key"] {
        assert!(!log.contains(credentials[secret].as_str().unwrap()), "the log tells the {secret}");
    }
    // It ended cleanly: nothing is replayed.
    let daemon = Daemon::start(folder.path());
    assert_eq!(daemon.json(&["status"])["kv"]["opened"], "clean");
    daemon.stop();
}

#[test]
fn a_second_start_on_the_same_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = Daemon::start(folder.path());
    let flags = ["serve", "--s3-listen", "127.0.0.1:0", "--rest-listen", "127.0.0.1:0", "--data"];
    let second = coffre().args(flags).arg(&first.data).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let told = format!("is in use by another coffre (process {})", first.child.id());
    assert!(stderr(&second).contains(&told), "{}", stderr(&second));
    // The first one has not noticed.
    assert_eq!(first.json(&["status"])["listen"], first.listen());
    first.stop();
}

#[test]
fn a_port_in_use_is_told_with_the_listener() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = folder.path().join("data");
    for (flag, other, door) in
        [("--s3-listen", "--rest-listen", "S3"), ("--rest-listen", "--s3-listen", "REST")]
    {
        let refused = run(&["serve", "--data", data.to_str().unwrap(), flag, &address, other, "127.0.0.1:0"]);
        assert_eq!(refused.status.code(), Some(1));
        let told = format!("the {door} listener cannot have {address}: the port is in use (see {flag})");
        assert!(stderr(&refused).contains(&told), "{}", stderr(&refused));
    }
}

#[test]
fn after_kill_9_everything_acknowledged_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let credentials = std::fs::read(daemon.data.join("credentials.json")).unwrap();
    let user = daemon.json(&["user", "create", "ann"]);
    daemon.signal(Signal::KILL);
    assert_eq!(daemon.ended().code(), None);

    // The socket and listen.json of the dead are no hindrance, and the same ADMIN is still the first.
    let daemon = Daemon::start(folder.path());
    assert_eq!(std::fs::read(daemon.data.join("credentials.json")).unwrap(), credentials);
    let users = daemon.json(&["user", "list"]);
    assert!(users["users"].as_array().unwrap().iter().any(|found| found["id"] == user["id"]), "{users}");
    assert_eq!(daemon.json(&["status"])["kv"]["opened"], "replayed");
    assert_eq!(daemon.json(&["check"])["findings"], serde_json::json!([]));
    daemon.stop();
}

#[test]
fn it_tells_once_how_to_reach_it_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut child = coffre()
        .args(["serve", "--s3-listen", "127.0.0.1:0", "--rest-listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut told = String::new();
    while !told.contains("aws --endpoint-url") {
        assert_ne!(out.read_line(&mut told).unwrap(), 0, "ended: {told}");
    }
    let listen: Value = serde_json::from_slice(&std::fs::read(data.join("listen.json")).unwrap()).unwrap();
    for part in [
        &format!("S3    {}", listen["s3_url"].as_str().unwrap()),
        &format!("REST  {}", listen["rest_url"].as_str().unwrap()),
        data.join("credentials.json").to_str().unwrap(),
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    // The printed line's variables are what credentials.json says.
    let credentials: Value =
        serde_json::from_slice(&std::fs::read(data.join("credentials.json")).unwrap()).unwrap();
    let line = told.lines().last().unwrap().trim();
    let variables = line.split(" && ").next().unwrap();
    let shell = std::process::Command::new("sh")
        .args([
            "-c",
            &format!(
                "{variables}; echo $AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY $AWS_ENDPOINT_URL $REST_TOKEN $REST_URL"
            ),
        ])
        .output()
        .unwrap();
    let expected = [
        &credentials["access_key_id"],
        &credentials["secret_access_key"],
        &listen["s3_url"],
        &credentials["token"],
        &listen["rest_url"],
    ];
    let expected = expected.map(|value| value.as_str().unwrap()).join(" ");
    assert_eq!(
        String::from_utf8(shell.stdout).unwrap().trim(),
        expected,
        "{}",
        String::from_utf8_lossy(&shell.stderr)
    );
    assert!(!told.contains(credentials["secret_access_key"].as_str().unwrap()));

    rustix::process::kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!(rest.trim(), "", "said more");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// With a watchdog the daemon pings; without one it does not need to.
#[test]
fn the_watchdog_is_pinged() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start_with(folder.path(), &[], &[("WATCHDOG_USEC", "600000")]);
    daemon.supervisor.expect("WATCHDOG=1", &mut daemon.child);
    daemon.supervisor.expect("WATCHDOG=1", &mut daemon.child);
    daemon.stop();
}
