//! Order, ranges, steps, and scans among writers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;

use super::{key, put, write};
use crate::{Direction, Kv, KvExt, Range, Scan, Step, Write, after_prefix};

fn name(n: u32) -> String {
    format!("k/{n:04}")
}

/// Keys `k/0000` to `k/0199` and some around them; every tenth value is big.
async fn fill(kv: &dyn Kv) {
    let mut writes = vec![put("a", "before"), put("k", "before"), put("k0", "after"), put([0xff], "last")];
    for n in 0..200 {
        let len = if n % 10 == 0 { 3000 } else { 3 };
        writes.push(put(name(n), vec![n.to_le_bytes()[0]; len]));
    }
    write(kv, writes).await;
}

async fn keys(kv: &dyn Kv, scan: Scan) -> Vec<String> {
    let rows = kv.rows(scan, usize::MAX).await.unwrap();
    rows.into_iter().map(|(key, _)| String::from_utf8_lossy(&key).into_owned()).collect()
}

pub(super) async fn ranges_and_order(kv: Arc<dyn Kv>) {
    let kv = &*kv;
    assert!(keys(kv, Scan::forward(Range::all())).await.is_empty());
    assert!(keys(kv, Scan::backward(Range::all())).await.is_empty());
    fill(kv).await;
    let inside: Vec<_> = (0..200).map(name).collect();
    assert_eq!(keys(kv, Scan::forward(Range::prefix("k/"))).await, inside);
    let mut reversed = inside.clone();
    reversed.reverse();
    assert_eq!(keys(kv, Scan::backward(Range::prefix("k/"))).await, reversed);
    let all = keys(kv, Scan::forward(Range::all())).await;
    assert_eq!(all.len(), 204);
    assert!(all.starts_with(&["a".into(), "k".into(), "k/0000".into()]), "{all:?}");
    assert_eq!(keys(kv, Scan::backward(Range::all())).await.into_iter().rev().collect::<Vec<_>>(), all);

    let range = |start: &str, end: Option<&str>| Range { start: key(start), end: end.map(key) };
    for (range, first, last, count) in [
        (range("k/0010", Some("k/0020")), name(10), name(19), 10),
        (range("k/0010x", Some("k/0020x")), name(11), name(20), 10),
        (range("k/0199", None), name(199), "\u{fffd}".into(), 3),
        (range("", Some("k")), "a".into(), "a".into(), 1),
    ] {
        let forward = keys(kv, Scan::forward(range.clone())).await;
        let mut backward = keys(kv, Scan::backward(range.clone())).await;
        backward.reverse();
        assert_eq!(forward, backward, "{range:?}");
        assert_eq!(
            (forward.first(), forward.last(), forward.len()),
            (Some(&first), Some(&last), count),
            "{range:?}"
        );
    }
    for empty in [range("k/0010", Some("k/0010")), range("k/0020", Some("k/0010")), range("z", Some("zz"))] {
        assert!(keys(kv, Scan::forward(empty.clone())).await.is_empty(), "{empty:?}");
        assert!(keys(kv, Scan::backward(empty.clone())).await.is_empty(), "{empty:?}");
    }
    assert_eq!(keys(kv, Scan::forward(Range::prefix([0xff].as_slice()))).await.len(), 1);
    assert_eq!(after_prefix(&[1, 0xff]), Some(Bytes::from_static(&[2])));

    let with_values = kv.rows(Scan::forward(Range::prefix("k/")), 3).await.unwrap();
    assert_eq!(with_values.len(), 3);
    for (key, entry) in with_values {
        assert_eq!(Some(entry), kv.get(&key).await.unwrap());
    }
    let without = kv.rows(Scan::backward(Range::prefix("k/")).keys_only(), usize::MAX).await.unwrap();
    assert_eq!(without.len(), 200);
    let position = kv.get(b"k").await.unwrap().unwrap().position;
    assert!(without.iter().all(|(_, entry)| entry.value.is_empty() && entry.position == position));
}

/// Visits with `step` and gives the keys met.
async fn walk(kv: &dyn Kv, scan: Scan, mut step: impl FnMut(&[u8]) -> Step + Send + 'static) -> Vec<String> {
    kv.scan_into(scan, Vec::new(), move |met: &mut Vec<String>, row| {
        met.push(String::from_utf8_lossy(row.key).into_owned());
        step(row.key)
    })
    .await
    .unwrap()
}

