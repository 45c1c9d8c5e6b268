//! Random operations against a naive model.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use coffre_disk::seed::Random;

use super::everything;
use crate::{
    Check, Commit, Error, Kv, KvExt, Position, Range, Scan, Step, Wait, Write, decode_counter, encode_counter,
};

type Rows = BTreeMap<Bytes, (Bytes, Position)>;

/// `steps` random commits, reads and scans, each compared with a model that does the plainest thing.
pub async fn random_operations(kv: Arc<dyn Kv>, seed: u64, steps: usize) {
    let (mut random, mut rows) = (Random::new(seed), Rows::new());
    for step in 0..steps {
        let at = format!("step {step} of COFFRE_SEED={seed}");
        match random.below(10) {
            0 => scan(&*kv, &mut random, &rows, &at).await,
            1 | 2 => {
                let key = random_key(&mut random);
                let met = kv.get(&key).await.unwrap().map(|entry| (entry.value, entry.position));
                assert!(met.as_ref() == rows.get(&key), "{at}: {key:?} is {met:?}");
            }
            _ => commit(&*kv, &mut random, &mut rows, &at).await,
        }
    }
    let met: Rows = everything(&*kv).await.into_iter().map(|(key, value, at)| (key, (value, at))).collect();
    assert!(met == rows, "the end of COFFRE_SEED={seed}");
    kv.close().await.unwrap();
}

/// Few keys, prefixes of each other, counters apart from the rest.
fn random_key(random: &mut Random) -> Bytes {
    let mut key = vec![*random.pick(b"abc").unwrap()];
    for _ in 0..random.below(3) {
        key.push(*random.pick(&[0, b'/', b'x', 0xff]).unwrap());
    }
    key.into()
}

fn random_counter(random: &mut Random) -> Bytes {
    Bytes::from(format!("n{}", random.below(4)))
}

fn random_value(random: &mut Random) -> Bytes {
    let len = match random.below(20) {
        0 => 20_000,
        1 | 2 => 1024 + random.index(3) - 1,
        _ => random.index(60),
    };
    random.bytes(len).into()
}

fn random_check(random: &mut Random, rows: &Rows) -> Check {
    let key = random_key(random);
    match random.below(7) {
        0 => Check::Absent(key),
        1 => Check::Present(key),
        2 => {
            // Mostly the right position, so that commits pass.
            let known = rows.iter().nth(random.index(rows.len()));
            let (key, position) = known.map_or((key, Position(1)), |(key, (_, at))| (key.clone(), *at));
            Check::At(key, if random.chance(80) { position } else { Position(position.0 + 1) })
        }
        3 => Check::PrefixEmpty(key),
        4 => Check::AtLeast(random_counter(random), -20),
        5 => Check::RangeEmpty(key, random_key(random)),
        _ => Check::AtMost(random_counter(random), 20),
    }
}

fn counter(rows: &Rows, key: &Bytes) -> i64 {
    rows.get(key).map_or(0, |(value, _)| decode_counter(value).unwrap())
}

fn holds(check: &Check, rows: &Rows) -> bool {
    match check {
        Check::Absent(key) => !rows.contains_key(key),
        Check::Present(key) => rows.contains_key(key),
        Check::At(key, position) => rows.get(key).is_some_and(|(_, at)| at == position),
        Check::PrefixEmpty(prefix) => !rows.keys().any(|key| key.starts_with(prefix)),
        Check::RangeEmpty(start, end) => !rows.keys().any(|key| start <= key && key < end),
        Check::AtLeast(key, n) => counter(rows, key) >= *n,
        Check::AtMost(key, n) => counter(rows, key) <= *n,
    }
}

