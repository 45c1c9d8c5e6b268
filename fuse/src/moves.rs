//! Names that go and names that move: unlink, rename, symbolic links.

use std::ffi::OsStr;
use std::sync::Arc;

use coffre_store::ObjectKey;
use coffre_store::attributes::AttributeChange;
use coffre_store::moves::{How, MoveName};
use coffre_store::{Cx, Wait};
use rustix::fs::RenameFlags;
use rustix::io::Errno;

use crate::attr::{self, Attr};
use crate::dirs::inherit;
use crate::door::{Caller, Door};
use crate::errno::{Result, errno, errno_of_move, errno_of_new};
use crate::handle::Opened;
use crate::inode::{Node, Piece};
use crate::lookup::{Dir, Name, Target};

/// Longest target of a symbolic link, bytes (`PATH_MAX` less its NUL).
const TARGET_BYTES_MAX: usize = 4095;

/// One side of a rename.
struct Side {
    dir: Dir,
    name: Name,
    target: Option<Target>,
    /// The node, where the kernel knows one.
    id: Option<u64>,
}

impl Side {
    fn is_dir(&self) -> bool {
        matches!(self.target, Some(Target::Dir(_)))
    }

    fn key(&self) -> Result<ObjectKey> {
        Ok(self.dir.at(&self.name.text)?.key)
    }
}

impl Door {
    pub(crate) async fn unlink(&self, parent: u64, name: &OsStr) -> Result<()> {
        self.writable()?;
        let _still = self.still().await;
        let (cx, dir) = (self.cx()?, self.dir(parent)?);
        let (name, target) = self.existing(&cx, &dir, name).await?;
        if matches!(target, Target::Dir(_) | Target::Begin) {
            return Err(Errno::ISDIR);
        }
        let id = self.table.lock().find(parent, Piece::File, &name.text);
        let opened = id.and_then(|id| self.table.lock().opened(id));
        // a commit under way ends first, and none comes after
        let _turn = match &opened {
            Some(opened) => Some(opened.turn.lock().await),
            None => None,
        };
        if self.is_stored(id) {
            let at = dir.at(&name.text)?;
            self.store.remove_file(&cx, &at, Wait::Ordered).await.map_err(errno)?;
        }
        if let Some(opened) = &opened {
            self.status_changed(opened);
        }
        if let Some(id) = id {
            self.table.lock().detach(id);
        }
        self.touch(parent);
        Ok(())
    }

    /// Whether the store has something at the node's key.
    fn is_stored(&self, id: Option<u64>) -> bool {
        let table = self.table.lock();
        id.and_then(|id| table.get(id)).is_none_or(Node::is_stored)
    }

    fn status_changed(&self, opened: &Arc<Opened>) {
        let change = AttributeChange { changed_ns: Some(self.now_ns()), ..AttributeChange::default() };
        if let Err(error) = opened.file().change(change) {
            tracing::debug!(%error, "a status change was not noted");
        }
    }

    pub(crate) async fn symlink(
        &self,
        who: Caller,
        parent: u64,
        name: &OsStr,
        target: &OsStr,
    ) -> Result<Attr> {
        self.writable()?;
        let _still = self.still().await;
        let (cx, dir) = (self.cx()?, self.dir(parent)?);
        let text = dir.new_name(name)?;
        let target = target.to_str().ok_or(Errno::ILSEQ)?;
        if target.len() > TARGET_BYTES_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        if self.known(dir.id, &text).is_some() {
            return Err(Errno::EXIST);
        }
        let (gid, _) = inherit(who, &self.attr(parent).await?);
        let mut attributes = attr::new(attr::SYMLINK | 0o777, who.uid, gid, self.now_ns(), 0);
        if let Some(posix) = &mut attributes.posix {
            posix.symlink = Some(target.to_owned());
        }
        let at = dir.at(&text)?;
        let link =
            self.store.make_link(&cx, &at, attributes, self.wait_of_close()).await.map_err(errno_of_new)?;
        self.touch(parent);
        self.enter(&cx, &dir, &text, Target::Object(Box::new(link))).await?.ok_or(Errno::NOENT)
    }

    pub(crate) async fn readlink(&self, id: u64) -> Result<String> {
        let _still = self.still().await;
        let (cx, spot) = (self.cx()?, self.spot(id)?);
        let crate::inode::Spot::File { bucket, key } = spot else { return Err(Errno::INVAL) };
        let version = self.find(&cx, &bucket, &key).await?.ok_or(Errno::NOENT)?;
        version.attributes.posix.and_then(|posix| posix.symlink).ok_or(Errno::INVAL)
    }

