//! Proof that a store on the embedded engine keeps what it acknowledged, with log and blobs on one disk: the disk
//! freezes at a change, the process dies or the power is cut, and the store is opened again.
//!
//! Every round runs one script — puts, copies, uploads, completions, deletes, renames, sweeps — to the step that
//! fails. Then what was acknowledged is there with its bytes, of the step in flight all or nothing, and check and
//! scrub find nothing, before and after a sweep. `COFFRE_SEED` repeats a run, `COFFRE_ROUNDS` makes it longer: with
//! as many rounds as the script has changes of the disk each of them is met.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
#![expect(clippy::print_stdout, reason = "a test tells its seed and what it met")]

mod script;
mod world;

use coffre_disk::fault::Fault;
use coffre_disk::seed::{self, Random};

use script::Script;
use world::World;

fn seed(of: &str) -> u64 {
    let seed = seed::from_env();
    println!("{of}: COFFRE_SEED={seed}");
    seed
}

/// What ends a round.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The process dies; what was written stays.
    Death,
    /// The power is cut, too: what was not synced stays in part.
    PowerCut,
}

/// How many changes of the disk the script makes when nothing fails.
async fn changes(seed: u64) -> u64 {
    let world = World::new(seed, 0);
    let store = world.open().await.unwrap();
    let before = world.disk.count();
    let mut script = Script::new(seed);
    script.run(&store).await.unwrap();
    script.verify(&store).await.unwrap();
    let changes = world.disk.count() - before;
    world.end(store).await;
    changes
}

/// One round; what is wrong afterwards.
async fn round(seed: u64, n: u64, fault: Fault, end: End) -> Result<(), String> {
    let mut world = World::new(seed, n);
    let store = world.open().await.map_err(|error| format!("the first opening: {error:?}"))?;
    world.disk.plan(n, fault);
    let mut script = Script::new(seed);
    let outcome = script.run(&store).await;
    if outcome.is_err() && !world.disk.is_frozen() {
        return Err(format!("failed without a fault: {outcome:?}"));
    }
    world.disk.freeze();
    world.end(store).await;
    match end {
        End::Death => world.thaw(),
        End::PowerCut => world.cut(seed ^ n),
    }
    let store = world.open().await.map_err(|error| format!("opening again: {error:?}"))?;
    let verified = script.verify(&store).await;
    world.end(store).await;
    verified
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_froze_at_any_change_keeps_what_it_acknowledged() {
    let seed = seed("freeze");
    let changes = changes(seed).await;
    let rounds = seed::rounds(30, 500);
    println!("{rounds} rounds over {changes} changes of the disk");
    let mut random = Random::new(seed);
    for round_number in 0..rounds {
        // spread over the script; a different one of each stretch at each seed
        let n = 1 + (round_number * changes + random.below(changes)) / rounds;
        let fault = if random.chance(50) { Fault::Freeze } else { Fault::FreezeTorn(random.next_u64()) };
        let end = if random.chance(30) { End::Death } else { End::PowerCut };
        if let Err(wrong) = round(seed, n, fault, end).await {
            panic!(
                "COFFRE_SEED={seed}, frozen by {fault:?} at change {n} of {changes}, then {end:?}: {wrong}"
            );
        }
    }
}

/// The canary: on a disk that says it synced and did not, acknowledged bytes are gone after a power cut, and the
/// proof above says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_lies_about_syncs_is_noticed() {
    let seed = seed("lie");
    let mut world = World::new(seed, seed);
    let store = world.open().await.unwrap();
    world.disk.swallow_syncs();
    let mut script = Script::new(seed);
    script.run(&store).await.unwrap();
    world.disk.freeze();
    world.end(store).await;
    world.cut(seed);
    let noticed = match world.open().await {
        Err(_) => true,
        Ok(store) => {
            let wrong = script.verify(&store).await.is_err();
            world.end(store).await;
            wrong
        }
    };
    assert!(noticed);
}
