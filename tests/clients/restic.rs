//! restic as Debian ships it: backups whose every byte is read back, restored, thinned out and pruned.

use std::fs;
use std::process::Command;

use coffre_tests::command::{fails, run};
use coffre_tests::daemon::Daemon;
use coffre_tests::seed;

use super::{keys, many_files, samples, tree, with_credentials, write_file};

#[test]
fn restic_backs_up_checks_restores_and_prunes() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("data"));
    let repository = format!("s3:http://{}/restic-bucket/a repo", daemon.s3_address());
    let restic = |args: &[&str]| -> Command {
        let mut command = with_credentials(&daemon, folder.path(), "restic");
        command.env("RESTIC_REPOSITORY", &repository).env("RESTIC_PASSWORD", "not a secret");
        command.env("RESTIC_CACHE_DIR", folder.path().join("cache")).env("RESTIC_PROGRESS_FPS", "0.1");
        command.args(args).current_dir(folder.path());
        command
    };
    let here = folder.path().join("here");
    samples(&here.join("samples"));
    many_files(&here.join("many"), if seed::is_long() { 3_000 } else { 300 });
    run(&mut restic(&["init"]));
    run(&mut restic(&["backup", "--quiet", "here"]));
    let first = tree(&here);

    // Some go, some come, one is written over: the second backup is another tree.
    fs::remove_dir_all(here.join("many/d3")).unwrap();
    write_file(&here.join("samples/large"), 77, 9_000_000);
    write_file(&here.join("more"), 78, if seed::is_long() { 300 << 20 } else { 20 << 20 });
    run(&mut restic(&["backup", "--quiet", "here"]));
    let second = tree(&here);
    let snapshots: serde_json::Value =
        serde_json::from_str(&run(&mut restic(&["snapshots", "--json"]))).unwrap();
    let oldest = snapshots[0]["short_id"].as_str().unwrap();
    assert_eq!(snapshots.as_array().map(Vec::len), Some(2), "{snapshots}");

    run(&mut restic(&["check", "--read-data"]));
    run(&mut restic(&["restore", "--target", "old", oldest]));
    assert_eq!(first, tree(&folder.path().join("old/here")));
    let before = keys(&daemon, "restic-bucket").len();
    run(&mut restic(&["forget", "--keep-last", "1", "--prune"]));
    let after = keys(&daemon, "restic-bucket").len();
    assert!(after < before, "pruning removed objects: {before} → {after}");
    fails(&mut restic(&["restore", "--target", "older", oldest]));

    // Without its cache restic has only what the daemon gives.
    fs::remove_dir_all(folder.path().join("cache")).unwrap();
    run(&mut restic(&["check", "--read-data"]));
    run(&mut restic(&["restore", "--target", "new", "latest"]));
    assert_eq!(second, tree(&folder.path().join("new/here")));
    daemon.check_finds_nothing();
}
