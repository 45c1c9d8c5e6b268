//! What all operations share: the store and in whose name it is asked, the table, the handles, the clock.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use coffre_store::attributes::AttributeChange;
use coffre_store::get::GetObject;
use coffre_store::object::{At, Circumstances, Door as StoreDoor, Principal, Version};
use coffre_store::{BucketName, Clock, Cx, Error, Store, Wait};
use rustix::io::Errno;
use tokio::sync::RwLockReadGuard;

use crate::attr::{Attr, Defaults, ns_of_ms};
use crate::errno::{Result, errno};
use crate::handle::Handles;
use crate::inode::{DirTimes, Piece, ROOT, Shows, Spot, Table};
use crate::passthrough::Passthrough;
use crate::session::Options;

/// Most that a clock going backwards is waited for, ns: beyond it times follow the clock.
const CLOCK_STEP_MAX: i64 = 1_000_000_000;

/// Room and objects, for `statfs`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Space {
    /// All there is, bytes.
    pub total_bytes: u64,
    /// What can still be written, bytes.
    pub free_bytes: u64,
    /// How many objects there are.
    pub objects: u64,
}

/// Tells how much room there is, or does not know.
pub type SpaceOf = Arc<dyn Fn() -> Option<Space> + Send + Sync>;

/// The mount's state, shared by its threads.
pub(crate) struct Door {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) space: SpaceOf,
    pub(crate) defaults: Defaults,
    pub(crate) is_read_only: bool,
    /// close is durable, not only fsync.
    pub(crate) close_is_durable: bool,
    pub(crate) table: Table,
    pub(crate) handles: Handles,
    pub(crate) passthrough: Passthrough,
    /// Whoever makes a key of a node and asks the store with it holds the read side; who moves a directory, whose
    /// nodes' keys all change, the write side. Taken before every other lock.
    pub(crate) tree: tokio::sync::RwLock<()>,
    /// Directories whose times are to be written.
    pub(crate) touched: Mutex<Vec<u64>>,
    /// Set at the end: nothing new is begun.
    pub(crate) is_ending: AtomicBool,
    principal: RwLock<Option<Arc<Principal>>>,
    session: Arc<str>,
    requests: AtomicU64,
    last_ns: AtomicI64,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("session", &self.session).finish_non_exhaustive()
    }
}

