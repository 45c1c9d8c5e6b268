//! The inode table: what the kernel holds, and nothing else.
//!
//! A node is a piece of a key and its parent, so moving a directory is one change and a path is made by walking up.
//! A node lives while the kernel has looked it up (`forget` lowers that count), has children here, or is open. Its id
//! is what the kernel and `stat` show: the object's inode number, shifted past the root; for a directory without a
//! marker a hash of its key; a number never used before where that one is taken, as when an object was overwritten while the
//! kernel still holds what was there: one id is one content lineage.
//!
//! One lock, never held over I/O or an `.await`. Memory: about 200 bytes a node of a short name.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coffre_store::BucketName;

use crate::handle::Opened;

/// The kernel's number for the root.
pub(crate) const ROOT: u64 = 1;
/// Objects' inode numbers begin at 1, which is the root's here.
const SHIFT: u64 = 15;
/// Ids of directories without an inode number of their own carry this bit; numbers that are made up carry [`MADE_UP`].
const HASHED: u64 = 1 << 61;
const MADE_UP: u64 = 1 << 62;

/// Which piece of a path a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Piece {
    /// Where the mount begins.
    Root,
    /// A bucket, below the root of a mount of all buckets.
    Bucket,
    /// A segment and its `/`.
    Dir,
    /// The beginning of a segment that is too long for one name.
    Begin,
    /// The last segment of an object's key.
    File,
}

/// Times of a directory, which change with each name in it: kept here and written now and then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DirTimes {
    pub(crate) modified_ns: i64,
    pub(crate) changed_ns: i64,
    /// Not written to the marker yet.
    pub(crate) is_dirty: bool,
}

/// One inode.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all four take a word")]
pub(crate) struct Node {
    pub(crate) parent: u64,
    pub(crate) piece: Piece,
    /// The key's text, not as it is shown.
    pub(crate) name: Box<str>,
    /// The object's inode number, the marker's for a directory; 0: none.
    pub(crate) ino: u64,
    /// The name leads elsewhere or nowhere by now; handles go on.
    pub(crate) is_detached: bool,
    /// Not committed yet: here, and nowhere else.
    pub(crate) is_new: bool,
    /// A new file that took the place of an object which is there until the first commit.
    pub(crate) covers: bool,
    /// Written or opened for writing since the mount began: no passthrough any more.
    pub(crate) was_written: bool,
    pub(crate) opened: Option<Arc<Opened>>,
    pub(crate) times: Option<Box<DirTimes>>,
    lookups: u64,
    /// Children in the table, handles, and others that need it to stay.
    users: u32,
    /// Lookups of its name under way.
    looking: u16,
    /// The kernel was told that there is nothing of its name, and may keep that.
    was_denied: bool,
}

/// Where a node stands among the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// The root of a mount of all buckets.
    Buckets,
    /// A directory: `prefix` is empty or ends with `/`, unless `begin_len` bytes of a longer segment stand at its end.
    Dir { bucket: BucketName, prefix: String, begin_len: usize },
    /// An object.
    File { bucket: BucketName, key: String },
}

/// What the mount shows.
#[derive(Clone, Debug)]
pub(crate) enum Shows {
    /// One bucket below a prefix, empty or ending with `/`.
    Bucket { bucket: BucketName, prefix: String },
    /// All buckets as directories.
    Buckets,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Table {
    shows: Shows,
    inner: Mutex<Inner>,
}

/// The table under its lock.
#[derive(Debug)]
pub(crate) struct Inner {
    nodes: HashMap<u64, Box<Node>>,
    /// By a hash of parent, kind and name; what is found is compared.
    names: HashMap<u64, u64>,
    /// New files by their parent.
    new: HashMap<u64, Vec<u64>>,
    next: u64,
    hasher: RandomState,
}

impl Table {
    pub(crate) fn new(shows: Shows) -> Self {
        let root = Node { lookups: 1, ..Node::new(0, Piece::Root, "", 0) };
        let inner = Inner {
            nodes: HashMap::from([(ROOT, Box::new(root))]),
            names: HashMap::new(),
            new: HashMap::new(),
            next: MADE_UP,
            hasher: RandomState::new(),
        };
        Self { shows, inner: Mutex::new(inner) }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn shows(&self) -> &Shows {
        &self.shows
    }

    /// Where a node stands; `None` when it or a directory above has lost its name.
    pub(crate) fn spot(&self, id: u64) -> Option<Spot> {
        self.lock().spot(&self.shows, id)
    }
}

impl Node {
    fn new(parent: u64, piece: Piece, name: &str, ino: u64) -> Self {
        Self {
            parent,
            piece,
            name: name.into(),
            ino,
            is_detached: false,
            is_new: false,
            covers: false,
            was_written: false,
            opened: None,
            times: None,
            lookups: 0,
            users: 0,
            looking: 0,
            was_denied: false,
        }
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.piece != Piece::File
    }

