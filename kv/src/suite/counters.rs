//! `Add`, its limits, and checks on counters.

use std::sync::Arc;

use super::{assert_conflict, everything, key, ordered, put, value, write};
use crate::{Check, Error, Kv, KvExt, Write, encode_counter};

pub(super) async fn sums(kv: Arc<dyn Kv>) {
    assert_eq!(kv.counter(b"n").await.unwrap(), 0);
    for (delta, sum) in [(5, 5), (-7, -2), (2, 0), (0, 0), (i64::MAX, i64::MAX), (i64::MIN, -1)] {
        let position = write(&*kv, vec![Write::Add(key("n"), delta)]).await;
        let entry = kv.get(b"n").await.unwrap().expect("the row stays when the sum is 0");
        assert_eq!((entry.value.clone(), entry.counter()), (encode_counter(sum), Some(sum)));
        assert_eq!(entry.position, position);
    }
    write(&*kv, vec![put("n", encode_counter(100).to_vec()), Write::Add(key("m"), i64::MIN)]).await;
    write(&*kv, vec![Write::Add(key("n"), 1), Write::Add(key("m"), 0)]).await;
    assert_eq!(kv.counter(b"n").await.unwrap(), 101);
    assert_eq!(kv.counter(b"m").await.unwrap(), i64::MIN);
    kv.commit(ordered(vec![Check::AtLeast(key("n"), 101), Check::AtMost(key("m"), i64::MIN)], Vec::new()))
        .await
        .unwrap();
    write(&*kv, vec![Write::Delete(key("n"))]).await;
    write(&*kv, vec![Write::Add(key("n"), 3)]).await;
    assert_eq!(kv.counter(b"n").await.unwrap(), 3, "a deleted counter begins at 0");
    kv.close().await.unwrap();
}

pub(super) async fn overflow_is_a_conflict(kv: Arc<dyn Kv>) {
    let writes = vec![Write::Add(key("max"), i64::MAX), Write::Add(key("min"), i64::MIN)];
    write(&*kv, writes).await;
    let before = everything(&*kv).await;
    let holds = Check::Present(key("max"));
    for (name, delta) in [("max", 1), ("max", i64::MAX), ("min", -1), ("min", i64::MIN)] {
        let writes = vec![put("other", "x"), Write::Add(key(name), delta)];
        assert_conflict(&*kv, ordered(vec![holds.clone(), holds.clone()], writes.clone()), 2).await;
        assert_conflict(&*kv, ordered(Vec::new(), writes), 0).await;
    }
    assert_eq!(everything(&*kv).await, before);
    write(&*kv, vec![Write::Add(key("max"), -1), Write::Add(key("min"), 1)]).await;
    assert_eq!(kv.counter(b"max").await.unwrap(), i64::MAX - 1);
    kv.close().await.unwrap();
}

pub(super) async fn other_values_are_no_counters(kv: Arc<dyn Kv>) {
    write(&*kv, vec![put("text", "seven b"), put("none", "")]).await;
    let before = everything(&*kv).await;
    for name in ["text", "none"] {
        for commit in [
            ordered(Vec::new(), vec![put("other", "x"), Write::Add(key(name), 1)]),
            ordered(vec![Check::AtLeast(key(name), 0)], vec![put("other", "x")]),
            ordered(vec![Check::AtMost(key(name), 0)], vec![put("other", "x")]),
        ] {
            let what = format!("{commit:?}");
            match kv.commit(commit).await {
                Err(Error::Corrupt { .. }) => {}
                other => panic!("{other:?} for {what}"),
            }
        }
        assert!(matches!(kv.counter(name.as_bytes()).await, Err(Error::Corrupt { .. })));
    }
    assert_eq!(everything(&*kv).await, before);
    write(&*kv, vec![put("text", encode_counter(1).to_vec())]).await;
    write(&*kv, vec![Write::Add(key("text"), 1)]).await;
    assert_eq!(kv.counter(b"text").await.unwrap(), 2, "and the engine works on");
    kv.close().await.unwrap();
}

/// The pattern of quotas: `AtMost(limit − delta)` with `Add(delta)`.
pub(super) async fn a_limit_holds_under_racing_adds(kv: Arc<dyn Kv>) {
    const LIMIT: i64 = 100;
    let mut tasks = Vec::new();
    for writer in 0..8i64 {
        let kv = Arc::clone(&kv);
        tasks.push(tokio::spawn(async move {
            let mut taken = 0;
            for n in 0..40 {
                let delta = 1 + (writer + n) % 3;
                let check = Check::AtMost(key("used"), LIMIT - delta);
                let writes = vec![Write::Add(key("used"), delta), put(format!("w-{writer}-{n}"), "x")];
                match kv.commit(ordered(vec![check], writes)).await {
                    Ok(_) => taken += delta,
                    Err(Error::Conflict { check: 0 }) => {}
                    Err(e) => panic!("{e:?}"),
                }
            }
            taken
        }));
    }
    let mut taken = 0;
    for task in tasks {
        taken += task.await.unwrap();
    }
    assert_eq!(kv.counter(b"used").await.unwrap(), taken);
    assert_eq!(taken, LIMIT, "the limit is reached and not passed");
    assert_eq!(value(&*kv, b"used").await, Some(encode_counter(LIMIT)));
    kv.close().await.unwrap();
}