    pub(crate) async fn rename(
        &self,
        from: (u64, &OsStr),
        to: (u64, &OsStr),
        flags: RenameFlags,
    ) -> Result<()> {
        self.writable()?;
        if flags.contains(RenameFlags::WHITEOUT) {
            return Err(Errno::INVAL);
        }
        // keys of nodes change, or might
        let _tree = self.tree.write().await;
        let cx = self.cx()?;
        let source = self.side(&cx, from, false).await?;
        let is_exchange = flags.contains(RenameFlags::EXCHANGE);
        let target = self.side(&cx, to, !is_exchange).await?;
        if source.target.is_none() || (is_exchange && target.target.is_none()) {
            return Err(Errno::NOENT);
        }
        if [&source, &target].iter().any(|side| matches!(side.target, Some(Target::Begin))) {
            return Err(Errno::PERM);
        }
        if source.dir.bucket != target.dir.bucket {
            return Err(Errno::XDEV);
        }
        if flags.contains(RenameFlags::NOREPLACE) && target.target.is_some() {
            return Err(Errno::EXIST);
        }
        if source.dir.id == target.dir.id
            && source.name.text == target.name.text
            && source.is_dir() == target.is_dir()
        {
            return Ok(());
        }
        if is_exchange {
            self.exchange(&cx, &source, &target).await?;
        } else {
            self.replace(&cx, &source, &target).await?;
        }
        self.touch(source.dir.id);
        if target.dir.id != source.dir.id {
            self.touch(target.dir.id);
        }
        Ok(())
    }

    /// What stands at one side; a name that is to be made has to be one that can be.
    async fn side(&self, cx: &Cx, (parent, name): (u64, &OsStr), may_be_new: bool) -> Result<Side> {
        let dir = self.dir(parent)?;
        let shown = name.to_str().ok_or(if may_be_new { Errno::ILSEQ } else { Errno::NOENT })?;
        let (name, target) = match self.target(cx, &dir, shown).await? {
            Some((name, target)) => (name, Some(target)),
            None if may_be_new => {
                let text = dir.new_name(name)?;
                (Name { form: crate::name::Form::Segment, text }, None)
            }
            None => return Err(Errno::NOENT),
        };
        let piece = if matches!(target, Some(Target::Dir(_))) { Piece::Dir } else { Piece::File };
        let id = self.table.lock().find(dir.id, piece, &name.text);
        Ok(Side { dir, name, target, id })
    }

    async fn replace(&self, cx: &Cx, source: &Side, target: &Side) -> Result<()> {
        match (source.is_dir(), target.target.is_some(), target.is_dir()) {
            (true, true, false) => return Err(Errno::NOTDIR),
            (false, true, true) => return Err(Errno::ISDIR),
            _ => {}
        }
        let is_new_below = |id: u64| self.table.lock().has_new_below(id);
        if target.is_dir() && target.id.is_some_and(is_new_below) {
            return Err(Errno::NOTEMPTY);
        }
        if !self.is_stored(source.id) {
            // not committed: its next commit goes to the new name, and until then what stands there stays
            let covers = matches!(target.target, Some(Target::Object(_))) || self.covers(target);
            if let Some(id) = source.id {
                let mut table = self.table.lock();
                table.rename(id, target.dir.id, &target.name.text);
                if let Some(node) = table.get_mut(id) {
                    node.covers = covers;
                }
            }
            return Ok(());
        }
        self.move_stored(cx, source, target, How::Replace).await?;
        if let Some(id) = target.id {
            self.table.lock().detach(id);
        }
        if let Some(id) = source.id {
            self.table.lock().rename(id, target.dir.id, &target.name.text);
        }
        self.renamed(cx, source, target).await
    }

    async fn move_stored(&self, cx: &Cx, source: &Side, target: &Side, how: How) -> Result<()> {
        let (from, to) = (source.key()?, target.key()?);
        let (bucket, is_dir) = (&source.dir.bucket, source.is_dir());
        let moving = MoveName { bucket, from: &from, is_dir, to: &to, how };
        self.store.move_name(cx, moving, Wait::Ordered).await.map_err(errno_of_move)?;
        Ok(())
    }

    fn covers(&self, side: &Side) -> bool {
        let table = self.table.lock();
        side.id.and_then(|id| table.get(id)).is_some_and(Node::is_stored)
    }

    /// What was moved has a new status-change time.
    async fn renamed(&self, cx: &Cx, source: &Side, target: &Side) -> Result<()> {
        let change = AttributeChange { changed_ns: Some(self.now_ns()), ..AttributeChange::default() };
        if source.is_dir() {
            if let Some(id) = source.id
                && self.table.lock().get(id).is_some_and(|node| node.ino != 0)
            {
                self.change_dir(cx, id, change).await?;
            }
            return Ok(());
        }
        if let Some(id) = source.id {
            return self.change_file(cx, id, change).await;
        }
        let at = target.dir.at(&target.name.text)?;
        self.store.set_attributes(cx, &at, &change, Wait::Ordered).await.map_err(errno)?;
        Ok(())
    }

    async fn exchange(&self, cx: &Cx, source: &Side, target: &Side) -> Result<()> {
        // both have to be in the store to change places there
        for side in [source, target] {
            let opened = side.id.and_then(|id| Some((id, self.table.lock().get(id)?.opened.clone()?)));
            if let Some((id, opened)) = opened
                && self.table.lock().get(id).is_some_and(|node| node.is_new)
            {
                self.commit(id, &opened, Wait::Ordered).await?;
            }
        }
        self.move_stored(cx, source, target, How::Exchange { to_is_dir: target.is_dir() }).await?;
        self.table.lock().exchange(
            (source.dir.id, &source.name.text, source.id),
            (target.dir.id, &target.name.text, target.id),
        );
        Ok(())
    }
}
