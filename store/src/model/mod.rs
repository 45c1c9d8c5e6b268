//! Random lives against a naive model: what the store holds is what a list of entries a key would hold, through
//! overwrites, copies, renames, versions, sweeps, dropped futures and power cuts; and after each step check finds
//! nothing.
//!
//! An operation whose future was dropped may have happened or not: then there are several models, and what the store
//! shows decides between them. So it is with each commit of an operation that has several.

mod hesitant;
mod naive;
mod rig;
mod rules;
mod together;

use coffre_disk::seed::{self, Random};

use crate::plan::canary::{self, Broken};
use naive::{Naive, Op};
use rig::Rig;

/// Steps of one life.
const STEPS: usize = 250;

/// One life; what was wrong, and when.
async fn live(seed: u64) -> Result<(), String> {
    let mut random = Random::new(seed);
    let mut rig = Rig::new(seed);
    let mut store = rig.open().await;
    rig.make_buckets(&store).await;
    let mut models = vec![Naive::default()];
    for step in 0..STEPS {
        let model = models.first().unwrap();
        let shown = rig.dump(&store).await?;
        let op = Op::random(&mut random, model, &shown.ids);
        let when = format!("seed {seed}, step {step}: {op:?}");
        match &op {
            Op::Crash => {
                rig.cut(store, random.next_u64()).await;
                store = rig.open().await;
            }
            Op::Sweep => {
                rig.clock.advance(random.below(2_000));
                store.gc(random.chance(50)).await.map_err(|error| format!("{when}: {error:?}"))?;
            }
            _ => {
                let mut after = model.clone();
                after.apply(&op);
                let polls = random.chance(10).then(|| random.below(12));
                match rig.perform(&store, &op, polls).await {
                    Some(outcome) if outcome.is_ok() != model.allows(&op) => {
                        return Err(format!("{when}: {outcome:?}"));
                    }
                    Some(outcome) => {
                        if outcome.is_ok() {
                            models = vec![after];
                        }
                    }
                    None => {
                        let mut after = model.clone();
                        for commit in op.commits() {
                            after.apply(&commit);
                            models.push(after.clone());
                        }
                    }
                }
            }
        }
        let shown = rig.dump(&store).await.map_err(|error| format!("{when}: {error}"))?;
        models.retain(|model| *model == shown.naive);
        if models.is_empty() {
            return Err(format!("{when}\nthe store shows {:#?}", shown.naive));
        }
        models.truncate(1);
        let checked = store.check().await.map_err(|error| format!("{when}: {error:?}"))?;
        if !checked.findings.is_empty() {
            return Err(format!("{when}: {:#?}", checked.findings));
        }
    }
    let rebuilt = store.rebuild().await.map_err(|error| format!("seed {seed}: {error:?}"))?;
    store.close().await.unwrap();
    if rebuilt.findings.is_empty() { Ok(()) } else { Err(format!("{:#?}", rebuilt.findings)) }
}

#[tokio::test]
async fn lives_are_as_the_model_says() {
    let first = seed::from_env();
    for n in 0..seed::rounds(8, 200) {
        live(first.wrapping_add(n)).await.unwrap();
    }
}

/// Runs a test with a broken planner on threads of its own; what it said.
pub(crate) fn with_broken<F: Future<Output = Result<(), String>>>(
    broken: Broken,
    test: impl FnOnce() -> F + Send + 'static,
) -> Result<(), String> {
    let run = move || {
        canary::set(Some(broken));
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime =
            runtime.worker_threads(4).enable_all().on_thread_start(move || canary::set(Some(broken)));
        runtime.build().unwrap().block_on(test())
    };
    std::thread::spawn(run).join().unwrap()
}

#[test]
fn a_life_shows_a_broken_planner() {
    for (broken, sign) in [
        (Broken::Release, "kind: \"reference\""),
        (Broken::Usage, "kind: \"usage\""),
        (Broken::Promotion, "has no head"),
    ] {
        // what a life does is a matter of its seed, what it meets also of its threads
        let said = (1..=10).find_map(|n| with_broken(broken, move || live(n)).err());
        let said = said.unwrap_or_else(|| panic!("{broken:?} went unnoticed"));
        assert!(said.contains(sign), "{broken:?}: {said}");
    }
}

#[test]
fn writers_together_show_a_missing_check() {
    for broken in [Broken::Guard, Broken::Gone] {
        // which race is met is chance: with this many one is
        let said = (0..50).find_map(|n| {
            with_broken(broken, move || together::writers(n, crate::object::Versioning::Enabled)).err()
        });
        assert!(said.is_some(), "{broken:?} went unnoticed");
    }
}
