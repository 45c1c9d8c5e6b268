//! Checks, writes and limits of commits.

use std::sync::Arc;

use bytes::Bytes;

use super::{assert_conflict, delete, everything, key, ordered, put, value, write};
use crate::{
    COMMIT_BYTES_MAX, Check, Commit, Error, KEY_BYTES_MAX, Kv, NOTE_BYTES_MAX, Position, VALUE_BYTES_MAX,
    WRITES_MAX, Wait, Write, encode_counter,
};

pub(super) async fn puts_and_deletes(kv: Arc<dyn Kv>) {
    assert_eq!(value(&*kv, b"a").await, None);
    let first = kv.commit(Commit { writes: vec![put("a", "1")], ..Commit::default() }).await.unwrap();
    assert!(first > Position(0), "0 stands before the first commit");
    let entry = kv.get(b"a").await.unwrap().unwrap();
    assert_eq!((entry.value.as_ref(), entry.position), (b"1".as_slice(), first));

    let second = write(&*kv, vec![put("a", ""), put([0xff, 0, 0xff], "edge"), delete("never")]).await;
    assert!(second > first);
    let entry = kv.get(b"a").await.unwrap().unwrap();
    assert_eq!((entry.value.as_ref(), entry.position), (b"".as_slice(), second), "an empty value is a value");
    assert_eq!(value(&*kv, &[0xff, 0, 0xff]).await.unwrap(), "edge");
    assert_eq!(value(&*kv, b"never").await, None);

    let third = write(&*kv, vec![delete("a"), delete([0xff, 0, 0xff])]).await;
    assert!(third > second);
    assert_eq!(everything(&*kv).await, []);
    let empty = kv.commit(Commit::default()).await.unwrap();
    assert!(empty > third, "a commit without writes has its place too");
    kv.close().await.unwrap();
}

pub(super) async fn checks_hold_or_conflict(kv: Arc<dyn Kv>) {
    let old = write(&*kv, vec![put("deleted", "x"), put("rewritten", "x")]).await;
    let now =
        write(&*kv, vec![put("p/1", "v"), put("rewritten", "y"), delete("deleted"), Write::Add(key("n"), 5)])
            .await;
    write(&*kv, vec![put([0xff, 0xff], "last")]).await;

    let holds = [
        Check::Absent(key("no")),
        Check::Absent(key("deleted")),
        Check::Absent(key("p/")),
        Check::Present(key("p/1")),
        Check::At(key("rewritten"), now),
        Check::PrefixEmpty(key("p/2")),
        Check::PrefixEmpty(key("p/1/")),
        Check::PrefixEmpty(key([0xff, 0xff, 0xff])),
        Check::RangeEmpty(key("p/1\0"), key("p/2")),
        Check::RangeEmpty(key("p"), key("p/1")),
        Check::RangeEmpty(key("p/2"), key("p/1")),
        Check::RangeEmpty(key("p/1"), key("p/1")),
        Check::AtLeast(key("n"), 5),
        Check::AtMost(key("n"), 5),
        Check::AtLeast(key("no"), 0),
        Check::AtMost(key("no"), 0),
        Check::AtLeast(key("no"), i64::MIN),
    ];
    let fails = [
        Check::Absent(key("p/1")),
        Check::Present(key("no")),
        Check::Present(key("deleted")),
        Check::At(key("rewritten"), old),
        Check::At(key("rewritten"), Position(0)),
        Check::At(key("deleted"), old),
        Check::At(key("no"), Position(0)),
        Check::At(key("p/1"), Position(now.0 + 1)),
        Check::PrefixEmpty(key("p/")),
        Check::PrefixEmpty(key("p/1")),
        Check::PrefixEmpty(key([0xff])),
        Check::PrefixEmpty(key([0xff, 0xff])),
        Check::PrefixEmpty(Bytes::new()),
        Check::RangeEmpty(key("p/1"), key("p/1\0")),
        Check::RangeEmpty(key("o"), key("p/1\0")),
        Check::RangeEmpty(key([0xff]), key([0xff, 0xff, 0])),
        Check::AtLeast(key("n"), 6),
        Check::AtMost(key("n"), 4),
        Check::AtLeast(key("no"), 1),
        Check::AtMost(key("no"), -1),
    ];
    for check in &holds {
        let commit = ordered(vec![check.clone()], vec![put("out", "x")]);
        assert!(kv.commit(commit).await.is_ok(), "{check:?} holds");
    }
    for check in &fails {
        assert_conflict(&*kv, ordered(vec![check.clone()], vec![put("out", "y")]), 0).await;
    }
    // The first failed one is told, wherever it stands.
    let mut checks = holds.to_vec();
    checks.push(Check::Present(key("no")));
    checks.push(Check::Absent(key("p/1")));
    assert_conflict(&*kv, ordered(checks, vec![put("out", "y")]), holds.len()).await;

    // Own writes are not seen by the checks.
    let own = vec![Check::Absent(key("own")), Check::PrefixEmpty(key("own")), Check::AtMost(key("own-n"), 0)];
    write(&*kv, vec![delete("own"), delete("own-n")]).await;
    kv.commit(ordered(own, vec![put("own", "1"), Write::Add(key("own-n"), 9)])).await.unwrap();
    kv.commit(ordered(vec![Check::Present(key("own"))], vec![delete("own")])).await.unwrap();
    // Commits in flight together see each other in order.
    let both = (
        kv.commit(ordered(vec![Check::Absent(key("one"))], vec![put("one", "a")])),
        kv.commit(ordered(vec![Check::Absent(key("one"))], vec![put("one", "b")])),
    );
    let (a, b) = tokio::join!(both.0, both.1);
    assert!(a.is_ok() != b.is_ok(), "exactly one finds the key absent: {a:?} {b:?}");
    kv.close().await.unwrap();
}

