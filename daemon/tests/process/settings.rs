//! Settings as `serve` and `config check` refuse them (contract D32, D34). The table of all of them is a unit test.

use crate::process::{coffre, run, stderr};

#[test]
fn wrong_settings_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("coffre.toml");
    std::fs::write(&file, "[storage]\ngrace = 1\n").unwrap();
    let file = file.to_str().unwrap();
    let data = folder.path().join("data");
    for command in [&["serve", "--config", file][..], &["config", "check", "--config", file]] {
        let refused = coffre().args(command).arg("--data").arg(&data).output().unwrap();
        assert_eq!(refused.status.code(), Some(1), "{command:?}");
        let told = format!("coffre: {file}: storage.grace: no such key; known here: index, inline_max");
        assert!(stderr(&refused).starts_with(&told), "{}", stderr(&refused));
    }
    let refused =
        coffre().args(["serve", "--data"]).arg(&data).env("COFFRE_LOG__LEVEL", "loud").output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("COFFRE_LOG__LEVEL: log.level: has to be one of error, warn"));
    // Nothing was made.
    assert!(!data.exists());

    let unknown = run(&["serve", "--s3-lissten", "127.0.0.1:0"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("--s3-lissten"), "{}", stderr(&unknown));
}

#[test]
fn beyond_loopback_a_public_url_is_required() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    for (flag, section) in [("--s3-listen", "s3"), ("--rest-listen", "rest")] {
        let refused = coffre().args(["serve", flag, "0.0.0.0:0", "--data"]).arg(&data).output().unwrap();
        assert_eq!(refused.status.code(), Some(1));
        let told = stderr(&refused);
        assert!(
            told.contains(&format!("{flag}: {section}.listen: is reachable beyond this machine")),
            "{told}"
        );
        assert!(told.contains(&format!("set [{section}] public_url, or listen on 127.0.0.1")), "{told}");
    }
    assert!(!data.exists());
}

#[test]
fn config_check_tells_what_was_given_where() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("coffre.toml");
    std::fs::write(&file, "[s3]\nregion = \"eu-test-1\"\n[jobs]\nworkers = 3\n").unwrap();
    let checked = coffre()
        .args(["--json", "config", "check"])
        .env("CONFIGURATION_DIRECTORY", folder.path())
        .env("COFFRE_LOG__FORMAT", "json")
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", stderr(&checked));
    let value: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    let given: Vec<(&str, &str, bool)> = value["given"]
        .as_array()
        .unwrap()
        .iter()
        .map(|g| (g["key"].as_str().unwrap(), g["from"].as_str().unwrap(), g["unused"].as_bool().unwrap()))
        .collect();
    let file = file.to_str().unwrap();
    assert_eq!(
        given,
        [
            ("jobs.workers", file, true),
            ("log.format", "COFFRE_LOG__FORMAT", false),
            ("s3.region", file, false)
        ]
    );
}
