//! Directories and moves against a plain map of names.

use std::collections::{BTreeMap, BTreeSet};

use coffre_disk::seed::{self, Random};

use super::*;
use crate::bucket::Setting;
use crate::moves::{How, MoveName, Moved};
use crate::object::{Posix, Versioning};
use crate::sample::{Opened, at};

/// Names of files with what is in them, and of directories; all without a trailing `/`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tree {
    files: BTreeMap<String, Vec<u8>>,
    dirs: BTreeSet<String>,
}

/// Why a file system refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum No {
    Missing,
    Exists,
    NotEmpty,
    Kind,
    Itself,
}

fn parent(name: &str) -> Option<&str> {
    name.rsplit_once('/').map(|(parent, _)| parent)
}

impl Tree {
    fn has(&self, name: &str) -> bool {
        self.files.contains_key(name) || self.dirs.contains(name)
    }

    fn is_empty(&self, dir: &str) -> bool {
        let within = |name: &String| name.starts_with(&format!("{dir}/"));
        !self.files.keys().any(within) && !self.dirs.iter().any(within)
    }

    fn may_make(&self, name: &str) -> Result<(), No> {
        if self.has(name) {
            return Err(No::Exists);
        }
        if parent(name).is_some_and(|parent| !self.dirs.contains(parent)) {
            return Err(No::Missing);
        }
        Ok(())
    }

    fn make_dir(&mut self, name: &str) -> Result<(), No> {
        self.may_make(name)?;
        self.dirs.insert(name.into());
        Ok(())
    }

    fn remove_dir(&mut self, name: &str) -> Result<(), No> {
        if !self.is_empty(name) {
            return Err(No::NotEmpty);
        }
        if self.dirs.remove(name) { Ok(()) } else { Err(No::Missing) }
    }

    fn remove_file(&mut self, name: &str) -> Result<(), No> {
        self.files.remove(name).map(drop).ok_or(No::Missing)
    }

    /// What another door does: directories come by themselves.
    fn put(&mut self, name: &str, bytes: &[u8]) {
        self.files.insert(name.into(), bytes.to_vec());
        let mut dir = parent(name);
        while let Some(name) = dir {
            self.dirs.insert(name.into());
            dir = parent(name);
        }
    }

    fn rename(&mut self, from: &str, is_dir: bool, to: &str, how: How) -> Result<(), No> {
        let within = |dir: &str, name: &str| name.starts_with(&format!("{dir}/"));
        let is_exchange = matches!(how, How::Exchange { .. });
        if within(from, to) || (is_exchange && within(to, from)) {
            return Err(No::Itself);
        }
        let is_there = |name: &str, is_dir| {
            if is_dir { self.dirs.contains(name) } else { self.files.contains_key(name) }
        };
        if !is_there(from, is_dir) {
            return Err(No::Missing);
        }
        if from == to {
            return Ok(());
        }
        match how {
            How::Exchange { to_is_dir } if !is_there(to, to_is_dir) => return Err(No::Missing),
            How::Exchange { .. } => {}
            How::NoReplace if self.has(to) => return Err(No::Exists),
            How::Replace | How::NoReplace => {
                if self.dirs.contains(to) != is_dir && self.has(to) {
                    return Err(No::Kind);
                }
                if is_dir && !self.is_empty(to) {
                    return Err(No::NotEmpty);
                }
            }
        }
        if parent(to).is_some_and(|parent| !self.dirs.contains(parent)) {
            return Err(No::Missing);
        }
        let other = match how {
            How::Exchange { .. } => self.take(to),
            How::Replace | How::NoReplace => {
                self.take(to);
                Self::default()
            }
        };
        let moved = self.take(from);
        self.give(moved, from, to);
        self.give(other, to, from);
        Ok(())
    }

    /// Takes a name out with everything in it.
    fn take(&mut self, name: &str) -> Self {
        let is_it = |other: &String| other == name || other.starts_with(&format!("{name}/"));
        let files = self.files.extract_if(.., |other, _| is_it(other)).collect();
        let dirs = self.dirs.extract_if(.., |other| is_it(other)).collect();
        Self { files, dirs }
    }

