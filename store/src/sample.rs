//! Plain values for unit tests to start from; `..sample::version()` leaves the fields a test does not care for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coffre_kv::{Check, Kv, KvExt};

use crate::condition::{Conditions, RangeRequest};
use crate::digest::{ETag, Sha256};
use crate::get::GetObject;
use crate::name::{BucketId, VersionId};
use crate::object::{
    At, Attributes, Bucket, BuiltInNames, Digest, Door, Manifest, ObjectIds, Principal, Version, Versioning,
};
use crate::put::{Claims, PutObject};
use crate::{ByteStream, Cx, Error, Options, Result, Store};

/// A quota's checks, for a gate: those given if they hold now.
pub(crate) async fn hold(kv: &dyn Kv, checks: Vec<Check>) -> Result<Vec<Check>> {
    for check in &checks {
        let Check::AtMost(counter, max) = check else { panic!("{check:?} is no quota's") };
        if kv.counter(counter).await? > *max {
            return Err(Error::QuotaExceeded);
        }
    }
    Ok(checks)
}

/// An empty object's first version.
pub(crate) fn version() -> Version {
    Version {
        id: VersionId([7; 16]),
        is_null: true,
        sequence: 1,
        ino: 11,
        ids: ObjectIds::default(),
        owner: None,
        organisation: None,
        writer: None,
        size_bytes: 0,
        modified_ms: 1_700_000_000_000,
        etag: ETag::parse("d41d8cd98f00b204e9800998ecf8427e"),
        sha256: Digest::Known(Sha256([0; 32])),
        crc64nvme: None,
        checksums: Vec::new(),
        sniffed_type: None,
        attributes: Attributes::default(),
        manifest: Manifest::Inline(Vec::new()),
        parts: None,
        unknown: Vec::new(),
    }
}

/// A user's own bucket.
pub(crate) fn bucket() -> Bucket {
    Bucket {
        name: "bucket".parse().expect("a bucket name"),
        id: BucketId(5),
        place: None,
        owner: None,
        created_ms: 0,
        versioning: Versioning::Off,
        tags: Vec::new(),
        policy: None,
        blocks_public: false,
        unknown: Vec::new(),
    }
}

/// A clock that a test moves.
#[derive(Debug)]
pub(crate) struct Hands(AtomicU64);

impl Hands {
    /// Moves it.
    pub(crate) fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::Relaxed);
    }
}

impl crate::Clock for Hands {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Ids in order.
#[derive(Debug, Default)]
pub(crate) struct Counted(AtomicU64);

impl Counted {
    /// From there on.
    pub(crate) fn starting(at: u64) -> Self {
        Self(AtomicU64::new(at))
    }
}

impl crate::Ids for Counted {
    fn next(&self) -> [u8; 16] {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed) + 1).to_be_bytes()
    }
}

/// Everybody may do everything.
#[derive(Debug)]
struct Everybody;

impl crate::Authority for Everybody {
    fn decide(&self, _: &crate::Ask<'_>) -> crate::Decision {
        crate::Decision::Allow
    }
}

/// A store on these rows and in this folder, where everybody may do everything.
pub(crate) fn options(kv: Arc<dyn Kv>, dir: &std::path::Path) -> Options {
    Options {
        kv,
        disk: Arc::new(coffre_disk::RealDisk),
        dir: dir.to_owned(),
        clock: Arc::new(Hands(AtomicU64::new(1_700_000_000_000))),
        ids: Arc::new(Counted::default()),
        authority: Arc::new(Everybody),
        quota: Arc::new(crate::Unlimited),
        inline_max: 128 * 1024,
        grace_ms: 0,
        reserve_bytes: 0,
        direct_io: false,
        built_in: BuiltInNames::default(),
    }
}

/// A store on the model engine and a temporary folder, with a user's bucket called `bucket`.
pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) clock: Arc<Hands>,
    pub(crate) cx: Cx,
    pub(crate) dir: tempfile::TempDir,
}

impl Opened {
    pub(crate) async fn new() -> Self {
        Self::guarded_by(Arc::new(Everybody)).await
    }

    /// The same with another authority.
    pub(crate) async fn guarded_by(authority: Arc<dyn crate::Authority>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let kv: Arc<dyn Kv> = Arc::new(coffre_kv::memory::Memory::default());
        let clock = Arc::new(Hands(AtomicU64::new(1_700_000_000_000)));
        let name = |text: &str| text.parse().expect("a bucket name");
        let options =
            Options { authority, clock: Arc::clone(&clock) as _, ..options(Arc::clone(&kv), dir.path()) };
        let store = Store::open(options).await.expect("an empty store opens");
        let cx = Cx {
            principal: Arc::new(Principal::system()),
            door: Door::S3,
            request_id: "r".into(),
            now_ms: 0,
            circumstances: Arc::default(),
        };
        store.create_bucket(&cx, name("bucket"), None).await.expect("a new bucket");
        Self { store, kv, clock, cx, dir }
    }

    /// Ends the process and begins another one on what it left, with these options changed.
    pub(crate) async fn reopen(&mut self, change: impl FnOnce(&mut Options)) {
        let mut options = self.store.inner.options.clone();
        change(&mut options);
        self.store.inner.background.kill().await;
        self.store = Store::open(options).await.expect("a store opens again");
    }

    /// Stores bytes at a key of `bucket`.
    pub(crate) async fn put(&self, at: &At, bytes: Vec<u8>) -> Version {
        let put = PutObject {
            at: at.clone(),
            attributes: Attributes::default(),
            size_bytes: Some(bytes.len() as u64),
            body: body(&bytes),
            claims: Claims::default(),
            conditions: Conditions::default(),
        };
        self.store.put(&self.cx, put).await.expect("a put").version
    }

    /// Reads an object, whole or a range.
    pub(crate) async fn get(&self, at: &At, range: Option<RangeRequest>) -> Vec<u8> {
        use futures_util::TryStreamExt;
        let get = GetObject { at: at.clone(), version: None, conditions: Conditions::default(), range };
        let (_, body) = self.store.get(&self.cx, get).await.expect("an object");
        let pieces: Vec<bytes::Bytes> = body.try_collect().await.expect("its bytes");
        pieces.concat()
    }

    /// The current version.
    pub(crate) async fn head(&self, at: &At) -> crate::Result<Version> {
        let get = GetObject { at: at.clone(), version: None, conditions: Conditions::default(), range: None };
        self.store.head(&self.cx, get).await.map(|found| found.version)
    }

    /// Files of blobs and of staging.
    pub(crate) fn files(&self) -> Vec<std::path::PathBuf> {
        let (mut files, mut dirs) = (Vec::new(), vec![self.dir.path().to_owned()]);
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() { dirs.push(path) } else { files.push(path) }
            }
        }
        files
    }

    /// Rows of a table.
    pub(crate) async fn rows(&self, table: u8) -> Vec<(bytes::Bytes, coffre_kv::Entry)> {
        let scan = coffre_kv::Scan::forward(coffre_kv::Range::prefix(vec![table]));
        self.kv.rows(scan, usize::MAX).await.expect("rows")
    }
}

/// A key of a bucket.
pub(crate) fn at(bucket: &str, key: &str) -> At {
    At { bucket: bucket.parse().expect("a bucket name"), key: key.parse().expect("a key") }
}

/// Bytes as a body, in pieces.
pub(crate) fn body(bytes: &[u8]) -> ByteStream {
    let pieces: Vec<_> = bytes.chunks(256 * 1024).map(|piece| Ok(piece.to_vec().into())).collect();
    Box::pin(futures_util::stream::iter(pieces))
}
