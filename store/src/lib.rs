//! Objects and their life: stage → publish → commit → serve → retire → sweep.
//!
//! Owns the vocabulary ([`name`], [`object`], [`digest`]), the records and their key layout (`codec`), blobs
//! (`blob/`), references (`refs`), and one family of operations a file. Every change is a function of [`Store`] that
//! takes the context first and does, in this order: authorise ([`Authority`]), decide (pure), stage bytes, one commit
//! (version, references, views, usage, audit note). Knows nothing of HTTP, XML, errno or inodes' kernels.
//! Leaves out: who a caller is (`identity` implements [`Authority`]), what it may use up (`billing` implements
//! [`QuotaGate`]).

mod access;
pub mod attributes;
mod background;
mod blob;
pub mod bucket;
mod codec;
mod commit;
pub mod condition;
pub mod copy;
pub mod delete;
mod derived;
pub mod digest;
pub mod dir;
mod epoch;
pub mod error;
pub mod feed;
pub mod file;
pub mod filing;
pub mod get;
mod hasher;
mod incoming;
pub mod list;
#[cfg(test)]
mod model;
pub mod moves;
pub mod multipart;
pub mod name;
pub mod object;
mod pages;
mod pending;
mod plan;
pub mod put;
mod refs;
pub mod rename;
pub mod resumable;
#[cfg(test)]
mod sample;
pub mod scheme;
mod serial;
pub mod sniff;
mod turns;
pub mod upkeep;
pub mod usage;
pub mod views;
pub mod watch;

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
pub use coffre_kv::Wait;
use futures_util::{FutureExt as _, Stream};

use background::Background;
use blob::{BlobOptions, Blobs};
use epoch::Epoch;
pub use error::{Error, Missing, Result};
pub use name::{BucketId, BucketName, ObjectKey, OrgId, PartNumber, UploadId, UserId, VersionId, VersionRef};
use object::{Bucket, Circumstances, Door, Principal, Version};
use serial::Serials;
use turns::Turns;

/// Why a door's body stream ended early.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Bytes on their way in or out, in pieces of any size.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, BodyError>> + Send>>;

/// Who asks for what through which door: the first argument of every operation.
#[derive(Clone, Debug)]
pub struct Cx {
    /// Who.
    pub principal: Arc<Principal>,
    /// Through which door.
    pub door: Door,
    /// The request's id, in logs, audit lines and the answer.
    pub request_id: Arc<str>,
    /// When the request began, ms since 1970.
    pub now_ms: u64,
    /// What policies may ask about.
    pub circumstances: Arc<Circumstances>,
}

/// The clock. Passed in, so that a test can hold time still.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// Milliseconds since 1970, UTC.
    fn now_ms(&self) -> u64;
}

/// Where new ids come from. Passed in, so that a test can replay a seed.
pub trait Ids: std::fmt::Debug + Send + Sync + 'static {
    /// A new 16-byte id that sorts by time (UUIDv7).
    fn next(&self) -> [u8; 16];
}

/// What somebody wants to do, in the words of S3's actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the S3 action of that name")]
pub enum Action {
    CreateBucket,
    DeleteBucket,
    ListAllMyBuckets,
    ListBucket,
    ListBucketVersions,
    ListBucketMultipartUploads,
    GetBucketLocation,
    GetBucketVersioning,
    PutBucketVersioning,
    GetBucketTagging,
    PutBucketTagging,
    GetBucketPolicy,
    PutBucketPolicy,
    DeleteBucketPolicy,
    GetBucketPublicAccessBlock,
    PutBucketPublicAccessBlock,
    GetObject,
    GetObjectVersion,
    GetObjectTagging,
    GetObjectVersionTagging,
    GetObjectAttributes,
    PutObject,
    PutObjectTagging,
    PutObjectVersionTagging,
    DeleteObject,
    DeleteObjectVersion,
    DeleteObjectTagging,
    AbortMultipartUpload,
    ListMultipartUploadParts,
}

/// The question put to [`Authority`].
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Who asks, when, from where.
    pub cx: &'a Cx,
    /// To do what.
    pub action: Action,
    /// In which bucket; `None` for `CreateBucket` and `ListAllMyBuckets`.
    pub bucket: Option<&'a Bucket>,
    /// With which key; for listings the prefix.
    pub key: Option<&'a str>,
    /// The version that is there, where the action reads, overwrites or deletes one.
    pub existing: Option<&'a Version>,
    /// Who began the multipart upload that is asked about; `None`: it is not about one.
    pub initiator: Option<UserId>,
}

/// The answer to [`Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow,
    /// No, and it may know that the thing exists: [`Error::Denied`].
    Deny,
    /// No, and it may not know: [`Error::Hidden`].
    Hide,
}