async fn commit(kv: &dyn Kv, random: &mut Random, rows: &mut Rows, at: &str) {
    let mut writes: BTreeMap<Bytes, Write> = BTreeMap::new();
    for _ in 0..random.below(6) {
        let write = match random.below(4) {
            0 => Write::Delete(random_key(random)),
            1 => Write::Add(random_counter(random), random.below(11).cast_signed() - 5),
            _ => Write::Put(random_key(random), random_value(random)),
        };
        writes.insert(write.key().clone(), write);
    }
    if random.chance(3) {
        let key = Bytes::from_static(b"n-edge");
        writes.insert(key.clone(), Write::Add(key, i64::MAX / 3));
    }
    let commit = Commit {
        checks: (0..random.below(3)).map(|_| random_check(random, rows)).collect(),
        writes: writes.into_values().collect(),
        note: random.bytes(3).into(),
        wait: if random.chance(3) { Wait::Durable } else { Wait::Ordered },
        may_use_reserve: random.chance(50),
    };
    let mut expected = commit.checks.iter().position(|check| !holds(check, rows));
    let mut after = rows.clone();
    for write in &commit.writes {
        match write {
            Write::Put(key, value) => drop(after.insert(key.clone(), (value.clone(), Position(0)))),
            Write::Delete(key) => drop(after.remove(key)),
            Write::Add(key, delta) => match counter(rows, key).checked_add(*delta) {
                Some(sum) => drop(after.insert(key.clone(), (encode_counter(sum), Position(0)))),
                None => expected = expected.or(Some(commit.checks.len())),
            },
        }
    }
    match (kv.commit(commit.clone()).await, expected) {
        (Ok(position), None) => {
            assert!(rows.values().all(|(_, at)| *at < position), "{at}: positions rise");
            for (_, at) in after.values_mut().filter(|(_, at)| *at == Position(0)) {
                *at = position;
            }
            *rows = after;
        }
        (Err(Error::Conflict { check }), Some(expected)) => assert_eq!(check, expected, "{at}: {commit:?}"),
        (result, expected) => panic!("{at}: {result:?}, expected conflict {expected:?}: {commit:?}"),
    }
}

async fn scan(kv: &dyn Kv, random: &mut Random, rows: &Rows, at: &str) {
    let range = match random.below(3) {
        0 => Range::all(),
        1 => Range::prefix(random_key(random)),
        _ => Range { start: random_key(random), end: Some(random_key(random)) },
    };
    let backward = random.chance(50);
    let scan = if backward { Scan::backward(range.clone()) } else { Scan::forward(range.clone()) };
    // The same seed gives the visitor and the model the same steps.
    let steps = random.next_u64();
    let step = |random: &mut Random| match random.below(10) {
        0 => Step::Stop,
        1..=3 => Step::Seek(random_key(random)),
        _ => Step::Next,
    };
    let mut inside: Vec<_> = rows
        .iter()
        .filter(|(key, _)| **key >= range.start && range.end.as_ref().is_none_or(|end| *key < end))
        .map(|(key, (value, position))| (key.clone(), value.clone(), *position))
        .collect();
    if backward {
        inside.reverse();
    }
    let (mut expected, mut visits, mut target) = (Vec::new(), Random::new(steps), None::<Bytes>);
    for row in inside {
        let skipped = target.as_ref().is_some_and(|to| if backward { row.0 > *to } else { row.0 < *to });
        if skipped {
            continue;
        }
        expected.push(row);
        match step(&mut visits) {
            Step::Stop => break,
            Step::Seek(to) => target = Some(to),
            Step::Next => target = None,
        }
    }
    let mut visits = Random::new(steps);
    let met = kv
        .scan_into(scan, Vec::new(), move |met, row| {
            met.push((Bytes::copy_from_slice(row.key), Bytes::copy_from_slice(row.value), row.position));
            match visits.below(10) {
                0 => Step::Stop,
                1..=3 => Step::Seek(random_key(&mut visits)),
                _ => Step::Next,
            }
        })
        .await
        .unwrap();
    assert!(met == expected, "{at}: {range:?} backward={backward}");
}
