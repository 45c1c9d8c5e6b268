//! A daemon with its mount. Dropped, both are gone, whatever has happened.

use std::path::{Path, PathBuf};
use std::process::Command;

use coffre_tests::command::run;
use coffre_tests::daemon::Daemon;
use coffre_tests::loop_disk::LoopDisk;

/// A daemon and where its filing bucket is mounted.
pub(crate) struct Rig {
    daemon: Option<Daemon>,
    pub(crate) root: PathBuf,
    data: PathBuf,
    folder: tempfile::TempDir,
}

impl Rig {
    /// Mounted for everyone.
    #[track_caller]
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// The same with further environment.
    #[track_caller]
    pub(crate) fn with(environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Self::made(folder, data, environment)
    }

    /// The same with its data on a disk of its own.
    #[track_caller]
    pub(crate) fn on(disk: &LoopDisk, environment: &[(&str, &str)]) -> Self {
        Self::made(tempfile::tempdir().unwrap(), disk.path().join("data"), environment)
    }

    #[track_caller]
    fn made(folder: tempfile::TempDir, data: PathBuf, environment: &[(&str, &str)]) -> Self {
        // programs of other users have to get there
        run(Command::new("chmod").arg("755").arg(folder.path()));
        let root = folder.path().join("mnt");
        std::fs::create_dir(&root).unwrap();
        let mut rig = Self { daemon: None, root, data, folder };
        rig.start(environment);
        rig
    }

    /// Starts the daemon (again) with the mount.
    #[track_caller]
    pub(crate) fn start(&mut self, environment: &[(&str, &str)]) {
        let mut all = vec![("COFFRE_MOUNT__ALLOW_OTHER", "true")];
        all.extend_from_slice(environment);
        let root = self.root.to_str().unwrap().to_owned();
        self.daemon = Some(Daemon::start_with(&self.data, &["--mount", &root], &all));
        assert!(self.is_mounted());
    }

    pub(crate) fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    /// Takes the daemon, to end it in some way.
    pub(crate) fn take(&mut self) -> Daemon {
        self.daemon.take().unwrap()
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A folder that is not in the mount.
    pub(crate) fn beside(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn is_mounted(&self) -> bool {
        is_mounted(&self.root)
    }

    /// The bytes of a key at the S3 door.
    #[track_caller]
    pub(crate) fn s3_get(&self, key: &str) -> Vec<u8> {
        self.daemon().admin().get(&format!("/files/{key}")).unwrap().expect(200).body
    }

    #[track_caller]
    pub(crate) fn s3_status(&self, key: &str) -> u16 {
        self.daemon().admin().get(&format!("/files/{key}")).unwrap().status
    }

    #[track_caller]
    pub(crate) fn s3_put(&self, key: &str, body: &[u8]) {
        self.daemon().admin().put(&format!("/files/{key}"), body).unwrap().expect(200);
    }

    #[track_caller]
    pub(crate) fn s3_delete(&self, key: &str) {
        self.daemon().admin().delete(&format!("/files/{key}")).unwrap().expect(204);
    }

    /// Everything is as it should be, and the end is clean.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        self.daemon().check_finds_nothing();
        self.take().stop_cleanly();
        assert!(!self.is_mounted(), "SIGTERM unmounts");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            drop(daemon);
        }
        if is_mounted(&self.root) {
            let done = Command::new("umount").arg("--lazy").arg(&self.root).status();
            if !done.is_ok_and(|status| status.success()) {
                eprintln!("{} could not be unmounted", self.root.display());
            }
        }
    }
}

pub(crate) fn is_mounted(path: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().any(|line| line.split(' ').nth(4) == path.to_str())
}

/// `sh -c SCRIPT` in a folder.
#[track_caller]
pub(crate) fn sh(folder: &Path, script: &str) -> String {
    run(Command::new("bash").args(["-euo", "pipefail", "-c", script]).current_dir(folder))
}
