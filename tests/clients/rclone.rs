//! rclone as Debian ships it: copy, sync, check with download, move, purge.

use std::process::Command;

use coffre_tests::command::run;
use coffre_tests::daemon::Daemon;

use super::{many_files, tree, with_credentials, write_file};

#[test]
fn rclone_copies_checks_and_purges() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("data"));
    let rclone = |args: &[&str]| {
        let mut command: Command = with_credentials(&daemon, folder.path(), "rclone");
        command
            .env("RCLONE_CONFIG_C_TYPE", "s3")
            .env("RCLONE_CONFIG_C_PROVIDER", "Other")
            .env("RCLONE_CONFIG_C_ENV_AUTH", "true")
            .env("RCLONE_CONFIG_C_ENDPOINT", format!("http://{}", daemon.s3_address()))
            .env("RCLONE_CONFIG", folder.path().join("none.conf"))
            .args(args)
            .args(["--retries", "1", "--low-level-retries", "1"])
            .current_dir(folder.path());
        command
    };
    let here = folder.path().join("here");
    many_files(&here, 300);
    write_file(&here.join("big"), 9, 40 << 20);
    run(&mut rclone(&["mkdir", "c:rc-bucket"]));
    run(&mut rclone(&[
        "copy",
        "here",
        "c:rc-bucket/tree",
        "--s3-chunk-size",
        "5M",
        "--s3-upload-cutoff",
        "5M",
    ]));
    run(&mut rclone(&["check", "--download", "here", "c:rc-bucket/tree"]));
    run(&mut rclone(&["sync", "c:rc-bucket/tree", "back"]));
    assert_eq!(tree(&here), tree(&folder.path().join("back")));
    // Modification times are kept in metadata: a second run finds nothing to do.
    let said = run(&mut rclone(&["copy", "-v", "--stats-one-line", "here", "c:rc-bucket/tree"]));
    assert!(!said.contains("Copied"), "{said}");
    run(&mut rclone(&["moveto", "c:rc-bucket/tree/big", "c:rc-bucket/moved"]));
    let listed = run(&mut rclone(&["lsf", "c:rc-bucket"]));
    assert_eq!(listed.lines().collect::<Vec<_>>(), ["moved", "tree/"]);
    run(&mut rclone(&["purge", "c:rc-bucket"]));
    assert!(!run(&mut rclone(&["lsd", "c:"])).contains("rc-bucket"));
    daemon.check_finds_nothing();
}