    /// Whether the store has something at its key: it, or what it covers.
    pub(crate) fn is_stored(&self) -> bool {
        !self.is_new || self.covers
    }
}

impl Inner {
    pub(crate) fn get(&self, id: u64) -> Option<&Node> {
        self.nodes.get(&id).map(|node| &**node)
    }

    pub(crate) fn get_mut(&mut self, id: u64) -> Option<&mut Node> {
        self.nodes.get_mut(&id).map(|node| &mut **node)
    }

    /// The working copy of a node that is open.
    pub(crate) fn opened(&self, id: u64) -> Option<Arc<Opened>> {
        self.get(id)?.opened.clone()
    }

    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// All ids.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    fn hash(&self, parent: u64, is_file: bool, name: &str) -> u64 {
        self.hasher.hash_one((parent, is_file, name))
    }

    /// The node of a name in a directory: of the object, or of the directory (or beginning) so called.
    pub(crate) fn find(&self, parent: u64, piece: Piece, name: &str) -> Option<u64> {
        let is_file = piece == Piece::File;
        let id = *self.names.get(&self.hash(parent, is_file, name))?;
        let node = self.get(id)?;
        let is_it = node.parent == parent && node.is_dir() != is_file && &*node.name == name;
        (is_it && !node.is_detached).then_some(id)
    }

    /// The node of a name, made if need be, held by the kernel once more.
    pub(crate) fn enter(&mut self, parent: u64, piece: Piece, name: &str, ino: u64) -> u64 {
        let id = self.place(parent, piece, name, ino);
        if let Some(node) = self.get_mut(id) {
            node.lookups += 1;
        }
        id
    }

    /// The node of a name, made if need be. A name that leads to another object than before gets another node.
    pub(crate) fn place(&mut self, parent: u64, piece: Piece, name: &str, ino: u64) -> u64 {
        if let Some(id) = self.find(parent, piece, name) {
            let Some(node) = self.get_mut(id) else { return id };
            if piece != Piece::File || node.ino == ino || node.is_new {
                if piece != Piece::File && ino != 0 {
                    node.ino = ino;
                }
                return id;
            }
            self.detach(id);
        }
        let wanted = if ino == 0 { HASHED | (stable_hash(parent, name) & (HASHED - 1)) } else { ino + SHIFT };
        let id = if self.nodes.contains_key(&wanted) { self.made_up() } else { wanted };
        self.insert(id, Node::new(parent, piece, name, ino));
        id
    }

    /// A new file, held by the kernel once.
    pub(crate) fn insert_new(
        &mut self,
        parent: u64,
        name: &str,
        opened: Arc<Opened>,
        ino: u64,
        covers: bool,
    ) -> u64 {
        if let Some(old) = self.find(parent, Piece::File, name) {
            self.detach(old);
        }
        let wanted = ino + SHIFT;
        let id = if self.nodes.contains_key(&wanted) { self.made_up() } else { wanted };
        let mut node = Node::new(parent, Piece::File, name, ino);
        (node.is_new, node.covers, node.was_written) = (true, covers, true);
        (node.opened, node.lookups) = (Some(opened), 1);
        self.insert(id, node);
        self.new.entry(parent).or_default().push(id);
        id
    }

    fn insert(&mut self, id: u64, node: Node) {
        let hash = self.hash(node.parent, !node.is_dir(), &node.name);
        self.names.insert(hash, id);
        if let Some(parent) = self.get_mut(node.parent) {
            parent.users += 1;
        }
        self.nodes.insert(id, Box::new(node));
    }

