//! (c) The power is cut at any moment, and the index comes back as anything.
//!
//! Log, snapshots and checkpoint files lie on the model disk, which keeps, loses and mixes what was not synced. The
//! index lies on the real disk, and at each cut is made one of: what it was at the last checkpoint, what it was while
//! running, blocks of both mixed, cut off, or absent. The next opening, in another boot, has to bring every row back.

use std::sync::Arc;

use coffre_disk::fault::{Fault, FaultDisk};
use coffre_disk::power::PowerDisk;
use coffre_disk::seed::{Random, rounds};
use coffre_kv::embedded::{Embedded, IndexKind};
use coffre_kv::{Kv, Wait};
use tempfile::TempDir;

use crate::image::Image;
use crate::oracle::{Death, Failure, Oracle, Verified, send, verify};
use crate::setup::{
    DEPTH, blocking, index_folder, kind_in_turn, model_dir, open, options, power_disk, seed, write,
};

const WRITERS: u64 = 3;
/// A new store, with the other kind of index, after this many rounds on the same one.
const ROUNDS_ON_ONE_STORE: u64 = 10;

struct Case {
    power: PowerDisk,
    kind: IndexKind,
    index: TempDir,
    oracle: Oracle,
    seed: u64,
}

/// What is left of the index.
#[derive(Clone, Copy, Debug)]
enum Left {
    Checkpoint,
    Live,
    Mixed(u64),
    OldBlocks(usize),
    Truncated,
    Absent,
    AsItLies,
}

const LEFT: [Left; 12] = [
    Left::Checkpoint,
    Left::Live,
    Left::Mixed(2),
    Left::Mixed(10),
    Left::Mixed(50),
    Left::Mixed(90),
    Left::Mixed(98),
    Left::OldBlocks(1),
    Left::OldBlocks(8),
    Left::Truncated,
    Left::Absent,
    Left::AsItLies,
];

impl Case {
    fn new(seed: u64, kind: IndexKind) -> Self {
        let index = index_folder();
        Self { power: power_disk(), kind, index, oracle: Oracle::new(seed, WRITERS, DEPTH), seed }
    }

    fn index(&self) -> std::path::PathBuf {
        self.index.path().join("index")
    }

    async fn open(&self, disk: &FaultDisk, boot: &str) -> coffre_kv::Result<Arc<Embedded>> {
        open(options(Arc::new(disk.clone()), &model_dir(), (self.kind, &self.index()), boot)).await
    }

    async fn write(&mut self, engine: &Arc<Embedded>, batches: u64, seed: u64) -> bool {
        let mut scripts = self.oracle.scripts();
        write(engine, &mut self.oracle, &mut scripts, batches, seed).await
    }

    /// Writes, checkpoints, writes on, and stops in the middle of it; gives the index at the checkpoint and live.
    async fn run_until_cut(
        &mut self,
        boot: &str,
        random: &mut Random,
        lie: bool,
    ) -> Result<(Image, Image), Failure> {
        let disk = FaultDisk::new(Arc::new(self.power.clone()));
        let engine = self.open(&disk, boot).await?;
        assert!(!self.write(&engine, 1 + random.below(20), random.next_u64()).await);
        if random.chance(40) {
            blocking(&engine, |engine| engine.snapshot().and_then(|()| engine.compact().map(drop))).await?;
        }
        blocking(&engine, |engine| engine.checkpoint().map(drop)).await?;
        let checkpoint = Image::take(&self.index());
        if lie {
            disk.swallow_syncs();
        }
        // What is acknowledged from the next line on may be in flight when it ends.
        self.confirm(&engine).await?;
        disk.plan(1 + random.below(150), Fault::FreezeTorn(random.next_u64()));
        assert!(self.write(&engine, 10_000, random.next_u64()).await, "the cut comes");
        let live = Image::take(&self.index());
        Ok((checkpoint, live))
    }

