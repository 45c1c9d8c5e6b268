//! (b) A writing process is killed with SIGKILL, again and again on the same data.
//!
//! The child is this test binary once more, running the same test with `COFFRE_CHILD` set: it opens the engine on the
//! real disk, writes, and prints what was acknowledged to a pipe. The oracle is the parent: what it read from the
//! pipe was acknowledged, whatever became of the child.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use coffre_disk::RealDisk;
use coffre_disk::seed::{Random, rounds};
use coffre_kv::embedded::{IndexKind, Options};
use coffre_kv::{Kv, Position};

use crate::oracle::{Ack, Death, Failure, Oracle, send, verify};
use crate::setup::{DEPTH, kind_in_turn, open, options, seed, write};
use crate::workload::Script;

const WRITERS: u64 = 3;
const CHILD: &str = "COFFRE_CHILD";
const CHILD_SEED: &str = "COFFRE_CHILD_SEED";
const CHILD_FROM: &str = "COFFRE_CHILD_FROM";
const CHILD_INDEX: &str = "COFFRE_CHILD_INDEX";

fn real_options(dir: &Path, kind: IndexKind) -> Options {
    let mut real = options(Arc::new(RealDisk), &dir.join("meta"), (kind, &dir.join("index")), "");
    // Parent and child run in the same boot, and find that out by themselves.
    real.boot_id = Options::new(Arc::new(RealDisk), dir.to_owned(), dir.to_owned()).boot_id;
    real
}

/// What the child does until it is killed.
async fn child(dir: PathBuf, lies: bool) {
    let seed: u64 = std::env::var(CHILD_SEED).unwrap().parse().unwrap();
    let from: Vec<u64> =
        std::env::var(CHILD_FROM).unwrap().split(',').map(|from| from.parse().unwrap()).collect();
    let index = std::env::var(CHILD_INDEX).unwrap();
    let kind = IndexKind::ALL.into_iter().find(|kind| kind.name() == index).unwrap();
    tell("opening");
    let engine = open(real_options(&dir, kind)).await.unwrap();
    tell("opened");
    let mut tasks = Vec::new();
    for (writer, from) in (0..).zip(from) {
        let engine = Arc::clone(&engine);
        tasks.push(tokio::spawn(async move {
            let mut script = Script::new(seed, writer);
            let mut random = Random::new(seed ^ from);
            while script.next < from {
                drop(script.advance());
            }
            if lies {
                // Acknowledged, never sent.
                for n in from..from + 100 {
                    tell(&format!("ack {writer} {n} {} true", u64::MAX / 2));
                }
            }
            loop {
                let count = 1 + random.index(usize::try_from(DEPTH).unwrap());
                let sent = send(&*engine as &dyn Kv, &mut script, count, None).await;
                assert!(!sent.stopped && !sent.refused, "the child's engine works");
                for ack in sent.acks {
                    tell(&format!("ack {} {} {} {}", ack.writer, ack.n, ack.position.0, ack.durable));
                }
            }
        }));
    }
    let keeper = tokio::task::spawn_blocking(move || {
        for round in 0u64.. {
            let kept = if round.is_multiple_of(2) { engine.snapshot() } else { engine.compact().map(drop) };
            kept.unwrap();
        }
    });
    keeper.await.unwrap();
}

fn tell(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn parse_ack(line: &str) -> Option<Ack> {
    let mut words = line.strip_prefix("ack ")?.split(' ');
    let ack = Ack {
        writer: words.next()?.parse().ok()?,
        n: words.next()?.parse().ok()?,
        position: Position(words.next()?.parse().ok()?),
        durable: words.next()?.parse().ok()?,
    };
    Some(ack)
}

/// Ends the child even when the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn spawn((test, kind): (&str, IndexKind), dir: &Path, seed: u64, from: &[u64]) -> Killed {
    let from: Vec<_> = from.iter().map(ToString::to_string).collect();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, dir)
        .env(CHILD_SEED, seed.to_string())
        .env(CHILD_FROM, from.join(","))
        .env(CHILD_INDEX, kind.name())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    Killed(child)
}

