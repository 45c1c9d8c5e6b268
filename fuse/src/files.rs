//! Files: open, create, read, write, close, fsync, and what else a handle takes.
//!
//! close commits what was written and tells its error; fsync makes it durable. A file that is new is in the table only,
//! until one of the two.

use std::ffi::OsStr;
use std::sync::Arc;

use bytes::Bytes;
use coffre_store::attributes::AttributeChange;
use coffre_store::file::{Access, Expect, OpenFile};
use coffre_store::{Cx, Wait};
use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use crate::attr::{self, Attr, without_privileges};
use crate::dirs::inherit;
use crate::door::{Caller, Door, at};
use crate::errno::{Result, errno, errno_of_new};
use crate::handle::{FileHandle, Opened};
use crate::inode::{Piece, Spot};
use crate::passthrough::{Backing, Join};

/// How a file was opened.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) handle: u64,
    pub(crate) can_write: bool,
    /// The kernel reads by itself, through this.
    pub(crate) backing: Option<Arc<Backing>>,
}

/// What `lseek` looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seek {
    Data,
    Hole,
}

impl Door {
    /// Opens a file that is there. `ESTALE`: the name leads to another inode by now, and the kernel looks it up again.
    pub(crate) async fn open(&self, who: Caller, id: u64, flags: OFlags, join: Join<'_>) -> Result<Open> {
        let still = self.still().await;
        let cx = self.cx()?;
        let mode = flags & OFlags::RWMODE;
        let can_write = mode != OFlags::RDONLY || flags.contains(OFlags::TRUNC);
        let access = match mode {
            OFlags::WRONLY => Access::Write,
            OFlags::RDWR => Access::ReadWrite,
            _ if can_write => Access::ReadWrite,
            _ => Access::Read,
        };
        if can_write {
            self.writable()?;
        }
        let opened = self.opened(&cx, id, access, can_write).await?;
        if can_write && let Err(error) = self.begin_writing(who, id, &opened, flags).await {
            self.close(id, &opened, can_write);
            return Err(error);
        }
        let backing = if can_write { None } else { self.backing(id, &opened, join).await };
        drop(still);
        let handle =
            self.handles.add_file(FileHandle { node: id, opened, can_write, _backing: backing.clone() });
        Ok(Open { handle, can_write, backing })
    }

    async fn begin_writing(&self, who: Caller, id: u64, opened: &Opened, flags: OFlags) -> Result<()> {
        if opened.live_backing().is_some() {
            self.switch(id);
            return Err(Errno::STALE);
        }
        if let Some(node) = self.table.lock().get_mut(id) {
            node.was_written = true;
        }
        if flags.contains(OFlags::TRUNC) {
            self.truncate_opened(who, opened, 0).await?;
        }
        Ok(())
    }

    /// The working copy that all handles of a node share, made by the first, with one handle more counted. The node keeps
    /// it until the last [`Self::close`].
    async fn opened(&self, cx: &Cx, id: u64, access: Access, can_write: bool) -> Result<Arc<Opened>> {
        let known = {
            let table = self.table.lock();
            let node = table.get(id).ok_or(Errno::STALE)?;
            if node.is_dir() {
                return Err(Errno::ISDIR);
            }
            if let Some(opened) = &node.opened {
                opened.add(can_write);
            }
            node.opened.clone()
        };
        let spot = self.spot(id);
        if let Some(opened) = known {
            if let Ok(Spot::File { bucket, key }) = spot {
                let at = at(bucket, &key)?;
                if let Err(error) = self.store.may(cx, &at, access).await {
                    self.close(id, &opened, can_write);
                    return Err(errno(error));
                }
            }
            return Ok(opened);
        }
        let Spot::File { bucket, key } = spot.map_err(|_| Errno::STALE)? else { return Err(Errno::ISDIR) };
        let at = at(bucket, &key)?;
        let file = self.store.open_file(cx, &at, access).await.map_err(|error| match errno(error) {
            // it went since it was looked up
            Errno::NOENT => Errno::STALE,
            other => other,
        })?;
        let ino = file.ino();
        let mut table = self.table.lock();
        let node = table.get_mut(id).ok_or(Errno::STALE)?;
        if node.ino != ino {
            // another object has the name by now
            table.detach(id);
            return Err(Errno::STALE);
        }
        let opened = node.opened.get_or_insert_with(|| Arc::new(Opened::new(file)));
        opened.add(can_write);
        Ok(Arc::clone(opened))
    }

    /// Gives the name another inode: handles that the kernel reads through by itself keep this one.
    pub(crate) fn switch(&self, id: u64) {
        let mut table = self.table.lock();
        let Some(node) = table.get(id) else { return };
        let (parent, name, ino) = (node.parent, node.name.clone(), node.ino);
        table.detach(id);
        let new = table.place(parent, Piece::File, &name, ino);
        if let Some(node) = table.get_mut(new) {
            node.was_written = true;
        }
    }