    fn made_up(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// New files of a directory.
    pub(crate) fn new_in(&self, parent: u64) -> &[u64] {
        self.new.get(&parent).map_or(&[], Vec::as_slice)
    }

    /// Whether a directory has files, somewhere below it, that were not committed yet.
    pub(crate) fn has_new_below(&self, dir: u64) -> bool {
        self.new.keys().any(|&parent| {
            let mut at = parent;
            loop {
                if at == dir {
                    return true;
                }
                match self.get(at) {
                    Some(node) if at != ROOT => at = node.parent,
                    _ => return false,
                }
            }
        })
    }

    /// The file is committed: everybody can find it.
    pub(crate) fn committed(&mut self, id: u64, ino: u64) {
        let Some(node) = self.get_mut(id) else { return };
        node.ino = ino;
        if node.is_new {
            (node.is_new, node.covers) = (false, false);
            let parent = node.parent;
            self.no_longer_new(parent, id);
        }
    }

    fn no_longer_new(&mut self, parent: u64, id: u64) {
        if let Some(new) = self.new.get_mut(&parent) {
            new.retain(|&other| other != id);
            if new.is_empty() {
                self.new.remove(&parent);
            }
        }
    }

    /// The name no longer leads to it.
    pub(crate) fn detach(&mut self, id: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if id == ROOT || node.is_detached {
            return;
        }
        node.is_detached = true;
        let (parent, is_new) = (node.parent, std::mem::take(&mut node.is_new));
        self.unname(id);
        if is_new {
            self.no_longer_new(parent, id);
        }
        self.free_unused(id);
    }

    /// Another parent and name; what is below goes along. What had that name is detached.
    pub(crate) fn rename(&mut self, id: u64, parent: u64, name: &str) {
        let Some(node) = self.get(id) else { return };
        let (old_parent, piece, is_new) = (node.parent, node.piece, node.is_new);
        if let Some(there) = self.find(parent, piece, name)
            && there != id
        {
            self.detach(there);
        }
        self.unname(id);
        self.name(id, parent, name);
        if is_new {
            self.no_longer_new(old_parent, id);
            self.new.entry(parent).or_default().push(id);
        }
    }

    /// Two nodes change names. Either may not be known.
    pub(crate) fn exchange(&mut self, a: (u64, &str, Option<u64>), b: (u64, &str, Option<u64>)) {
        for id in [a.2, b.2].into_iter().flatten() {
            self.unname(id);
        }
        for ((parent, name, _), id) in [(a, b.2), (b, a.2)] {
            if let Some(id) = id {
                self.name(id, parent, name);
            }
        }
    }

    /// Gives a node that has lost its name another, and maybe another parent.
    fn name(&mut self, id: u64, parent: u64, name: &str) {
        let Some(node) = self.get_mut(id) else { return };
        let (old_parent, is_file) = (node.parent, !node.is_dir());
        (node.parent, node.name) = (parent, name.into());
        let hash = self.hash(parent, is_file, name);
        self.names.insert(hash, id);
        self.keep(parent);
        self.let_go(old_parent);
    }

    fn unname(&mut self, id: u64) {
        let Some(node) = self.get(id) else { return };
        let hash = self.hash(node.parent, !node.is_dir(), &node.name);
        if self.names.get(&hash) == Some(&id) {
            self.names.remove(&hash);
        }
    }

    /// It has to stay until [`Self::let_go`].
    pub(crate) fn keep(&mut self, id: u64) {
        if let Some(node) = self.get_mut(id) {
            node.users += 1;
        }
    }

    pub(crate) fn let_go(&mut self, id: u64) {
        if let Some(node) = self.get_mut(id) {
            node.users = node.users.saturating_sub(1);
            self.free_unused(id);
        }
    }

    /// Somebody begins to look whether a directory of that name is there still. A directory that vanished may be in the
    /// table for long (a program stands in it), beside the kernel's knowledge that its name leads nowhere.
    pub(crate) fn begin_look(&mut self, parent: u64, name: &str) -> Option<u64> {
        let id = self.find(parent, Piece::Dir, name)?;
        let node = self.get_mut(id)?;
        node.looking = node.looking.saturating_add(1);
        self.keep(id);
        Some(id)
    }

    /// What came of it is about to be told to the kernel.
    pub(crate) fn end_look(&mut self, id: u64, is_there: bool) {
        if let Some(node) = self.get_mut(id) {
            node.looking = node.looking.saturating_sub(1);
            node.was_denied |= !is_there;
        }
        self.let_go(id);
    }

    /// Whether the kernel may know, or be about to be told, that a directory is not there. Asked when something came to
    /// be in it, by who then drops that knowledge.
    pub(crate) fn take_denied(&mut self, id: u64) -> bool {
        self.get_mut(id).is_some_and(|node| std::mem::take(&mut node.was_denied) || node.looking > 0)
    }

    /// The kernel holds it `n` times less.
    pub(crate) fn forget(&mut self, id: u64, n: u64) {
        if let Some(node) = self.get_mut(id) {
            node.lookups = node.lookups.saturating_sub(n);
            self.free_unused(id);
        }
    }

    fn free_unused(&mut self, id: u64) {
        let mut id = id;
        while id != ROOT {
            let Some(node) = self.get(id) else { return };
            let is_used = node.lookups > 0 || node.users > 0 || node.is_new || node.opened.is_some();
            if is_used {
                return;
            }
            let parent = node.parent;
            self.unname(id);
            self.nodes.remove(&id);
            if self.nodes.len() * 4 < self.nodes.capacity() {
                self.nodes.shrink_to(self.nodes.len() * 2);
                self.names.shrink_to(self.names.len() * 2);
            }
            if let Some(parent) = self.get_mut(parent) {
                parent.users = parent.users.saturating_sub(1);
            }
            id = parent;
        }
    }

    fn spot(&self, shows: &Shows, id: u64) -> Option<Spot> {
        let mut pieces = Vec::new();
        let mut at = id;
        loop {
            let node = self.get(at)?;
            if node.is_detached {
                return None;
            }
            if node.piece == Piece::Root {
                break;
            }
            pieces.push(node);
            at = node.parent;
        }
        let (bucket, mut text) = match shows {
            Shows::Bucket { bucket, prefix } => (bucket.clone(), prefix.clone()),
            Shows::Buckets => match pieces.pop() {
                None => return Some(Spot::Buckets),
                Some(node) => (node.name.parse().ok()?, String::new()),
            },
        };
        let mut begin_len = 0;
        for node in pieces.iter().rev() {
            text.push_str(&node.name);
            match node.piece {
                Piece::Begin => begin_len += node.name.len(),
                Piece::Dir => {
                    text.push('/');
                    begin_len = 0;
                }
                Piece::File => return Some(Spot::File { bucket, key: text }),
                Piece::Root | Piece::Bucket => {}
            }
        }
        Some(Spot::Dir { bucket, prefix: text, begin_len })
    }
}

/// The same at every mount of the same tree, as far as the parent's id is (FNV-1a).
fn stable_hash(parent: u64, name: &str) -> u64 {
    let bytes = parent.to_le_bytes();
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().chain(name.as_bytes()).fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let bucket: BucketName = "files".parse().unwrap();
        Table::new(Shows::Bucket { bucket, prefix: String::new() })
    }

