//! Random lives against a naive model: what the store holds is what a list of entries a key would hold, through
//! overwrites, copies, renames, versions, sweeps, dropped futures and power cuts; and after each step check finds
//! nothing.
//!
//! An operation whose future was dropped may have happened or not: then there are two models, and what the store
//! shows decides between them.

mod naive;
mod rig;
mod together;

use coffre_disk::seed::{self, Random};

use naive::{Naive, Op};
use rig::Rig;

/// Steps of one life.
const STEPS: usize = 250;
/// Lives of one test.
const LIVES: u64 = 8;

async fn live(seed: u64) {
    let mut random = Random::new(seed);
    let mut rig = Rig::new(seed);
    let mut store = rig.open().await;
    rig.make_buckets(&store).await;
    let mut models = vec![Naive::default()];
    for step in 0..STEPS {
        let model = models.first().unwrap();
        let shown = rig.dump(&store).await;
        let op = Op::random(&mut random, model, &shown.ids);
        let when = format!("seed {seed}, step {step}: {op:?}");
        println!("{when}");
        match &op {
            Op::Crash => {
                rig.cut(store, random.next_u64()).await;
                store = rig.open().await;
            }
            Op::Sweep => {
                rig.clock.advance(random.below(2_000));
                store.gc(random.chance(50)).await.unwrap();
            }
            _ => {
                let mut after = model.clone();
                after.apply(&op);
                let polls = random.chance(10).then(|| random.below(12));
                match rig.perform(&store, &op, polls).await {
                    Some(outcome) => {
                        assert_eq!(outcome.is_ok(), model.allows(&op), "{when}: {outcome:?}");
                        if outcome.is_ok() {
                            models = vec![after];
                        }
                    }
                    None => models.push(after),
                }
            }
        }
        let shown = rig.dump(&store).await;
        models.retain(|model| *model == shown.naive);
        assert!(!models.is_empty(), "{when}\nthe store shows {:#?}", shown.naive);
        models.truncate(1);
        let checked = store.check().await.unwrap();
        assert_eq!(checked.findings, [], "{when}");
    }
    let rebuilt = store.rebuild().await.unwrap();
    assert_eq!(rebuilt.findings, [], "seed {seed}: rebuild of a sound store");
    store.close().await.unwrap();
}

#[tokio::test]
async fn lives_are_as_the_model_says() {
    let first = seed::from_env();
    for n in 0..LIVES {
        live(first.wrapping_add(n)).await;
    }
}