    async fn backing(&self, id: u64, opened: &Opened, join: Join<'_>) -> Option<Arc<Backing>> {
        if let Some(backing) = opened.live_backing() {
            return Some(backing);
        }
        // ordinary handles and these exclude each other
        let was_written = self.table.lock().get(id).is_none_or(|node| node.was_written);
        if !self.passthrough.is_on() || opened.handles() > 1 || was_written {
            return None;
        }
        let file = opened.file();
        let plain = file.plain().await.ok()??;
        let mut live = opened.backing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(backing) = live.upgrade() {
            return Some(backing);
        }
        let backing = self.passthrough.back(&file, &*plain, join)?;
        *live = Arc::downgrade(&backing);
        Some(backing)
    }

    /// Makes a file and opens it. Nobody else sees it until it is closed or synced.
    pub(crate) async fn create(
        &self,
        who: Caller,
        parent: u64,
        name: &OsStr,
        mode: u32,
        flags: OFlags,
    ) -> Result<(Attr, u64)> {
        let still = self.still().await;
        let made = self.make_file(who, parent, name, attr::REGULAR | (mode & 0o7777), 0).await;
        if made.as_ref().is_err_and(|error| *error == Errno::EXIST) && !flags.contains(OFlags::EXCL) {
            drop(still);
            return self.open_by_name(who, parent, name, flags).await;
        }
        let (id, opened, attr) = made?;
        opened.add(true);
        let handle = self.handles.add_file(FileHandle { node: id, opened, can_write: true, _backing: None });
        Ok((attr, handle))
    }

    /// Another door made it since the kernel looked: then it is opened.
    async fn open_by_name(
        &self,
        who: Caller,
        parent: u64,
        name: &OsStr,
        flags: OFlags,
    ) -> Result<(Attr, u64)> {
        let found = self.lookup(parent, name).await?.ok_or(Errno::EXIST)?;
        let mut join = |_: &std::fs::File| Err(std::io::ErrorKind::Unsupported.into());
        // a handle made by `create` writes, as the kernel sees it
        let opened = self.open(who, found.id, (flags - OFlags::RWMODE) | OFlags::RDWR, &mut join).await;
        match opened {
            Ok(open) => Ok((self.attr(found.id).await?, open.handle)),
            Err(error) => {
                self.table.lock().forget(found.id, 1);
                Err(error)
            }
        }
    }

    /// Makes a file, pipe, socket or device that is not opened.
    pub(crate) async fn mknod(
        &self,
        who: Caller,
        parent: u64,
        name: &OsStr,
        mode: u32,
        device: u32,
    ) -> Result<Attr> {
        let _still = self.still().await;
        let mode = if mode & attr::TYPE == 0 { mode | attr::REGULAR } else { mode };
        let (id, opened, attr) = self.make_file(who, parent, name, mode, device).await?;
        let committed = self.commit(id, &opened, self.wait_of_close()).await;
        let mut table = self.table.lock();
        if let Some(node) = table.get_mut(id) {
            node.opened = None;
        }
        if let Err(error) = committed {
            table.detach(id);
            table.forget(id, 1);
            return Err(if error == Errno::STALE { Errno::EXIST } else { error });
        }
        Ok(attr)
    }

    async fn make_file(
        &self,
        who: Caller,
        parent: u64,
        name: &OsStr,
        mode: u32,
        device: u32,
    ) -> Result<(u64, Arc<Opened>, Attr)> {
        self.writable()?;
        let cx = self.cx()?;
        let (dir, text) = self.free_name(parent, name)?;
        let above = self.attr(parent).await?;
        let (gid, _) = inherit(who, &above);
        let attributes = attr::new(mode, who.uid, gid, self.now_ns(), device);
        let at = dir.at(&text)?;
        let file = self.store.create_file(&cx, &at, attributes).await.map_err(errno_of_new)?;
        let ino = file.ino();
        let opened = Arc::new(Opened::new(file));
        let id = self.table.lock().insert_new(parent, &text, Arc::clone(&opened), ino, false);
        self.touch(parent);
        let attr = self.attr(id).await?;
        Ok((id, opened, attr))
    }

    pub(crate) async fn read(&self, handle: u64, offset: u64, len: u32) -> Result<Bytes> {
        let handle = self.handles.file(handle).ok_or(Errno::BADF)?;
        let file = handle.opened.file();
        file.read(offset..offset.saturating_add(u64::from(len))).await.map_err(errno)
    }

    /// Writes; `drops_privileges`: the kernel says that set-user-id and set-group-id have to go.
    pub(crate) async fn write(
        &self,
        handle: u64,
        offset: u64,
        bytes: &[u8],
        drops_privileges: bool,
    ) -> Result<()> {
        let handle = self.handles.file(handle).ok_or(Errno::BADF)?;
        let file = handle.opened.file();
        file.write(offset, bytes, self.now_ns()).await.map_err(errno)?;
        if drops_privileges {
            drop_privileges(&file)?;
        }
        Ok(())
    }

