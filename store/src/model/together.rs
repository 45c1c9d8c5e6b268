//! Many at once: whatever order they come in, no invariant breaks and no unconditional write is refused.

use std::sync::Arc;

use coffre_disk::seed::{self, Random};

use super::hesitant::Hesitant;
use super::naive::{Filled, Op, Spot};
use super::rig::{Rig, perform};
use crate::Store;
use crate::error::{Error, Missing};
use crate::object::Versioning;

/// Clients, and what each does.
const CLIENTS: u64 = 8;
const OPERATIONS: usize = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_at_few_keys_do_not_break_what_holds() {
    let first = seed::from_env();
    for n in 0..seed::rounds(12, 300) {
        for versioning in [Versioning::Off, Versioning::Enabled, Versioning::Suspended] {
            writers(first.wrapping_add(n), versioning).await.unwrap();
        }
    }
}

/// Clients at two keys of one bucket; what went wrong.
pub(super) async fn writers(seed: u64, versioning: Versioning) -> Result<(), String> {
    println!("seed {seed}, {versioning:?}");
    let rig = Rig::new(seed);
    let store = rig.open_on(Arc::new(Hesitant::new(Arc::clone(&rig.kv), seed))).await;
    rig.make_buckets(&store).await;
    if versioning != Versioning::Off {
        perform(&store, &Op::SetVersioning { bucket: 0, versioning }).await.unwrap();
    }
    let rig = Arc::new(rig);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let random = Random::new(seed.wrapping_add(client << 32));
            tokio::spawn(work(random, Arc::clone(&rig), store.clone()))
        })
        .collect();
    for client in clients {
        client.await.unwrap()?;
    }
    // reads every byte of every version
    rig.dump(&store).await?;
    let checked = store.check().await.unwrap();
    store.close().await.unwrap();
    if checked.findings.is_empty() { Ok(()) } else { Err(format!("{:#?}", checked.findings)) }
}

/// One client. Conditional writes may fail, what is asked for may have gone; nothing else is an answer.
async fn work(mut random: Random, rig: Arc<Rig>, store: Store) -> Result<(), String> {
    for _ in 0..OPERATIONS {
        let op = next(&mut random, &rig, &store).await;
        match perform(&store, &op).await {
            Ok(()) | Err(Error::Precondition { .. } | Error::Invalid { .. }) => {}
            Err(Error::NotFound(missing)) if !matches!(missing, Missing::Bucket(_)) => {}
            Err(error) => return Err(format!("{op:?}: {error:?}")),
        }
    }
    Ok(())
}

/// An operation at two keys of the first bucket, on an entry that was there a moment ago.
async fn next(random: &mut Random, rig: &Rig, store: &Store) -> Op {
    let spots: [Spot; 2] = [(0, 0), (0, 1)];
    let at = spots[random.index(2)];
    let bucket = store.find_bucket(&"bucket".parse().unwrap()).await.unwrap().value;
    let ids = rig.ids_at(&bucket, at).await;
    let bytes = Filled { byte: u8::try_from(random.below(2)).unwrap(), len: [3, 65][random.index(2)] };
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
