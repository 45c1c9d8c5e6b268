//! Builds everything and joins it: rows, identity, store. The only place where all crates meet.
//!
//! What lies where in the data directory:
//!
//! | name | what |
//! |---|---|
//! | `kv/`, `index/` | the rows: log, snapshots, checkpoint; the index that may be lost |
//! | `blobs/`, `staging/`, `quarantine/` | bytes |
//! | `audit/` | the audit log's day segments |
//! | `master.key` | what secrets are sealed under, unless it comes from elsewhere (contract D32) |
//! | `credentials.json` | the first ADMIN's, written at first start |
//! | `lock`, `coffre.sock`, `listen.json` | of the running daemon |
//! | `rebuild-index` | asks the next start to build the index anew |
//! | `kv.new/` | the rows of an import that is not finished |

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use coffre_billing::{Billing, Plans};
use coffre_disk::{Disk, DiskExt as _, RealDisk};
use coffre_identity::audit::Audit;
use coffre_identity::{FetchKeys, Identity, Issuer, IssuerKeys};
use coffre_kv::Kv;
use coffre_kv::embedded::{Embedded, IndexKind};
use coffre_store::object::{BuiltInNames, Circumstances, Door, Principal};
use coffre_store::{Clock, Cx, Ids, Store};
use futures_util::FutureExt as _;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::clock::{SystemClock, TimeIds};
use crate::config::{Config, Index, Jwt};
use crate::error::{Error, Result};
use crate::fetch::Fetcher;
use crate::mounts::Mounts;

/// Bytes of log between two checkpoints: what a restart replays at most. A checkpoint costs 2–3 ms (design §2.2).
const CHECKPOINT_BYTES: u64 = 16 * 1024 * 1024;
/// File that asks the next start to build the index anew.
const REBUILD: &str = "rebuild-index";

/// Folder of the rows.
pub(crate) const ROWS: &str = "kv";
/// Folder of rows that are being imported.
pub(crate) const ROWS_IMPORTED: &str = "kv.new";
/// Folder of the index, which can be built again from the rows.
pub(crate) const INDEX: &str = "index";

/// Everything that is open, joined.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) config: Config,
    pub(crate) data: PathBuf,
    pub(crate) kv: Arc<Embedded>,
    pub(crate) identity: Identity,
    pub(crate) billing: Billing,
    pub(crate) store: Store,
    pub(crate) mounts: Mounts,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    /// Open once the rows are verified.
    pub(crate) audit: Arc<OnceLock<Audit>>,
    follower: Mutex<Option<Follower>>,
}

/// The task that writes the audit log, and how it is told to end.
#[derive(Debug)]
struct Follower {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// Opens the data directory, whose lock the caller holds. Builds the index anew when asked to, here or by the marker.
pub(crate) async fn open(config: Config, data: &Path, rebuild_index: bool) -> Result<Daemon> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (clock, ids): (Arc<dyn Clock>, Arc<dyn Ids>) = (Arc::new(SystemClock), Arc::new(TimeIds));
    let reserve_bytes = reserve(&config, data)?;
    let marker = data.join(REBUILD);
    let kv = open_rows(&config, data, rebuild_index || marker.exists()).await?;
    if marker.exists() {
        std::fs::remove_file(&marker).map_err(Error::io("removing the mark to rebuild the index"))?;
    }
    let rows: Arc<dyn Kv> = Arc::clone(&kv) as Arc<dyn Kv>;
    let built_in = built_in(&config);
    let sources = coffre_identity::master::Sources::of_process(data);
    let unlocking = |source| Error::Identity { doing: "finding the master key", source };
    let master_key = coffre_identity::MasterKey::for_data(&sources, &*rows).await.map_err(unlocking)?;
    let identity = Identity::open(coffre_identity::Options {
        kv: Arc::clone(&rows),
        master_key,
        clock: Arc::clone(&clock),
        ids: Arc::clone(&ids),
        built_in: built_in.clone(),
        gateway_public_read: config.gateway.public_read,
    })
    .await
    .map_err(|source| Error::Identity { doing: "opening users and keys", source })?;
    identity.trust(issuers(&config), &(Arc::new(Fetcher) as Arc<dyn FetchKeys>));
    let plans = Plans::new(config.billing.sold()).expect("plans were checked with the configuration");
    let billing = Billing::new(coffre_billing::Options {
        kv: Arc::clone(&rows),
        identity: identity.clone(),
        clock: Arc::clone(&clock),
        ids: Arc::clone(&ids),
        plans: Arc::new(plans),
        stripe: stripe(&config),
        transport: Arc::new(Fetcher),
    });
    let store = Store::open(coffre_store::Options {
        kv: rows,
        disk,
        dir: data.to_owned(),
        clock: Arc::clone(&clock),
        ids: Arc::clone(&ids),
        authority: identity.authority(),
        quota: billing.gate(),
        inline_max: config.storage.inline_max,
        grace_ms: config.storage.grace_seconds.saturating_mul(1000),
        reserve_bytes,
        direct_io: config.storage.direct_io,
        built_in,
    })
    .await
    .map_err(|source| Error::Store { doing: "opening the store", source })?;
    Ok(Daemon {
        config,
        data: data.to_owned(),
        kv,
        identity,
        billing,
        store,
        mounts: Mounts::default(),
        clock,
        ids,
        audit: Arc::default(),
        follower: Mutex::default(),
    })
}

