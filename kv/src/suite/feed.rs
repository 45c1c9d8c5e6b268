//! The change feed.

use std::sync::Arc;

use bytes::Bytes;

use super::{delete, key, ordered, put, write};
use crate::{Change, Changes, Check, Commit, Kv, Position, Wait, Write, encode_counter, follower_key};

fn follow(name: &str, position: Position) -> Write {
    Write::Put(follower_key(name), Bytes::copy_from_slice(&position.0.to_be_bytes()))
}

async fn items(kv: &dyn Kv, after: Position, limit: usize) -> Vec<Change> {
    match kv.changes(after, limit).await.unwrap() {
        Changes::Items(items) => items,
        Changes::Gone { oldest } => {
            panic!("changes after {after:?} are gone up to {oldest:?}, with a follower there")
        }
    }
}

/// Everything after a position, read in pages of different lengths.
async fn paged(kv: &dyn Kv, mut after: Position) -> Vec<Change> {
    let mut all = Vec::new();
    for limit in (1..8).cycle() {
        let page = items(kv, after, limit).await;
        assert!(page.len() <= limit);
        let Some(last) = page.last() else { return all };
        after = last.position;
        all.extend(page);
    }
    all
}

pub(super) async fn tells_every_commit_in_order(kv: Arc<dyn Kv>) {
    let kv = &*kv;
    let start = write(kv, vec![follow("suite", Position(0))]).await;
    let mut expected = Vec::new();
    for n in 0..60i64 {
        let wait = if n % 20 == 0 { Wait::Durable } else { Wait::Ordered };
        let note = if n % 3 == 0 { Bytes::from(format!("note {n}")) } else { Bytes::new() };
        let big = vec![7; if n % 7 == 0 { 5000 } else { 5 }];
        let writes =
            vec![put(format!("k{n}"), big.clone()), Write::Add(key("sum"), n), delete(format!("k{}", n - 3))];
        // What conflicts is not told.
        let refused =
            Commit { note: "no".into(), ..ordered(vec![Check::Present(key("absent"))], writes.clone()) };
        assert!(kv.commit(refused).await.is_err());
        let position =
            kv.commit(Commit { writes, note: note.clone(), wait, ..Commit::default() }).await.unwrap();
        let sum = encode_counter(n * (n + 1) / 2);
        let writes = vec![
            (key(format!("k{n}")), Some(Bytes::from(big))),
            (key("sum"), Some(sum)),
            (key(format!("k{}", n - 3)), None),
        ];
        expected.push(Change { position, writes, note });
    }
    let only_note = Commit { note: vec![9; crate::NOTE_BYTES_MAX].into(), ..ordered(Vec::new(), Vec::new()) };
    let note = only_note.note.clone();
    let position = kv.commit(only_note).await.unwrap();
    expected.push(Change { position, writes: Vec::new(), note });

    let told = items(kv, start, usize::MAX).await;
    assert_eq!(told.len(), expected.len());
    for (told, expected) in told.iter().zip(&expected) {
        assert_eq!(told, expected);
    }
    assert!(paged(kv, start).await == expected, "pages join to the same");
    assert_eq!(items(kv, Position(0), 1).await.first().map(|change| change.position), Some(start));
    assert!(items(kv, position, 10).await.is_empty());
    assert!(items(kv, start, 0).await.is_empty());
    kv.close().await.unwrap();
}

pub(super) async fn followers_keep_it(kv: Arc<dyn Kv>) {
    let kv = &*kv;
    let mut position = Position(0);
    for n in 0..50u32 {
        position = write(kv, vec![put(format!("early-{n}"), vec![1; 2000])]).await;
    }
    write(kv, vec![follow("slow", position), follow("fast", position)]).await;
    for n in 0..200u32 {
        write(kv, vec![put(format!("late-{}", n % 20), vec![2; 2000])]).await;
        if n % 50 == 0 {
            let now = *kv.applied().borrow();
            write(kv, vec![follow("fast", now)]).await;
        }
    }
    let told = items(kv, position, usize::MAX).await;
    assert_eq!(told.len(), 1 + 200 + 4, "the slow follower's position keeps all since");
    assert!(told.is_sorted_by_key(|change| change.position));
    // What is older is either whole or gone, and then the answer says from where on it is whole.
    match kv.changes(Position(0), usize::MAX).await.unwrap() {
        Changes::Items(all) => assert_eq!(all.len(), 50 + 1 + 200 + 4),
        Changes::Gone { oldest } => {
            assert!(oldest > Position(0) && oldest <= position, "{oldest:?}");
            assert!(!items(kv, oldest, 1).await.is_empty());
        }
    }
    kv.close().await.unwrap();
}

pub(super) async fn applied_follows(kv: Arc<dyn Kv>) {
    let mut applied = kv.applied();
    write(&*kv, vec![follow("suite", Position(0))]).await;
    let mut seen = *applied.borrow_and_update();
    let writer = tokio::spawn({
        let kv = Arc::clone(&kv);
        async move {
            for n in 0..100u32 {
                write(&*kv, vec![put(n.to_be_bytes(), "x")]).await;
            }
        }
    });
    // Waits for the watch alone: a commit it does not tell would leave this waiting for ever.
    let mut told = 0;
    while told < 100 {
        applied.changed().await.unwrap();
        let now = *applied.borrow_and_update();
        assert!(now > seen, "it only rises");
        let changes = items(&*kv, seen, usize::MAX).await;
        assert!(
            changes.iter().any(|change| change.position == now),
            "what is applied can be read from the feed"
        );
        told += changes.iter().filter(|change| change.position <= now).count();
        seen = now;
    }
    writer.await.unwrap();
    assert_eq!(kv.stats().applied, seen);
    kv.close().await.unwrap();
}
