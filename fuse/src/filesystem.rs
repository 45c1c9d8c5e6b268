//! The kernel's calls, as fuser hands them over: each unpacks its arguments, asks [`Door`] one thing and answers.
//!
//! A handler runs on one of fuser's threads and may wait for the disk there. It never waits for the notifier. A panic is our
//! bug: the caller gets EIO and the thread lives on.

use std::ffi::OsStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow,
    WriteFlags,
};
use rustix::fs::{FallocateFlags, OFlags, XattrFlags};
use rustix::io::Errno;
use tokio::runtime::Handle;

use crate::attr::{self, Attr};
use crate::change::{SetAttr, Time};
use crate::door::{Caller, Door};
use crate::errno::Result;
use crate::files::Seek;

/// How long the kernel may keep what it was told: other doors' changes are told to it.
const TTL: Duration = Duration::from_hours(1);
/// Largest request (the kernel's own limit).
const MAX_WRITE: u32 = 1 << 20;
/// Requests that the kernel may have under way in the background.
const MAX_BACKGROUND: u16 = 64;
/// Blobs may lie on a stacked file system themselves.
const STACK_DEPTH: u32 = 2;
/// What `statfs` counts in.
const BLOCK_BYTES: u32 = 4096;

/// The file system, as fuser calls it.
pub(crate) struct Files {
    pub(crate) door: Arc<Door>,
    pub(crate) runtime: Handle,
}

impl Files {
    /// Carries out one call on this thread.
    fn run<T>(&self, call: &'static str, work: impl Future<Output = Result<T>>) -> Result<T, fuser::Errno> {
        guard(call, || self.runtime.block_on(work))
    }
}

/// Carries out what waits for nothing. A panic is our bug, and the caller's EIO.
fn guard<T>(call: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T, fuser::Errno> {
    let done = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        tracing::error!(call, "a file operation panicked");
        Err(Errno::IO)
    });
    done.map_err(|errno| {
        tracing::debug!(call, %errno, "refused");
        fuser::Errno::from_i32(errno.raw_os_error())
    })
}

fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid() }
}

fn time(ns: i64) -> SystemTime {
    let size = Duration::from_nanos(ns.unsigned_abs());
    if ns < 0 { UNIX_EPOCH - size } else { UNIX_EPOCH + size }
}

fn ns(time: SystemTime) -> i64 {
    let ns = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => ns(since),
        Err(before) => -ns(before.duration()),
    }
}

fn kind(mode: u32) -> FileType {
    match mode & attr::TYPE {
        attr::DIR => FileType::Directory,
        attr::SYMLINK => FileType::Symlink,
        0o010_000 => FileType::NamedPipe,
        0o020_000 => FileType::CharDevice,
        0o060_000 => FileType::BlockDevice,
        0o140_000 => FileType::Socket,
        _ => FileType::RegularFile,
    }
}

fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.id),
        size: attr.size,
        blocks: attr.size.div_ceil(512),
        atime: time(attr.accessed_ns),
        mtime: time(attr.modified_ns),
        ctime: time(attr.changed_ns),
        crtime: UNIX_EPOCH,
        kind: kind(attr.mode),
        perm: u16::try_from(attr.mode & 0o7777).unwrap_or_default(),
        nlink: attr.links,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.device,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

/// Nothing is there, and that may be kept too.
fn nothing() -> FileAttr {
    file_attr(&Attr {
        id: 0,
        size: 0,
        accessed_ns: 0,
        modified_ns: 0,
        changed_ns: 0,
        mode: attr::REGULAR,
        links: 0,
        uid: 0,
        gid: 0,
        device: 0,
    })
}

