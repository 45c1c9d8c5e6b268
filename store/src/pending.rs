//! Pending digests: hashing composed versions after they were answered (design §2.3).
//!
//! The version stays what it is — id, ETag, time — and its record learns the SHA-256. If those bytes are a blob
//! already, the manifest moves there and the parts' own bytes go with the next sweep; if not, and one file holds
//! them, that file becomes the blob. Versions that the mount and
//! the REST door read (`files`, `media`) and that lie scattered are joined into one blob on the way.

use bytes::Bytes;
use coffre_kv::{KvExt, Range, Scan};
use futures_util::StreamExt;

use crate::blob::{Staged, Wants};
use crate::codec::keys::{self, Key, PENDING};
use crate::commit::Turn;
use crate::derived::decode_pending;
use crate::error::{Error, Result};
use crate::hasher::{self, Digests, Wanted};
use crate::name::{VersionId, VersionRef};
use crate::object::{At, BlobId, Bucket, BuiltIn, Digest, Extent, HistoryEntry, Manifest, Version};
use crate::plan::{Placed, Plan};
use crate::put::Claims;
use crate::{ByteStream, Store, refs};

/// Bytes hashed between two trips to the pool: long enough that the trip does not show, short enough to share it.
const HASH_STEP_BYTES: usize = 1024 * 1024;
/// Pending rows read at once.
const ROWS_MAX: usize = 256;

impl Store {
    /// Hashes a version's content; `None`: it is not there any more.
    pub(crate) async fn digests_of(&self, version: &Version, wanted: &Wanted) -> Result<Option<Digests>> {
        let Some(bytes) = self.read(version, 0..version.size_bytes).await? else { return Ok(None) };
        hash_stream(bytes, wanted).await.map(Some)
    }

