//! Changing what `stat` shows: mode, owner, times, length.

use std::sync::Arc;

use coffre_store::attributes::AttributeChange;
use coffre_store::file::{Access, OpenFile};
use coffre_store::{Cx, Wait};
use rustix::io::Errno;

use crate::attr::{self, Attr, without_privileges};
use crate::door::{Caller, Door, at, at_of_dir};
use crate::errno::{Result, errno};
use crate::handle::Opened;
use crate::inode::{DirTimes, Piece, Spot};

/// What `setattr` is asked to change.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SetAttr {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) accessed: Option<Time>,
    pub(crate) modified: Option<Time>,
}

/// A time given, or now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    Now,
    Ns(i64),
}

impl Door {
    pub(crate) async fn setattr(
        &self,
        who: Caller,
        id: u64,
        handle: Option<u64>,
        set: SetAttr,
    ) -> Result<Attr> {
        self.writable()?;
        let _still = self.still().await;
        let cx = self.cx()?;
        let piece = self.table.lock().get(id).ok_or(Errno::STALE)?.piece;
        if piece == Piece::File {
            if let Some(len) = set.size {
                self.truncate(who, &cx, id, handle, len).await?;
            }
            let change = self.change(&set, self.attr(id).await?.mode);
            if !change.is_empty() {
                self.change_file(&cx, id, change).await?;
            }
        } else {
            if set.size.is_some() {
                return Err(Errno::ISDIR);
            }
            let change = self.change(&set, attr::DIR);
            if !change.is_empty() {
                self.change_dir(&cx, id, change).await?;
            }
        }
        self.attr(id).await
    }

    /// The difference that is asked for, of a file whose mode is this.
    fn change(&self, set: &SetAttr, mode: u32) -> AttributeChange {
        let now_ns = self.now_ns();
        let time = |time: Time| match time {
            Time::Now => now_ns,
            Time::Ns(ns) => ns,
        };
        let mut change = AttributeChange {
            mode: set.mode.map(|new| (mode & attr::TYPE) | (new & 0o7777)),
            uid: set.uid,
            gid: set.gid,
            accessed_ns: set.accessed.map(time),
            modified_ns: set.modified.map(time),
            ..AttributeChange::default()
        };
        // who gets a file gets none of its former owner's powers along (the kernel leaves it to us)
        if (set.uid.is_some() || set.gid.is_some()) && set.mode.is_none() && mode & attr::TYPE != attr::DIR {
            change.mode = Some(without_privileges(mode)).filter(|new| *new != mode);
        }
        if !change.is_empty() {
            change.changed_ns = Some(now_ns);
        }
        change
    }

    async fn truncate(&self, who: Caller, cx: &Cx, id: u64, handle: Option<u64>, len: u64) -> Result<()> {
        let by_handle =
            handle.and_then(|number| self.handles.file(number)).map(|handle| Arc::clone(&handle.opened));
        let known = by_handle.or_else(|| self.table.lock().opened(id));
        if let Some(opened) = known {
            if opened.live_backing().is_some() {
                // who reads by itself keeps its bytes; the kernel looks the name up again
                self.switch(id);
                return Err(Errno::STALE);
            }
            if let Some(node) = self.table.lock().get_mut(id) {
                node.was_written = true;
            }
            self.truncate_opened(who, &opened, len).await?;
            // a truncate by name is done when it returns; one by a handle that will be closed is done then
            if handle.is_none() {
                self.commit(id, &opened, self.wait_of_close()).await?;
            }
            return Ok(());
        }
        let Spot::File { bucket, key } = self.spot(id)? else { return Err(Errno::ISDIR) };
        let at = at(bucket, &key)?;
        let file = self.store.open_file(cx, &at, Access::Write).await.map_err(errno)?;
        let opened = Opened::new(file);
        self.truncate_opened(who, &opened, len).await?;
        self.commit(id, &opened, self.wait_of_close()).await
    }

    /// Through the working copy where there is one: its commit would undo what it does not know of.
    pub(crate) async fn change_file(&self, cx: &Cx, id: u64, change: AttributeChange) -> Result<()> {
        let (opened, is_detached) = {
            let table = self.table.lock();
            let node = table.get(id).ok_or(Errno::STALE)?;
            (node.opened.clone(), node.is_detached)
        };
        if let Some(opened) = opened {
            let file: Arc<OpenFile> = opened.file();
            let was_dirty = file.is_dirty();
            file.change(change).map_err(errno)?;
            if !was_dirty && !is_detached {
                self.commit(id, &opened, Wait::Ordered).await?;
            }
            return Ok(());
        }
        let Spot::File { bucket, key } = self.spot(id).map_err(|_| Errno::STALE)? else {
            return Err(Errno::ISDIR);
        };
        let at = at(bucket, &key)?;
        self.store.set_attributes(cx, &at, &change, self.wait_of_close()).await.map_err(errno)?;
        Ok(())
    }

    pub(crate) async fn change_dir(&self, cx: &Cx, id: u64, change: AttributeChange) -> Result<()> {
        let Spot::Dir { bucket, prefix, begin_len: 0 } = self.spot(id)? else { return Err(Errno::PERM) };
        // the root of a bucket has no marker to carry anything
        let at = at_of_dir(&bucket, &prefix).ok_or(Errno::PERM)?;
        let times = self.table.lock().get(id).and_then(|node| node.times.as_deref().copied());
        let change = match times {
            // what is not written yet goes along
            Some(times) => AttributeChange {
                modified_ns: change.modified_ns.or(Some(times.modified_ns)),
                changed_ns: change.changed_ns.or(Some(times.changed_ns)),
                ..change
            },
            None => change,
        };
        let marker =
            self.store.set_dir_attributes(cx, &at, &change, self.wait_of_close()).await.map_err(errno)?;
        let mut table = self.table.lock();
        if let Some(node) = table.get_mut(id) {
            node.ino = marker.ino;
            if let Some(times) = &mut node.times {
                let (modified_ns, changed_ns) = (
                    change.modified_ns.unwrap_or(times.modified_ns),
                    change.changed_ns.unwrap_or(times.changed_ns),
                );
                **times = DirTimes { modified_ns, changed_ns, is_dirty: false };
            }
        }
        Ok(())
    }
}