    /// close: commits what was written.
    pub(crate) async fn flush(&self, handle: u64) -> Result<()> {
        let handle = self.handles.file(handle).ok_or(Errno::BADF)?;
        if !handle.opened.file().is_dirty() {
            return Ok(());
        }
        let _still = self.still().await;
        self.commit(handle.node, &handle.opened, self.wait_of_close()).await
    }

    pub(crate) async fn fsync(&self, handle: u64) -> Result<()> {
        let handle = self.handles.file(handle).ok_or(Errno::BADF)?;
        let _still = self.still().await;
        self.commit(handle.node, &handle.opened, Wait::Durable).await
    }

    /// Makes the working copy the object's content, unless its name was taken from it. The caller holds [`Door::still`].
    pub(crate) async fn commit(&self, id: u64, opened: &Opened, wait: Wait) -> Result<()> {
        let _turn = opened.turn.lock().await;
        let Ok(Spot::File { bucket, key }) = self.spot(id) else { return Ok(()) };
        let at = at(bucket, &key)?;
        let version = opened.file().commit(&self.cx()?, &at, Expect::Any, wait).await.map_err(errno)?;
        self.table.lock().committed(id, version.ino);
        Ok(())
    }

    /// The last close of a handle, of which nobody waits for the answer.
    pub(crate) async fn release(&self, number: u64) {
        let _still = self.still().await;
        let Some(handle) = self.handles.remove_file(number) else { return };
        // pages of a mapping are written after the close
        if handle.can_write
            && handle.opened.file().is_dirty()
            && let Err(error) = self.commit(handle.node, &handle.opened, Wait::Ordered).await
        {
            tracing::error!(%error, "bytes written after the last close could not be committed");
        }
        self.close(handle.node, &handle.opened, handle.can_write);
    }

    /// One handle less; with the last the node lets the working copy go.
    fn close(&self, id: u64, opened: &Arc<Opened>, can_write: bool) {
        let mut table = self.table.lock();
        opened.remove(can_write);
        if opened.handles() > 0 {
            return;
        }
        if let Some(node) = table.get_mut(id)
            && node.opened.as_ref().is_some_and(|other| Arc::ptr_eq(other, opened))
        {
            node.opened = None;
            if node.is_new {
                // its commit failed, and close has said so
                table.detach(id);
            }
            table.forget(id, 0);
        }
    }

    pub(crate) async fn truncate_opened(&self, who: Caller, opened: &Opened, len: u64) -> Result<()> {
        let file = opened.file();
        file.truncate(len, self.now_ns()).await.map_err(errno)?;
        if who.uid != 0 {
            drop_privileges(&file)?;
        }
        Ok(())
    }

    pub(crate) async fn fallocate(
        &self,
        handle: u64,
        offset: u64,
        len: u64,
        mode: FallocateFlags,
    ) -> Result<()> {
        let handle = self.handles.file(handle).ok_or(Errno::BADF)?;
        let (file, now_ns) = (handle.opened.file(), self.now_ns());
        let range = offset..offset.checked_add(len).ok_or(Errno::FBIG)?;
        let keep_size = mode.contains(FallocateFlags::KEEP_SIZE);
        let rest = mode - FallocateFlags::KEEP_SIZE;
        if rest.is_empty() {
            file.allocate(range, keep_size, now_ns).await.map_err(errno)
        } else if rest == FallocateFlags::PUNCH_HOLE || rest == FallocateFlags::ZERO_RANGE {
            file.zero(range, keep_size, now_ns).await.map_err(errno)
        } else {
            Err(Errno::OPNOTSUPP)
        }
    }

    pub(crate) fn lseek(&self, handle: u64, offset: u64, seek: Seek) -> Result<u64> {
        let file = self.handles.file(handle).ok_or(Errno::BADF)?.opened.file();
        let found = match seek {
            Seek::Data => file.seek_data(offset),
            Seek::Hole => file.seek_hole(offset),
        };
        found.ok_or(Errno::NXIO)
    }

    /// Copies between two open files; no bytes move where they are stored already.
    pub(crate) async fn copy_range(
        &self,
        (from, source): (u64, u64),
        (to, target): (u64, u64),
        len: u64,
    ) -> Result<u64> {
        let from = self.handles.file(from).ok_or(Errno::BADF)?.opened.file();
        let to = self.handles.file(to).ok_or(Errno::BADF)?.opened.file();
        let range = source..source.saturating_add(len);
        to.copy_range(&from, range, target, self.now_ns()).await.map_err(errno)
    }
}

fn drop_privileges(file: &OpenFile) -> Result<()> {
    let mode = file.attributes().posix.and_then(|posix| posix.mode);
    let Some(mode) = mode.filter(|mode| without_privileges(*mode) != *mode) else { return Ok(()) };
    let change = AttributeChange { mode: Some(without_privileges(mode)), ..AttributeChange::default() };
    file.change(change).map_err(errno)
}