fn entry(found: Result<Attr, fuser::Errno>, reply: ReplyEntry) {
    match found {
        Ok(attr) => reply.entry(&TTL, &file_attr(&attr), Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

fn empty(done: Result<(), fuser::Errno>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn xattr(found: Result<Vec<u8>, fuser::Errno>, size: u32, reply: ReplyXattr) {
    match found {
        Err(errno) => reply.error(errno),
        Ok(bytes) if size == 0 => reply.size(u32::try_from(bytes.len()).unwrap_or(u32::MAX)),
        Ok(bytes) if bytes.len() > size as usize => reply.error(fuser::Errno::ERANGE),
        Ok(bytes) => reply.data(&bytes),
    }
}

impl Filesystem for Files {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let wanted = [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
            InitFlags::FUSE_HANDLE_KILLPRIV_V2,
            InitFlags::FUSE_ATOMIC_O_TRUNC,
            InitFlags::FUSE_ASYNC_DIO,
        ];
        for flag in wanted {
            // an older kernel does without
            if let Err(missing) = config.add_capabilities(flag) {
                tracing::debug!(?missing, "the kernel does not know this");
            }
        }
        let has_passthrough = self.door.passthrough.is_on()
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
            && config.set_max_stack_depth(STACK_DEPTH).is_ok();
        if !has_passthrough {
            self.door.passthrough.switch_off();
        }
        for (what, set) in [
            ("max_write", config.set_max_write(MAX_WRITE).err()),
            ("max_background", config.set_max_background(MAX_BACKGROUND).err().map(u32::from)),
        ] {
            if let Some(possible) = set {
                tracing::debug!(what, possible, "the kernel takes less");
            }
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.run("lookup", self.door.lookup(parent.0, name)) {
            Ok(Some(attr)) => reply.entry(&TTL, &file_attr(&attr), Generation(0)),
            Ok(None) => reply.entry(&TTL, &nothing(), Generation(0)),
            Err(errno) => reply.error(errno),
        }
    }

    fn forget(&self, _: &Request, id: INodeNo, n: u64) {
        self.door.table.lock().forget(id.0, n);
    }

    fn getattr(&self, _: &Request, id: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let found = self.run("getattr", async {
            let _still = self.door.still().await;
            self.door.attr(id.0).await
        });
        match found {
            Ok(attr) => reply.attr(&TTL, &file_attr(&attr)),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        id: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let time = |time: TimeOrNow| match time {
            TimeOrNow::Now => Time::Now,
            TimeOrNow::SpecificTime(time) => Time::Ns(ns(time)),
        };
        let set =
            SetAttr { mode, uid, gid, size, accessed: accessed.map(time), modified: modified.map(time) };
        let handle = handle.map(|handle| handle.0);
        match self.run("setattr", self.door.setattr(caller(request), id.0, handle, set)) {
            Ok(attr) => reply.attr(&TTL, &file_attr(&attr)),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _: &Request, id: INodeNo, reply: ReplyData) {
        match self.run("readlink", self.door.readlink(id.0)) {
            Ok(target) => reply.data(target.as_bytes()),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        device: u32,
        reply: ReplyEntry,
    ) {
        entry(self.run("mknod", self.door.mknod(caller(request), parent.0, name, mode, device)), reply);
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        entry(self.run("mkdir", self.door.mkdir(caller(request), parent.0, name, mode)), reply);
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.run("unlink", self.door.unlink(parent.0, name)), reply);
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.run("rmdir", self.door.rmdir(parent.0, name)), reply);
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let made = self.door.symlink(caller(request), parent.0, name, target.as_os_str());
        entry(self.run("symlink", made), reply);
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
        empty(self.run("rename", self.door.rename((parent.0, name), (new_parent.0, new_name), flags)), reply);
    }

    /// An object has one key: hard links are refused cleanly (contract §4).
    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        reply.error(fuser::Errno::EPERM);
    }

    fn open(&self, request: &Request, id: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let flags = OFlags::from_bits_retain(flags.0.cast_unsigned());
        let mut join = |file: &std::fs::File| reply.open_backing(file);
        match self.run("open", self.door.open(caller(request), id.0, flags, &mut join)) {
            Ok(open) => {
                let handle = FileHandle(open.handle);
                // who only reads has nothing to commit when it closes
                let no_flush = if open.can_write { FopenFlags::empty() } else { FopenFlags::FOPEN_NOFLUSH };
                match open.backing {
                    Some(backing) => reply.opened_passthrough(handle, no_flush, &backing.id),
                    None => reply.opened(handle, no_flush | FopenFlags::FOPEN_KEEP_CACHE),
                }
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let flags = OFlags::from_bits_retain(flags.cast_unsigned());
        match self.run("create", self.door.create(caller(request), parent.0, name, mode, flags)) {
            Ok((attr, handle)) => reply.created(
                &TTL,
                &file_attr(&attr),
                Generation(0),
                FileHandle(handle),
                FopenFlags::FOPEN_KEEP_CACHE,
            ),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.run("read", self.door.read(handle.0, offset, size)) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        how: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let drops = how.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        match self.run("write", self.door.write(handle.0, offset, data, drops)) {
            Ok(()) => reply.written(u32::try_from(data.len()).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, handle: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        empty(self.run("flush", self.door.flush(handle.0)), reply);
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let released = self.run("release", async {
            self.door.release(handle.0).await;
            Ok(())
        });
        empty(released, reply);
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.run("fsync", self.door.fsync(handle.0)), reply);
    }

    fn opendir(&self, _: &Request, id: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match guard("opendir", || self.door.opendir(id.0)) {
            Ok(handle) => {
                let keep = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
                reply.opened(FileHandle(handle), keep);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let read = self.door.readdir(handle.0, offset, false, |shown| {
            !reply.add(INodeNo(shown.id), shown.offset, kind(shown.mode), shown.name)
        });
        match self.run("readdir", read) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let read = self.door.readdir(handle.0, offset, true, |shown| {
            let attr = shown.attr.map_or_else(|| dot(shown.id), |attr| file_attr(&attr));
            !reply.add(INodeNo(shown.id), shown.offset, shown.name, &TTL, &attr, Generation(0))
        });
        match self.run("readdirplus", read) {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.door.releasedir(handle.0);
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(self.run("fsyncdir", self.door.sync()), reply);
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let space = (self.door.space)().unwrap_or_default();
        let blocks = |bytes: u64| bytes / u64::from(BLOCK_BYTES);
        let free = blocks(space.free_bytes);
        let name_max = u32::try_from(crate::name::NAME_BYTES_MAX).unwrap_or(255);
        // as many more files as there are blocks: nothing else limits them
        let files = space.objects.saturating_add(free);
        reply.statfs(blocks(space.total_bytes), free, free, files, free, BLOCK_BYTES, name_max, BLOCK_BYTES);
    }

    fn setxattr(
        &self,
        _: &Request,
        id: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let flags = XattrFlags::from_bits_retain(flags.cast_unsigned());
        empty(self.run("setxattr", self.door.setxattr(id.0, name, value, flags)), reply);
    }

    fn getxattr(&self, _: &Request, id: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        xattr(self.run("getxattr", self.door.getxattr(id.0, name)), size, reply);
    }

    fn listxattr(&self, _: &Request, id: INodeNo, size: u32, reply: ReplyXattr) {
        xattr(self.run("listxattr", self.door.listxattr(id.0)), size, reply);
    }

    fn removexattr(&self, _: &Request, id: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.run("removexattr", self.door.removexattr(id.0, name)), reply);
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
        empty(self.run("fallocate", self.door.fallocate(handle.0, offset, length, mode)), reply);
    }

    fn lseek(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let sought = guard("lseek", || {
            let offset = u64::try_from(offset).map_err(|_| Errno::INVAL)?;
            // SEEK_DATA, SEEK_HOLE: the kernel does the others
            let seek = match whence {
                3 => Seek::Data,
                4 => Seek::Hole,
                _ => return Err(Errno::INVAL),
            };
            i64::try_from(self.door.lseek(handle.0, offset, seek)?).map_err(|_| Errno::OVERFLOW)
        });
        match sought {
            Ok(offset) => reply.offset(offset),
            Err(errno) => reply.error(errno),
        }
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        from: FileHandle,
        source: u64,
        _: INodeNo,
        to: FileHandle,
        target: u64,
        len: u64,
        _: fuser::CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        // the answer has 32 bits
        let len = len.min(1 << 30);
        match self.run("copy_file_range", self.door.copy_range((from.0, source), (to.0, target), len)) {
            Ok(copied) => reply.written(u32::try_from(copied).unwrap_or(u32::MAX)),
            Err(errno) => reply.error(errno),
        }
    }
}

/// `.` and `..` need no more than a type.
fn dot(id: u64) -> FileAttr {
    FileAttr { ino: INodeNo(id), kind: FileType::Directory, ..nothing() }
}