    /// The scripts go on from what is there.
    async fn confirm(&mut self, engine: &Arc<Embedded>) -> Result<Verified, Failure> {
        verify(&**engine, &mut self.oracle, Death::Process).await
    }

    fn leave(&self, left: Left, checkpoint: &Image, live: &Image, random: &mut Random) {
        drop(Image::take_settled(&self.index()));
        let image = match left {
            Left::Checkpoint => checkpoint.clone(),
            Left::Live => live.clone(),
            Left::Mixed(percent) => checkpoint.mixed(live, percent, random),
            Left::OldBlocks(blocks) => checkpoint.with_old_blocks(live, blocks, random),
            Left::Truncated => live.truncated(random),
            Left::Absent => Image::default(),
            Left::AsItLies => return,
        };
        image.put(&self.index());
    }

    /// One cut; `lie` lets the disk swallow its syncs.
    async fn round(&mut self, round: u64, lie: bool) -> Result<Verified, Failure> {
        let mut random = Random::new(self.seed ^ (round << 32));
        let boot = format!("boot {round}");
        let (checkpoint, live) = self.run_until_cut(&boot, &mut random, lie).await?;
        let left = LEFT[usize::try_from(round).unwrap() % LEFT.len()];
        self.power = self.power.cut(random.next_u64());
        self.leave(left, &checkpoint, &live, &mut random);
        let disk = FaultDisk::new(Arc::new(self.power.clone()));
        let engine = self.open(&disk, &format!("boot {}", round + 1)).await?;
        let verified = verify(&*engine, &mut self.oracle, Death::Power).await?;
        assert!(!self.write(&engine, 2, random.next_u64()).await, "it works on");
        verify(&*engine, &mut self.oracle, Death::Process).await?;
        if random.chance(50) {
            self.oracle.follow(&*engine).await?;
        }
        if round.is_multiple_of(3) {
            engine.close().await?;
        }
        // Whatever its threads still do, a dead process does not write.
        disk.freeze();
        Ok(verified)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_loses_nothing_durable() {
    let (seed, rounds) = (seed("power cuts"), rounds(48, 500));
    let mut case = Case::new(seed, kind_in_turn(0));
    let (mut commits, mut commits_before) = (0, 0);
    for round in 0..rounds {
        if round % ROUNDS_ON_ONE_STORE == 0 {
            case = Case::new(seed ^ round, kind_in_turn(round / ROUNDS_ON_ONE_STORE));
            commits_before += commits;
        }
        let left = LEFT[usize::try_from(round).unwrap() % LEFT.len()];
        match case.round(round, false).await {
            Ok(verified) => commits = verified.commits,
            Err(e) => panic!("round {round}, {:?} {left:?}, COFFRE_SEED={seed}: {e:?}", case.kind),
        }
    }
    println!("{rounds} cuts, {} commits, nothing durable lost", commits_before + commits);
}

/// The same proof on a disk that answers syncs without doing them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canary_swallowed_syncs_are_noticed() {
    let seed = seed("canary of power cuts");
    let mut noticed = Vec::new();
    for round in 0..12 {
        noticed.extend(Case::new(seed ^ round, kind_in_turn(round)).round(round, true).await.err());
    }
    println!("{} of 12 noticed, such as {:?}", noticed.len(), noticed.first());
    assert!(!noticed.is_empty());
}

/// The comparison itself: one byte, one row, one counter of the truth changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canary_a_corrupted_truth_is_noticed() {
    let mut case = Case::new(seed("canary of the truth"), IndexKind::default());
    let disk = FaultDisk::new(Arc::new(case.power.clone()));
    let engine = case.open(&disk, "boot").await.unwrap();
    case.write(&engine, 20, 1).await;
    verify(&*engine, &mut case.oracle, Death::Process).await.expect("the truth is true");
    let truth = case.oracle.rows_mut().clone();
    for key in truth.keys().filter(|key| *key != crate::workload::HOT).step_by(5) {
        for change in 0..3 {
            let rows = case.oracle.rows_mut();
            match change {
                0 => drop(rows.remove(key)),
                1 => drop(rows.insert([key, b"x".as_slice()].concat().into(), truth[key].clone())),
                _ => {
                    let mut value = truth[key].to_vec();
                    value[0] ^= 1;
                    rows.insert(key.clone(), value.into());
                }
            }
            let result = verify(&*engine, &mut case.oracle, Death::Process).await;
            assert!(matches!(result, Err(Failure::Wrong(_))), "change {change} of {key:?}: {result:?}");
            *case.oracle.rows_mut() = truth.clone();
        }
    }
    engine.close().await.unwrap();
}

