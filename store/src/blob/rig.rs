//! For tests: blobs, rows and references together, without the objects above.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use coffre_disk::{Disk, RealDisk};
use coffre_kv::memory::Memory;
use coffre_kv::{Commit, Error as KvError, Kv};
use futures_util::{StreamExt, TryStreamExt};
use tempfile::TempDir;

use super::{BlobOptions, Blobs, Slot, StagedPart, Wants};
use crate::epoch::Epoch;
use crate::object::{BlobId, Extent};
use crate::put::Claims;
use crate::refs::{Changes, Owner};
use crate::upkeep::Freed;
use crate::upkeep::gc::Sweep;
use crate::{BodyError, ByteStream, Result, UploadId};

pub(crate) const OPTIONS: BlobOptions =
    BlobOptions { inline_max: 128 * 1024, direct_io: true, reserve_bytes: 0 };

/// What S3's first parts say.
pub(crate) const FIRST: Slot = Slot::AtLeast(crate::multipart::PART_BYTES_MIN);

/// Blobs in a folder of their own, rows in memory.
pub(crate) struct Rig {
    /// Keeps the folder on the real file system.
    temp: Option<Arc<TempDir>>,
    pub(crate) root: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) kv: Arc<dyn Kv>,
    pub(crate) blobs: Blobs,
}

/// Bytes that do not repeat within a file.
pub(crate) fn bytes(seed: u64, len: usize) -> Bytes {
    use rand::{RngCore, SeedableRng};
    let mut bytes = vec![0; len];
    rand::rngs::StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes.into()
}

/// The seed of this run: `COFFRE_SEED`, or a new one; printed, so that a failure can be had again.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("COFFRE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(rand::random);
    println!("COFFRE_SEED={seed}");
    seed
}

/// A body in pieces of `step` bytes.
pub(crate) fn body(bytes: &Bytes, step: usize) -> ByteStream {
    let mut rest = bytes.clone();
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        pieces.push(Ok::<_, BodyError>(rest.split_to(step.min(rest.len()))));
    }
    futures_util::stream::iter(pieces).boxed()
}

/// All of a stream.
pub(crate) async fn collect(stream: ByteStream) -> Result<Vec<u8>, BodyError> {
    stream
        .try_fold(Vec::new(), |mut all, bytes| async move {
            all.extend_from_slice(&bytes);
            Ok(all)
        })
        .await
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(OPTIONS).await
    }

    pub(crate) async fn with(options: BlobOptions) -> Self {
        let temp = Arc::new(TempDir::new().unwrap());
        let (root, disk, kv) = (temp.path().to_owned(), Arc::new(RealDisk), Arc::new(Memory::new()));
        Self::open(Some(temp), root, disk, kv, options, 1).await.unwrap()
    }

    /// On another disk, rows as they are.
    pub(crate) async fn on(disk: Arc<dyn Disk>, kv: Arc<dyn Kv>, epoch: u64) -> Result<Self> {
        Self::open(None, "/data".into(), disk, kv, OPTIONS, epoch).await
    }

    /// The same rows and folder, opened again.
    pub(crate) async fn reopen(&self) -> Result<Self> {
        let (disk, kv) = (Arc::clone(&self.disk), Arc::clone(&self.kv));
        Self::open(self.temp.clone(), self.root.clone(), disk, kv, OPTIONS, self.blobs.epoch() + 1).await
    }

    async fn open(
        temp: Option<Arc<TempDir>>,
        root: PathBuf,
        disk: Arc<dyn Disk>,
        kv: Arc<dyn Kv>,
        options: BlobOptions,
        epoch: u64,
    ) -> Result<Self> {
        let blobs = Blobs::open(Arc::clone(&disk), root.clone(), options, Epoch::given(epoch)).await?;
        Ok(Self { temp, root, disk, kv, blobs })
    }

    /// Stores bytes as a version would.
    pub(crate) async fn put(&self, bytes: &Bytes, owner: Owner) -> Result<BlobId> {
        let size = Some(bytes.len() as u64);
        let wants = Wants { md5: true };
        let mut staged = self.blobs.take_in(body(bytes, 65_536), size, Claims::default(), wants).await?;
        self.blobs.publish(&mut staged).await?;
        let (blob, new) = staged.new_blob().unwrap();
        let mut changes = Changes::new();
        changes.add(blob, owner, Some(new));
        let used = self.commit(&changes, blob).await?;
        staged.settle(used);
        Ok(blob)
    }

    /// Stores a part as an upload would.
    pub(crate) async fn put_part(&self, part: StagedPart, upload: UploadId) -> Result<Extent> {
        let (extent, (blob, new)) = (part.extent().unwrap(), part.new_blob().unwrap());
        let mut changes = Changes::new();
        changes.add(blob, upload.0, Some(new));
        let used = self.commit(&changes, blob).await?;
        part.settle(used);
        Ok(extent)
    }

    pub(crate) async fn delete(&self, blob: BlobId, owner: Owner) -> Result<()> {
        let mut changes = Changes::new();
        changes.remove(blob, owner);
        self.commit(&changes, blob).await.map(drop)
    }

    async fn commit(&self, changes: &Changes, blob: BlobId) -> Result<bool> {
        loop {
            let plan = changes.plan(&*self.kv).await?;
            let used = plan.used(&blob);
            let commit = Commit { checks: plan.checks, writes: plan.writes, ..Commit::default() };
            match self.kv.commit(commit).await {
                Ok(_) => return Ok(used),
                Err(KvError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The bytes of extents, or why not; `None` when a row is missing.
    pub(crate) async fn read(&self, extents: &[Extent]) -> Result<Option<Vec<u8>>> {
        match self.blobs.read(&self.kv, extents.to_vec()).await? {
            Some(stream) => Ok(Some(collect(stream).await.expect("a stream that began well"))),
            None => Ok(None),
        }
    }

    pub(crate) fn sweep_at(&self, now_ms: u64, grace_ms: u64) -> Sweep<'_> {
        Sweep { kv: &self.kv, blobs: &self.blobs, now_ms, grace_ms }
    }

    /// A forced sweep.
    pub(crate) async fn gc(&self) -> Result<Freed> {
        self.sweep_at(0, 0).run().await
    }

    /// How many rows there are.
    pub(crate) async fn rows(&self) -> usize {
        use coffre_kv::{KvExt, Range, Scan};
        self.kv.rows(Scan::forward(Range::all()), usize::MAX).await.unwrap().len()
    }

    /// The files in the folder, however deep.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&*self.disk, &self.root, &mut found);
        found.sort();
        found
    }

    /// Where a published file lies.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join("blobs").join(&name[..2]).join(name)
    }

    /// Waits until removals in the background have left this many files.
    pub(crate) async fn until_files(&self, n: usize) {
        for _ in 0..10_000 {
            if self.files().len() == n {
                return;
            }
            tokio::task::yield_now().await;
            std::thread::yield_now();
        }
        panic!("{n} files expected: {:?}", self.files());
    }
}

/// A whole blob.
pub(crate) fn whole(blob: BlobId, len: usize) -> Vec<Extent> {
    vec![Extent { blob, offset: 0, len: len as u64 }]
}

fn walk(disk: &dyn Disk, dir: &Path, found: &mut Vec<String>) {
    for entry in disk.list(dir).unwrap() {
        if entry.is_dir {
            walk(disk, &dir.join(entry.name), found);
        } else {
            found.push(entry.name);
        }
    }
}
