//! (d) The index directory is damaged while nobody uses it: bits turned, a file left over that does not belong there.
//!
//! Nobody is there to help: the store is opened as a supervisor would do it, again after an engine stopped itself,
//! and has to come back with every row within a few starts.

use std::path::PathBuf;
use std::sync::Arc;

use coffre_disk::power::PowerDisk;
use coffre_disk::seed::{Random, rounds};
use coffre_disk::{Disk, DiskFileExt, Open};
use coffre_kv::Kv;
use coffre_kv::embedded::{Embedded, IndexKind};
use tempfile::TempDir;

use crate::image::Image;
use crate::oracle::{Death, Failure, Oracle, verify};
use crate::setup::{
    DEPTH, blocking, index_folder, kind_in_turn, model_dir, open, options, power_disk, seed, write,
};

const WRITERS: u64 = 2;
/// Starts a supervisor needs at the most: one that stops itself, one that is right.
const STARTS_MAX: u32 = 3;

struct Case {
    power: PowerDisk,
    kind: IndexKind,
    folder: TempDir,
    oracle: Oracle,
}

impl Case {
    fn new(seed: u64, kind: IndexKind) -> Self {
        let folder = index_folder();
        Self { power: power_disk(), kind, folder, oracle: Oracle::new(seed, WRITERS, DEPTH) }
    }

    fn index(&self) -> PathBuf {
        self.folder.path().join("index")
    }

    async fn open(&self) -> coffre_kv::Result<Arc<Embedded>> {
        open(options(Arc::new(self.power.clone()), &model_dir(), (self.kind, &self.index()), "boot")).await
    }

    async fn write(&mut self, engine: &Arc<Embedded>, batches: u64, seed: u64) {
        let mut scripts = self.oracle.scripts();
        assert!(!write(engine, &mut self.oracle, &mut scripts, batches, seed).await);
    }

    /// Opens until everything is right; how many starts that took.
    async fn restart_until_right(&mut self) -> Result<(Arc<Embedded>, u32), Failure> {
        let mut last = None;
        for start in 1..=STARTS_MAX {
            let engine = self.open().await?;
            // Who reads before may be told what is wrong; nobody else.
            if let Err(e) = engine.verified().await {
                last = Some(e.into());
                continue;
            }
            match verify(&*engine, &mut self.oracle, Death::Process).await {
                Ok(_) => return Ok((engine, start)),
                Err(Failure::Engine(e)) => last = Some(Failure::Engine(e)),
                Err(wrong) => return Err(wrong),
            }
        }
        Err(last.expect("there was a start"))
    }

    /// A store with rows in its checkpoint and some only in the log, left in one way or the other.
    async fn fill(&mut self, is_clean: bool, seed: u64) {
        let engine = self.open().await.unwrap();
        let mut scripts = self.oracle.scripts();
        assert!(!write(&engine, &mut self.oracle, &mut scripts, 15, seed).await);
        blocking(&engine, |engine| engine.checkpoint().map(drop)).await.unwrap();
        assert!(!write(&engine, &mut self.oracle, &mut scripts, 10, !seed).await);
        verify(&*engine, &mut self.oracle, Death::Process).await.unwrap();
        if is_clean {
            engine.close().await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turned_bits_in_the_index_lose_nothing() {
    let seed = seed("turned bits");
    let mut random = Random::new(seed);
    let (mut rebuilt, mut restarts, mut wrong) = ([0; 2], 0, Vec::new());
    for round in 0..rounds(40, 500) {
        let mut case = Case::new(seed ^ round, kind_in_turn(round / 2));
        let is_clean = round % 2 == 0;
        case.fill(is_clean, seed ^ round).await;
        let bits = *random.pick(&[1, 3, 50, 2000]).unwrap();
        Image::take_settled(&case.index()).flipped(bits, &mut random).put(&case.index());
        match restart_and_work_on(&mut case, round).await {
            Ok((opened, starts)) => {
                rebuilt[usize::from(case.kind == IndexKind::Fjall)] += u32::from(opened == Some("rebuilt"));
                restarts += starts - 1;
            }
            Err(e) => {
                wrong.push(format!("round {round}, {:?}, clean {is_clean}, {bits} bits: {e:?}", case.kind));
            }
        }
    }
    println!("{rebuilt:?} rebuilt, {restarts} further starts, {} wrong", wrong.len());
    assert!(rebuilt.iter().all(|rebuilt| *rebuilt > 0), "some of the damage was noticed");
    assert!(wrong.is_empty(), "COFFRE_SEED={seed}: {wrong:#?}");
}

async fn restart_and_work_on(case: &mut Case, round: u64) -> Result<(Option<&'static str>, u32), Failure> {
    let (engine, starts) = case.restart_until_right().await?;
    case.write(&engine, 3, round).await;
    verify(&*engine, &mut case.oracle, Death::Process).await?;
    Ok((engine.stats().opened, starts))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_left_over_file_is_harmless() {
    let seed = seed("left-over file");
    for (round, is_clean) in [true, false, true, false, true, false, true, false].into_iter().enumerate() {
        let kind = kind_in_turn(round as u64 / 2);
        let mut case = Case::new(seed, kind);
        case.fill(is_clean, seed).await;
        // What sled was writing when the disk was full or the process died; a table that fjall was writing.
        let stray = case.index().join(match kind {
            IndexKind::Sled => "current/snap.0000000000001234.generating",
            IndexKind::Fjall => "current/keyspaces/1/tables/1234",
        });
        let content = if round < 4 { Vec::new() } else { vec![7; 1000] };
        std::fs::write(&stray, content).unwrap();
        let (engine, starts) = case.restart_until_right().await.unwrap();
        assert_eq!(starts, 1);
        assert!(!stray.exists(), "it is gone");
        let opened = engine.stats().opened;
        assert_eq!(opened, Some(if is_clean { "clean" } else { "replayed" }), "and cost no rebuild");
        case.write(&engine, 3, seed).await;
        verify(&*engine, &mut case.oracle, Death::Process).await.unwrap();
        engine.close().await.unwrap();
    }
}

/// The log is the promise: damage there is noticed, by the engine or by the comparison.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canary_turned_bits_in_the_log_are_noticed() {
    let seed = seed("canary of turned bits");
    let mut random = Random::new(seed);
    let mut noticed = Vec::new();
    for round in 0..6 {
        let mut case = Case::new(seed ^ round, kind_in_turn(round));
        case.fill(false, seed ^ round).await;
        // The index is lost too, so that every frame of the log is needed.
        Image::default().put(&case.index());
        let log = model_dir().join("log");
        for entry in case.power.list(&log).unwrap() {
            let file = case.power.open(&log.join(entry.name), Open::Write).unwrap();
            for _ in 0..20 {
                let (at, mut byte) = (random.below(entry.len_bytes), [0]);
                file.read_exact_at(&mut byte, at).unwrap();
                byte[0] ^= 0x40;
                file.write_all_at(&byte, at).unwrap();
            }
        }
        noticed.extend(case.restart_until_right().await.err());
    }
    println!("{} of 6 noticed, such as {:?}", noticed.len(), noticed.first());
    assert!(!noticed.is_empty());
}