pub(super) async fn a_conflict_leaves_nothing(kv: Arc<dyn Kv>) {
    write(&*kv, vec![put("a", "1"), put("n", encode_counter(i64::MAX).to_vec())]).await;
    let before = (everything(&*kv).await, *kv.applied().borrow());
    let writes = vec![put("a", "2"), put("b", "2"), delete("n")];
    assert_conflict(&*kv, ordered(vec![Check::Absent(key("a"))], writes), 0).await;
    let writes = vec![put("a", "2"), Write::Add(key("n"), 1), put("z", "2")];
    assert_conflict(&*kv, ordered(vec![Check::Present(key("a"))], writes), 1).await;
    assert_eq!((everything(&*kv).await, *kv.applied().borrow()), before);
    kv.close().await.unwrap();
}

pub(super) async fn limits_are_kept(kv: Arc<dyn Kv>) {
    let many = |count: usize| (0..count).map(|n| put(n.to_be_bytes(), "")).collect::<Vec<_>>();
    let large = |bytes: usize| {
        let (full, rest) = (bytes / (128 * 1024), bytes % (128 * 1024));
        let mut writes: Vec<_> = (0..full).map(|n| put(n.to_be_bytes(), vec![1; 128 * 1024 - 8])).collect();
        if rest > 0 {
            writes.push(put("rest", vec![1; rest - 4]));
        }
        writes
    };
    let note = |len: usize| Commit { note: vec![7; len].into(), ..ordered(Vec::new(), vec![put("k", "v")]) };
    let twice = |again: Write| ordered(Vec::new(), vec![put("k", "v"), put("other", "v"), again]);
    let refused = [
        ("an empty key", ordered(Vec::new(), vec![put("", "v")])),
        ("a long key", ordered(Vec::new(), vec![put(vec![1; KEY_BYTES_MAX + 1], "v")])),
        ("a long deleted key", ordered(Vec::new(), vec![delete(vec![1; KEY_BYTES_MAX + 1])])),
        ("a long value", ordered(Vec::new(), vec![put("k", vec![1; VALUE_BYTES_MAX + 1])])),
        ("a long note", note(NOTE_BYTES_MAX + 1)),
        ("a key put twice", twice(put("k", "v"))),
        ("a key put and deleted", twice(delete("k"))),
        ("a key put and added to", twice(Write::Add(key("k"), 1))),
        ("too many writes", ordered(Vec::new(), many(WRITES_MAX + 1))),
        ("too many bytes", ordered(Vec::new(), large(COMMIT_BYTES_MAX + 5))),
    ];
    for (what, commit) in refused {
        match kv.commit(commit).await {
            Err(Error::Invalid { .. }) => {}
            other => panic!("{what}: {other:?}"),
        }
    }
    assert_eq!(everything(&*kv).await, []);
    assert_eq!(*kv.applied().borrow(), Position(0));

    let long_key = vec![1; KEY_BYTES_MAX];
    let at_the_limit = [
        ("the longest key", ordered(Vec::new(), vec![put(long_key.clone(), "v")])),
        ("the largest value", ordered(Vec::new(), vec![put("k", vec![2; VALUE_BYTES_MAX])])),
        ("the largest note", note(NOTE_BYTES_MAX)),
        ("the most writes", ordered(Vec::new(), many(WRITES_MAX))),
        ("the most bytes", ordered(Vec::new(), large(COMMIT_BYTES_MAX))),
    ];
    for (what, commit) in at_the_limit {
        let writes = commit.writes.clone();
        let position = kv.commit(commit).await.unwrap_or_else(|e| panic!("{what}: {e:?}"));
        for write in writes.iter().step_by(writes.len().div_ceil(100)) {
            let Write::Put(key, value) = write else { panic!("only puts here") };
            let entry = kv.get(key).await.unwrap().unwrap();
            assert!(entry.value == *value && entry.position == position, "{what}");
        }
    }
    kv.close().await.unwrap();
}