/// Who makes the system call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Door {
    /// `session` begins the ids of this mount's requests.
    pub(crate) fn new(options: &Options, shows: Shows, principal: Arc<Principal>, session: Arc<str>) -> Self {
        Self {
            store: options.store.clone(),
            clock: Arc::clone(&options.clock),
            space: Arc::clone(&options.space),
            defaults: Defaults { uid: options.uid, gid: options.gid, umask: options.umask },
            is_read_only: options.read_only,
            close_is_durable: options.close_is_durable,
            table: Table::new(shows),
            handles: Handles::default(),
            passthrough: Passthrough::new(options.passthrough),
            tree: tokio::sync::RwLock::new(()),
            touched: Mutex::default(),
            is_ending: AtomicBool::new(false),
            principal: RwLock::new(Some(principal)),
            session,
            requests: AtomicU64::new(0),
            last_ns: AtomicI64::new(0),
        }
    }

    /// In whose name the store is asked. Nobody's any more when the user was disabled or removed.
    pub(crate) fn cx(&self) -> Result<Cx> {
        let principal = self.principal.read().unwrap_or_else(PoisonError::into_inner).clone();
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        Ok(Cx {
            principal: principal.ok_or(Errno::ACCESS)?,
            door: StoreDoor::Mount,
            request_id: format!("{}-{number}", self.session).into(),
            now_ms: self.clock.now_ms(),
            circumstances: Arc::new(Circumstances::default()),
        })
    }

    /// Whether a request came through this mount.
    pub(crate) fn is_own(&self, request_id: &str) -> bool {
        request_id.strip_prefix(&*self.session).is_some_and(|rest| rest.starts_with('-'))
    }

    pub(crate) fn set_principal(&self, principal: Option<Arc<Principal>>) {
        *self.principal.write().unwrap_or_else(PoisonError::into_inner) = principal;
    }

    /// Now, ns since 1970, each time later than before: the clock tells milliseconds, and what happens in one of them
    /// has an order.
    pub(crate) fn now_ns(&self) -> i64 {
        let clock = ns_of_ms(self.clock.now_ms());
        let next = |last: i64| Some(if last - clock > CLOCK_STEP_MAX { clock } else { clock.max(last + 1) });
        let last = self.last_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        last.ok().and_then(next).unwrap_or(clock)
    }

    /// How long a close waits.
    pub(crate) fn wait_of_close(&self) -> Wait {
        if self.close_is_durable { Wait::Durable } else { Wait::Ordered }
    }

    /// Nodes' keys stay what they are while this is held.
    pub(crate) async fn still(&self) -> RwLockReadGuard<'_, ()> {
        self.tree.read().await
    }

    pub(crate) fn writable(&self) -> Result<()> {
        if self.is_read_only { Err(Errno::ROFS) } else { Ok(()) }
    }

    /// The node's place, if it has one still.
    pub(crate) fn spot(&self, id: u64) -> Result<Spot> {
        self.table.spot(id).ok_or(Errno::NOENT)
    }

    /// The current version of a key, or none.
    pub(crate) async fn find(&self, cx: &Cx, bucket: &BucketName, key: &str) -> Result<Option<Version>> {
        let Ok(at) = at(bucket.clone(), key) else { return Ok(None) };
        let get = GetObject {
            at,
            version: None,
            conditions: coffre_store::condition::Conditions::default(),
            range: None,
        };
        match self.store.head(cx, get).await {
            Ok(found) => Ok(Some(found.version)),
            Err(Error::NotFound(_) | Error::Hidden | Error::Denied) => Ok(None),
            Err(error) => Err(errno(error)),
        }
    }

    /// What `stat` shows of a node.
    pub(crate) async fn attr(&self, id: u64) -> Result<Attr> {
        let cx = self.cx()?;
        let (piece, opened, is_detached, ino) = {
            let table = self.table.lock();
            let node = table.get(id).ok_or(Errno::STALE)?;
            (node.piece, node.opened.clone(), node.is_detached, node.ino)
        };
        if piece != Piece::File {
            return self.attr_of_dir(&cx, id).await;
        }
        if let Some(opened) = &opened {
            let file = opened.file();
            if is_detached || file.is_dirty() || file.version().is_none() {
                let when_ms = file.version().map_or(cx.now_ms, |version| version.modified_ms);
                let attr = self.defaults.file(id, file.size(), &file.attributes(), when_ms);
                return Ok(Attr { links: u32::from(!is_detached), ..attr });
            }
        }
        let Spot::File { bucket, key } = self.spot(id).map_err(|_| Errno::STALE)? else {
            return Err(Errno::STALE);
        };
        match self.find(&cx, &bucket, &key).await? {
            Some(version) if version.ino == ino => Ok(self.defaults.version(id, &version)),
            _ => Err(Errno::STALE),
        }
    }

    async fn attr_of_dir(&self, cx: &Cx, id: u64) -> Result<Attr> {
        let Ok(spot) = self.spot(id) else {
            // removed while it is open or somebody's current directory
            let attr = self.defaults.dir(id, None, cx.now_ms);
            return Ok(self.with_times(id, Attr { links: 0, ..attr }));
        };
        let attr = match &spot {
            Spot::Dir { bucket, prefix, begin_len: 0 } => {
                let marker = if prefix.is_empty() { None } else { self.find(cx, bucket, prefix).await? };
                let made_ms = if marker.is_some() { 0 } else { self.made_ms(cx, bucket).await };
                self.defaults.dir(id, marker.as_ref(), made_ms)
            }
            Spot::Dir { bucket, .. } => self.defaults.dir(id, None, self.made_ms(cx, bucket).await),
            Spot::Buckets | Spot::File { .. } => self.defaults.dir(id, None, 0),
        };
        Ok(self.with_times(id, attr))
    }

    /// When a bucket was made: the time of what has none of its own.
    pub(crate) async fn made_ms(&self, cx: &Cx, bucket: &BucketName) -> u64 {
        let bucket = self.store.bucket(cx, bucket, coffre_store::Action::ListBucket).await;
        bucket.map_or(0, |bucket| bucket.created_ms)
    }

    /// Times of a directory that were not written yet, or never will be.
    pub(crate) fn with_times(&self, id: u64, attr: Attr) -> Attr {
        let table = self.table.lock();
        match table.get(id).and_then(|node| node.times.as_ref()) {
            Some(times) => Attr { modified_ns: times.modified_ns, changed_ns: times.changed_ns, ..attr },
            None => attr,
        }
    }

    /// A name in the directory came or went.
    pub(crate) fn touch(&self, dir: u64) {
        let now_ns = self.now_ns();
        let mut table = self.table.lock();
        let Some(node) = table.get_mut(dir) else { return };
        let was_dirty = node.times.as_ref().is_some_and(|times| times.is_dirty);
        node.times = Some(Box::new(DirTimes { modified_ns: now_ns, changed_ns: now_ns, is_dirty: true }));
        if !was_dirty {
            table.keep(dir);
            drop(table);
            self.touched.lock().unwrap_or_else(PoisonError::into_inner).push(dir);
        }
    }

    /// Another door changed the names in a directory: told for as long as the kernel holds it, and not written.
    pub(crate) fn touch_unwritten(&self, dir: u64) {
        let now_ns = self.now_ns();
        if let Some(node) = self.table.lock().get_mut(dir) {
            let is_dirty = node.times.as_ref().is_some_and(|times| times.is_dirty);
            node.times = Some(Box::new(DirTimes { modified_ns: now_ns, changed_ns: now_ns, is_dirty }));
        }
    }

    /// Writes the times of directories whose names changed.
    pub(crate) async fn write_times(&self) {
        let touched = std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner));
        for dir in touched {
            if let Err(error) = self.write_times_of(dir).await {
                tracing::debug!(%error, "a directory's times were not written");
            }
            self.table.lock().let_go(dir);
        }
    }

    async fn write_times_of(&self, dir: u64) -> Result<()> {
        let _still = self.still().await;
        let times = {
            let mut table = self.table.lock();
            let Some(node) = table.get_mut(dir) else { return Ok(()) };
            let Some(times) = node.times.as_mut().filter(|times| times.is_dirty) else { return Ok(()) };
            times.is_dirty = false;
            let times = **times;
            // without a marker they stay in memory: to look at a directory must not make one
            if node.ino == 0 || node.is_detached || dir == ROOT {
                return Ok(());
            }
            times
        };
        let Ok(Spot::Dir { bucket, prefix, begin_len: 0 }) = self.spot(dir) else { return Ok(()) };
        let Some(at) = at_of_dir(&bucket, &prefix) else { return Ok(()) };
        let change = AttributeChange {
            modified_ns: Some(times.modified_ns),
            changed_ns: Some(times.changed_ns),
            ..AttributeChange::default()
        };
        self.store.set_dir_attributes(&self.cx()?, &at, &change, Wait::Ordered).await.map_err(errno)?;
        Ok(())
    }
}

/// How the store names an object.
pub(crate) fn at(bucket: BucketName, key: &str) -> Result<At> {
    Ok(At { bucket, key: key.parse().map_err(errno)? })
}

/// How the store names a directory: its key without the last `/`. `None`: the root, which has none.
pub(crate) fn at_of_dir(bucket: &BucketName, prefix: &str) -> Option<At> {
    at(bucket.clone(), prefix.strip_suffix('/')?).ok()
}
