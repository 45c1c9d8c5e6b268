//! A disk in memory whose power can be cut.
//!
//! Every file has durable bytes, and the writes since its last [`DiskFile::sync_data`]; every directory has durable
//! names, and their changes since its last [`Disk::sync_dir`]. [`PowerDisk::cut`] gives a disk as it may come back:
//! of what was not synced, each 4 KiB block, in some blocks each 512-byte sector, stands at any of its versions
//! (durable, after some of the writes, newest), independently of its neighbours; the length likewise, and what
//! grew without its bytes reads as zeros. Each change of a name is kept or lost by itself; a rename is whole or not.
//! That is what POSIX allows, harsher than ext4's ordered journal. Left out: bytes rotting by themselves, and a
//! device that lies about a flush ([`crate::fault::FaultDisk::swallow_syncs`] is that).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::seed::Random;
use crate::{DirEntry, Disk, DiskFile, Open, Space};

const BLOCK_BYTES: usize = 4096;
/// What a device writes in one piece at the least.
const SECTOR_BYTES: usize = 512;
/// Room the model claims to have; it is only there to be asked for.
const TOTAL_BYTES: u64 = 1 << 40;

/// A disk in memory; see the module. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct PowerDisk {
    world: Arc<Mutex<World>>,
}

#[derive(Debug, Default)]
struct World {
    files: BTreeMap<FileId, FileState>,
    dirs: BTreeMap<PathBuf, DirState>,
    next_file: u64,
    /// The sync that fails is this many further; 0: none.
    failing_sync: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FileId(u64);

#[derive(Clone, Debug, Default)]
struct FileState {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Since the last sync, in order.
    unsynced: Vec<FileChange>,
    read_only: bool,
}

#[derive(Clone, Debug)]
enum FileChange {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Clone, Debug, Default)]
struct DirState {
    current: BTreeMap<String, Name>,
    durable: BTreeMap<String, Name>,
    unsynced: Vec<NameChange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    File(FileId),
    Dir,
}

/// One change of a directory. A rename within it is one, a rename between two directories is one in each.
#[derive(Clone, Debug)]
struct NameChange {
    gone: Option<String>,
    made: Option<(String, Name)>,
}

#[derive(Debug)]
struct PowerFile {
    world: Arc<Mutex<World>>,
    id: FileId,
    writable: bool,
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn split(path: &Path) -> io::Result<(PathBuf, String)> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    Ok((dir.to_owned(), name.to_owned()))
}

fn index(n: u64) -> io::Result<usize> {
    usize::try_from(n).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl PowerDisk {
    /// An empty disk with its root directory `/`.
    pub fn new() -> Self {
        let disk = Self::default();
        lock(&disk.world).dirs.insert(PathBuf::from("/"), DirState::default());
        disk
    }

    /// Makes everything durable: what lies there before a test begins.
    pub fn sync_all(&self) {
        let mut world = lock(&self.world);
        for file in world.files.values_mut() {
            file.sync();
        }
        for dir in world.dirs.values_mut() {
            dir.sync();
        }
    }

    /// Lets the n-th [`DiskFile::sync_data`] from now fail as Linux does it: the pages count as clean afterwards, so
    /// that the bytes can be read but no later sync makes them durable; only writing them again would.
    pub fn fail_sync(&self, n: u64) {
        lock(&self.world).failing_sync = n;
    }

    /// Whether a planned failure of a sync is still to come.
    pub fn sync_will_fail(&self) -> bool {
        lock(&self.world).failing_sync > 0
    }

    /// The disk as it may come back if the power is cut now. The same seed gives the same disk; this one is not
    /// changed.
    #[must_use]
    pub fn cut(&self, seed: u64) -> Self {
        let world = lock(&self.world);
        let mut random = Random::new(seed);
        // Some cuts lose or keep (almost) everything: the page cache's luck is not spread evenly.
        let keep = *random.pick(&[0, 0, 3, 50, 50, 97, 100, 100]).unwrap_or(&50);
        let keep_names = *random.pick(&[0, 50, 50, 100]).unwrap_or(&50);
        let dirs: BTreeMap<_, _> =
            world.dirs.iter().map(|(path, dir)| (path.clone(), dir.cut(&mut random, keep_names))).collect();
        let mut after = World { next_file: world.next_file, ..World::default() };
        after.adopt(Path::new("/"), &dirs);
        let kept: BTreeSet<FileId> = after.dirs.values().flat_map(DirState::files).collect();
        for (id, file) in &world.files {
            let mut own = Random::new(random.next_u64());
            if kept.contains(id) {
                after.files.insert(*id, file.cut(&mut own, keep));
            }
        }
        Self { world: Arc::new(Mutex::new(after)) }
    }
}

impl World {
    fn dir(&mut self, path: &Path) -> io::Result<&mut DirState> {
        self.dirs.get_mut(path).ok_or_else(not_found)
    }

    fn file(&mut self, id: FileId) -> io::Result<&mut FileState> {
        self.files.get_mut(&id).ok_or_else(not_found)
    }

    /// Takes over a directory and those below it whose names are still there.
    fn adopt(&mut self, path: &Path, from: &BTreeMap<PathBuf, BTreeMap<String, Name>>) {
        let Some(names) = from.get(path) else { return };
        let dir = DirState { current: names.clone(), durable: names.clone(), unsynced: Vec::new() };
        self.dirs.insert(path.to_owned(), dir);
        for (name, what) in names {
            if *what == Name::Dir {
                self.adopt(&path.join(name), from);
            }
        }
    }
}

impl DirState {
    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.current);
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        self.durable = self.current.clone();
        self.unsynced.clear();
    }

    fn files(&self) -> impl Iterator<Item = FileId> {
        self.current.values().filter_map(|name| match name {
            Name::File(id) => Some(*id),
            Name::Dir => None,
        })
    }

    fn cut(&self, random: &mut Random, keep: u64) -> BTreeMap<String, Name> {
        let mut names = self.durable.clone();
        for change in &self.unsynced {
            if random.chance(keep) {
                change.apply(&mut names);
            }
        }
        names
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, Name>) {
        if let Some(gone) = &self.gone {
            names.remove(gone);
        }
        if let Some((name, what)) = &self.made {
            names.insert(name.clone(), *what);
        }
    }
}

