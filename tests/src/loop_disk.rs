//! A small file system of its own for a test: ext4 on a loop device, unmounted when dropped. Needs root.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::run;

/// A mounted image.
#[derive(Debug)]
pub struct LoopDisk {
    folder: tempfile::TempDir,
}

impl LoopDisk {
    /// Makes and mounts an image of so many bytes.
    #[track_caller]
    pub fn new(size_bytes: u64) -> Self {
        let disk = Self { folder: tempfile::tempdir().unwrap() };
        let image = disk.folder.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(size_bytes).unwrap();
        std::fs::create_dir(disk.path()).unwrap();
        run(tool("mkfs.ext4").arg("-q").arg(&image));
        // Without root there is no mount, and a test of a full disk that fills none would prove nothing.
        run(tool("mount").args(["-o", "loop"]).arg(&image).arg(disk.path()));
        disk
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let done = tool("umount").arg("--lazy").arg(self.path()).status();
        if !done.is_ok_and(|status| status.success()) {
            eprintln!("{} could not be unmounted", self.path().display());
        }
    }
}

/// Tools of the system administrator are not on everyone's path.
fn tool(name: &str) -> Command {
    let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(|dir| Path::new(dir).join(name));
    Command::new(found.iter().find(|path| path.exists()).cloned().unwrap_or_else(|| name.into()))
}
