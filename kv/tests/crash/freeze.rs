//! (a) Every single operation on the disk in turn is the one that fails, or the last one of the process.
//!
//! The n-th write, sync, rename, or change of any kind since the engine was opened meets a fault while it writes,
//! checkpoints, makes snapshots and compacts. Then it is opened again: in half of the rounds as after the death of
//! the process, in the others as after a power cut.

use std::io::ErrorKind;
use std::sync::Arc;

use coffre_disk::fault::{Fault, FaultDisk, Operation};
use coffre_disk::power::PowerDisk;
use coffre_disk::seed::rounds;
use coffre_kv::Kv;
use coffre_kv::embedded::{Embedded, IndexKind};
use tempfile::TempDir;

use crate::oracle::{Death, Failure, Oracle, verify};
use crate::setup::{
    DEPTH, blocking, index_folder, kind_in_turn, model_dir, open, options, power_disk, seed, write,
};

const WRITERS: u64 = 2;

/// What is planned for a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Fault(Fault),
    /// A sync fails and the kernel forgets that its pages are dirty.
    Forgetful,
}

struct Case {
    power: PowerDisk,
    disk: FaultDisk,
    kind: IndexKind,
    index: TempDir,
    oracle: Oracle,
    seed: u64,
}

impl Case {
    fn new(seed: u64, kind: IndexKind) -> Self {
        let power = power_disk();
        let disk = FaultDisk::new(Arc::new(power.clone()));
        let index = index_folder();
        Self { power, disk, kind, index, oracle: Oracle::new(seed, WRITERS, DEPTH), seed }
    }

    async fn open(&self, boot: &str) -> coffre_kv::Result<Arc<Embedded>> {
        let disk = Arc::new(self.disk.clone());
        let index = self.index.path().join("index");
        open(options(disk, &model_dir(), (self.kind, &index), boot)).await
    }

    fn has_come(&self, trouble: Trouble) -> bool {
        match trouble {
            Trouble::Fault(_) => self.disk.fired() > 0,
            Trouble::Forgetful => !self.power.sync_will_fail(),
        }
    }

    /// Works until the trouble has come and a little on.
    async fn work(&mut self, engine: &Arc<Embedded>, trouble: Trouble) {
        let mut scripts = self.oracle.scripts();
        let mut after = 0;
        for step in 0..10_000u64 {
            let stopped = write(engine, &mut self.oracle, &mut scripts, 1 + step % 2, self.seed ^ step).await;
            let kept = blocking(engine, move |engine| upkeep(engine, step)).await;
            let has_come = self.has_come(trouble);
            after += u32::from(has_come);
            if stopped || after > 3 {
                return;
            }
            assert!(kept.is_ok() || has_come, "without a fault nothing fails: {kept:?}");
        }
        panic!("the fault never came");
    }

    /// Opens on a sound disk after the end, and finds everything right and working.
    async fn reopen(&mut self, cut: bool) -> Result<(), Failure> {
        let death = if cut { Death::Power } else { Death::Process };
        if cut {
            self.power = self.power.cut(self.seed);
        }
        self.disk = FaultDisk::new(Arc::new(self.power.clone()));
        let engine = self.open(if cut { "second" } else { "first" }).await?;
        verify(&*engine, &mut self.oracle, death).await?;
        let mut scripts = self.oracle.scripts();
        assert!(!write(&engine, &mut self.oracle, &mut scripts, 3, self.seed).await, "it works on");
        verify(&*engine, &mut self.oracle, Death::Process).await?;
        engine.close().await?;
        Ok(())
    }
}

fn upkeep(engine: &Embedded, step: u64) -> coffre_kv::Result<()> {
    if step.is_multiple_of(2) {
        // Several, because each is only one rename and the 200th is to be reached.
        for _ in 0..4 {
            engine.checkpoint()?;
        }
    }
    if step % 5 == 4 {
        engine.snapshot()?;
    }
    if step % 7 == 6 {
        engine.compact()?;
    }
    Ok(())
}

/// One round: trouble, the end, and everything there.
async fn round(
    (seed, kind): (u64, IndexKind),
    operation: Option<Operation>,
    n: u64,
    trouble: Trouble,
    cut: bool,
) -> Result<(), Failure> {
    let mut case = Case::new(seed, kind);
    match (trouble, operation) {
        (Trouble::Forgetful, _) => case.power.fail_sync(n),
        (Trouble::Fault(fault), Some(operation)) => case.disk.plan_on(operation, n, fault),
        (Trouble::Fault(fault), None) => case.disk.plan(n, fault),
    }
    match case.open("first").await {
        Ok(engine) => case.work(&engine, trouble).await,
        Err(e) => assert!(case.has_come(trouble), "without a fault it opens: {e:?}"),
    }
    // Whatever its threads still do, a dead process does not write.
    case.disk.freeze();
    case.reopen(cut).await
}

/// One round for each n; the troubles take turns, another one first in each run.
async fn every(of: &str, operation: Option<Operation>, troubles: &[Trouble]) {
    let seed = seed(of);
    for n in 1..=rounds(200, 400).max(200) {
        let turn = seed.wrapping_add(n);
        let trouble = match troubles[usize::try_from(turn % troubles.len() as u64).unwrap()] {
            Trouble::Fault(Fault::FreezeTorn(_)) => Trouble::Fault(Fault::FreezeTorn(seed ^ n)),
            other => other,
        };
        let cut = trouble == Trouble::Forgetful || (turn / 2).is_multiple_of(2);
        let kind = kind_in_turn(turn / 4);
        if let Err(e) = round((seed ^ n, kind), operation, n, trouble, cut).await {
            panic!("{of}: operation {n}, {trouble:?}, {kind:?}, cut {cut}, COFFRE_SEED={seed}: {e:?}");
        }
    }
}

const FREEZE: Trouble = Trouble::Fault(Fault::Freeze);
const TORN: Trouble = Trouble::Fault(Fault::FreezeTorn(0));
const BROKEN: Trouble = Trouble::Fault(Fault::FailOnce(ErrorKind::Other));
const FULL: Trouble = Trouble::Fault(Fault::FailOnce(ErrorKind::StorageFull));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_operation_may_be_the_last() {
    every("any operation the last", None, &[TORN]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_operation_may_fail() {
    every("any operation fails", None, &[BROKEN]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_write_may_be_torn_or_find_no_space() {
    every("any write", Some(Operation::Write), &[TORN, FULL]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_sync_may_be_the_last_or_fail() {
    every("any sync", Some(Operation::SyncData), &[FREEZE, Trouble::Forgetful]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_rename_may_be_the_last_or_fail() {
    every("any rename", Some(Operation::Rename), &[FREEZE, BROKEN]).await;
}

/// A write that is answered and not done cannot be survived; a proof that misses it proves nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canary_a_swallowed_write_is_noticed() {
    let seed = seed("canary of freezes");
    let mut noticed = 0;
    for n in 30..50 {
        let lost = round(
            (seed ^ n, kind_in_turn(n)),
            Some(Operation::Write),
            n,
            Trouble::Fault(Fault::Swallow),
            true,
        )
        .await;
        noticed += u32::from(lost.is_err());
    }
    println!("noticed {noticed} of 20");
    assert!(noticed > 0);
}