impl FileState {
    fn change(&mut self, change: FileChange) {
        match &change {
            FileChange::Write { offset, bytes } => overlay(&mut self.current, *offset, bytes),
            FileChange::SetLen(len) => self.current.resize(*len, 0),
        }
        self.unsynced.push(change);
    }

    fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            match change {
                FileChange::Write { offset, bytes } => overlay(&mut self.durable, offset, &bytes),
                FileChange::SetLen(len) => self.durable.resize(len, 0),
            }
        }
    }

    /// Each piece and the length stop at a change of their own; what came later is lost to them.
    fn cut(&self, random: &mut Random, keep: u64) -> Self {
        let changes = self.unsynced.len();
        let longest =
            self.unsynced.iter().map(FileChange::end).chain([self.durable.len()]).max().unwrap_or(0);
        let stop = |random: &mut Random| match random.below(10) {
            // Now and then the write-out caught a version between the first and the last.
            0 => random.index(changes + 1),
            _ if random.chance(keep) => changes,
            _ => 0,
        };
        let mut stops = Vec::with_capacity(longest.div_ceil(SECTOR_BYTES));
        for _block in 0..longest.div_ceil(BLOCK_BYTES) {
            let (whole, torn) = (stop(random), random.chance(15));
            for _sector in 0..BLOCK_BYTES / SECTOR_BYTES {
                stops.push(if torn { stop(random) } else { whole });
            }
        }
        let len_stop = stop(random);
        let mut bytes = self.durable.clone();
        bytes.resize(longest, 0);
        let mut len = self.durable.len();
        for (n, change) in self.unsynced.iter().enumerate() {
            if n < len_stop {
                len = change.len_after(len);
            }
            change.apply_where(&mut bytes, |sector| stops.get(sector).is_some_and(|stop| n < *stop));
        }
        bytes.truncate(len);
        bytes.resize(len, 0);
        Self { current: bytes.clone(), durable: bytes, unsynced: Vec::new(), read_only: self.read_only }
    }
}

impl FileChange {
    fn end(&self) -> usize {
        match self {
            Self::Write { offset, bytes } => offset + bytes.len(),
            Self::SetLen(len) => *len,
        }
    }

    fn len_after(&self, len: usize) -> usize {
        match self {
            Self::Write { .. } => len.max(self.end()),
            Self::SetLen(len) => *len,
        }
    }

    /// Applies it to the sectors that take it; `all` is as long as the file ever was.
    fn apply_where(&self, all: &mut [u8], takes: impl Fn(usize) -> bool) {
        let (start, end) = match self {
            Self::Write { offset, bytes } => (*offset, offset + bytes.len()),
            // What is beyond the new length is cut off, and zero if the file grows again.
            Self::SetLen(len) => (*len, all.len()),
        };
        let mut at = start;
        while at < end {
            let until = end.min((at / SECTOR_BYTES + 1) * SECTOR_BYTES);
            if takes(at / SECTOR_BYTES)
                && let Some(target) = all.get_mut(at..until)
            {
                match self {
                    Self::Write { offset, bytes } => {
                        target.copy_from_slice(bytes.get(at - offset..until - offset).unwrap_or_default());
                    }
                    Self::SetLen(_) => target.fill(0),
                }
            }
            at = until;
        }
    }
}

fn overlay(all: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if all.len() < end {
        all.resize(end, 0);
    }
    if let Some(target) = all.get_mut(offset..end) {
        target.copy_from_slice(bytes);
    }
}