    fn give(&mut self, tree: Self, from: &str, to: &str) {
        let renamed = |name: String| format!("{to}{}", &name[from.len()..]);
        self.files.extend(tree.files.into_iter().map(|(name, bytes)| (renamed(name), bytes)));
        self.dirs.extend(tree.dirs.into_iter().map(renamed));
    }
}

fn refused(error: &Error) -> No {
    match error {
        Error::NotFound(_) => No::Missing,
        Error::Precondition { .. } => No::Exists,
        Error::NotEmpty => No::NotEmpty,
        Error::Invalid { what: "target" } => No::Kind,
        Error::Invalid { what: "name" } => No::Itself,
        other => panic!("{other:?}"),
    }
}

/// The tree as the store shows it, and each file's inode number.
async fn shown(opened: &Opened) -> (Tree, BTreeMap<u64, String>) {
    let (store, cx) = (&opened.store, &opened.cx);
    let bucket = "bucket".parse().unwrap();
    let (mut tree, mut inodes) = (Tree::default(), BTreeMap::new());
    let mut todo = vec![String::new()];
    while let Some(dir) = todo.pop() {
        let mut after = String::new();
        loop {
            let page = store.list_dir(cx, &bucket, &dir, &after, 3).await.unwrap();
            for entry in page.entries {
                let name = if dir.is_empty() { entry.name } else { format!("{dir}/{}", entry.name) };
                match entry.kind {
                    EntryKind::Object(version) => {
                        assert!(inodes.insert(version.ino, name.clone()).is_none());
                        tree.files.insert(name.clone(), opened.get(&at("bucket", &name), None).await);
                    }
                    EntryKind::Dir(_) => {
                        assert!(tree.dirs.insert(name.clone()));
                        todo.push(name);
                    }
                }
            }
            match page.next_after {
                Some(next) => after = next,
                None => break,
            }
        }
    }
    (tree, inodes)
}

const NAMES: [&str; 10] = ["a", "b", "a/c", "a/d", "b/c", "a/c/e", "a/c/f", "b/c/e", "a.b", "a/c.d"];

async fn live(seed: u64, versioning: Versioning) {
    let opened = Opened::new().await;
    let (store, cx) = (&opened.store, &opened.cx);
    if versioning != Versioning::Off {
        store.set_bucket(cx, &"bucket".parse().unwrap(), Setting::Versioning(versioning)).await.unwrap();
    }
    let mut random = Random::new(seed);
    let mut tree = Tree::default();
    for step in 0..150 {
        let name = *random.pick(&NAMES).unwrap();
        let spot = at("bucket", name);
        let before = shown(&opened).await.1;
        let mut expected_moves: Option<(String, String)> = None;
        let (done, expected) = match random.below(10) {
            0..2 => {
                let new = store.make_dir(cx, &spot, Attributes::default(), Wait::Ordered).await;
                (new.map(drop), tree.make_dir(name))
            }
            2 => (store.remove_dir(cx, &spot, Wait::Ordered).await, tree.remove_dir(name)),
            3 => (store.remove_file(cx, &spot, Wait::Ordered).await.map(drop), tree.remove_file(name)),
            4..7 => {
                // another door; not where a file system could not show both
                let above = std::iter::successors(parent(name), |name| parent(name));
                if tree.dirs.contains(name) || above.into_iter().any(|dir| tree.files.contains_key(dir)) {
                    continue;
                }
                let bytes = random.bytes(3);
                opened.put(&spot, bytes.clone()).await;
                tree.put(name, &bytes);
                (Ok(()), Ok(()))
            }
            _ => {
                let to = *random.pick(&NAMES).unwrap();
                let is_dir = if random.chance(90) { tree.dirs.contains(name) } else { random.chance(50) };
                let how = match random.below(4) {
                    0 => How::NoReplace,
                    1 => How::Exchange { to_is_dir: tree.dirs.contains(to) },
                    _ => How::Replace,
                };
                let (from_key, to_key) = (name.parse().unwrap(), to.parse().unwrap());
                let bucket = "bucket".parse().unwrap();
                let moving = MoveName { bucket: &bucket, from: &from_key, is_dir, to: &to_key, how };
                let moved: Result<Moved> = store.move_name(cx, moving, Wait::Ordered).await;
                if let (Ok(moved), false) = (&moved, is_dir) {
                    assert_eq!(before[&moved.version.as_ref().unwrap().ino], name, "ids go along");
                    expected_moves = Some((name.into(), to.into()));
                }
                (moved.map(drop), tree.rename(name, is_dir, to, how))
            }
        };
        let done = done.map_err(|error| refused(&error));
        assert_eq!(done, expected, "seed {seed}, step {step}, {name}: {tree:?}");
        let (now, inodes) = shown(&opened).await;
        assert_eq!(now, tree, "seed {seed}, step {step}, {name}");
        if let Some((from, to)) = expected_moves {
            let ino = before.iter().find(|(_, name)| **name == from).unwrap().0;
            assert_eq!(inodes[ino], to);
        }
        for name in NAMES {
            let look = store.look_up(cx, &at("bucket", name)).await.unwrap();
            assert_eq!(
                (look.object.is_some(), look.dir.is_some()),
                (tree.files.contains_key(name), tree.dirs.contains(name))
            );
        }
    }
    let checked = store.check().await.unwrap();
    assert!(checked.findings.is_empty(), "seed {seed}: {:#?}", checked.findings);
}

