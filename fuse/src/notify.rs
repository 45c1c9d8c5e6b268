//! Telling the kernel what other doors changed, from the store's change feed.
//!
//! One thread, which nothing waits for but S3 and REST commits, and those for a second at most: the kernel's
//! invalidation itself waits for calls that wait for our handlers, so no handler may ever wait for it, and no lock is held
//! over it. What this mount did itself the kernel knows.

use std::ffi::OsStr;
use std::sync::Arc;

use coffre_store::feed::{Event, KeyChange, Subscription};
use coffre_store::file::Access;
use coffre_store::{BucketName, Cx};
use fuser::{INodeNo, Notifier};
use tokio::runtime::Handle;

use crate::door::{Door, at};
use crate::errno::Result;
use crate::inode::{Piece, ROOT, Shows, Spot};
use crate::lookup::Dir;
use crate::name;

/// Follows the feed until the store is closed or the mount ends.
pub(crate) fn follow(door: &Arc<Door>, notifier: &Notifier, runtime: &Handle, mut changes: Subscription) {
    let follower = Follower { door, notifier, runtime };
    while let Some(event) = runtime.block_on(changes.next()) {
        if door.is_ending.load(std::sync::atomic::Ordering::Relaxed) {
            return;
        }
        match event {
            Event::Changed { bucket, keys, request_id, delivered, .. } => {
                if keys.is_empty() {
                    follower.tell_bucket(&bucket);
                } else if !door.is_own(&request_id) {
                    for key in &*keys {
                        follower.tell(&bucket, key);
                    }
                }
                drop(delivered);
            }
            Event::Lagged => follower.tell_all(),
        }
    }
}

struct Follower<'a> {
    door: &'a Arc<Door>,
    notifier: &'a Notifier,
    runtime: &'a Handle,
}

/// A key's way through the table, as far as the kernel knows it.
struct Way {
    /// The directories it leads through that the kernel knows, from the outermost in.
    dirs: Vec<u64>,
    /// What comes after the last of them: the segment, and whether it is the key's last.
    rest: Option<(String, bool)>,
}

