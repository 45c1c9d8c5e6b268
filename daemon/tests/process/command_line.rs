//! The commands against a running and a stopped daemon.

use rustix::process::Signal;
use serde_json::json;

use crate::process::{Daemon, coffre, stderr};

#[test]
fn users_keys_tokens_and_buckets() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let ann = daemon.json(&["user", "create", "ann", "--email", "ann@example.org", "--role", "admin"]);
    assert_eq!(
        (&ann["name"], &ann["role"], &ann["disabled"]),
        (&json!("ann"), &json!("ADMIN"), &json!(false))
    );
    let again = daemon.cli(&["user", "create", "ann"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("taken"), "{}", stderr(&again));

    // A name works where an id does.
    let by_name = daemon.json(&["key", "create", "--user", "ann"]);
    let by_id = daemon.json(&["key", "create", "--user", ann["id"].as_str().unwrap()]);
    assert_eq!(by_name["user_id"], by_id["user_id"]);
    let keys = daemon.json(&["key", "list", "--user", "ann"]);
    assert_eq!(keys["keys"].as_array().unwrap().len(), 2);
    assert!(!keys.to_string().contains(by_id["secret_access_key"].as_str().unwrap()));
    daemon.json(&["key", "revoke", by_id["access_key_id"].as_str().unwrap()]);
    assert_eq!(daemon.json(&["key", "list", "--user", "ann"])["keys"].as_array().unwrap().len(), 1);

    let token =
        daemon.json(&["token", "create", "--user", "ann", "--name", "ci", "--permission", "read_files"]);
    let text = token["token"].as_str().unwrap();
    assert!(text.starts_with(&format!("{}|", token["id"].as_str().unwrap())), "{text}");
    assert!(!daemon.json(&["token", "list"]).to_string().contains(text));
    daemon.json(&["token", "revoke", token["id"].as_str().unwrap()]);

    assert_eq!(daemon.json(&["user", "disable", "ann"])["disabled"], true);
    assert_eq!(daemon.json(&["user", "enable", "ann"])["disabled"], false);

    assert_eq!(daemon.json(&["bucket", "create", "anns", "--owner", "ann"])["owner"], ann["id"]);
    let names = |daemon: &Daemon| -> Vec<String> {
        let buckets = daemon.json(&["bucket", "list"]);
        buckets["buckets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|b| b["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&daemon), ["anns", "companies", "files", "gateway", "media"]);
    let twice = daemon.cli(&["bucket", "create", "anns"]);
    assert!(stderr(&twice).contains("the bucket anns exists already"), "{}", stderr(&twice));
    daemon.json(&["bucket", "delete", "anns"]);
    assert_eq!(names(&daemon).len(), 4);
    assert_eq!(daemon.cli(&["bucket", "delete", "files"]).status.code(), Some(1));

    let org = daemon.json(&["org", "create", "acme"]);
    assert!(org["id"].is_string());
    assert_eq!(daemon.json(&["org", "add-member", "acme", "ann"])["member"], true);
    assert_eq!(daemon.json(&["client", "grant", "42", "--user", "ann"])["granted"], true);
    for (args, words) in [
        (&["key", "create", "--user", "nobody"][..], "there is no user nobody"),
        (&["org", "add-member", "none", "ann"], "there is no organisation none"),
        (&["bucket", "delete", "nothing"], "there is no bucket nothing"),
        (&["bucket", "create", "No"], "`No` is not a bucket name"),
        (&["token", "revoke", "x"], "a token's id is a UUID"),
    ] {
        let refused = daemon.cli(args);
        assert_eq!(refused.status.code(), Some(1), "{args:?}");
        assert!(stderr(&refused).starts_with(&format!("coffre: {words}")), "{args:?}: {}", stderr(&refused));
    }
    daemon.stop();
}

#[test]
fn data_and_json_work_before_and_after_the_subcommand() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let data = daemon.data.to_str().unwrap();
    for args in [
        ["--data", data, "--json", "user", "list"],
        ["--json", "user", "list", "--data", data],
        ["user", "--data", data, "list", "--json"],
    ] {
        let output = coffre().args(args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(value["users"][0]["role"], "ADMIN");
    }
    // Without them: systemd's directory, and columns for people.
    let output = coffre().args(["user", "list"]).env("STATE_DIRECTORY", data).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("ID "), "{}", stderr(&output));
    daemon.stop();
}

#[test]
fn gc_scrub_and_check_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    assert_eq!(daemon.json(&["gc"]), json!({"freed_bytes": 0, "blobs": 0}));
    assert_eq!(daemon.json(&["scrub"])["damaged"], json!([]));
    let checked = daemon.json(&["check", "--rebuild-index"]);
    assert_eq!(checked["findings"], json!([]));
    assert_eq!(checked["index"], "rebuilt at the next start");
    daemon.stop();
    let daemon = Daemon::start(folder.path());
    assert_eq!(daemon.json(&["status"])["kv"]["opened"], "rebuilt");
    daemon.stop();
    let daemon = Daemon::start(folder.path());
    assert_eq!(daemon.json(&["status"])["kv"]["opened"], "clean");
    daemon.stop();
}

#[test]
fn without_a_daemon_commands_say_so_and_check_works() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let data = daemon.data.clone();
    let text = data.to_str().unwrap();
    let user = daemon.json(&["user", "create", "ann"]);
    // It leaves its socket behind.
    daemon.signal(Signal::KILL);
    daemon.ended();
    for args in [&["status"][..], &["user", "list"], &["gc"]] {
        let refused = coffre().args(args).args(["--data", text]).output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        let told = format!("coffre: no coffre runs on {text}; start it with `coffre serve --data {text}`");
        assert!(stderr(&refused).starts_with(&told), "{}", stderr(&refused));
    }
    for args in [&["check"][..], &["check", "--rebuild-index"]] {
        let checked = coffre().args(args).args(["--json", "--data", text]).output().unwrap();
        assert!(checked.status.success(), "{}", stderr(&checked));
        let value: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
        assert_eq!(value["findings"], json!([]));
        assert_eq!(value["index"].as_str(), (args.len() > 1).then_some("rebuilt"));
    }
    let nowhere = folder.path().join("nowhere");
    let refused = coffre().args(["check", "--data"]).arg(&nowhere).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(!nowhere.exists());

    let daemon = Daemon::start(folder.path());
    assert!(daemon.json(&["user", "list"]).to_string().contains(user["id"].as_str().unwrap()));
    daemon.stop();
}
