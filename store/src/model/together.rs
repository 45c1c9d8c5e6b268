//! Many at once: whatever order they come in, no invariant breaks and no unconditional write is refused.

use std::sync::Arc;

use coffre_disk::seed::{self, Random};

use super::naive::{Op, Spot};
use super::rig::{Rig, perform};
use crate::Store;
use crate::error::{Error, Missing};
use crate::object::Versioning;

/// Clients, and what each does.
const CLIENTS: u64 = 8;
const OPERATIONS: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_at_few_keys_do_not_break_what_holds() {
    let first = seed::from_env();
    for (n, versioning) in
        [Versioning::Off, Versioning::Enabled, Versioning::Suspended].into_iter().enumerate()
    {
        let rig = Rig::new(first);
        let store = rig.open().await;
        rig.make_buckets(&store).await;
        if versioning != Versioning::Off {
            let op = Op::SetVersioning { bucket: 0, versioning };
            perform(&store, &op).await.unwrap();
        }
        let rig = Arc::new(rig);
        let tasks: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (rig, store) = (Arc::clone(&rig), store.clone());
                tokio::spawn(async move {
                    let mut random = Random::new(first.wrapping_add(client + 100 * n as u64));
                    for _ in 0..OPERATIONS {
                        let op = next(&mut random, &rig, &store).await;
                        match perform(&store, &op).await {
                            Ok(()) | Err(Error::Precondition { .. } | Error::Invalid { .. }) => {}
                            Err(Error::NotFound(Missing::Bucket(_))) => panic!("{op:?}: the bucket is there"),
                            Err(Error::NotFound(_)) => {}
                            Err(error) => panic!("seed {first}, {op:?}: {error:?}"),
                        }
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        // reads every byte of every version
        drop(rig.dump(&store).await);
        assert_eq!(store.check().await.unwrap().findings, [], "seed {first}, {versioning:?}");
        store.close().await.unwrap();
    }
}

/// An operation at two keys of the first bucket, on an entry that was there a moment ago.
async fn next(random: &mut Random, rig: &Rig, store: &Store) -> Op {
    let spots: [Spot; 2] = [(0, 0), (0, 1)];
    let at = spots[random.index(2)];
    let bucket = store.find_bucket(&"bucket".parse().unwrap()).await.unwrap().value;
    let ids = rig.ids_at(&bucket, at).await;
    let bytes = vec![u8::try_from(random.below(2)).unwrap(); [3, 65][random.index(2)]];
    match random.below(10) {
        0..4 => Op::Put { at, bytes, is_new_only: random.chance(10) },
        4 => Op::Delete { at },
        5 => Op::DeleteMany { ats: spots.to_vec() },
        6 => Op::Rename { from: at, to: spots[random.index(2)] },
        7 => Op::Copy { from: at, to: spots[random.index(2)] },
        8 => Op::Tags { at, value: random.below(9).to_string() },
        _ => match random.pick(&ids) {
            Some(id) => Op::DeleteVersion { at, id: *id, index: 0 },
            None => Op::DeleteNull { at },
        },
    }
}