/// Seeks from the first row met and stops at the second.
fn seek_once(target: &'static str) -> impl FnMut(&[u8]) -> Step + Send + 'static {
    let mut rows = 0;
    move |_| {
        rows += 1;
        if rows == 1 { Step::Seek(key(target)) } else { Step::Stop }
    }
}

pub(super) async fn seek_and_stop(kv: Arc<dyn Kv>) {
    let kv = &*kv;
    fill(kv).await;
    let forward = || Scan::forward(Range::prefix("k/"));
    let backward = || Scan::backward(Range::prefix("k/"));
    assert_eq!(walk(kv, forward(), |_| Step::Stop).await, [name(0)]);
    assert_eq!(walk(kv, backward(), |_| Step::Stop).await, [name(199)]);

    // From the first row to an existing key, between two keys, to the row itself or behind (= Next), beyond the end.
    for (target, second) in [
        ("k/0050", Some(50)),
        ("k/0050x", Some(51)),
        ("k/0199", Some(199)),
        ("k/0000", Some(1)),
        ("a", Some(1)),
        ("", Some(1)),
        ("k/0199x", None),
        ("k0", None),
        ("zzz", None),
    ] {
        let expected: Vec<_> = [Some(0), second].into_iter().flatten().map(name).collect();
        assert_eq!(walk(kv, forward(), seek_once(target)).await, expected, "forward to {target:?}");
    }
    for (target, second) in [
        ("k/0050", Some(50)),
        ("k/0050x", Some(50)),
        ("k/0000", Some(0)),
        ("k/0199", Some(198)),
        ("zzz", Some(198)),
        ("k/", None),
        ("a", None),
        ("", None),
    ] {
        let expected: Vec<_> = [Some(199), second].into_iter().flatten().map(name).collect();
        assert_eq!(walk(kv, backward(), seek_once(target)).await, expected, "backward to {target:?}");
    }
    // Many seeks in one scan: every tenth row, as a listing with a delimiter does it.
    let tens: Vec<_> = (0..200).step_by(10).map(name).collect();
    let by_tens = |at: &[u8]| {
        let n: u32 = std::str::from_utf8(at.get(2..).unwrap()).unwrap().parse().unwrap();
        Step::Seek(key(name(n + 10)))
    };
    assert_eq!(walk(kv, forward(), by_tens).await, tens);
    let nines: Vec<_> = (0..200).rev().step_by(10).map(name).collect();
    let by_tens_back = |at: &[u8]| {
        let n: u32 = std::str::from_utf8(at.get(2..).unwrap()).unwrap().parse().unwrap();
        n.checked_sub(10).map_or(Step::Stop, |n| Step::Seek(key(name(n))))
    };
    assert_eq!(walk(kv, backward(), by_tens_back).await, nines);
}

/// Keys that nobody touches are met exactly once, whatever happens between them.
pub(super) async fn steady_keys_once_among_writers(kv: Arc<dyn Kv>) {
    let steady = |n: u32| format!("s/{n:04}");
    write(&*kv, (0..400).map(|n| put(steady(n), vec![5; if n % 50 == 0 { 2000 } else { 10 }])).collect())
        .await;
    let (stop, commits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = Vec::new();
    for writer in 0..3u32 {
        let (kv, stop, commits) = (Arc::clone(&kv), Arc::clone(&stop), Arc::clone(&commits));
        writers.push(tokio::spawn(async move {
            let mut n = writer;
            while !stop.load(Ordering::Relaxed) {
                n = n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let between = format!("s/{:04}-{writer}", n % 400);
                let size = if n.is_multiple_of(7) { 1500 } else { 20 };
                let write = if n.is_multiple_of(3) {
                    Write::Delete(key(between))
                } else {
                    put(between, vec![1; size])
                };
                self::write(&*kv, vec![write, Write::Add(key("s/hot"), 1)]).await;
                commits.fetch_add(1, Ordering::Relaxed);
                // An engine that never waits would leave its scanners nothing of an unfair lock.
                tokio::task::yield_now().await;
            }
        }));
    }
    let expected: Vec<_> = (0..400).map(steady).collect();
    let mut rounds = 0;
    while rounds < 12 || commits.load(Ordering::Relaxed) < 100 {
        let backward = rounds % 2 == 1;
        let direction = if backward { Direction::Backward } else { Direction::Forward };
        let keys_only = rounds % 3 == 0;
        // on the caller's thread or another: what is met is the same
        let scan = Scan { range: Range::prefix("s/"), direction, keys_only, is_short: rounds % 4 < 2 };
        let mut met = walk(&*kv, scan, |_| Step::Next).await;
        if backward {
            met.reverse();
        }
        assert!(met.is_sorted(), "in order");
        met.retain(|name| name.len() == 6);
        assert_eq!(met, expected, "round {rounds}");
        rounds += 1;
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    kv.close().await.unwrap();
}
