//! What the daemon tells of itself: readiness, metrics when asked, and the answer to `coffre status`.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use coffre_admin_api::Readiness;
use coffre_disk::{Disk as _, RealDisk};
use coffre_identity::audit::Audit;
use coffre_kv::Kv as _;
use coffre_store::object::Bucket;
use coffre_store::usage::{Measure, Of};
use coffre_store::{Cx, Ids as _};
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::metrics::{self, Metrics, as_f64, kib_of};
use crate::net::listen::Addresses;
use crate::wire::Daemon;

/// Buckets read at a time.
const PAGE: usize = 1000;
/// Buckets told by name in metrics: each is a series.
const BUCKET_SERIES_MAX: usize = 1000;

/// The daemon as its listeners see it: there before the store is open.
#[derive(Debug)]
pub(crate) struct Host {
    readiness: RwLock<Readiness>,
    metrics: Metrics,
    data: PathBuf,
    addresses: Addresses,
    runtime: Handle,
    daemon: OnceLock<Arc<Daemon>>,
}

/// What a bucket holds.
struct Holding {
    bucket: Bucket,
    objects: u64,
    bytes: u64,
    unfinished_bytes: u64,
}

impl Host {
    /// Still starting. To be called on the runtime.
    pub(crate) fn new(metrics: Metrics, data: PathBuf, addresses: Addresses) -> Self {
        let readiness = RwLock::new(Readiness::Starting);
        Self { readiness, metrics, data, addresses, runtime: Handle::current(), daemon: OnceLock::new() }
    }

    /// The store is open.
    pub(crate) fn opened(&self, daemon: Arc<Daemon>) {
        if self.daemon.set(daemon).is_err() {
            tracing::warn!("the store was opened twice");
        }
    }

    pub(crate) fn set(&self, readiness: Readiness) {
        *self.readiness.write().unwrap_or_else(PoisonError::into_inner) = readiness;
    }

    /// Folds what histograms have gathered.
    pub(crate) fn upkeep(&self) {
        self.metrics.upkeep();
    }

    fn state(&self) -> &'static str {
        match coffre_admin_api::Host::readiness(self) {
            Readiness::Starting => "starting",
            Readiness::Ready => "ready",
            Readiness::Stopping => "stopping",
            Readiness::Failed => "failed",
        }
    }

    /// The answer to `coffre status`.
    pub(crate) async fn told(&self, daemon: &Daemon, cx: &Cx) -> coffre_store::Result<Value> {
        let stats = daemon.kv.stats();
        let process = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let space = RealDisk.space(&self.data).ok();
        let holdings = holdings(daemon, cx).await?;
        let sum = |of: fn(&Holding) -> u64| holdings.iter().map(of).sum::<u64>();
        let bucket = |holding: &Holding| {
            json!({
                "name": holding.bucket.name.as_str(),
                "objects": holding.objects,
                "bytes": holding.bytes,
                "unfinished_bytes": holding.unfinished_bytes,
            })
        };
        Ok(json!({
            "state": self.state(),
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime_seconds": self.metrics.uptime_seconds(),
            "data": self.data,
            "listen": self.addresses,
            "kv": {
                "opened": stats.opened,
                "applied": stats.applied.0,
                "durable": stats.durable.0,
                "commits": stats.commits,
                "groups": stats.groups,
                "syncs": stats.syncs,
                "log_bytes": stats.log_bytes,
                "index_bytes": stats.index_bytes,
            },
            "memory": {"rss_bytes": kib_of(&process, "VmRSS:"), "rss_anon_bytes": kib_of(&process, "RssAnon:")},
            "disk": {
                "free_bytes": space.map(|space| space.free_bytes),
                "total_bytes": space.map(|space| space.total_bytes),
            },
            "store": {"objects": sum(|h| h.objects), "bytes": sum(|h| h.bytes)},
            "buckets": holdings.iter().map(bucket).collect::<Vec<_>>(),
            "mounts": daemon.mounts.list().iter()
                .map(|(path, inodes)| json!({"path": path, "inodes": inodes}))
                .collect::<Vec<_>>(),
        }))
    }
}

impl coffre_admin_api::Host for Host {
    fn readiness(&self) -> Readiness {
        *self.readiness.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called on a thread that may block.
    fn metrics(&self) -> String {
        metrics::set_process(&self.data);
        if let Some(daemon) = self.daemon.get() {
            metrics::set_kv(&daemon.kv.stats());
            match self.runtime.block_on(holdings(daemon, &daemon.system_cx())) {
                Ok(holdings) => {
                    for holding in holdings.iter().take(BUCKET_SERIES_MAX) {
                        let name = holding.bucket.name.as_str().to_owned();
                        ::metrics::gauge!("coffre_store_objects", "bucket" => name.clone())
                            .set(as_f64(holding.objects));
                        ::metrics::gauge!("coffre_store_bytes", "bucket" => name).set(as_f64(holding.bytes));
                    }
                }
                Err(e) => tracing::debug!(error = %e, "usage cannot be read"),
            }
        }
        self.metrics.render()
    }

    fn request_id(&self) -> String {
        uuid::Uuid::from_bytes(crate::clock::TimeIds.next()).to_string()
    }

    fn audit(&self) -> Option<Audit> {
        self.daemon.get().and_then(|daemon| daemon.audit.get().cloned())
    }

    fn status(&self) -> BoxFuture<'_, coffre_store::Result<Value>> {
        Box::pin(async {
            let daemon = self.daemon.get().ok_or(coffre_store::Error::Stopped)?;
            self.told(daemon, &daemon.system_cx()).await
        })
    }
}

/// Every bucket with its counters, which the commits themselves keep.
async fn holdings(daemon: &Daemon, cx: &Cx) -> coffre_store::Result<Vec<Holding>> {
    let mut holdings = Vec::new();
    for bucket in buckets(daemon, cx).await? {
        let of = Of::Bucket(bucket.id);
        let counted = |n: i64| u64::try_from(n).unwrap_or_default();
        holdings.push(Holding {
            objects: counted(daemon.store.usage(Measure::Objects, &of).await?),
            bytes: counted(daemon.store.usage(Measure::Bytes, &of).await?),
            unfinished_bytes: counted(daemon.store.usage(Measure::UnfinishedBytes, &of).await?),
            bucket,
        });
    }
    Ok(holdings)
}

/// Every bucket, by name.
pub(crate) async fn buckets(daemon: &Daemon, cx: &Cx) -> coffre_store::Result<Vec<Bucket>> {
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = daemon.store.list_buckets(cx, "", &after, PAGE).await?;
        all.extend(page.buckets);
        match page.next_after {
            Some(next) => after = next,
            None => return Ok(all),
        }
    }
}