/// Opens the rows alone: what an export needs. The caller holds the data directory's lock.
pub(crate) async fn open_rows(config: &Config, data: &Path, rebuild_index: bool) -> Result<Arc<Embedded>> {
    if data.join(ROWS_IMPORTED).exists() {
        return Err(Error::HalfImported { data: data.to_owned() });
    }
    open_rows_in(ROWS, config, data, rebuild_index).await
}

/// The same, where the rows have another name.
pub(crate) async fn open_rows_in(
    rows: &str,
    config: &Config,
    data: &Path,
    rebuild_index: bool,
) -> Result<Arc<Embedded>> {
    let mut options =
        coffre_kv::embedded::Options::new(Arc::new(RealDisk), data.join(rows), data.join(INDEX));
    options.index = match config.storage.index {
        Index::Sled => IndexKind::Sled,
        Index::Fjall => IndexKind::Fjall,
    };
    options.segment_bytes = config.storage.segment_bytes;
    options.checkpoint_bytes = CHECKPOINT_BYTES;
    options.index_cache_bytes = config.storage.index_cache_bytes;
    options.reserve_bytes = reserve(config, data)?;
    options.rebuild_index = rebuild_index;
    let opened = tokio::task::spawn_blocking(move || Embedded::open(options)).await;
    let opened =
        opened.map_err(|e| Error::Io { doing: "opening the rows", source: std::io::Error::other(e) })?;
    Ok(Arc::new(opened.map_err(|source| Error::Kv { doing: "opening the rows", source })?))
}

/// Free space kept back: the larger of the setting's bytes and its share of the file system (design §2.5).
pub(crate) fn reserve(config: &Config, data: &Path) -> Result<u64> {
    let total = RealDisk.space(data).map_err(Error::io("asking the size of the file system"))?.total_bytes;
    // The share in parts per million: exact enough, and whole numbers.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 50 % was checked")]
    let parts_per_million = (config.storage.reserve_percent * 10_000.0) as u64;
    Ok(config.storage.reserve_bytes.max(total / 1_000_000 * parts_per_million))
}

/// `[[auth.jwt]]`.
fn issuers(config: &Config) -> Vec<Issuer> {
    let issuer = |jwt: &Jwt| {
        let keys = match (&jwt.hs256_secret, &jwt.jwks_file, &jwt.jwks_url) {
            (Some(secret), ..) => IssuerKeys::Hs256(coffre_identity::Secret::new(secret.0.clone())),
            (None, Some(path), _) => IssuerKeys::File(path.clone()),
            (None, None, url) => IssuerKeys::Url(url.clone().unwrap_or_default()),
        };
        let (name, audience) = (jwt.issuer.clone(), jwt.audience.clone());
        Issuer { name, audience, keys, creates_users: jwt.create_users }
    };
    config.auth.jwt.iter().map(issuer).collect()
}

/// `[billing.stripe]`.
fn stripe(config: &Config) -> coffre_billing::stripe::Settings {
    let stripe = &config.billing.stripe;
    let secret = |secret: &crate::config::Secret| coffre_identity::Secret::new(secret.0.clone());
    let base_url = stripe.base_url.as_deref().unwrap_or(coffre_billing::stripe::BASE_URL);
    coffre_billing::stripe::Settings {
        secret_key: stripe.secret_key.as_ref().map(secret),
        webhook_secret: stripe.webhook_secret.as_ref().map(secret),
        base_url: base_url.trim_end_matches('/').to_owned(),
    }
}

pub(crate) fn built_in(config: &Config) -> BuiltInNames {
    let name = |text: &String| text.parse().expect("bucket names were checked with the configuration");
    let buckets = &config.buckets;
    BuiltInNames {
        filing: name(&buckets.filing),
        gateway: name(&buckets.gateway),
        media: name(&buckets.media),
        companies: name(&buckets.companies),
    }
}

