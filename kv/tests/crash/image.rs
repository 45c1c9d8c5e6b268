//! The index directory as bytes: copied at a moment, mixed from two moments, put back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use coffre_disk::seed::Random;

const BLOCK_BYTES: usize = 4096;

/// Every file of a directory and those below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Image {
    files: BTreeMap<PathBuf, Content>,
}

/// A file's bytes up to the last one that is not zero, and its length: fjall's journals are mostly hole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Content {
    bytes: Vec<u8>,
    len: usize,
}

impl Content {
    fn new(mut bytes: Vec<u8>) -> Self {
        let len = bytes.len();
        bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        bytes.shrink_to_fit();
        Self { bytes, len }
    }

    /// A block as it would be read: zeros in the hole, nothing beyond the end.
    fn block(&self, block: usize) -> Vec<u8> {
        let (start, end) = (block * BLOCK_BYTES, self.len.min((block + 1) * BLOCK_BYTES));
        let mut read = self.bytes.get(start..self.bytes.len().min(end)).unwrap_or_default().to_vec();
        read.resize(end.saturating_sub(start), 0);
        read
    }
}

impl Image {
    /// Reads a directory as it is now; files that vanish meanwhile are not in it.
    pub(crate) fn take(dir: &Path) -> Self {
        let mut image = Self::default();
        image.read(dir, Path::new(""));
        image
    }

    /// Reads the index of an engine that has ended, once its last thread has let go of it: what is put back must not
    /// be written over by a thread that was still about to end.
    pub(crate) fn take_settled(dir: &Path) -> Self {
        // Each kind of index holds a lock on one of these.
        for name in ["db", "lock"] {
            if let Ok(file) = std::fs::File::open(dir.join("current").join(name)) {
                file.lock().unwrap();
            }
        }
        Self::take(dir)
    }

    fn read(&mut self, root: &Path, below: &Path) {
        let entries = match std::fs::read_dir(root.join(below)) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return,
            Err(e) => panic!("listing the index: {e}"),
        };
        for entry in entries {
            let entry = entry.unwrap();
            let name = below.join(entry.file_name());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.read(root, &name);
                continue;
            }
            match std::fs::read(entry.path()) {
                Ok(bytes) => drop(self.files.insert(name, Content::new(bytes))),
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => panic!("reading the index: {e}"),
            }
        }
    }

    /// Makes a directory hold exactly this. Files that are there keep their inode, as they do through a power cut.
    pub(crate) fn put(&self, dir: &Path) {
        std::fs::create_dir_all(dir).unwrap();
        for name in Self::take(dir).files.keys().filter(|name| !self.files.contains_key(*name)) {
            std::fs::remove_file(dir.join(name)).unwrap();
        }
        for (name, content) in &self.files {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path).unwrap();
            file.write_all(&content.bytes).unwrap();
            file.set_len(content.len as u64).unwrap();
        }
    }

    /// Every 4 KiB block from `self` or from `newer`, that one `percent` times of a hundred; lengths likewise.
    pub(crate) fn mixed(&self, newer: &Self, percent: u64, random: &mut Random) -> Self {
        let mut files = BTreeMap::new();
        let names: BTreeSet<_> = self.files.keys().chain(newer.files.keys()).collect();
        for name in names {
            let mixed = match (self.files.get(name), newer.files.get(name)) {
                (Some(old), Some(new)) => mix(old, new, random, |random, _| random.chance(percent)),
                (Some(one), None) | (None, Some(one)) if random.chance(50) => one.clone(),
                _ => continue,
            };
            files.insert(name.clone(), mixed);
        }
        Self { files }
    }

    /// All of `newer`, but some of its blocks as they were in `self`.
    pub(crate) fn with_old_blocks(&self, newer: &Self, blocks: usize, random: &mut Random) -> Self {
        let mut files = newer.files.clone();
        for (name, new) in &mut files {
            if let Some(old) = self.files.get(name).filter(|old| old.bytes.len() >= BLOCK_BYTES) {
                let kept: BTreeSet<_> =
                    (0..blocks).map(|_| random.index(old.bytes.len() / BLOCK_BYTES)).collect();
                let len = new.len;
                *new = mix(old, new, random, |_, block| !kept.contains(&block));
                new.len = len;
            }
        }
        Self { files }
    }

    /// The file that holds most, cut at a random byte.
    pub(crate) fn truncated(&self, random: &mut Random) -> Self {
        let mut image = self.clone();
        if let Some(largest) = image.files.values_mut().max_by_key(|content| content.bytes.len()) {
            largest.len = random.index(largest.bytes.len());
            largest.bytes.truncate(largest.len);
        }
        image
    }

    /// Some bits turned, anywhere but in holes.
    pub(crate) fn flipped(&self, bits: usize, random: &mut Random) -> Self {
        let mut image = self.clone();
        let total: usize = image.files.values().map(|content| content.bytes.len()).sum();
        for _ in 0..bits {
            let mut at = random.index(total);
            for content in image.files.values_mut() {
                if let Some(byte) = content.bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                    break;
                }
                at -= content.bytes.len();
            }
        }
        image
    }
}

fn mix(
    old: &Content,
    new: &Content,
    random: &mut Random,
    mut newer: impl FnMut(&mut Random, usize) -> bool,
) -> Content {
    let len = if newer(random, usize::MAX) { new.len } else { old.len };
    let mut bytes = Vec::new();
    // Behind that both are hole.
    let blocks = old.bytes.len().max(new.bytes.len()).min(len).div_ceil(BLOCK_BYTES);
    for block in 0..blocks {
        let from = if newer(random, block) { new } else { old };
        bytes.extend_from_slice(&from.block(block));
        // Beyond the other one's end nothing was written yet.
        bytes.resize(len.min((block + 1) * BLOCK_BYTES), 0);
    }
    Content { bytes, len }
}
