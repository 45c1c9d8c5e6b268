//! The store that is measured: the embedded engine and blobs on a real disk, below the build's own folder unless
//! `COFFRE_BENCH_DATA` names another. Everybody may do everything; the clock and the ids are cheap.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use coffre_disk::{Disk, RealDisk};
use coffre_kv::Kv;
use coffre_kv::embedded::{Embedded, IndexKind, Options as KvOptions};
use coffre_store::condition::Conditions;
use coffre_store::delete::DeleteOne;
use coffre_store::get::GetObject;
use coffre_store::list::List;
use coffre_store::object::{At, Attributes, BuiltInNames, Circumstances, Door, Principal};
use coffre_store::put::{Claims, PutObject};
use coffre_store::{Ask, Authority, BodyError, Clock, Cx, Decision, Ids, Options, Store, Unlimited};
use futures_util::TryStreamExt;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Bodies come in pieces of this size, as a door hands them over.
const PIECE_BYTES: usize = 256 * 1024;
/// The bucket of everything here.
const BUCKET: &str = "bucket";

/// A second and a half later whenever it is asked: a million files are of two weeks.
#[derive(Debug)]
struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now_ms(&self) -> u64 {
        self.0.fetch_add(1_500, Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
struct Counted(AtomicU64);

impl Ids for Counted {
    fn next(&self) -> [u8; 16] {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed) + 1).to_be_bytes()
    }
}

#[derive(Debug)]
struct Everybody;

impl Authority for Everybody {
    fn decide(&self, _: &Ask<'_>) -> Decision {
        Decision::Allow
    }
}

/// An open store in a folder of its own, and the threads it runs on.
pub(crate) struct World {
    pub(crate) runtime: Runtime,
    pub(crate) store: Store,
    kv: Arc<Embedded>,
    pub(crate) cx: Cx,
    bodies: AtomicU64,
    // the last to go
    _dir: TempDir,
}

pub(crate) fn name<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().expect("a name that is allowed")
}

fn at(key: &str) -> At {
    At { bucket: name(BUCKET), key: name(key) }
}

impl World {
    pub(crate) fn open(index: IndexKind) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let parent = std::env::var_os("COFFRE_BENCH_DATA").unwrap_or(env!("CARGO_TARGET_TMPDIR").into());
        let dir = tempfile::tempdir_in(parent).expect("a folder for the data");
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let data = dir.path().to_owned();
        let options = KvOptions::new(Arc::clone(&disk), data.join("kv"), data.join("index"));
        let options = KvOptions { index, ..options };
        let kv = Arc::new(Embedded::open(options).expect("the engine opens"));
        let options = Options {
            kv: Arc::clone(&kv) as Arc<dyn Kv>,
            disk,
            dir: data,
            clock: Arc::new(Ticking(AtomicU64::new(1_700_000_000_000))),
            ids: Arc::new(Counted::default()),
            authority: Arc::new(Everybody),
            quota: Arc::new(Unlimited),
            inline_max: 128 * 1024,
            grace_ms: 600_000,
            reserve_bytes: 0,
            direct_io: true,
            built_in: BuiltInNames::default(),
        };
        let cx = Cx {
            principal: Arc::new(Principal::system()),
            door: Door::S3,
            request_id: "bench".into(),
            now_ms: 0,
            circumstances: Arc::new(Circumstances::default()),
        };
        let store = runtime.block_on(async {
            let store = Store::open(options).await.expect("the store opens");
            store.create_bucket(&cx, name(BUCKET), None).await.expect("a new bucket");
            store
        });
        Self { runtime, store, kv, cx, bodies: AtomicU64::new(1), _dir: dir }
    }

    /// Log syncs so far.
    pub(crate) fn syncs(&self) -> u64 {
        self.kv.stats().syncs
    }

    /// The pieces of a body that no other body equals: only its last one is its own.
    fn pieces(&self, bytes: usize) -> Vec<Result<Bytes, BodyError>> {
        static PIECE: [u8; PIECE_BYTES] = [7; PIECE_BYTES];
        let shared = bytes.saturating_sub(1) / PIECE_BYTES;
        let mut last = vec![7; bytes - shared * PIECE_BYTES];
        let number = self.bodies.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        for (to, from) in last.iter_mut().rev().zip(number.into_iter().rev()) {
            *to = from;
        }
        let mut pieces: Vec<_> = (0..shared).map(|_| Ok(Bytes::from_static(&PIECE))).collect();
        pieces.push(Ok(last.into()));
        pieces
    }

    /// Stores an object.
    pub(crate) async fn put(&self, key: &str, bytes: usize) {
        self.put_by(&self.cx, at(key), None, bytes).await;
    }

    /// The same by somebody, anywhere, with a type.
    pub(crate) async fn put_by(&self, cx: &Cx, at: At, content_type: Option<String>, bytes: usize) {
        let put = PutObject {
            at,
            attributes: Attributes { content_type, ..Attributes::default() },
            body: Box::pin(futures_util::stream::iter(self.pieces(bytes))),
            size_bytes: Some(bytes as u64),
            claims: Claims::default(),
            conditions: Conditions::default(),
        };
        self.store.put(cx, put).await.expect("a put");
    }

    /// Reads an object to its end and gives its size.
    pub(crate) async fn get(&self, key: &str) -> usize {
        let get = GetObject { at: at(key), version: None, conditions: Conditions::default(), range: None };
        let (_, body) = self.store.get(&self.cx, get).await.expect("an object");
        let add = |sum: usize, piece: Bytes| async move { Ok(sum + piece.len()) };
        body.try_fold(0, add).await.expect("its bytes")
    }

    /// A page of 1,000, after a key; gives how many entries and common prefixes it has.
    pub(crate) async fn list(&self, after: &str, delimiter: &str) -> usize {
        let list = List {
            bucket: name(BUCKET),
            prefix: "listed/".into(),
            delimiter: delimiter.into(),
            after: after.into(),
            limit: 1000,
        };
        let page = self.store.list(&self.cx, list).await.expect("a page");
        page.entries.len() + page.common_prefixes.len()
    }

    /// Deletes keys in one call.
    pub(crate) async fn delete(&self, keys: impl Iterator<Item = String>) {
        let one =
            |key: String| DeleteOne { key: name(&key), version: None, conditions: Conditions::default() };
        let deleted = self.store.delete_many(&self.cx, &name(BUCKET), keys.map(one).collect()).await;
        let failed = deleted.expect("an answer").into_iter().find_map(Result::err);
        assert!(failed.is_none(), "{failed:?}");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let closed = self
            .runtime
            .block_on(async { self.store.close().await.is_ok() && self.kv.close().await.is_ok() });
        assert!(closed || std::thread::panicking(), "the store closes");
    }
}
