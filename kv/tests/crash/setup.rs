//! Engines as the proofs open them: small segments and checkpoints, so that a short run meets everything.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffre_disk::Disk;
use coffre_disk::power::PowerDisk;
use coffre_disk::seed::Random;
use coffre_kv::embedded::{Embedded, IndexKind, Options};
use coffre_kv::{Kv, Result, Wait};
use tempfile::TempDir;

use crate::oracle::{Ack, Oracle, send};
use crate::workload::Script;

/// Most commits one writer has in flight.
pub(crate) const DEPTH: u64 = 6;

/// The kinds of index take turns.
pub(crate) fn kind_in_turn(turn: u64) -> IndexKind {
    IndexKind::ALL[usize::from(!turn.is_multiple_of(2))]
}

/// The seed of this run, told so that it can be given back.
pub(crate) fn seed(of: &str) -> u64 {
    let seed = coffre_disk::seed::from_env();
    println!("{of}: COFFRE_SEED={seed}");
    seed
}

/// Where the model's store lies.
pub(crate) fn model_dir() -> PathBuf {
    PathBuf::from("/store/meta")
}

/// A model disk with the store's folder made and durable.
pub(crate) fn power_disk() -> PowerDisk {
    let disk = PowerDisk::new();
    disk.create_dir_all(&model_dir()).unwrap();
    disk.sync_all();
    disk
}

pub(crate) fn options(
    disk: Arc<dyn Disk>,
    dir: &Path,
    (kind, index): (IndexKind, &Path),
    boot: &str,
) -> Options {
    let mut options = Options::new(disk, dir.to_owned(), index.to_owned());
    options.index = kind;
    options.segment_bytes = 512 * 1024;
    options.checkpoint_bytes = 192 * 1024;
    options.index_cache_bytes = 16 * 1024 * 1024;
    options.reserve_bytes = 0;
    options.boot_id = boot.into();
    options
}

/// A folder for an index whose own syncs do not matter to the proof: in memory where the system has such a place.
pub(crate) fn index_folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Opening blocks.
pub(crate) async fn open(options: Options) -> Result<Arc<Embedded>> {
    tokio::task::spawn_blocking(move || Embedded::open(options).map(Arc::new))
        .await
        .expect("opening does not panic")
}

/// Runs work that blocks.
pub(crate) async fn blocking<T: Send + 'static>(
    engine: &Arc<Embedded>,
    work: impl FnOnce(&Embedded) -> T + Send + 'static,
) -> T {
    let engine = Arc::clone(engine);
    tokio::task::spawn_blocking(move || work(&engine)).await.expect("the work does not panic")
}

/// Lets all writers send, each `batches` times or until the engine stops; true when it stopped.
pub(crate) async fn write(
    kv: &Arc<Embedded>,
    oracle: &mut Oracle,
    scripts: &mut Vec<Script>,
    batches: u64,
    seed: u64,
) -> bool {
    let mut tasks = Vec::new();
    for mut script in scripts.drain(..) {
        let kv = Arc::clone(kv);
        let mut random = Random::new(seed ^ script.writer);
        tasks.push(tokio::spawn(async move {
            let (mut acks, mut stopped): (Vec<Ack>, bool) = (Vec::new(), false);
            for _ in 0..batches {
                let count = 1 + random.index(usize::try_from(DEPTH).unwrap());
                let sent = send(&*kv as &dyn Kv, &mut script, count, None::<Wait>).await;
                acks.extend(sent.acks);
                stopped = sent.stopped;
                if stopped {
                    break;
                }
            }
            (script, acks, stopped)
        }));
    }
    let mut any_stopped = false;
    for task in tasks {
        let (script, acks, stopped) = task.await.expect("a writer does not panic");
        scripts.push(script);
        oracle.acknowledged(acks);
        any_stopped |= stopped;
    }
    any_stopped
}