impl Daemon {
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    pub(crate) fn ids(&self) -> Arc<dyn Ids> {
        Arc::clone(&self.ids)
    }

    /// A new id.
    fn new_id(&self) -> uuid::Uuid {
        uuid::Uuid::from_bytes(self.ids.next())
    }

    /// The system's own context, for one action.
    pub(crate) fn system_cx(&self) -> Cx {
        Cx {
            principal: Arc::new(Principal::system()),
            door: Door::Control,
            request_id: self.new_id().to_string().into(),
            now_ms: self.clock.now_ms(),
            circumstances: Arc::new(Circumstances::default()),
        }
    }

    /// Makes the first ADMIN when there is none yet, and writes `credentials.json` whole and durable; only then the
    /// clear secrets are forgotten. Whether this was the first start.
    pub(crate) async fn first_start(&self) -> Result<bool> {
        let failed = |source| Error::Identity { doing: "making the first ADMIN", source };
        let Some(admin) = self.identity.bootstrap().await.map_err(failed)? else { return Ok(false) };
        let credentials = json!({
            "user_id": admin.user_id.to_string(),
            "token": admin.token.expose(),
            "access_key_id": admin.access_key_id,
            "secret_access_key": admin.secret_access_key.expose(),
        });
        let text = format!("{credentials:#}\n");
        let (disk, dir) = (RealDisk, self.data.clone());
        // Files are made with mode 0600 (`disk`).
        tokio::task::spawn_blocking(move || disk.replace_whole(&dir, "credentials.json", text.as_bytes()))
            .await
            .map_err(|e| Error::Io { doing: "writing credentials.json", source: std::io::Error::other(e) })?
            .map_err(Error::io("writing credentials.json"))?;
        self.identity.bootstrap_written().await.map_err(failed)?;
        Ok(true)
    }

    /// Leaves the mark that makes the next start build the index anew.
    pub(crate) fn rebuild_at_next_start(&self) -> Result<()> {
        RealDisk
            .replace_whole(&self.data, REBUILD, b"")
            .map_err(Error::io("leaving the mark to rebuild the index"))
    }

    /// Brings the audit log up to date and follows the changes from there on, until [`Self::close`]. What it writes hangs
    /// on the rows: while they are not verified it waits, and the start does not wait for it. That it fails then is told
    /// by what this returns, which otherwise never ends.
    pub(crate) async fn follow(&self) -> Result<impl Future<Output = Error> + use<>> {
        let (kv, keep_days) = (Arc::clone(&self.kv) as Arc<dyn Kv>, Some(self.config.audit.keep_days));
        let (dir, clock) = (self.data.join("audit"), self.clock());
        let failed = |source| Error::Identity { doing: "opening the audit log", source };
        let is_verified = kv.verified().now_or_never().is_some();
        let mut opening = Box::pin(async move {
            kv.verified().await?;
            Audit::open(kv, dir, clock, keep_days).await
        });
        let opened = if is_verified { Some(opening.as_mut().await.map_err(failed)?) } else { None };
        let (end, mut ended) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel();
        let known = Arc::clone(&self.audit);
        // A sender dropped unsent ends it as well.
        let task = tokio::spawn(async move {
            let opened = if let Some(audit) = opened {
                Ok(audit)
            } else {
                tokio::select! { opened = opening => opened, _ = &mut ended => return }
            };
            match opened {
                Ok(audit) => {
                    // Set once: there is one follower.
                    let _known = known.set(audit.clone()).is_err();
                    audit.run(async move { drop(ended.await) }).await;
                }
                Err(source) => {
                    // Nobody waits for it when the daemon ends.
                    let _gone = tell.send(source).is_err();
                }
            }
        });
        *self.follower.lock().unwrap_or_else(PoisonError::into_inner) = Some(Follower { end, task });
        Ok(async move {
            match told.await {
                // It has been ended; or the rows have said that they stopped, to who ends the daemon for that.
                Err(_) | Ok(coffre_identity::Error::Stopped) => std::future::pending().await,
                Ok(source) => failed(source),
            }
        })
    }

    /// Ends the background work, writes the last audit lines, makes everything durable and marks a clean end.
    pub(crate) async fn close(&self) -> Result<()> {
        let closed = self.store.close().await;
        let follower = self.follower.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Follower { end, task }) = follower {
            drop(end);
            if task.await.is_err() {
                tracing::error!("the audit log's follower ended early; its lines stay in the change feed");
            }
        }
        // The rows are closed whatever the others said: a clean mark there spares a replay.
        self.kv.close().await.map_err(|source| Error::Kv { doing: "closing the rows", source })?;
        closed.map_err(|source| Error::Store { doing: "closing the store", source })
    }
}
