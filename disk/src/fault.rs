//! A disk that fails, freezes or lies at the n-th change: for proofs that nothing acknowledged gets lost.
//!
//! [`FaultDisk`] stands before any other [`Disk`], counts every operation that changes something, and does at the
//! planned one what was planned. Clones and the files opened through it share the counters. Reading never fails.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::seed::Random;
use crate::{DirEntry, Disk, DiskFile, Open, Space};

/// An operation that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// [`DiskFile::write_all_at`].
    Write,
    /// [`DiskFile::set_len`].
    SetLen,
    /// [`DiskFile::allocate`].
    Allocate,
    /// [`DiskFile::sync_data`].
    SyncData,
    /// [`Disk::rename`].
    Rename,
    /// [`Disk::remove`].
    Remove,
    /// [`Disk::open`] of a new file.
    Create,
    /// [`Disk::create_dir_all`].
    CreateDir,
    /// [`Disk::sync_dir`].
    SyncDir,
    /// [`DiskFile::set_read_only`].
    SetReadOnly,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Write,
        Self::SetLen,
        Self::Allocate,
        Self::SyncData,
        Self::Rename,
        Self::Remove,
        Self::Create,
        Self::CreateDir,
        Self::SyncDir,
        Self::SetReadOnly,
    ];
}

/// What happens at the planned operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this, without having been done; later ones work.
    FailOnce(io::ErrorKind),
    /// It and all later ones that the plan counts fail with this, until [`FaultDisk::heal`].
    FailFrom(io::ErrorKind),
    /// It and all later changes of any kind fail as if the process had died before it.
    Freeze,
    /// Like `Freeze`; if it is a write, a part of it, chosen by the seed, still happens.
    FreezeTorn(u64),
    /// It answers that it was done and was not. A canary: no program can survive that, so a proof has to notice it.
    Swallow,
}

#[derive(Debug)]
struct Plan {
    /// `None` counts all operations.
    operation: Option<Operation>,
    /// Fires when this many more have come.
    left: u64,
    fault: Fault,
}

#[derive(Debug, Default)]
struct State {
    counts: [u64; Operation::ALL.len()],
    plans: Vec<Plan>,
    fired: u64,
    frozen: bool,
    syncs_swallowed: bool,
}

/// What is to be done about one operation.
enum Verdict {
    Do,
    Skip,
    Fail(io::Error),
    Tear(Random),
}

/// A disk with planned faults; see the module.
#[derive(Clone, Debug)]
pub struct FaultDisk {
    inner: Arc<dyn Disk>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct FaultFile {
    inner: Arc<dyn DiskFile>,
    state: Arc<Mutex<State>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn frozen() -> io::Error {
    io::Error::other("frozen by a planned fault")
}

impl FaultDisk {
    /// Without a plan it only counts.
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner, state: Arc::default() }
    }

    /// Plans a fault at the n-th change from now, of whatever kind; 1 is the next.
    pub fn plan(&self, n: u64, fault: Fault) {
        lock(&self.state).plans.push(Plan { operation: None, left: n.max(1), fault });
    }

    /// Plans a fault at the n-th operation of this kind from now; 1 is the next.
    pub fn plan_on(&self, operation: Operation, n: u64, fault: Fault) {
        lock(&self.state).plans.push(Plan { operation: Some(operation), left: n.max(1), fault });
    }

    /// Forgets all plans and thaws: the disk works again.
    pub fn heal(&self) {
        let mut state = lock(&self.state);
        state.plans.clear();
        state.frozen = false;
        state.syncs_swallowed = false;
    }

    /// From now on [`DiskFile::sync_data`] and [`Disk::sync_dir`] answer without doing anything. A canary: a proof
    /// about power cuts that does not notice this proves nothing.
    pub fn swallow_syncs(&self) {
        lock(&self.state).syncs_swallowed = true;
    }

    /// Nothing changes any more from now on.
    pub fn freeze(&self) {
        lock(&self.state).frozen = true;
    }