pub(super) async fn big_values(kv: Arc<dyn Kv>) {
    let sizes = [1, 1023, 1024, 1025, 4096, 4097, 64 * 1024, 128 * 1024, VALUE_BYTES_MAX];
    let content =
        |size: usize, round: u8| -> Vec<u8> { (0..=u8::MAX).map(|b| b ^ round).cycle().take(size).collect() };
    for round in 0..3 {
        for size in sizes {
            let small = put(format!("{size}-small"), vec![round]);
            write(&*kv, vec![put(size.to_string(), content(size, round)), small]).await;
        }
        for size in sizes {
            assert!(
                value(&*kv, size.to_string().as_bytes()).await.unwrap() == content(size, round),
                "{size}"
            );
        }
        for (key, met, _) in everything(&*kv).await {
            if let Some(size) = std::str::from_utf8(&key).ok().and_then(|key| key.parse().ok()) {
                assert!(met == content(size, round), "{size} in a scan");
            }
        }
    }
    // Big becomes small, small becomes big, both go.
    write(&*kv, vec![put("131072", "little"), put("1", content(5000, 9))]).await;
    assert_eq!(value(&*kv, b"131072").await.unwrap(), "little");
    assert_eq!(value(&*kv, b"1").await.unwrap(), content(5000, 9));
    write(&*kv, vec![delete("131072"), delete("1")]).await;
    assert_eq!((value(&*kv, b"131072").await, value(&*kv, b"1").await), (None, None));
    kv.close().await.unwrap();
}

pub(super) async fn one_position_for_all_writes(kv: Arc<dyn Kv>) {
    let names: Vec<_> = (0..20).map(|n| format!("row-{n:02}")).collect();
    for wait in [Wait::Ordered, Wait::Durable, Wait::Ordered] {
        let mut writes: Vec<_> = names.iter().map(|name| put(name.clone(), name.clone())).collect();
        writes.push(Write::Add(key("count"), 1));
        let position = kv.commit(Commit { writes, wait, ..Commit::default() }).await.unwrap();
        let rows = everything(&*kv).await;
        assert_eq!(rows.len(), 21);
        assert!(rows.iter().all(|(_, _, at)| *at == position));
    }
    let before = everything(&*kv).await;
    write(&*kv, vec![put("row-07", "new")]).await;
    let changed: Vec<_> = everything(&*kv).await.into_iter().filter(|row| !before.contains(row)).collect();
    assert_eq!(changed.len(), 1, "the others keep their position: {changed:?}");
    kv.close().await.unwrap();
}

/// Writers that read, decide and commit under `At` count without losing one, and read their own answers.
pub(super) async fn racing_writers_lose_nothing(kv: Arc<dyn Kv>) {
    const WRITERS: u64 = 8;
    const EACH: u64 = 25;
    let mut tasks = Vec::new();
    for writer in 0..WRITERS {
        let kv = Arc::clone(&kv);
        tasks.push(tokio::spawn(async move {
            let mut positions = Vec::new();
            while positions.len() < usize::try_from(EACH).unwrap() {
                let (check, count) = match kv.get(b"shared").await.unwrap() {
                    None => (Check::Absent(key("shared")), 0),
                    Some(entry) => {
                        let count = u64::from_be_bytes(entry.value.as_ref().try_into().unwrap());
                        (Check::At(key("shared"), entry.position), count)
                    }
                };
                let own = format!("own-{writer}");
                let writes = vec![
                    put("shared", (count + 1).to_be_bytes()),
                    put(own.clone(), (count + 1).to_be_bytes()),
                ];
                match kv.commit(ordered(vec![check], writes)).await {
                    Ok(position) => {
                        let entry = kv.get(own.as_bytes()).await.unwrap().unwrap();
                        assert_eq!(entry.position, position, "what was answered is seen");
                        assert_eq!(entry.value.as_ref(), (count + 1).to_be_bytes());
                        assert!(*kv.applied().borrow() >= position);
                        positions.push(position);
                    }
                    Err(Error::Conflict { check: 0 }) => tokio::task::yield_now().await,
                    Err(e) => panic!("{e:?}"),
                }
            }
            positions
        }));
    }
    let mut positions = Vec::new();
    for task in tasks {
        let own = task.await.unwrap();
        assert!(own.is_sorted(), "one writer's commits are in its order");
        positions.extend(own);
    }
    positions.sort_unstable();
    positions.dedup();
    assert_eq!(positions.len() as u64, WRITERS * EACH, "no position twice");
    assert_eq!(value(&*kv, b"shared").await.unwrap().as_ref(), (WRITERS * EACH).to_be_bytes());
    kv.close().await.unwrap();
}
