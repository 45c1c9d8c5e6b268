//! A small file system of its own for a test: ext4 on a loop device, unmounted when dropped. Needs root.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::run;

/// A mounted image.
#[derive(Debug)]
pub struct LoopDisk {
    folder: tempfile::TempDir,
    /// The image lies in memory of its own.
    is_in_memory: bool,
}

impl LoopDisk {
    /// Makes and mounts an image of so many bytes.
    #[track_caller]
    pub fn new(size_bytes: u64) -> Self {
        let disk = Self { folder: tempfile::tempdir().unwrap(), is_in_memory: false };
        disk.make(size_bytes);
        disk
    }

    /// The same on memory, so that it can be made to [`LoopDisk::fail`].
    #[track_caller]
    pub fn in_memory(size_bytes: u64) -> Self {
        let disk = Self { folder: tempfile::tempdir().unwrap(), is_in_memory: true };
        std::fs::create_dir(disk.memory()).unwrap();
        run(tool("mount").args(["-t", "tmpfs", "tmpfs"]).arg(disk.memory()));
        disk.make(size_bytes);
        disk
    }

    fn make(&self, size_bytes: u64) {
        let image =
            if self.is_in_memory { self.memory() } else { self.folder.path().to_owned() }.join("image");
        std::fs::File::create(&image).unwrap().set_len(size_bytes).unwrap();
        std::fs::create_dir(self.path()).unwrap();
        run(tool("mkfs.ext4").arg("-q").arg(&image));
        // Without root there is no mount, and a test of a full disk that fills none would prove nothing.
        run(tool("mount").args(["-o", "loop"]).arg(&image).arg(self.path()));
    }

    fn memory(&self) -> PathBuf {
        self.folder.path().join("memory")
    }

    /// From about here on blocks that were never written cannot be: the device answers with I/O errors.
    #[track_caller]
    pub fn fail(&self) {
        let used = rustix::fs::statvfs(self.memory()).unwrap();
        // what is on its way to the image has to fit, or the kernel refuses the size
        let size_bytes = (used.f_blocks - used.f_bfree) * used.f_frsize + (2 << 20);
        run(tool("mount").args(["-o", &format!("remount,size={size_bytes}")]).arg(self.memory()));
    }

    /// Bytes that the device has written since it was made.
    #[track_caller]
    pub fn written_bytes(&self) -> u64 {
        let device = std::fs::metadata(self.path()).unwrap().dev();
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).unwrap();
        // Documentation/block/stat.rst: the seventh field, in sectors of 512 bytes
        stat.split_whitespace().nth(6).unwrap().parse::<u64>().unwrap() * 512
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let memory = self.is_in_memory.then(|| self.memory());
        for path in [Some(self.path()), memory].into_iter().flatten() {
            let done = tool("umount").arg("--lazy").arg(&path).status();
            if !done.is_ok_and(|status| status.success()) {
                eprintln!("{} could not be unmounted", path.display());
            }
        }
    }
}

/// Tools of the system administrator are not on everyone's path.
fn tool(name: &str) -> Command {
    let found = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(|dir| Path::new(dir).join(name));
    Command::new(found.iter().find(|path| path.exists()).cloned().unwrap_or_else(|| name.into()))
}