/// Starts a child, kills it after `acks` acknowledgements (0: as soon as it opens), and gives what it acknowledged.
fn run_and_kill(test: (&str, IndexKind), dir: &Path, seed: u64, from: &[u64], acks: usize) -> Vec<Ack> {
    let mut killed = spawn(test, dir, seed, from);
    let mut lines = BufReader::new(killed.0.stdout.take().unwrap()).lines();
    let mut met = Vec::new();
    for line in lines.by_ref() {
        let line = line.unwrap();
        met.extend(parse_ack(&line));
        if met.len() >= acks && (acks > 0 || line == "opening") {
            break;
        }
    }
    assert!(met.len() >= acks, "the child ended by itself after {} acknowledgements", met.len());
    drop(killed);
    // What it had still printed was acknowledged too; a line cut in its middle was not read by anyone.
    for line in lines.map_while(Result::ok) {
        met.extend(parse_ack(&line));
    }
    met
}

/// One kill after another on the same data; the truth is compared after each.
async fn kill_rounds((test, kind): (&str, IndexKind), rounds: u64, seed: u64) -> Result<u64, Failure> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("meta")).unwrap();
    // Written lines may be behind by what the writers had in flight when the pipe was cut.
    let mut oracle = Oracle::new(seed, WRITERS, 2 * DEPTH);
    let mut random = Random::new(seed);
    let mut commits = 0;
    for round in 0..rounds {
        let from: Vec<_> = oracle.scripts().iter().map(|script| script.next).collect();
        let acks = if random.chance(10) { 0 } else { 1 + random.index(400) };
        oracle.acknowledged(run_and_kill((test, kind), folder.path(), seed, &from, acks));
        let mut options = real_options(folder.path(), kind);
        options.rebuild_index = round % 5 == 4;
        let engine = open(options).await?;
        // Read while the rows are added up, as often as not.
        let verified = verify(&*engine, &mut oracle, Death::Process).await?;
        engine.verified().await?;
        commits = verified.commits;
        if round % 5 == 3 {
            // The same rows by replay and by rebuild.
            drop(engine);
            let mut options = real_options(folder.path(), kind);
            options.rebuild_index = true;
            let rebuilt = open(options).await?;
            let again = verify(&*rebuilt, &mut oracle, Death::Process).await?;
            assert_eq!(verified.sha256, again.sha256);
        } else if round % 5 == 2 {
            let mut scripts = oracle.scripts();
            assert!(!write(&engine, &mut oracle, &mut scripts, 2, seed ^ round).await);
            verify(&*engine, &mut oracle, Death::Process).await?;
            oracle.follow(&*engine).await?;
            engine.close().await?;
        }
    }
    Ok(commits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_writer_loses_nothing() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return child(dir.into(), false).await;
    }
    // Half of the rounds on each kind of index.
    let (seed, rounds) = (seed("kills"), rounds(30, 500).div_ceil(2));
    for kind in IndexKind::ALL {
        match kill_rounds(("kill::a_killed_writer_loses_nothing", kind), rounds, seed).await {
            Ok(commits) => {
                println!("{kind:?}: {rounds} kills, {commits} commits, nothing lost");
                assert!(commits > rounds, "the writers wrote");
            }
            Err(e) => panic!("{kind:?}, COFFRE_SEED={seed}: {e:?}"),
        }
    }
}

/// The same proof with a child that acknowledges what it never sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn canary_a_child_that_lies_is_noticed() {
    if let Some(dir) = std::env::var_os(CHILD) {
        return child(dir.into(), true).await;
    }
    let seed = seed("canary of kills");
    let test = ("kill::canary_a_child_that_lies_is_noticed", kind_in_turn(seed));
    let lies = kill_rounds(test, 10, seed).await;
    match lies {
        Err(Failure::Wrong(why)) => println!("noticed: {why}"),
        other => panic!("a lie was believed: {other:?}"),
    }
}