/// Why the boot matters: an index that fits by every mark and is wrong is believed within a boot, and thrown away
/// after another. (Its marks fit because it comes from another history of the same store, of other bytes but the same
/// lengths.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canary_an_index_trusted_as_it_lies_is_noticed() {
    let seed = seed("canary of the index");
    for kind in IndexKind::ALL {
        index_of_another_history(Case::new(seed, kind), true).await;
    }
}

/// An index that adds up but was brought along another log never makes this log end where it says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_of_another_log_is_built_again() {
    let seed = seed("an index of another log");
    for kind in IndexKind::ALL {
        index_of_another_history(Case::new(seed, kind), false).await;
    }
}

/// Opens a store with an index of its own past's other future. Where that future's log has the same lengths and the
/// boot is the same, nothing shows that the index is wrong; else it has to be built again.
async fn index_of_another_history(mut case: Case, same_lengths: bool) {
    let (seed, kind) = (case.seed, case.kind);
    let index = case.index();
    let disk = FaultDisk::new(Arc::new(case.power.clone()));
    let engine = case.open(&disk, "boot").await.unwrap();
    assert!(!case.write(&engine, 5, seed).await);
    blocking(&engine, |engine| engine.checkpoint().map(drop)).await.unwrap();
    verify(&*engine, &mut case.oracle, Death::Process).await.unwrap();
    // From here on the store has two histories.
    case.power.sync_all();
    disk.freeze();
    drop(engine);
    let (forked, before) = (case.power.cut(0), Image::take_settled(&index));

    let history = async |power: &PowerDisk, oracle: &mut Oracle| {
        let engine =
            open(options(Arc::new(power.clone()), &model_dir(), (kind, &index), "boot")).await.unwrap();
        // One writer, one commit after another, so that both histories have the same positions.
        let mut script = oracle.scripts().remove(0);
        for _ in 0..40 {
            let sent = send(&*engine, &mut script, 1, Some(Wait::Durable)).await;
            oracle.acknowledged(sent.acks);
        }
        drop(engine);
        if same_lengths {
            // Opened once more, the mark speaks for all rows and not for those of a last group only; and it stands at
            // the beginning of a segment, where any log of the store may be.
            drop(open(options(Arc::new(power.clone()), &model_dir(), (kind, &index), "boot")).await.unwrap());
        }
        Image::take_settled(&index)
    };
    let mut other_oracle = case.oracle.clone();
    other_oracle.fork(!seed, same_lengths);
    let other = history(&forked, &mut other_oracle).await;
    before.put(&index);
    history(&case.power, &mut case.oracle).await;

    for (boot, is_believed) in [("boot", same_lengths), ("another boot", false)] {
        other.put(&index);
        case.power.sync_all();
        let engine =
            open(options(Arc::new(case.power.cut(0)), &model_dir(), (kind, &index), boot)).await.unwrap();
        let result = verify(&*engine, &mut case.oracle, Death::Process).await;
        println!("{kind:?} in {boot}: opened {:?}, {result:?}", engine.stats().opened);
        assert_eq!(result.is_err(), is_believed, "{result:?}");
        drop(engine);
        drop(Image::take_settled(&index));
    }
}