impl Disk for PowerDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        let (dir, name) = split(path)?;
        let mut world = lock(&self.world);
        let found = world.dir(&dir)?.current.get(&name).copied();
        let (id, writable) = match (how, found) {
            (_, Some(Name::Dir)) => return Err(io::ErrorKind::IsADirectory.into()),
            (Open::Read, Some(Name::File(id))) => (id, false),
            (Open::Write | Open::WriteDirect, Some(Name::File(id))) => {
                if world.file(id)?.read_only {
                    return Err(io::ErrorKind::PermissionDenied.into());
                }
                (id, true)
            }
            (Open::Read | Open::Write | Open::WriteDirect, None) => return Err(not_found()),
            (Open::Create | Open::CreateDirect, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Open::Create | Open::CreateDirect, None) => {
                let id = FileId(world.next_file);
                world.next_file += 1;
                world.files.insert(id, FileState::default());
                world.dir(&dir)?.change(NameChange { gone: None, made: Some((name, Name::File(id))) });
                (id, true)
            }
        };
        Ok(Arc::new(PowerFile { world: Arc::clone(&self.world), id, writable }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((from_dir, from_name), (to_dir, to_name)) = (split(from)?, split(to)?);
        let mut world = lock(&self.world);
        let what = world.dir(&from_dir)?.current.get(&from_name).copied().ok_or_else(not_found)?;
        if what == Name::Dir || world.dir(&to_dir)?.current.get(&to_name) == Some(&Name::Dir) {
            // Files only, as the trait says.
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if from == to {
            return Ok(());
        }
        let made = Some((to_name, what));
        if from_dir == to_dir {
            world.dir(&to_dir)?.change(NameChange { gone: Some(from_name), made });
        } else {
            world.dir(&to_dir)?.change(NameChange { gone: None, made });
            world.dir(&from_dir)?.change(NameChange { gone: Some(from_name), made: None });
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (dir, name) = split(path)?;
        let mut world = lock(&self.world);
        let dir = world.dir(&dir)?;
        match dir.current.get(&name) {
            None => Err(not_found()),
            Some(Name::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            Some(Name::File(_)) => {
                dir.change(NameChange { gone: Some(name), made: None });
                Ok(())
            }
        }
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut world = lock(&self.world);
        let mut missing: Vec<&Path> =
            path.ancestors().take_while(|dir| !world.dirs.contains_key(*dir)).collect();
        while let Some(dir) = missing.pop() {
            let (parent, name) = split(dir)?;
            let parent = world.dir(&parent)?;
            if parent.current.contains_key(&name) {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            parent.change(NameChange { gone: None, made: Some((name, Name::Dir)) });
            world.dirs.insert(dir.to_owned(), DirState::default());
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        let mut world = lock(&self.world);
        let names = world.dir(dir)?.current.clone();
        let mut entries = Vec::with_capacity(names.len());
        for (name, what) in names {
            let len_bytes = match what {
                Name::Dir => 0,
                Name::File(id) => world.file(id)?.current.len() as u64,
            };
            entries.push(DirEntry { name, len_bytes, is_dir: what == Name::Dir });
        }
        Ok(entries)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        lock(&self.world).dir(dir)?.sync();
        Ok(())
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let used: u64 = lock(&self.world).files.values().map(|file| file.current.len() as u64).sum();
        Ok(Space { free_bytes: TOTAL_BYTES.saturating_sub(used), total_bytes: TOTAL_BYTES })
    }
}

impl PowerFile {
    fn with<T>(&self, work: impl FnOnce(&mut FileState) -> io::Result<T>) -> io::Result<T> {
        work(lock(&self.world).file(self.id)?)
    }

    fn change(&self, change: FileChange) -> io::Result<()> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.with(|file| {
            file.change(change);
            Ok(())
        })
    }
}

impl DiskFile for PowerFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let offset = index(offset)?;
        self.with(|file| {
            let rest = file.current.get(offset..).unwrap_or_default();
            let len = rest.len().min(buf.len());
            if let (Some(to), Some(from)) = (buf.get_mut(..len), rest.get(..len)) {
                to.copy_from_slice(from);
            }
            Ok(len)
        })
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buf, offset).map(Some)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let offset = index(offset)?;
        if buf.is_empty() {
            return Ok(());
        }
        self.change(FileChange::Write { offset, bytes: buf.to_vec() })
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        self.change(FileChange::SetLen(index(len_bytes)?))
    }

    fn allocate(&self, _len_bytes: u64) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.with(|file| Ok(file.current.len() as u64))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut world = lock(&self.world);
        let fails = world.failing_sync == 1;
        world.failing_sync = world.failing_sync.saturating_sub(1);
        let file = world.file(self.id)?;
        if fails {
            file.unsynced.clear();
            return Err(io::Error::other("a planned failure of a sync"));
        }
        file.sync();
        Ok(())
    }

    fn start_writeback(&self, _offset: u64, _len_bytes: u64) {}

    fn set_read_only(&self) -> io::Result<()> {
        self.with(|file| {
            file.read_only = true;
            Ok(())
        })
    }

    fn direct_alignment(&self) -> Option<usize> {
        None
    }

    fn std_file(&self) -> Option<&File> {
        None
    }
}

#[cfg(test)]
mod tests;
