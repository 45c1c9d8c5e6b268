//! A store on the embedded engine, log and blobs on one model disk that can freeze and lose power.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coffre_disk::Disk;
use coffre_disk::fault::FaultDisk;
use coffre_disk::power::PowerDisk;
use coffre_kv::Kv;
use coffre_kv::embedded::{Embedded, IndexKind, Options as KvOptions};
use coffre_store::object::{BuiltInNames, Circumstances, Door, Principal};
use coffre_store::{Ask, Authority, Clock, Cx, Decision, Error, Ids, Options, Result, Store, Unlimited};
use tempfile::TempDir;

/// Stands still: nothing here waits for time.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now_ms(&self) -> u64 {
        1_700_000_000_000
    }
}

/// Ids that no other opening of this world gives out.
#[derive(Debug)]
struct Counted(AtomicU64);

impl Ids for Counted {
    fn next(&self) -> [u8; 16] {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed)).to_be_bytes()
    }
}

#[derive(Debug)]
struct Everybody;

impl Authority for Everybody {
    fn decide(&self, _: &Ask<'_>) -> Decision {
        Decision::Allow
    }
}

/// The daemon's own principal.
pub(crate) fn cx() -> Cx {
    Cx {
        principal: Arc::new(Principal::system()),
        door: Door::S3,
        request_id: "r".into(),
        now_ms: 0,
        circumstances: Arc::new(Circumstances::default()),
    }
}

/// An open store and its engine.
pub(crate) struct Opened {
    pub(crate) store: Store,
    kv: Arc<Embedded>,
}

pub(crate) struct World {
    pub(crate) disk: FaultDisk,
    power: PowerDisk,
    kind: IndexKind,
    index: TempDir,
    boots: u64,
    ids: Arc<Counted>,
}

fn index_folder() -> TempDir {
    // its own syncs do not matter here: after a power cut it is made anew
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl World {
    /// The kinds of index take turns.
    pub(crate) fn new(seed: u64, turn: u64) -> Self {
        let power = PowerDisk::new();
        for dir in ["/store/meta", "/store/blobs"] {
            power.create_dir_all(Path::new(dir)).unwrap();
        }
        power.sync_all();
        let disk = FaultDisk::new(Arc::new(power.clone()));
        let ids = Arc::new(Counted(AtomicU64::new(seed >> 16)));
        let kind = IndexKind::ALL[usize::from(!turn.is_multiple_of(2))];
        Self { disk, power, kind, index: index_folder(), boots: 0, ids }
    }

    /// Opens the store, and makes the bucket the first time.
    pub(crate) async fn open(&self) -> Result<Opened> {
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let mut options = KvOptions::new(Arc::clone(&disk), "/store/meta", self.index.path());
        options.index = self.kind;
        options.segment_bytes = 1024 * 1024;
        options.checkpoint_bytes = 256 * 1024;
        options.index_cache_bytes = 16 * 1024 * 1024;
        options.reserve_bytes = 0;
        options.boot_id = format!("boot {}", self.boots);
        let kv = tokio::task::spawn_blocking(move || Embedded::open(options)).await.unwrap()?;
        let kv = Arc::new(kv);
        let name = |name: &str| name.parse().unwrap();
        let store = Store::open(Options {
            kv: Arc::clone(&kv) as Arc<dyn Kv>,
            disk,
            dir: PathBuf::from("/store/blobs"),
            clock: Arc::new(Still),
            ids: Arc::clone(&self.ids) as _,
            authority: Arc::new(Everybody),
            quota: Arc::new(Unlimited),
            inline_max: 128 * 1024,
            grace_ms: 0,
            reserve_bytes: 0,
            direct_io: false,
            built_in: BuiltInNames::default(),
        })
        .await?;
        match store.create_bucket(&cx(), name("bucket"), None).await {
            Ok(_) | Err(Error::Exists(_)) => Ok(Opened { store, kv }),
            Err(error) => Err(error),
        }
    }

    /// Ends the process: nothing is made durable on the way.
    pub(crate) async fn end(&self, opened: Opened) {
        let Opened { store, kv } = opened;
        store.close().await.unwrap();
        drop(store);
        // ending waits for the engine's threads
        tokio::task::spawn_blocking(move || drop(kv)).await.unwrap();
    }

    /// The disk works again, with all that was written.
    pub(crate) fn thaw(&self) {
        self.disk.heal();
    }

    /// The machine comes back with what its disk kept.
    pub(crate) fn cut(&mut self, seed: u64) {
        self.power = self.power.cut(seed);
        self.disk = FaultDisk::new(Arc::new(self.power.clone()));
        self.index = index_folder();
        self.boots += 1;
    }
}
