//! The ledger on rows in memory, by several processes at once.

use std::collections::BTreeSet;

use coffre_kv::Kv;
use coffre_kv::fault::{Call, Fault, Faulty};
use coffre_kv::memory::Memory;
use proptest::prelude::*;

use super::*;
use crate::read::Filter;
use crate::sample::{self, NOW_MS, World, system};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A change that waits.
pub(crate) fn grant(amount: u64) -> Change {
    Change { what: What::Grant(amount), user: None, application: None, metadata: String::new(), key: None }
}

async fn with_plan(code: &str) -> World {
    let world = World::new().await;
    world.billing.set_plan(&system(), world.org, Some(code)).await.unwrap();
    world
}

async fn consume(world: &World, amount: u64, key: Option<&str>) -> Result<Consumed> {
    world.billing.consume(&sample::user(world.user), world.consume(amount, key)).await
}

async fn lines(world: &World) -> Vec<crate::Line> {
    let filter = Filter { org: Some(world.org), ..Filter::default() };
    let mut lines = world.billing.lines(filter, 1, 1000).await.unwrap().lines;
    lines.reverse();
    lines
}

async fn left(world: &World) -> u64 {
    world.billing.balance(world.org, "ai_generation").await.unwrap().balance.unwrap()
}

/// Σ lines = balance, and each line says the sum up to it.
async fn assert_sound(world: &World) {
    let mut sum = 0;
    for line in lines(world).await.iter().filter(|line| line.feature == "ai_generation") {
        if let Some(after) = line.balance_after {
            sum += line.amount;
            assert_eq!(sum, i64::try_from(after).unwrap(), "{line:?}");
        }
    }
    let (account, _) = world.billing.inner.account(world.org, "ai_generation").await.unwrap();
    assert_eq!(sum, i64::try_from(account.balance()).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_processes_never_overdraw() {
    let world = with_plan("basic").await;
    let processes: Vec<Billing> = (0..8).map(|_| world.another()).collect();
    let tasks: Vec<_> = (0..200)
        .map(|n| {
            let (billing, cx) = (processes[n % 8].clone(), sample::user(world.user));
            let consume = world.consume(1, Some(&format!("key-{n}")));
            tokio::spawn(async move { billing.consume(&cx, consume).await })
        })
        .collect();
    let (mut done, mut short) = (BTreeSet::new(), 0);
    for task in tasks {
        match task.await.unwrap() {
            Ok(consumed) => assert!(done.insert(consumed.left.unwrap()), "each sees a balance of its own"),
            Err(Error::Insufficient { required: 1, current: 0 }) => short += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((done.len(), short, left(&world).await), (150, 50, 0));
    let taken = lines(&world).await.into_iter().filter(|line| line.kind == crate::Kind::Consumption);
    assert_eq!(taken.count(), 150);
    assert_sound(&world).await;
    // every key gets its first answer again, from any process
    let again = world.billing.consume(&sample::user(world.user), world.consume(1, Some("key-0"))).await;
    assert!(again.is_ok() || matches!(again, Err(Error::Insufficient { .. })));
    assert_eq!(left(&world).await, 0);
}

#[tokio::test]
async fn a_key_gets_the_first_answer_again() {
    let world = with_plan("basic").await;
    let first = consume(&world, 3, Some("k")).await.unwrap();
    assert_eq!((first.amount, first.left), (3, Some(147)));
    consume(&world, 1, None).await.unwrap();
    assert_eq!(consume(&world, 3, Some("k")).await.unwrap(), first);
    assert_eq!(left(&world).await, 146);
    let reused = |error: Result<Consumed>| matches!(error, Err(Error::KeyReused));
    assert!(reused(consume(&world, 4, Some("k")).await));
    let cx = sample::user(world.user);
    let other = |change: &dyn Fn(&mut Consume)| {
        let mut consume = world.consume(3, Some("k"));
        change(&mut consume);
        world.billing.consume(&cx, consume)
    };
    let metadata = json!({"n": 1}).as_object().cloned();
    assert!(reused(other(&|c| c.metadata.clone_from(&metadata)).await));
    assert!(reused(other(&|c| c.user = UserId(Uuid::from_u128(5))).await));
    let elsewhere = other(&|c| c.application = "another".into()).await.unwrap();
    assert_eq!(elsewhere.left, Some(143), "applications have keys of their own");
    // a refusal is not remembered: nothing was done that could be done twice
    assert!(matches!(consume(&world, 1000, Some("big")).await, Err(Error::Insufficient { .. })));
    world.billing.grant(&system(), world.org, "ai_generation", 1000, None).await.unwrap();
    assert_eq!(consume(&world, 1000, Some("big")).await.unwrap().left, Some(143));
    // the same key for another feature, whose account is another
    world.billing.set_plan(&system(), world.org, Some("premium")).await.unwrap();
    assert!(reused(other(&|c| c.feature = "exports".into()).await));
    assert_sound(&world).await;
}

#[tokio::test]
async fn what_is_refused() {
    let world = World::new().await;
    let cx = sample::user(world.user);
    let short = consume(&world, 1, None).await;
    assert!(matches!(short, Err(Error::Insufficient { required: 1, current: 0 })), "no plan");
    assert!(lines(&world).await.is_empty());
    for (amount, feature, key) in [
        (0, "ai_generation", None),
        (UNITS_MAX + 1, "ai_generation", None),
        (1, DATA_STORAGE, None),
        (1, "ai_generation", Some("")),
        (1, "ai_generation", Some("x".repeat(256)).as_deref()),
    ] {
        let consume = Consume { feature: feature.into(), ..world.consume(amount, key) };
        let refused = world.billing.consume(&cx, consume).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{amount} {feature}: {refused:?}");
    }
    let unknown = Consume { feature: "nothing".into(), ..world.consume(1, None) };
    assert!(matches!(world.billing.consume(&cx, unknown).await, Err(Error::NotFound { what: "feature" })));
    let large = json!({"x": "y".repeat(crate::METADATA_BYTES_MAX)}).as_object().cloned();
    let large = Consume { metadata: large, ..world.consume(1, None) };
    assert!(matches!(world.billing.consume(&cx, large).await, Err(Error::Invalid { .. })));
    let billing = &world.billing;
    assert!(matches!(billing.grant(&cx, world.org, "exports", 1, None).await, Err(Error::Denied)));
    assert!(matches!(billing.set_plan(&cx, world.org, None).await, Err(Error::Denied)));
    assert!(matches!(billing.refund(&cx, world.org, "exports", Uuid::nil()).await, Err(Error::Denied)));
    let nobody = OrgId(Uuid::nil());
    let refused = billing.grant(&system(), nobody, "exports", 1, None).await;
    assert!(matches!(refused, Err(Error::NotFound { what: "organisation" })));
    let refused = billing.set_plan(&system(), world.org, Some("gold")).await;
    assert!(matches!(refused, Err(Error::NotFound { what: "plan" })));
}

#[tokio::test]
async fn periods_end_with_lines() {
    let world = with_plan("basic").await;
    consume(&world, 100, None).await.unwrap();
    world.billing.grant(&system(), world.org, "ai_generation", 7, Some("sorry")).await.unwrap();
    world.advance(17 * DAY_MS);
    // 1 December: shown before anything is written
    let rights = world.billing.entitlements(world.org).await.unwrap();
    assert_eq!((rights[0].limit, rights[0].used), (Some(157), 0));
    assert_eq!((left(&world).await, lines(&world).await.len()), (157, 3));
    assert_eq!(consume(&world, 1, None).await.unwrap().left, Some(156));
    let amounts: Vec<i64> = lines(&world).await.iter().map(|line| line.amount).collect();
    assert_eq!(amounts, [150, -100, 7, -50, 150, -1]);
    assert_sound(&world).await;
    let filter = Filter { from_ms: Some(NOW_MS + 1), ..Filter::default() };
    assert_eq!(world.billing.lines(filter, 1, 10).await.unwrap().total, 0, "ids here stand still");
}

#[tokio::test]
async fn a_consumption_is_given_back_once() {
    let world = with_plan("basic").await;
    let taken = consume(&world, 10, None).await.unwrap();
    let cx = system();
    let give_back = || world.billing.refund(&cx, world.org, "ai_generation", taken.line);
    assert_eq!(give_back().await.unwrap().left, Some(150));
    assert!(matches!(give_back().await, Err(Error::Done { .. })));
    let grant = world.billing.grant(&system(), world.org, "ai_generation", 1, None).await.unwrap();
    let refused = world.billing.refund(&system(), world.org, "ai_generation", grant.line).await;
    assert!(matches!(refused, Err(Error::Invalid { .. })));
    let refused = world.billing.refund(&system(), world.org, "ai_generation", Uuid::nil()).await;
    assert!(matches!(refused, Err(Error::NotFound { what: "line" })));
    assert_sound(&world).await;
}

#[tokio::test]
async fn organisations_do_not_see_each_other() {
    let world = with_plan("basic").await;
    let other = world.identity.create_org(&system(), "other").await.unwrap().id;
    world.billing.set_plan(&system(), other, Some("premium")).await.unwrap();
    consume(&world, 5, Some("k")).await.unwrap();
    let theirs = Consume { org: other, ..world.consume(5, Some("k")) };
    assert_eq!(world.billing.consume(&sample::user(world.user), theirs).await.unwrap().left, Some(995));
    let of = |org| world.billing.lines(Filter { org: Some(org), ..Filter::default() }, 1, 100);
    assert!(of(other).await.unwrap().lines.iter().all(|line| line.org == other));
    assert_eq!((of(other).await.unwrap().total, of(world.org).await.unwrap().total), (2, 2));
    assert_eq!(world.billing.lines(Filter::default(), 1, 100).await.unwrap().total, 4);
    assert_eq!(left(&world).await, 145);
}

#[tokio::test]
async fn pages_are_newest_first() {
    let world = with_plan("basic").await;
    for n in 1..=9 {
        consume(&world, n, None).await.unwrap();
    }
    let page = |page, per_page| world.billing.lines(Filter::default(), page, per_page);
    let amounts = |page: crate::Page| page.lines.iter().map(|line| line.amount).collect::<Vec<_>>();
    assert_eq!(amounts(page(1, 4).await.unwrap()), [-9, -8, -7, -6]);
    assert_eq!(amounts(page(3, 4).await.unwrap()), [-1, 150]);
    assert_eq!(amounts(page(4, 4).await.unwrap()), [0i64; 0]);
    assert!(page(0, 4).await.is_err() && page(101, 100).await.is_err());
}

/// Each write fails in turn, before or after it happened: what is asked again with its key happens once.
#[tokio::test]
async fn an_answer_that_was_lost_is_given_again() {
    for is_done in [false, true] {
        let kv = Faulty::new(Memory::new());
        let world = World::on(Arc::new(kv.clone()) as Arc<dyn Kv>).await;
        world.billing.set_plan(&system(), world.org, Some("basic")).await.unwrap();
        for n in 0..20 {
            let key = format!("k{n}");
            let fault = if is_done { Fault::DoneButStopped } else { Fault::Fail(coffre_kv::Error::NoSpace) };
            kv.plan(Call::Commit, 1, fault);
            let failed = consume(&world, 1, Some(&key)).await;
            assert!(matches!(failed, Err(Error::Stopped | Error::NoSpace)), "{failed:?}");
            let told = consume(&world, 1, Some(&key)).await.unwrap();
            assert_eq!(told.left, Some(149 - n));
        }
        assert_eq!(left(&world).await, 130);
        assert_sound(&world).await;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Consume(u64),
    Grant(u64),
    Refund(prop::sample::Index),
    Plan(Option<bool>),
    Days(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1u64..90).prop_map(Step::Consume),
        1 => (1u64..90).prop_map(Step::Grant),
        2 => any::<prop::sample::Index>().prop_map(Step::Refund),
        1 => any::<Option<bool>>().prop_map(Step::Plan),
        1 => (1u64..40).prop_map(Step::Days),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn lines_add_up_whatever_happens(steps in prop::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = with_plan("basic").await;
            let mut taken = Vec::new();
            for step in steps {
                match step {
                    Step::Consume(amount) => match consume(&world, amount, None).await {
                        Ok(consumed) => taken.push(consumed.line),
                        Err(Error::Insufficient { required, current }) => {
                            assert!(required > current);
                            assert_eq!(current, left(&world).await);
                        }
                        Err(error) => panic!("{error}"),
                    },
                    Step::Grant(amount) => {
                        world.billing.grant(&system(), world.org, "ai_generation", amount, None).await.unwrap();
                    }
                    Step::Refund(which) if !taken.is_empty() => {
                        let line = taken.remove(which.index(taken.len()));
                        let refund = world.billing.refund(&system(), world.org, "ai_generation", line).await;
                        assert!(matches!(refund, Ok(_) | Err(Error::Invalid { .. })), "{refund:?}");
                    }
                    Step::Refund(_) => {}
                    Step::Plan(which) => {
                        let code = which.map(|is_large| if is_large { "premium" } else { "basic" });
                        world.billing.set_plan(&system(), world.org, code).await.unwrap();
                    }
                    Step::Days(days) => world.advance(days * DAY_MS),
                }
                assert_sound(&world).await;
            }
        });
    }
}