    /// Hashes every version that is pending. One that cannot be read is told in the log and stays pending.
    pub(crate) async fn digest_pending(&self) -> Result<()> {
        let mut range = Range::prefix(Key::of(PENDING).done());
        loop {
            let rows = self.inner.kv().rows(Scan::forward(range.clone()), ROWS_MAX).await?;
            let is_last = rows.len() < ROWS_MAX;
            for (row, entry) in rows {
                let done = self.digest_row(&row, &entry.value).await;
                if let Err(error @ (Error::Stopped | Error::NoSpace)) = done {
                    return Err(error);
                }
                if let Err(error) = done {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a version could not be hashed");
                }
                range.start = Key::of(PENDING).raw(row.get(1..).unwrap_or_default()).raw(&[0]).done();
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn digest_row(&self, row: &[u8], record: &Bytes) -> Result<()> {
        let (_, id) = keys::split::<1>(row)?;
        let (id, _) = keys::split::<16>(id)?;
        let (bucket, key) = decode_pending(record)?;
        self.digest_version(&At { bucket, key }, VersionId(id)).await
    }

    /// Makes one version's digest known. Does nothing when it is known already or has gone.
    pub(crate) async fn digest_version(&self, at: &At, id: VersionId) -> Result<()> {
        let mut known: Option<(Digests, Option<Staged>)> = None;
        let mut tries = self.inner.turns.tries(Vec::new());
        loop {
            tries.begin().await;
            let bucket = match self.find_bucket(&at.bucket).await {
                Err(Error::NotFound(_)) => return Ok(()),
                other => other?,
            };
            let found = self.find_entry(&bucket.value, &at.key, Some(VersionRef::Id(id))).await?;
            let Some(found) = found else { return Ok(()) };
            let HistoryEntry::Version(old) = found.entry.value else { return Ok(()) };
            if old.sha256 != Digest::Pending {
                return Ok(());
            }
            let old = Placed { value: *old, position: found.entry.position };
            if known.is_none() {
                known = self.hash_or_join(&bucket.value, &old.value).await?;
            }
            // gone between its record and its bytes: the record tells
            let Some((digests, staged)) = &known else { continue };
            let mut new = old.value.clone();
            new.sha256 = Digest::Known(digests.sha256);
            new.crc64nvme = Some(digests.crc64nvme);
            let content = BlobId::Content(digests.sha256);
            let adopted = match &staged {
                None => self.adoptable(&old.value, &content).await?,
                Some(_) => None,
            };
            if staged.is_some() || adopted.is_some() || self.has_blob(&content).await? {
                new.manifest =
                    Manifest::Inline(vec![Extent { blob: content, offset: 0, len: new.size_bytes }]);
            }
            let blobs: Vec<_> = staged.as_ref().and_then(Staged::new_blob).into_iter().collect();
            let mut plan = Plan::new(&bucket);
            plan.replace(&at.key, &old, &new, found.is_current, &blobs);
            if let Some(parts) = adopted {
                plan.refs.adopt(parts, content, new.size_bytes);
            }
            match self.commit(&at.bucket, plan, None).await? {
                Turn::Done(committed) => {
                    if let Some((_, Some(staged))) = known {
                        let used = committed.refs.used(&staged.blob());
                        staged.settle(used);
                    }
                    return Ok(());
                }
                Turn::Lost(row) => tries.lost(row)?,
            }
        }
    }

    /// The digests, and the joined bytes where the version is to lie in one piece.
    async fn hash_or_join(
        &self,
        bucket: &Bucket,
        version: &Version,
    ) -> Result<Option<(Digests, Option<Staged>)>> {
        let is_scattered = match &version.manifest {
            Manifest::Inline(extents) => extents.len() > 1,
            Manifest::Paged { .. } => true,
        };
        if !(is_scattered && matches!(bucket.place, Some(BuiltIn::Filing | BuiltIn::Media))) {
            let digests = self.digests_of(version, &Wanted::default()).await?;
            return Ok(digests.map(|digests| (digests, None)));
        }
        let Some(bytes) = self.read(version, 0..version.size_bytes).await? else { return Ok(None) };
        let (claims, wants) = (Claims::default(), Wants { md5: false });
        let mut staged = self.inner.blobs.take_in(bytes, Some(version.size_bytes), claims, wants).await?;
        self.inner.blobs.publish(&mut staged).await?;
        let digests =
            Digests { sha256: staged.sha256, md5: None, crc64nvme: staged.crc64nvme, checksums: Vec::new() };
        Ok(Some((digests, Some(staged))))
    }

    /// Whether these bytes are a blob.
    async fn has_blob(&self, content: &BlobId) -> Result<bool> {
        let row = refs::find_row(&**self.inner.kv(), content).await?;
        Ok(row.is_some_and(|(row, _)| row.state != refs::State::Quarantined))
    }

    /// The parts file that a version is the whole of, if it may go on as the content it is: then later puts of the
    /// same bytes find it, and nothing is stored twice.
    async fn adoptable(&self, version: &Version, content: &BlobId) -> Result<Option<BlobId>> {
        let Manifest::Inline(extents) = &version.manifest else { return Ok(None) };
        let [Extent { blob: parts @ BlobId::Parts(_), offset: 0, .. }] = extents.as_slice() else {
            return Ok(None);
        };
        let leaving = [version.id.0].into();
        let may = refs::may_adopt(&**self.inner.kv(), parts, content, &leaving).await?;
        Ok(may.then_some(*parts))
    }
}

/// Hashes stored bytes on the blocking pool.
pub(crate) async fn hash_stream(mut bytes: ByteStream, wanted: &Wanted) -> Result<Digests> {
    let mut lanes = hasher::lanes(wanted);
    let mut step: Vec<Bytes> = Vec::new();
    let mut len = 0;
    loop {
        let next = bytes.next().await.transpose().map_err(unread)?;
        let is_end = next.is_none();
        if let Some(piece) = next {
            len += piece.len();
            step.push(piece);
        }
        if is_end || len >= HASH_STEP_BYTES {
            let pieces = std::mem::take(&mut step);
            len = 0;
            let work = move || {
                for piece in &pieces {
                    lanes.0.update(piece);
                    lanes.1.update(piece);
                }
                lanes
            };
            let doing = "hashing stored bytes";
            let hashed = tokio::task::spawn_blocking(work).await;
            lanes = hashed.map_err(|error| Error::Internal { doing, source: error.into() })?;
        }
        if is_end {
            return Ok(hasher::finish(wanted, lanes.0, lanes.1));
        }
    }
}

/// A stream over stored bytes that ended early.
fn unread(source: crate::BodyError) -> Error {
    match source.downcast::<Error>() {
        Ok(error) => *error,
        Err(source) => Error::Internal { doing: "reading a version", source },
    }
}
