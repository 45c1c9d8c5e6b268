//! Tests of what happens between an opening and the sum of the rows: reads are served, nothing else comes of them, and
//! rows that are wrong are found whatever ends meanwhile.

use std::path::Path;
use std::sync::Arc;

use coffre_disk::fault::{Fault, FaultDisk};
use coffre_disk::{Disk, RealDisk};
use futures_util::FutureExt as _;

use super::{Pause, Verified};
use crate::embedded::checkpoint::Checkpoint;
use crate::embedded::index::RowChange;
use crate::embedded::tests::{commit, hash, live, open, options, other_boot, put, work};
use crate::embedded::{Embedded, IndexKind, Options, index};
use crate::{Commit, Error, Kv, Wait};

/// Changes rows behind the engine's back, in an index that nobody has open.
fn tamper(dir: &Path, kind: IndexKind, changes: &[RowChange<'_>]) {
    let index = index::open(kind, &crate::embedded::open::current(&dir.join("index")), 1 << 20).unwrap();
    index.apply(&mut changes.iter().copied()).unwrap();
}

/// A key that [`work`] writes early, so that no replay does again; and what somebody else would have it be.
const KEY: &[u8] = &[0, 0, 0, 50];
const OTHER: &[u8] = b"\x01\0\0\0\0\0\0\0\0other";

/// A store whose process died, and what it holds.
async fn filled(dir: &Path, kind: IndexKind) -> Vec<u8> {
    let kv = open(dir, kind);
    work(&kv, 0, 120).await;
    hash(&kv).await
}

fn paused(dir: &Path, kind: IndexKind) -> (Options, Pause) {
    let pause = Pause::default();
    pause.begin();
    (Options { pause: pause.clone(), ..options(dir, kind) }, pause)
}

fn is_verified(kv: &Embedded) -> bool {
    *kv.shared.verified.borrow() == Verified::Yes
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_are_served_before_it_and_commits_after_it() {
    for kind in IndexKind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let kv = open(dir.path(), kind);
        work(&kv, 0, 120).await;
        let (expected, counted) = (hash(&kv).await, live(&kv));
        drop(kv);
        let (options, pause) = paused(dir.path(), kind);
        let kv = Arc::new(Embedded::open(options).unwrap());
        assert_eq!((kv.stats().opened, hash(&kv).await), (Some("replayed"), expected));
        let commits: Vec<_> = (0..5_u8)
            .map(|n| {
                let kv = Arc::clone(&kv);
                tokio::spawn(async move { commit(&kv, vec![put(vec![n], "later")], Wait::Durable).await })
            })
            .collect();
        while kv.shared.queue.len() < 5 {
            tokio::task::yield_now().await;
        }
        assert!(!is_verified(&kv) && kv.verified().now_or_never().is_none());
        assert_eq!((kv.stats().commits, kv.get(&[0]).await.unwrap()), (0, None));
        pause.end();
        kv.verified().await.unwrap();
        assert_eq!(live(&kv), counted, "{kind:?}: the bytes alive are counted with the rows");
        for commit in commits {
            commit.await.unwrap();
        }
        assert_eq!(kv.get(&[4]).await.unwrap().unwrap().value, "later");
        let expected = hash(&kv).await;
        kv.close().await.unwrap();
        let kv = open(dir.path(), kind);
        kv.verified().await.unwrap();
        assert_eq!((kv.stats().opened, hash(&kv).await), (Some("clean"), expected));
    }
}

/// What the upkeep does, and an operator.
type Act = fn(&Embedded) -> crate::Result<()>;

#[tokio::test(flavor = "multi_thread")]
async fn who_acts_on_the_index_waits_for_it() {
    for kind in IndexKind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let expected = filled(dir.path(), kind).await;
        let (options, pause) = paused(dir.path(), kind);
        let (kv, snapshots) = (Arc::new(Embedded::open(options).unwrap()), dir.path().join("kv/snapshots"));
        let acts: [Act; 3] =
            [|kv| kv.snapshot(), |kv| kv.compact().map(drop), |kv| kv.checkpoint().map(drop)];
        let mut acting: Vec<_> = acts
            .into_iter()
            .map(|act| {
                let kv = Arc::clone(&kv);
                tokio::task::spawn_blocking(move || act(&kv))
            })
            .collect();
        let exporting = Arc::clone(&kv);
        acting.push(tokio::spawn(async move { exporting.export(Box::new(std::io::sink())).await }));
        while kv.shared.queue.len() < 4 {
            tokio::task::yield_now().await;
        }
        assert!(acting.iter().all(|act| !act.is_finished()));
        assert_eq!(RealDisk.list(&snapshots).unwrap(), []);
        pause.end();
        for act in acting {
            act.await.unwrap().unwrap();
        }
        assert_eq!(RealDisk.list(&snapshots).unwrap().len(), 1);
        assert_eq!(hash(&kv).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_add_up_end_the_engine_and_the_next_opening_builds_them_again() {
    let wrong: [&[RowChange<'_>]; 3] =
        [&[(KEY, Some(OTHER))], &[(KEY, None)], &[(b"one too many", Some(OTHER))]];
    for (kind, wrong) in IndexKind::ALL.into_iter().flat_map(|kind| wrong.map(|wrong| (kind, wrong))) {
        let dir = tempfile::tempdir().unwrap();
        let expected = filled(dir.path(), kind).await;
        tamper(dir.path(), kind, wrong);
        let (options, pause) = paused(dir.path(), kind);
        let kv = Embedded::open(options).unwrap();
        assert_eq!(kv.stats().opened, Some("replayed"));
        let before = kv.stats().applied;
        let commit = Commit { writes: vec![put("new", "row")], ..Commit::default() };
        let mut commit = kv.commit(commit);
        assert!((&mut commit).now_or_never().is_none());
        pause.end();
        assert!(matches!(commit.await, Err(Error::Stopped)), "{kind:?}");
        assert!(matches!(kv.verified().await, Err(Error::Stopped)));
        assert!(*kv.poisoned().wait_for(|poisoned| *poisoned).await.unwrap());
        assert!(kv.close().await.is_err());
        drop(kv);
        let kv = open(dir.path(), kind);
        kv.verified().await.unwrap();
        let stats = kv.stats();
        assert_eq!((stats.opened, stats.applied, hash(&kv).await), (Some("rebuilt"), before, expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_it_the_next_opening_is_as_careful() {
    for kind in IndexKind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let expected = filled(dir.path(), kind).await;
        tamper(dir.path(), kind, &[(KEY, None)]);
        // A death, a clean end, a death after that: each begins the same again.
        for (end, how) in [("death", "replayed"), ("close", "replayed"), ("death", "clean")] {
            let kv = Embedded::open(paused(dir.path(), kind).0).unwrap();
            assert_eq!(kv.stats().opened, Some(how));
            assert!(!is_verified(&kv), "{kind:?}, before a {end}");
            if end == "close" {
                let commit = Commit { writes: vec![put("new", "row")], ..Commit::default() };
                let mut commit = kv.commit(commit);
                assert!((&mut commit).now_or_never().is_none());
                kv.close().await.unwrap();
                assert!(matches!(commit.await, Err(Error::Stopped)), "who waits is told");
                assert!(matches!(kv.verified().await, Err(Error::Stopped)));
            }
        }
        let kv = open(dir.path(), kind);
        assert!(kv.verified().await.is_err(), "{kind:?}");
        drop(kv);
        let kv = open(dir.path(), kind);
        assert_eq!((kv.stats().opened, hash(&kv).await), (Some("rebuilt"), expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_another_boot_nothing_is_served_before_it() {
    for kind in IndexKind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let kv = open(dir.path(), kind);
        work(&kv, 0, 60).await;
        let (expected, store) = (hash(&kv).await, kv.shared.store);
        kv.close().await.unwrap();
        drop(kv);
        let (_, pause) = paused(dir.path(), kind);
        let options = || Options { pause: pause.clone(), ..other_boot(dir.path(), kind) };
        let kv = Embedded::open(options()).unwrap();
        assert_eq!((kv.stats().opened, is_verified(&kv)), (Some("clean"), true));
        kv.close().await.unwrap();
        drop(kv);
        let kv = Embedded::open(options()).unwrap();
        assert_eq!((kv.stats().opened, is_verified(&kv)), (Some("clean"), false), "it is this boot's now");
        kv.close().await.unwrap();
        drop(kv);

        // In a third boot the opening dies when it has written that it is not clean any more.
        let third = |disk: Arc<dyn Disk>| Options { disk, boot_id: "a third boot".into(), ..options() };
        let checkpoint = || Checkpoint::read(&RealDisk, &dir.path().join("kv"), &store).unwrap().unwrap();
        for step in 1.. {
            let disk = FaultDisk::new(Arc::new(RealDisk));
            disk.plan(step, Fault::Freeze);
            assert!(Embedded::open(third(Arc::new(disk))).is_err(), "{step} changes, and it is open");
            if !checkpoint().is_clean {
                break;
            }
        }
        assert!(checkpoint().is_doubtful);
        tamper(dir.path(), kind, &[(KEY, None)]);
        let kv = Embedded::open(third(Arc::new(RealDisk))).unwrap();
        assert_eq!((kv.stats().opened, hash(&kv).await), (Some("rebuilt"), expected), "{kind:?}");
        assert!(!checkpoint().is_doubtful);
    }
}
