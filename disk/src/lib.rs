//! The file operations that durability depends on, behind one trait.
//!
//! Owns: [`Disk`] and [`DiskFile`], their implementation on a real file system ([`RealDisk`]), one that fails or
//! freezes at the n-th operation ([`fault::FaultDisk`]), and one that can cut the power ([`power::PowerDisk`]).
//! Promises: an implementation does what POSIX says and not more. Bytes are durable only after
//! [`DiskFile::sync_data`]; a name is durable only after [`Disk::sync_dir`] of the directory that holds it.
//! Leaves out: buffering, formats, retries. Every call blocks; callers keep it off async threads.

pub mod fault;
pub mod power;
mod real;
pub mod seed;

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use real::RealDisk;

/// How [`Disk::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file, for reading and writing; an existing one is an error.
    Create,
    /// A new file, written past the page cache (`O_DIRECT`) where the file system takes it, else like `Create`;
    /// [`DiskFile::direct_alignment`] tells which. Reads through the handle have to be aligned too.
    CreateDirect,
    /// An existing file, written past the page cache as with `CreateDirect` where the file system takes it, else like
    /// `Write`. What was written through the page cache before has to be synced.
    WriteDirect,
}

/// One entry of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The last path segment.
    pub name: String,
    /// Length in bytes; 0 for a directory.
    pub len_bytes: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// Room on the file system that holds a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that can still be written by this process.
    pub free_bytes: u64,
    /// Size of the whole file system.
    pub total_bytes: u64,
}

/// A file system, or a model of one.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Opens or creates a file.
    ///
    /// # Errors
    /// As `open(2)`: `NotFound`, `AlreadyExists` for [`Open::Create`], `StorageFull`, …
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name on the same file system, replacing what stands there. Atomic, durable after
    /// [`Disk::sync_dir`] of both directories.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name; the bytes stay for who has it open.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory and its missing parents; an existing one is fine.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Lists a directory, sorted by name.
    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Room left where `path` lies.
    fn space(&self, path: &Path) -> io::Result<Space>;
}

/// Writes zeros from `offset` to `end`.
fn write_zeros(
    write_all_at: impl Fn(&[u8], u64) -> io::Result<()>,
    mut offset: u64,
    end: u64,
) -> io::Result<()> {
    let zeros = vec![0; 64 * 1024];
    while offset < end {
        let n = usize::try_from(end - offset).unwrap_or(usize::MAX).min(zeros.len());
        write_all_at(zeros.get(..n).unwrap_or_default(), offset)?;
        offset += n as u64;
    }
    Ok(())
}

/// An open file. All methods take `&self`; positions are explicit, so handles can be shared.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// Reads up to `buf.len()` bytes at `offset`; 0 means the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Reads only what is in memory already. `None`: it would have waited for the device, or cannot be told; use
    /// [`DiskFile::read_at`] on a thread that may block.
    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>>;
    /// Writes all of `buf` at `offset`, growing the file. With a [`DiskFile::direct_alignment`] the address, length
    /// and offset have to be multiples of it.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts or grows (with zeros) the file.
    fn set_len(&self, len_bytes: u64) -> io::Result<()>;
    /// Reserves room for `[0, len_bytes)` without changing the visible length, where the file system can.
    fn allocate(&self, len_bytes: u64) -> io::Result<()>;
    /// Makes a range read as zeros, as far as the file goes, and gives its room back where the file system can.
    fn punch(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        let end = offset.saturating_add(len_bytes).min(self.len_bytes()?);
        write_zeros(|zeros, at| self.write_all_at(zeros, at), offset, end)
    }
    /// Length in bytes.
    fn len_bytes(&self) -> io::Result<u64>;
    /// Makes the bytes and the length durable (`fdatasync`). After an error nothing can be said about the file's
    /// unsynced bytes: never try again, never acknowledge.
    fn sync_data(&self) -> io::Result<()>;
    /// Starts writing a range to the device without waiting; a hint.
    fn start_writeback(&self, offset: u64, len_bytes: u64);
    /// Makes the file read-only for everyone (mode 0444).
    fn set_read_only(&self) -> io::Result<()>;
    /// The alignment that a direct handle asks for; `None` for an ordinary one.
    fn direct_alignment(&self) -> Option<usize>;
    /// The descriptor behind it, for who hands it to the kernel (passthrough); `None` in a model.
    fn std_file(&self) -> Option<&std::fs::File>;
}

/// Conveniences on any [`DiskFile`].
pub trait DiskFileExt: DiskFile {
    /// Fills `buf` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before.
    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.read_at(rest, offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl<F: DiskFile + ?Sized> DiskFileExt for F {}

/// Conveniences on any [`Disk`].
pub trait DiskExt: Disk {
    /// Reads a whole (small) file; `None` when there is none.
    fn read_whole(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open(path, Open::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let len = usize::try_from(file.len_bytes()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut bytes = vec![0; len];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(Some(bytes))
    }

    /// Puts a small file in place of what stands at `dir/name`: written beside it, synced, renamed, the directory
    /// synced. After a crash either the old or the new bytes are there, whole.
    fn replace_whole(&self, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (temporary, target) = (dir.join(format!("{name}.new")), dir.join(name));
        match self.remove(&temporary) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
        let file = self.open(&temporary, Open::Create)?;
        file.write_all_at(bytes, 0)?;
        file.sync_data()?;
        self.rename(&temporary, &target)?;
        self.sync_dir(dir)
    }
}

impl<D: Disk + ?Sized> DiskExt for D {}