#[tokio::test]
async fn directories_are_a_tree_of_names() {
    let seed = seed::from_env();
    println!("COFFRE_SEED={seed}");
    for round in 0..seed::rounds(12, 200) {
        let versioning = [Versioning::Off, Versioning::Enabled, Versioning::Suspended];
        live(seed.wrapping_add(round), versioning[usize::try_from(round % 3).unwrap()]).await;
    }
}

#[tokio::test]
async fn attributes_of_a_directory_are_on_its_marker() {
    let opened = Opened::new().await;
    let (store, cx) = (&opened.store, &opened.cx);
    opened.put(&at("bucket", "dir/file"), b"1".to_vec()).await;
    let dir = at("bucket", "dir");
    let change = |mode| AttributeChange { mode: Some(mode), ..AttributeChange::default() };
    let first = store.set_dir_attributes(cx, &dir, &change(0o750), Wait::Ordered).await.unwrap();
    let second = store.set_dir_attributes(cx, &dir, &change(0o700), Wait::Ordered).await.unwrap();
    assert_eq!(first.ino, second.ino);
    let look = store.look_up(cx, &dir).await.unwrap();
    let posix = look.dir.unwrap().marker.unwrap().attributes.posix.unwrap();
    assert_eq!(*posix, Posix { mode: Some(0o700), ..Posix::default() });
    let missing = store.set_dir_attributes(cx, &at("bucket", "no"), &change(0o700), Wait::Ordered).await;
    assert!(matches!(missing, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn a_large_directory_is_moved_in_one_commit() {
    let opened = Opened::new().await;
    let (store, cx) = (&opened.store, &opened.cx);
    for n in 0..2_000 {
        store
            .make_link(cx, &at("bucket", &format!("d{n}")), Attributes::default(), Wait::Ordered)
            .await
            .unwrap();
    }
    store.make_dir(cx, &at("bucket", "from"), Attributes::default(), Wait::Ordered).await.unwrap();
    for n in 0..2_000 {
        let (bucket, from) = ("bucket".parse().unwrap(), format!("d{n}").parse().unwrap());
        let to = format!("from/d{n}").parse().unwrap();
        let moving = MoveName { bucket: &bucket, from: &from, is_dir: false, to: &to, how: How::Replace };
        store.move_name(cx, moving, Wait::Ordered).await.unwrap();
    }
    let position = opened.kv.stats().applied;
    let (bucket, from, to) = ("bucket".parse().unwrap(), "from".parse().unwrap(), "to".parse().unwrap());
    let moving = MoveName { bucket: &bucket, from: &from, is_dir: true, to: &to, how: How::Replace };
    let moved = store.move_name(cx, moving, Wait::Durable).await.unwrap();
    assert_eq!(moved.objects, 2_001);
    assert_eq!(opened.kv.stats().applied.0, position.0 + 1);
    assert!(store.look_up(cx, &at("bucket", "from")).await.unwrap().dir.is_none());
    assert!(store.check().await.unwrap().findings.is_empty());
}
