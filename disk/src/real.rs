//! [`Disk`] on the operating system.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags, OFlags};
use rustix::io::ReadWriteFlags;

use crate::{DirEntry, Disk, DiskFile, Open, Space};

/// `O_DIRECT` alignment used where the file system does not tell its own: the page size, which every block device
/// in use divides.
const ALIGNMENT_DEFAULT: usize = 4096;

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile {
    file: File,
    direct_alignment: Option<usize>,
}

impl Disk for RealDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        let mut direct_alignment = None;
        let file = match how {
            Open::Read => options.open(path)?,
            Open::Write => options.write(true).open(path)?,
            Open::Create => options.write(true).create_new(true).open(path)?,
            Open::CreateDirect | Open::WriteDirect => {
                let is_new = how == Open::CreateDirect;
                options.write(true).create_new(is_new);
                let flag = i32::try_from(OFlags::DIRECT.bits()).unwrap_or(0);
                match options.clone().custom_flags(flag).open(path) {
                    Ok(file) => {
                        direct_alignment = Some(direct_alignment_of(&file));
                        file
                    }
                    // tmpfs and some others refuse O_DIRECT with EINVAL; the page cache serves as well. The refusal
                    // may come after the name was made.
                    Err(e) if e.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                        options.create_new(false).create(is_new).truncate(is_new).open(path)?
                    }
                    Err(e) => return Err(e),
                }
            }
        };
        Ok(Arc::new(RealFile { file, direct_alignment }))
    }

    #[expect(clippy::disallowed_methods, reason = "the one home of rename")]
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            // A name that vanishes while we list is as if it had not been there.
            let Ok(meta) = entry.metadata() else { continue };
            let Ok(name) = entry.file_name().into_string() else { continue };
            let is_dir = meta.is_dir();
            entries.push(DirEntry { name, len_bytes: if is_dir { 0 } else { meta.len() }, is_dir });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Space {
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }
}

fn direct_alignment_of(file: &File) -> usize {
    let mask = rustix::fs::StatxFlags::DIOALIGN;
    let Ok(stat) = rustix::fs::statx(file, "", rustix::fs::AtFlags::EMPTY_PATH, mask) else {
        return ALIGNMENT_DEFAULT;
    };
    let told = stat.stx_dio_mem_align.max(stat.stx_dio_offset_align) as usize;
    if told.is_power_of_two() { told.max(ALIGNMENT_DEFAULT) } else { ALIGNMENT_DEFAULT }
}

impl DiskFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.file, buf, offset)
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        match rustix::io::preadv2(&self.file, &mut [IoSliceMut::new(buf)], offset, ReadWriteFlags::NOWAIT) {
            Ok(n) => Ok(Some(n)),
            // Not in memory, or a file system without the flag: the caller reads on a thread that may wait, and
            // meets there whatever error is real.
            Err(_) => Ok(None),
        }
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(&self.file, buf, offset)
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.file.set_len(len_bytes)
    }

    fn allocate(&self, len_bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.file, FallocateFlags::KEEP_SIZE, 0, len_bytes) {
            Err(e) if e == rustix::io::Errno::OPNOTSUPP || e == rustix::io::Errno::NOSYS => Ok(()),
            other => Ok(other?),
        }
    }

    fn punch(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        let end = offset.saturating_add(len_bytes).min(self.len_bytes()?);
        if offset >= end {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.file, flags, offset, end - offset) {
            Err(e) if e == rustix::io::Errno::OPNOTSUPP || e == rustix::io::Errno::NOSYS => {
                crate::write_zeros(|zeros, at| self.write_all_at(zeros, at), offset, end)
            }
            other => Ok(other?),
        }
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn start_writeback(&self, offset: u64, len_bytes: u64) {
        // DONTNEED on a dirty range starts its write-out without waiting (mm/fadvise.c); there is no safe wrapper of
        // sync_file_range. Pages still dirty stay in memory, so nothing is lost by the hint.
        let length = std::num::NonZeroU64::new(len_bytes);
        if rustix::fs::fadvise(&self.file, offset, length, Advice::DontNeed).is_err() {
            tracing::trace!("the file system takes no write-back hint");
        }
    }

    fn set_read_only(&self) -> io::Result<()> {
        self.file.set_permissions(std::fs::Permissions::from_mode(0o444))
    }

    fn direct_alignment(&self) -> Option<usize> {
        self.direct_alignment
    }

    fn std_file(&self) -> Option<&File> {
        Some(&self.file)
    }
}