    /// Whether a planned freeze has come.
    pub fn is_frozen(&self) -> bool {
        lock(&self.state).frozen
    }

    /// How many operations were met by a fault (those after a freeze not counted).
    pub fn fired(&self) -> u64 {
        lock(&self.state).fired
    }

    /// How many changes were asked for, those that failed included.
    pub fn count(&self) -> u64 {
        lock(&self.state).counts.iter().sum()
    }

    /// How many of one kind.
    pub fn count_of(&self, operation: Operation) -> u64 {
        lock(&self.state).counts.get(operation as usize).copied().unwrap_or(0)
    }
}

fn judge(state: &Mutex<State>, operation: Operation) -> Verdict {
    let mut state = lock(state);
    if state.frozen {
        return Verdict::Fail(frozen());
    }
    if let Some(count) = state.counts.get_mut(operation as usize) {
        *count += 1;
    }
    let mut met = None;
    state.plans.retain_mut(|plan| {
        if plan.operation.is_some_and(|planned| planned != operation) {
            return true;
        }
        plan.left = plan.left.saturating_sub(1);
        if plan.left > 0 {
            return true;
        }
        met = met.or(Some(plan.fault));
        matches!(plan.fault, Fault::FailFrom(_))
    });
    let Some(fault) = met else {
        let is_sync = matches!(operation, Operation::SyncData | Operation::SyncDir);
        return if is_sync && state.syncs_swallowed { Verdict::Skip } else { Verdict::Do };
    };
    state.fired += 1;
    match fault {
        Fault::FailOnce(kind) | Fault::FailFrom(kind) => Verdict::Fail(kind.into()),
        Fault::Swallow => Verdict::Skip,
        Fault::Freeze => {
            state.frozen = true;
            Verdict::Fail(frozen())
        }
        Fault::FreezeTorn(seed) => {
            state.frozen = true;
            if operation == Operation::Write {
                Verdict::Tear(Random::new(seed))
            } else {
                Verdict::Fail(frozen())
            }
        }
    }
}

fn run(state: &Mutex<State>, operation: Operation, doing: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    match judge(state, operation) {
        Verdict::Do => doing(),
        Verdict::Skip => Ok(()),
        Verdict::Fail(e) => Err(e),
        Verdict::Tear(_) => Err(frozen()),
    }
}