/// Decides who may do what; `identity` implements it. Pure and quick: called on async threads, for listings once a row.
pub trait Authority: std::fmt::Debug + Send + Sync + 'static {
    /// May they?
    fn decide(&self, ask: &Ask<'_>) -> Decision;
}

/// What a write would add for somebody, for [`QuotaGate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// For whom: the bucket, and the organisation or, where there is none, the owner (contract D22).
    pub of: usage::Of,
    /// Bytes added: more than 0.
    pub bytes: i64,
}

/// Turns quotas into checks of the same commit (`AtMost` on usage rows). Asked by every write that adds bytes; two
/// point reads at the most where nobody has a quota.
#[async_trait::async_trait]
pub trait QuotaGate: std::fmt::Debug + Send + Sync + 'static {
    /// What makes sure that the commit stays within every quota. A check that fails then says that something has
    /// changed since, not that the quota is used up: it is to be asked again.
    ///
    /// # Errors
    /// `QuotaExceeded`: it does not fit now. `Stopped`, `Corrupt`, `Internal`.
    async fn checks(&self, growth: &[Growth]) -> Result<Vec<coffre_kv::Check>>;
}

/// No quota.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unlimited;

#[async_trait::async_trait]
impl QuotaGate for Unlimited {
    async fn checks(&self, _: &[Growth]) -> Result<Vec<coffre_kv::Check>> {
        Ok(Vec::new())
    }
}

/// What [`Store::open`] is given. The numbers are `[storage]` of contract D32.
#[derive(Clone, Debug)]
pub struct Options {
    /// The rows.
    pub kv: Arc<dyn coffre_kv::Kv>,
    /// Where blobs and staging lie.
    pub disk: Arc<dyn coffre_disk::Disk>,
    /// Directory of blobs and staging, on `disk`.
    pub dir: std::path::PathBuf,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn Ids>,
    /// Who may do what.
    pub authority: Arc<dyn Authority>,
    /// Who may use up how much.
    pub quota: Arc<dyn QuotaGate>,
    /// Largest blob kept in the log, bytes.
    pub inline_max: u64,
    /// How long an unreferenced blob waits before it goes, ms.
    pub grace_ms: u64,
    /// Free space kept back, bytes.
    pub reserve_bytes: u64,
    /// Past the page cache from 8 MiB on.
    pub direct_io: bool,
    /// Names of the built-in buckets.
    pub built_in: object::BuiltInNames,
}

/// The store. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) blobs: Blobs,
    pub(crate) turns: Turns,
    pub(crate) inodes: Serials,
    pub(crate) filing_serials: Serials,
    pub(crate) bucket_numbers: Serials,
    pub(crate) background: Background,
    /// Whose turn it is at resumable uploads.
    pub(crate) lines: Arc<resumable::Lines>,
    /// Who is told of commits.
    pub(crate) hub: feed::Hub,
    /// Versions made by files that are still open (`file/`).
    pub(crate) sessions: std::sync::Mutex<std::collections::HashSet<VersionId>>,
    /// Who changes what rows derive from holds the read side while it commits; check and rebuild, which compare them,
    /// the write side. Taken last, held over nothing but the commit.
    pub(crate) gate: Arc<tokio::sync::RwLock<()>>,
}

impl Store {
    /// Opens the store: makes the built-in buckets at first start, removes staging left by a crash, starts the
    /// background work (sweep, digests).
    ///
    /// # Errors
    /// `Invalid` when the built-in buckets' names are not those of the first start; `Stopped`, `NoSpace`, `Corrupt`,
    /// `Internal`.
    pub async fn open(options: Options) -> Result<Self> {
        let epoch = Epoch::next(&options.kv).await?;
        if options.kv.verified().now_or_never().is_some() {
            epoch.noted().await?;
        }
        let blob_options = BlobOptions {
            inline_max: options.inline_max,
            direct_io: options.direct_io,
            reserve_bytes: options.reserve_bytes,
        };
        let blobs = Blobs::open(Arc::clone(&options.disk), options.dir.clone(), blob_options, epoch).await?;
        let inner = Inner {
            options,
            blobs,
            turns: Turns::default(),
            inodes: Serials::new("ino"),
            filing_serials: Serials::new("filing"),
            bucket_numbers: Serials::sparse("bucket"),
            background: Background::new(),
            lines: Arc::default(),
            hub: feed::Hub::default(),
            sessions: std::sync::Mutex::default(),
            gate: Arc::default(),
        };
        let store = Self { inner: Arc::new(inner) };
        store.make_built_in().await?;
        store.start_background();
        Ok(store)
    }

    /// Ends the background work. The rows' engine is closed by who opened it.
    ///
    /// # Errors
    /// None today.
    pub async fn close(&self) -> Result<()> {
        self.inner.background.close().await;
        Ok(())
    }
}
