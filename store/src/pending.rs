//! Pending digests: hashing composed versions after they were answered (design §2.3).
//!
//! The version stays what it is — id, ETag, time — and its record learns the SHA-256. If those bytes are a blob
//! already, the manifest moves there and the parts' own bytes go with the next sweep; if not, a parts file that is
//! all of it becomes that blob. Versions that the mount and
//! the REST door read (`files`, `media`) and that lie scattered are joined into one blob on the way.

use bytes::Bytes;
use coffre_kv::{KvExt, Range, Scan};
use futures_util::StreamExt;

use crate::blob::{Staged, Wants};
use crate::codec::keys::{self, Key, PENDING};
use crate::commit::Turn;
use crate::derived::decode_pending;
use crate::digest::Sha256;
use crate::error::{Error, Result};
use crate::hasher::{self, Digests, Wanted};
use crate::name::{VersionId, VersionRef};
use crate::object::{At, BlobId, Bucket, BuiltIn, Digest, Extent, HistoryEntry, Manifest, Version};
use crate::plan::{Placed, Plan};
use crate::put::Claims;
use crate::{ByteStream, Store, refs};

/// Bytes hashed between two trips to the pool: long enough that the trip does not show, short enough to share it.
const HASH_STEP_BYTES: usize = 1024 * 1024;
/// Pieces that are larger on the average are not joined: appending a little to a large file again and again would write
/// it anew each time.
const PIECE_BYTES_MAX: u64 = 4 * 1024 * 1024;
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
        // twice at once would hash twice, and each be in the way of the other's taking over of a parts file
        let _alone = self.inner.background.digesting().await;
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

    /// A file that is still open has made this version.
    pub(crate) fn is_in_session(&self, id: VersionId) -> bool {
        self.inner.sessions.lock().unwrap_or_else(std::sync::PoisonError::into_inner).contains(&id)
    }

    async fn digest_row(&self, row: &[u8], record: &Bytes) -> Result<()> {
        let (_, id) = keys::split::<1>(row)?;
        let (id, _) = keys::split::<16>(id)?;
        let (bucket, key) = decode_pending(record)?;
        self.digest_version(&At { bucket, key }, VersionId(id)).await
    }

    /// Makes one version's digest known. Does nothing when it is known already or has gone, or while an open file may
    /// change it, which says when it is closed.
    pub(crate) async fn digest_version(&self, at: &At, id: VersionId) -> Result<()> {
        if self.is_in_session(id) {
            return Ok(());
        }
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
            let place = match (staged, &old.value.manifest) {
                (Some(_), _) => Some(Known { sha256: digests.sha256, adopts: None }),
                (None, Manifest::Inline(extents)) => self.known_place(extents, digests.sha256, id.0).await?,
                (None, Manifest::Paged { .. }) => self.known_place(&[], digests.sha256, id.0).await?,
            };
            // Who has the parts file open knows it by that name; while somebody does it keeps it, and this is done later.
            let claim = match place.as_ref().and_then(|place| place.adopts) {
                None => None,
                Some(parts) => match self.inner.blobs.pins().claim(parts) {
                    None => return Ok(()),
                    claimed => claimed,
                },
            };
            if let Some(place) = &place {
                new.manifest = Manifest::Inline(place.extents(new.size_bytes));
            }
            let blobs: Vec<_> = staged.as_ref().and_then(Staged::new_blob).into_iter().collect();
            let mut plan = Plan::new(&bucket);
            plan.replace(&at.key, &old, &new, found.is_current, &blobs);
            if let Some(place) = &place {
                place.plan(&mut plan, new.size_bytes);
            }
            let done = self.commit(&at.bucket, plan, None).await?;
            drop(claim);
            match done {
                Turn::Done(committed) => {
                    if let Some((_, Some(staged))) = known {
                        let used = committed.refs.used(&staged.blob());
                        staged.settle(used);
                    }
                    self.inner.background.known().notify_waiters();
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
        let pieces = match &version.manifest {
            Manifest::Inline(extents) => extents.len() as u64,
            Manifest::Paged { pages, .. } => u64::from(*pages) * 1_000,
        };
        let is_shown = matches!(bucket.place, Some(BuiltIn::Filing | BuiltIn::Media));
        let is_of_mount = version.parts.is_none() && version.attributes.posix.is_some();
        let is_wanted_whole = if is_of_mount {
            // what a mount wrote it will read
            version.size_bytes / pieces.max(1) < PIECE_BYTES_MAX
        } else {
            is_shown
        };
        let is_scattered = pieces > 1;
        if !(is_scattered && is_wanted_whole) {
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

    /// The one blob that content is to refer to now that its digest is known: the one of that name, or its parts
    /// file, when that is all of the content and `owner` alone uses it. `None`: it stays where it is.
    pub(crate) async fn known_place(
        &self,
        extents: &[Extent],
        sha256: Sha256,
        owner: refs::Owner,
    ) -> Result<Option<Known>> {
        let (kv, content) = (self.inner.kv(), BlobId::Content(sha256));
        let row = refs::find_row(&**kv, &content).await?;
        if row.is_some_and(|(row, _)| row.state != refs::State::Quarantined) {
            return Ok(Some(Known { sha256, adopts: None }));
        }
        let [Extent { blob: parts @ BlobId::Parts(_), offset: 0, .. }] = extents else { return Ok(None) };
        let may = refs::may_adopt(&**kv, parts, &content, &[owner].into()).await?;
        Ok(may.then_some(Known { sha256, adopts: Some(*parts) }))
    }
}

/// Where content lies whose digest is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    sha256: Sha256,
    /// The parts file that becomes the blob.
    pub(crate) adopts: Option<BlobId>,
}

impl Known {
    /// The manifest.
    pub(crate) fn extents(&self, size_bytes: u64) -> Vec<Extent> {
        vec![Extent { blob: BlobId::Content(self.sha256), offset: 0, len: size_bytes }]
    }

    /// What the commit has to do beside moving the references.
    pub(crate) fn plan(&self, plan: &mut Plan, size_bytes: u64) {
        if let Some(parts) = self.adopts {
            plan.refs.adopt(parts, BlobId::Content(self.sha256), size_bytes);
        }
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
pub(crate) fn unread(source: crate::BodyError) -> Error {
    match source.downcast::<Error>() {
        Ok(error) => *error,
        Err(source) => Error::Internal { doing: "reading a version", source },
    }
}
