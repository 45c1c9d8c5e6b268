//! s3cmd as PyPI has it, told nothing but the address and the key: it signs for region `US` until it is answered.

use std::fs;
use std::path::Path;
use std::process::Command;

use coffre_tests::command::{fails, run};
use coffre_tests::daemon::Daemon;

use super::{keys, samples, sha256, tree, venv, with_credentials};

struct S3cmd {
    daemon: Daemon,
    folder: tempfile::TempDir,
}

impl S3cmd {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let daemon = Daemon::start(&folder.path().join("data"));
        let (address, key) = (daemon.s3_address(), daemon.admin_key());
        let config = format!(
            "[default]\nhost_base = {address}\nhost_bucket = {address}\nuse_https = False\naccess_key = {}\n\
             secret_key = {}\n",
            key.id, key.secret
        );
        fs::write(folder.path().join("s3cfg"), config).unwrap();
        Self { daemon, folder }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = with_credentials(&self.daemon, self.folder.path(), venv("s3cmd"));
        command.args(["--config", "s3cfg", "--no-progress"]).args(args).current_dir(self.folder.path());
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        run(&mut self.command(args))
    }

    #[track_caller]
    fn same(&self, source: &Path, object: &str) {
        self.run(&["get", "--force", object, "got"]);
        assert_eq!(sha256(source), sha256(&self.path("got")), "{object}");
    }
}

#[test]
fn s3cmd_puts_syncs_copies_and_removes() {
    let s3cmd = S3cmd::new();
    let here = s3cmd.path("here");
    samples(&here);
    s3cmd.run(&["mb", "s3://cmd-bucket"]);
    assert!(s3cmd.run(&["ls"]).contains("s3://cmd-bucket"));
    s3cmd.run(&["put", "--recursive", "--multipart-chunk-size-mb=5", "here/", "s3://cmd-bucket/t/"]);
    fs::create_dir(s3cmd.path("back")).unwrap();
    s3cmd.run(&["get", "--recursive", "s3://cmd-bucket/t/", "back/"]);
    assert_eq!(tree(&here), tree(&s3cmd.path("back")));
    let listed = s3cmd.run(&["ls", "--recursive", "s3://cmd-bucket"]);
    for (name, _) in tree(&here) {
        assert!(listed.contains(&format!("s3://cmd-bucket/t/{name}\n")), "{name}: {listed}");
    }
    assert_eq!(s3cmd.run(&["multipart", "s3://cmd-bucket"]).lines().count(), 2, "no upload is left");

    // A second run of either sync finds nothing to do; what is gone here goes there.
    assert_eq!(s3cmd.run(&["sync", "here/", "s3://cmd-bucket/t/"]), "");
    assert_eq!(s3cmd.run(&["sync", "s3://cmd-bucket/t/", "back/"]), "");
    fs::remove_file(here.join("one")).unwrap();
    s3cmd.run(&["sync", "--delete-removed", "here/", "s3://cmd-bucket/t/"]);
    assert!(!keys(&s3cmd.daemon, "cmd-bucket").contains(&"t/one".to_owned()));

    copies_and_metadata(&s3cmd, &here);
    settings(&s3cmd);

    s3cmd.run(&["del", "--recursive", "--force", "s3://cmd-bucket/t/"]);
    assert_eq!(s3cmd.run(&["ls", "--recursive", "s3://cmd-bucket/t/"]), "");
    s3cmd.run(&["rb", "--recursive", "s3://cmd-bucket"]);
    assert!(!s3cmd.run(&["ls"]).contains("s3://cmd-bucket"));
    s3cmd.daemon.check_finds_nothing();
}

/// s3cmd writes the source's ACL to each copy.
fn copies_and_metadata(s3cmd: &S3cmd, here: &Path) {
    let five = here.join("five");
    s3cmd.run(&["cp", "s3://cmd-bucket/t/five", "s3://cmd-bucket/c o+p%y/é"]);
    s3cmd.run(&["mv", "s3://cmd-bucket/c o+p%y/é", "s3://cmd-bucket/moved +"]);
    s3cmd.same(&five, "s3://cmd-bucket/moved +");
    fails(&mut s3cmd.command(&["get", "--force", "s3://cmd-bucket/c o+p%y/é", "got"]));
    s3cmd.run(&["modify", "--add-header=x-amz-meta-colour: green", "s3://cmd-bucket/t/large"]);
    let info = s3cmd.run(&["info", "s3://cmd-bucket/t/large"]);
    assert!(info.contains("x-amz-meta-colour: green") && info.contains("FULL_CONTROL"), "{info}");
    s3cmd.same(&here.join("large"), "s3://cmd-bucket/t/large");
    // Written over.
    s3cmd.run(&["put", "here/five", "s3://cmd-bucket/t/large"]);
    s3cmd.same(&five, "s3://cmd-bucket/t/large");
}

fn settings(s3cmd: &S3cmd) {
    let object = "s3://cmd-bucket/t/five";
    s3cmd.run(&["settagging", object, "project=été&b=2"]);
    let tags = s3cmd.run(&["gettagging", object]);
    assert!(tags.contains("project:\tété") && tags.contains("b:\t2"), "{tags}");
    let policy = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*",
        "Action":"s3:GetObject","Resource":"arn:aws:s3:::cmd-bucket/t/*"}]}"#;
    fs::write(s3cmd.path("policy"), policy).unwrap();
    s3cmd.run(&["setpolicy", "policy", "s3://cmd-bucket"]);
    assert_eq!(s3cmd.daemon.anonymous().get("/cmd-bucket/t/five").unwrap().status, 200);
    s3cmd.run(&["delpolicy", "s3://cmd-bucket"]);
    assert_eq!(s3cmd.daemon.anonymous().get("/cmd-bucket/t/five").unwrap().status, 403);
    // It signs URLs by SigV2 only, which is off; an ACL that would open something is refused, not ignored.
    let url = s3cmd.run(&["signurl", object, "+60"]);
    assert!(url.contains("AWSAccessKeyId="), "{url}");
    let said = fails(&mut s3cmd.command(&["setacl", "--acl-public", object]));
    assert!(said.contains("AccessControlListNotSupported"), "{said}");
}
