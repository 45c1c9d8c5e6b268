//! The REST door's ground, on a real socket.

use std::collections::BTreeMap;

use crate::process::Daemon;

#[test]
fn errors_are_json_with_the_request_id() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let missing = daemon.rest("GET", "/nowhere", "x-request-id: mine-1\r\n");
    assert_eq!(missing.status, 404);
    assert_eq!(missing.json()["error"]["code"], "NOT_FOUND");
    assert_eq!(missing.header("x-request-id"), Some("mine-1"));
    assert_eq!(missing.json()["error"]["request_id"], "mine-1");

    let refused = daemon.rest("DELETE", "/readyz", "x-request-id: not one of ours\r\n");
    assert_eq!(refused.status, 405);
    assert_eq!(refused.json()["error"]["code"], "METHOD_NOT_ALLOWED");
    assert_eq!(refused.header("allow"), Some("GET,HEAD"));
    let made = refused.header("x-request-id").unwrap();
    assert!(made.len() == 36 && made != "not one of ours", "{made}");
    daemon.stop();
}

/// Series and value of every line; fails on a line that is not Prometheus' text format.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut series = BTreeMap::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            assert!(comment.starts_with("HELP ") || comment.starts_with("TYPE "), "{line}");
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let bare = name.split('{').next().unwrap();
        assert!(bare.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
        assert!(series.insert(name.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
    }
    series
}

#[test]
fn metrics_are_measured_and_may_want_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start_with(folder.path(), &[], &[("COFFRE_REST__METRICS_TOKEN", "0123")]);
    assert_eq!(daemon.rest("GET", "/metrics", "").status, 401);
    assert_eq!(daemon.rest("GET", "/metrics", "authorization: Bearer 0124\r\n").status, 401);
    daemon.rest("GET", "/nowhere", "");
    let answer = daemon.rest("GET", "/metrics", "authorization: Bearer 0123\r\n");
    assert_eq!(answer.status, 200);
    let series = parse(&answer.body);
    let value = |name: &str| *series.get(name).unwrap_or_else(|| panic!("no {name} in\n{}", answer.body));
    assert!(value("coffre_kv_commits_total") > 0.0);
    assert!(value("coffre_kv_syncs_total") > 0.0);
    assert!(value("coffre_kv_log_bytes") > 0.0);
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_open_fds") > 5.0);
    assert!(value("coffre_disk_free_bytes") > 0.0);
    assert!(value("coffre_store_objects{bucket=\"files\"}") < 1.0);
    let refused = "coffre_requests_total{door=\"rest\",operation=\"/metrics\",status=\"401\"}";
    let exactly = |name: &str, n: f64| assert!((value(name) - n).abs() < 0.5, "{name}: {}", value(name));
    exactly(refused, 2.0);
    exactly("coffre_requests_total{door=\"rest\",operation=\"other\",status=\"404\"}", 1.0);
    assert!(value("coffre_connection_bytes_total{door=\"rest\",direction=\"in\"}") > 100.0);
    assert!(
        series.keys().any(|name| name.starts_with("coffre_request_duration_seconds_bucket{")),
        "{}",
        answer.body
    );
    daemon.stop();
}

#[test]
fn requests_are_logged_without_what_their_queries_say() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--log-level", "debug", "--log-format", "json"];
    let daemon =
        Daemon::start_with(folder.path(), &flags, &[("COFFRE_REST__TRUSTED_PROXIES", "[\"127.0.0.1\"]")]);
    daemon.rest("GET", "/readyz?signature=hunter2", "x-request-id: find-me\r\n");
    daemon.rest("GET", "/nowhere", "x-request-id: by-proxy\r\nx-forwarded-for: 203.0.113.9\r\n");
    let s3 = std::net::TcpStream::connect(daemon.address("s3")).unwrap();
    let answer = crate::process::ask(s3, "GET", "/b/k?X-Amz-Security-Token=hunter2", "");
    let id = answer.header("x-amz-request-id").unwrap().to_owned();
    daemon.json(&["status"]);
    let log = daemon.log();
    daemon.stop();
    assert!(!log.contains("hunter2"), "{log}");
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (id, path, status, client) in [
        ("find-me", "/readyz?signature", 200, "127.0.0.1"),
        ("by-proxy", "/nowhere", 404, "203.0.113.9"),
        (&id, "/b/k?X-Amz-Security-Token", answer.status, "127.0.0.1"),
    ] {
        let line = lines.iter().find(|line| line["target"] == "coffre::access" && line["request_id"] == *id);
        let line = line.unwrap_or_else(|| panic!("no line of {id} in\n{log}"));
        assert_eq!((line["path"].as_str(), &line["status"]), (Some(path), &status.into()));
        assert_eq!(line["client_address"], client);
        assert!(line["duration_us"].is_u64());
    }
}