impl Disk for FaultDisk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        if matches!(how, Open::Create | Open::CreateDirect) {
            run(&self.state, Operation::Create, || Ok(()))?;
        }
        let inner = self.inner.open(path, how)?;
        Ok(Arc::new(FaultFile { inner, state: Arc::clone(&self.state) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        run(&self.state, Operation::Rename, || self.inner.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        run(&self.state, Operation::Remove, || self.inner.remove(path))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        run(&self.state, Operation::CreateDir, || self.inner.create_dir_all(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        run(&self.state, Operation::SyncDir, || self.inner.sync_dir(dir))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.inner.space(path)
    }
}

impl DiskFile for FaultFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buf, offset)
    }

    fn read_at_nowait(&self, buf: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.inner.read_at_nowait(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        match judge(&self.state, Operation::Write) {
            Verdict::Do => self.inner.write_all_at(buf, offset),
            Verdict::Skip => Ok(()),
            Verdict::Fail(e) => Err(e),
            Verdict::Tear(mut random) => {
                // A direct handle takes whole blocks only.
                let unit = self.direct_alignment().unwrap_or(1);
                let part = buf.get(..random.index(buf.len()) / unit * unit).unwrap_or_default();
                self.inner.write_all_at(part, offset)?;
                Err(frozen())
            }
        }
    }

    fn set_len(&self, len_bytes: u64) -> io::Result<()> {
        run(&self.state, Operation::SetLen, || self.inner.set_len(len_bytes))
    }

    fn allocate(&self, len_bytes: u64) -> io::Result<()> {
        run(&self.state, Operation::Allocate, || self.inner.allocate(len_bytes))
    }

    fn punch(&self, offset: u64, len_bytes: u64) -> io::Result<()> {
        run(&self.state, Operation::Write, || self.inner.punch(offset, len_bytes))
    }

    fn len_bytes(&self) -> io::Result<u64> {
        self.inner.len_bytes()
    }

    fn sync_data(&self) -> io::Result<()> {
        run(&self.state, Operation::SyncData, || self.inner.sync_data())
    }

    fn start_writeback(&self, offset: u64, len_bytes: u64) {
        if !lock(&self.state).frozen {
            self.inner.start_writeback(offset, len_bytes);
        }
    }

    fn set_read_only(&self) -> io::Result<()> {
        run(&self.state, Operation::SetReadOnly, || self.inner.set_read_only())
    }

    fn direct_alignment(&self) -> Option<usize> {
        self.inner.direct_alignment()
    }

    fn std_file(&self) -> Option<&File> {
        self.inner.std_file()
    }
}

#[cfg(test)]
mod tests {
    use super::Operation::{Create, CreateDir, Remove, Rename, SyncData, SyncDir, Write};
    use super::*;
    use crate::DiskExt;
    use crate::power::PowerDisk;

    fn disk() -> FaultDisk {
        FaultDisk::new(Arc::new(PowerDisk::new()))
    }

    #[test]
    fn counts_each_kind() {
        let disk = disk();
        disk.create_dir_all(Path::new("/d")).unwrap();
        disk.replace_whole(Path::new("/d"), "f", b"x").unwrap();
        let met: Vec<_> = Operation::ALL.iter().filter(|operation| disk.count_of(**operation) > 0).collect();
        assert_eq!(met, [&Write, &SyncData, &Rename, &Remove, &Create, &CreateDir, &SyncDir]);
        assert_eq!(disk.count(), 7);
    }

    #[test]
    fn fails_once_or_from_then_on() {
        let disk = disk();
        let file = disk.open(Path::new("/f"), Open::Create).unwrap();
        disk.plan_on(Operation::Write, 2, Fault::FailOnce(io::ErrorKind::StorageFull));
        file.write_all_at(b"a", 0).unwrap();
        assert_eq!(file.write_all_at(b"b", 1).unwrap_err().kind(), io::ErrorKind::StorageFull);
        file.write_all_at(b"c", 1).unwrap();
        assert_eq!(disk.read_whole(Path::new("/f")).unwrap().unwrap(), b"ac");

        disk.plan(1, Fault::FailFrom(io::ErrorKind::StorageFull));
        assert!(file.write_all_at(b"d", 2).is_err());
        assert!(file.sync_data().is_err());
        disk.heal();
        file.sync_data().unwrap();
        assert_eq!(disk.fired(), 3);

        disk.plan(1, Fault::Swallow);
        file.write_all_at(b"e", 2).unwrap();
        assert_eq!(file.len_bytes().unwrap(), 2);
    }

    #[test]
    fn a_freeze_ends_all_changes_and_may_tear_its_write() {
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..20 {
            let disk = disk();
            let file = disk.open(Path::new("/f"), Open::Create).unwrap();
            disk.plan_on(Operation::Write, 1, Fault::FreezeTorn(seed));
            assert!(file.write_all_at(&[1; 100], 0).is_err());
            assert!(disk.is_frozen());
            assert!(file.sync_data().is_err());
            assert!(disk.open(Path::new("/g"), Open::Create).is_err());
            assert!(disk.remove(Path::new("/f")).is_err());
            let left = disk.read_whole(Path::new("/f")).unwrap().unwrap();
            assert!(left.len() < 100);
            lengths.insert(left.len());
        }
        assert!(lengths.len() > 10, "{lengths:?}");
    }

    #[test]
    fn swallowed_syncs_make_nothing_durable() {
        let power = PowerDisk::new();
        let disk = FaultDisk::new(Arc::new(power.clone()));
        disk.swallow_syncs();
        disk.replace_whole(Path::new("/"), "f", b"x").unwrap();
        let lost = (0..50).filter(|&seed| power.cut(seed).read_whole(Path::new("/f")).unwrap().is_none());
        assert!(lost.count() > 0);
    }
}