impl Follower<'_> {
    /// A bucket came or went.
    fn tell_bucket(&self, bucket: &BucketName) {
        if matches!(self.door.table.shows(), Shows::Buckets) {
            self.inode(ROOT);
            self.entry(ROOT, bucket.as_str());
        }
    }

    fn tell(&self, bucket: &BucketName, change: &KeyChange) {
        let Some(way) = self.way(bucket, &change.key) else { return };
        let Some(&dir) = way.dirs.last() else { return };
        if change.new_ino.is_some() {
            self.came_back(&way.dirs);
        }
        let Some((segment, is_last)) = &way.rest else {
            // the marker of a directory that the kernel knows
            self.inode(dir);
            self.entry_of(dir);
            return;
        };
        if *is_last {
            let node = self.door.table.lock().find(dir, Piece::File, segment);
            if let Some(node) = node {
                self.file_changed(dir, node, change);
            }
            if change.old_ino == change.new_ino && change.old_ino.is_some() {
                return;
            }
        }
        self.names(dir, segment);
        if change.new_ino.is_none() {
            self.vanished(&way.dirs);
        }
    }

    /// The directories that a key leads through.
    fn way(&self, bucket: &BucketName, key: &str) -> Option<Way> {
        let (mut dirs, path) = match self.door.table.shows() {
            Shows::Bucket { bucket: shown, prefix } if shown == bucket => {
                (vec![ROOT], key.strip_prefix(prefix.as_str())?)
            }
            Shows::Bucket { .. } => return None,
            Shows::Buckets => {
                let id = self.door.table.lock().find(ROOT, Piece::Bucket, bucket.as_str())?;
                (vec![ROOT, id], key)
            }
        };
        // a marker speaks of the directory itself
        let is_marker = path.ends_with('/');
        let segments: Vec<&str> = path.strip_suffix('/').unwrap_or(path).split('/').collect();
        let table = self.door.table.lock();
        for (at, segment) in segments.iter().enumerate() {
            let is_last = at + 1 == segments.len() && !is_marker;
            let mut text = *segment;
            // one that is too long begins with directories of its own
            for begin in name::begins(segment) {
                match table.find(*dirs.last()?, Piece::Begin, begin) {
                    Some(next) => dirs.push(next),
                    None => return Some(Way { dirs, rest: Some((text.to_owned(), is_last)) }),
                }
                text = text.strip_prefix(begin)?;
            }
            match table.find(*dirs.last()?, Piece::Dir, text) {
                Some(next) if !is_last => dirs.push(next),
                _ => return Some(Way { dirs, rest: Some((text.to_owned(), is_last)) }),
            }
        }
        Some(Way { dirs, rest: None })
    }

    /// A file that the kernel holds is another, or has other attributes.
    fn file_changed(&self, dir: u64, node: u64, change: &KeyChange) {
        if change.has_new_content {
            match self.runtime.block_on(self.renew(node)) {
                Ok(()) => {}
                Err(error) => tracing::debug!(%error, "an open file could not follow a change"),
            }
        }
        self.inode(node);
        if self.door.table.lock().get(node).is_none_or(|node| node.is_detached)
            && let Some(name) = self.name_of(dir, node)
        {
            self.entry(dir, &name);
        }
    }

    /// What is open goes on with what it has: readers keep their bytes, and the name leads elsewhere. Who may write and
    /// has not written goes on with the new bytes; who has written wins when it closes.
    async fn renew(&self, id: u64) -> Result<()> {
        let door = self.door;
        let _still = door.still().await;
        let Some(opened) = door.table.lock().opened(id) else {
            return Ok(());
        };
        let _turn = opened.turn.lock().await;
        if opened.file().is_dirty() {
            return Ok(());
        }
        let cx: Cx = door.cx()?;
        let Some(Spot::File { bucket, key }) = door.table.spot(id) else { return Ok(()) };
        let current = door.find(&cx, &bucket, &key).await?;
        let has = opened.file().version().map(|version| version.id);
        if current.as_ref().map(|version| version.id) == has {
            return Ok(());
        }
        if current.is_some() && opened.has_writers() {
            let at = at(bucket, &key)?;
            let file =
                door.store.open_file(&cx, &at, Access::ReadWrite).await.map_err(crate::errno::errno)?;
            let ino = file.ino();
            opened.replace(file);
            door.table.lock().committed(id, ino);
        } else {
            door.table.lock().detach(id);
        }
        Ok(())
    }

    /// All names by which a segment may be known in a directory: as it is, and as the object beside a directory.
    fn names(&self, dir: u64, segment: &str) {
        self.door.touch_unwritten(dir);
        self.inode(dir);
        let Some(Spot::Dir { bucket, prefix, begin_len }) = self.door.table.spot(dir) else { return };
        let inside = Dir { id: dir, bucket, prefix, begin_len };
        for is_beside in [false, true] {
            if let Some(name) = inside.shown(segment, is_beside) {
                self.entry(dir, &name);
            }
        }
        if segment.is_empty() {
            return;
        }
        // the marker that came or went may have changed what its directory shows of itself
        if let Some(id) = self.door.table.lock().find(dir, Piece::Dir, segment) {
            self.inode(id);
        }
    }

    /// A key came: a directory on its way may be one that the kernel believes to be gone.
    fn came_back(&self, dirs: &[u64]) {
        for pair in dirs.windows(2) {
            let &[above, dir] = pair else { continue };
            if self.door.table.lock().take_denied(dir) {
                self.entry_in(above, dir);
            }
        }
    }

    /// A key went: directories that were there for it alone have gone too.
    fn vanished(&self, dirs: &[u64]) {
        for pair in dirs.windows(2).rev() {
            let &[above, dir] = pair else { continue };
            if self.runtime.block_on(self.is_there(dir)) {
                return;
            }
            self.entry_in(above, dir);
        }
    }

    /// The name of a directory in the one above it came or went.
    fn entry_in(&self, above: u64, dir: u64) {
        if let Some(name) = self.name_of(above, dir) {
            self.inode(above);
            self.entry(above, &name);
        }
    }

    async fn is_there(&self, dir: u64) -> bool {
        let Ok(cx) = self.door.cx() else { return true };
        match self.door.table.spot(dir) {
            Some(Spot::Dir { bucket, prefix, .. }) => {
                self.door.is_free(&cx, &bucket, &prefix).await.is_ok_and(|is_free| !is_free)
                    || self.door.table.lock().has_new_below(dir)
            }
            _ => false,
        }
    }

    fn name_of(&self, dir: u64, node: u64) -> Option<String> {
        let text = self.door.table.lock().get(node)?.name.clone();
        let Spot::Dir { bucket, prefix, begin_len } = self.door.table.spot(dir)? else {
            return Some(text.into());
        };
        Dir { id: dir, bucket, prefix, begin_len }.shown(&text, false)
    }

    /// A directory's marker came or went: its name goes when nothing else is in it.
    fn entry_of(&self, dir: u64) {
        let Some(parent) = self.door.table.lock().get(dir).map(|node| node.parent) else { return };
        if dir != ROOT && !self.runtime.block_on(self.is_there(dir)) {
            self.entry_in(parent, dir);
        }
    }

    fn entry(&self, dir: u64, name: &str) {
        told("a name", self.notifier.inval_entry(INodeNo(dir), OsStr::new(name)));
    }

    fn inode(&self, id: u64) {
        told("an inode", self.notifier.inval_inode(INodeNo(id), 0, 0));
    }

    /// More happened than could be kept: everything that the kernel holds is to be asked for again.
    fn tell_all(&self) {
        tracing::warn!(
            "the mount fell behind the changes of other doors: dropping all that the kernel keeps"
        );
        let ids = self.door.table.lock().ids();
        for id in ids {
            let Some((parent, piece)) = self.door.table.lock().get(id).map(|node| (node.parent, node.piece))
            else {
                continue;
            };
            if piece == Piece::File && self.runtime.block_on(self.renew(id)).is_err() {
                tracing::debug!(id, "an open file could not follow a change");
            }
            self.inode(id);
            if let Some(name) = self.name_of(parent, id) {
                self.entry(parent, &name);
            }
        }
    }
}

fn told(what: &'static str, told: std::io::Result<()>) {
    if let Err(error) = told {
        // the mount is gone, mostly
        tracing::debug!(%error, "the kernel was not told of {what}");
    }
}