    #[test]
    fn a_node_lives_until_all_that_holds_it_is_gone() {
        let table = table();
        let mut inner = table.lock();
        let dir = inner.enter(ROOT, Piece::Dir, "d", 0);
        let file = inner.enter(dir, Piece::File, "f", 7);
        assert_eq!(inner.enter(dir, Piece::File, "f", 7), file);
        inner.forget(dir, 1);
        assert!(inner.get(dir).is_some(), "its child is held");
        inner.forget(file, 1);
        assert_eq!(inner.len(), 3);
        inner.forget(file, 1);
        assert_eq!(inner.len(), 1, "the child took its parent along");
        assert!(inner.names.is_empty());
        inner.forget(ROOT, 10);
        assert!(inner.get(ROOT).is_some());
    }

    #[test]
    fn an_object_that_took_the_place_of_another_is_another_node() {
        let table = table();
        let mut inner = table.lock();
        let old = inner.enter(ROOT, Piece::File, "f", 7);
        let new = inner.enter(ROOT, Piece::File, "f", 8);
        assert_ne!(old, new);
        assert!(inner.get(old).unwrap().is_detached);
        inner.detach(new);
        let again = inner.enter(ROOT, Piece::File, "f", 8);
        assert_ne!(again, new, "the number is taken while the kernel holds it");
        inner.forget(new, 1);
        inner.forget(again, 1);
        assert_eq!(inner.enter(ROOT, Piece::File, "f", 8), new);
    }

    #[test]
    fn a_moved_directory_takes_what_is_below_along() {
        let table = table();
        let (dir, file) = {
            let mut inner = table.lock();
            let dir = inner.enter(ROOT, Piece::Dir, "d", 3);
            let file = inner.enter(dir, Piece::File, "f", 4);
            let other = inner.enter(ROOT, Piece::Dir, "e", 5);
            inner.rename(dir, other, "moved");
            assert_eq!(inner.find(ROOT, Piece::Dir, "d"), None);
            (dir, file)
        };
        let bucket: BucketName = "files".parse().unwrap();
        assert_eq!(table.spot(file), Some(Spot::File { bucket, key: "e/moved/f".into() }));
        table.lock().detach(dir);
        assert_eq!(table.spot(file), None);
    }

    #[test]
    fn a_node_is_small() {
        assert!(size_of::<Node>() <= 96, "{}", size_of::<Node>());
    }
}
