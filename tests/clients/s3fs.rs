//! s3fs as Debian ships it: a bucket mounted by FUSE, and what ordinary programs do in it. Needs `/dev/fuse`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use coffre_tests::command::run;
use coffre_tests::daemon::{Daemon, wait_for};

use super::{keys, samples, sha256, tree, with_credentials};

/// Longest wait for s3fs to mount or to end.
const LIMIT: Duration = Duration::from_secs(30);

/// A mounted bucket. Dropped, it is unmounted, whatever has happened.
struct Mount {
    s3fs: Child,
    path: PathBuf,
}

impl Mount {
    fn new(daemon: &Daemon, folder: &Path, bucket: &str) -> Self {
        let path = folder.join("mounted");
        fs::create_dir_all(&path).unwrap();
        let log = File::options().create(true).append(true).open(folder.join("s3fs.log")).unwrap();
        let url = format!("url=http://{}", daemon.s3_address());
        // In the foreground: a child of this test, ended by its id. It gives up soon, so that no program hangs in it.
        let s3fs = with_credentials(daemon, folder, "s3fs")
            .arg(bucket)
            .arg(&path)
            .args(["-f", "-o", &url, "-o", "use_path_request_style,multipart_size=5,endpoint=us-east-1"])
            .args(["-o", "retries=1,connect_timeout=5,readwrite_timeout=20"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|why| panic!("s3fs: {why}: `make setup` installs it"));
        let mut mount = Self { s3fs, path };
        wait_for("the mount", LIMIT, || {
            let log = || fs::read_to_string(folder.join("s3fs.log")).unwrap_or_default();
            let ended = mount.s3fs.try_wait().unwrap();
            assert!(ended.is_none(), "s3fs ended: {ended:?} (is there a /dev/fuse?)\n{}", log());
            mount.is_mounted().then_some(())
        });
        mount
    }

    fn is_mounted(&self) -> bool {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().any(|line| line.split(' ').nth(4) == self.path.to_str())
    }

    /// Unmounts it as a person would, and waits until s3fs has ended by itself.
    fn unmount(mut self) {
        run(&mut unmounting(&self.path, "-u"));
        let status = wait_for("the end of s3fs", LIMIT, || self.s3fs.try_wait().unwrap());
        assert!(status.success() && !self.is_mounted(), "{status}");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if self.is_mounted() {
            let done = unmounting(&self.path, "-uz").status();
            if !done.is_ok_and(|status| status.success()) {
                eprintln!("{} could not be unmounted", self.path.display());
            }
        }
        if self.s3fs.try_wait().is_ok_and(|ended| ended.is_none())
            && (self.s3fs.kill().is_err() || self.s3fs.wait().is_err())
        {
            eprintln!("s3fs {} could not be ended", self.s3fs.id());
        }
    }
}

/// FUSE 2 and 3 name it differently.
fn unmounting(path: &Path, how: &str) -> Command {
    let two = Path::new("/usr/bin/fusermount");
    let mut command = Command::new(if two.exists() { two } else { Path::new("/usr/bin/fusermount3") });
    command.arg(how).arg(path);
    command
}

#[test]
fn s3fs_mounts_and_programs_work_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(&folder.path().join("data"));
    let here = folder.path().join("here");
    samples(&here);
    daemon.admin().put("/fs-bucket", b"").unwrap().expect(200);
    daemon.admin().put("/fs-bucket/by another door", b"hello").unwrap().expect(200);

    let mount = Mount::new(&daemon, folder.path(), "fs-bucket");
    let at = |name: &str| mount.path.join(name);
    assert_eq!(fs::read(at("by another door")).unwrap(), b"hello");
    run(Command::new("cp").arg("-r").arg(&here).arg(at("t")));
    let listed = run(Command::new("ls").arg("-A1").arg(at("t")));
    let mut names: Vec<_> = listed.lines().map(str::to_owned).collect();
    names.sort();
    assert_eq!(names, tree(&here).into_iter().map(|(name, _)| name).collect::<Vec<_>>());
    assert_eq!(tree(&here), tree(&at("t")));

    // Renames are copies on the server; a file larger than a part is one of parts.
    run(Command::new("mv").arg(at("t/five")).arg(at("t/fi +%ve é")));
    run(Command::new("mv").arg(at("t/large")).arg(at("t/larger +")));
    assert_eq!(sha256(&here.join("five")), sha256(&at("t/fi +%ve é")));
    assert_eq!(sha256(&here.join("large")), sha256(&at("t/larger +")));
    // Written over, and appended to.
    fs::write(at("t/one"), "hello\n").unwrap();
    run(Command::new("sh").args(["-c", "echo more >> \"$0\""]).arg(at("t/one")));
    assert_eq!(fs::read_to_string(at("t/one")).unwrap(), "hello\nmore\n");
    fs::create_dir(at("empty folder")).unwrap();
    fs::remove_dir(at("empty folder")).unwrap();
    run(Command::new("rm").arg(at("t/empty")));
    assert!(!at("t/empty").exists());
    mount.unmount();

    // What the door shows is what the programs left.
    let admin = daemon.admin();
    assert_eq!(admin.get("/fs-bucket/t/one").unwrap().expect(200).body, b"hello\nmore\n");
    assert_eq!(
        admin.get("/fs-bucket/t/fi +%ve é").unwrap().expect(200).body,
        fs::read(here.join("five")).unwrap()
    );
    assert_eq!(admin.get("/fs-bucket/t/five").unwrap().status, 404);
    assert_eq!(admin.get("/fs-bucket/t/empty").unwrap().status, 404);

    // Another mount finds the same, and removes it.
    let again = Mount::new(&daemon, folder.path(), "fs-bucket");
    assert_eq!(sha256(&here.join("large")), sha256(&again.path.join("t/larger +")));
    run(Command::new("rm").arg("-r").arg(again.path.join("t")));
    again.unmount();
    assert_eq!(keys(&daemon, "fs-bucket"), ["by another door"]);
    daemon.check_finds_nothing();
}
