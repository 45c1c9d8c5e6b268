//! Re-hashes stored bytes at a capped rate and sets aside what is not what it was.
//!
//! Walks the blobs' table in pages of keys, so it needs no snapshot and may take weeks. A blob whose bytes differ, are
//! too few or cannot be read is marked in its row first and moved to `quarantine/` then: readers get `Corrupt`, and
//! the next upload of the same bytes brings a new place. A parts file is compared stretch by stretch; it is named by
//! its upload, so no upload heals it: its object has to be written again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use coffre_kv::{Check, Commit, Error as KvError, Kv, KvExt, Position, Range, Scan, Step, Write};
use sha2::{Digest as _, Sha256 as Hasher};

use super::Scrubbed;
use crate::blob::{Blobs, Place};
use crate::codec::keys;
use crate::digest::Sha256;
use crate::object::BlobId;
use crate::refs::{self, BlobKey, BlobRow, State, Stretch};
use crate::{Error, Result, Store};

/// Blobs listed at a time.
const PAGE_BLOBS: usize = 1000;
/// Bytes read at a time.
const STEP_BYTES: u64 = 1024 * 1024;

/// One scrub.
pub(crate) struct Scrub<'a> {
    kv: &'a Arc<dyn Kv>,
    blobs: &'a Blobs,
    pace: Pace,
    found: Scrubbed,
}

/// Keeps the bytes read under a rate.
struct Pace {
    bytes_per_second: u64,
    began: Instant,
    bytes: u64,
}

impl Pace {
    async fn after(&mut self, bytes: u64) {
        self.bytes += bytes;
        let due_us = u128::from(self.bytes) * 1_000_000 / u128::from(self.bytes_per_second.max(1));
        let due = Duration::from_micros(u64::try_from(due_us).unwrap_or(u64::MAX));
        let early = due.saturating_sub(self.began.elapsed());
        if !early.is_zero() {
            #[expect(clippy::disallowed_methods, reason = "the pause is what caps the rate")]
            tokio::time::sleep(early).await;
        }
    }
}

impl Store {
    /// Re-hashes every blob at no more than `bytes_per_second`, which is 1 MiB at the least: slower, it would not end.
    ///
    /// # Errors
    /// `Invalid` for a lower rate; `Stopped`, `NoSpace`, `Internal`: the scrub did not get to its end.
    pub async fn scrub(&self, bytes_per_second: u64) -> Result<Scrubbed> {
        if bytes_per_second < RATE_MIN {
            return Err(Error::Invalid { what: "bytes_per_second: below 1 MiB" });
        }
        self.inner.kv().verified().await?;
        scrub(self.inner.kv(), &self.inner.blobs, bytes_per_second).await
    }
}

/// Bytes a second, at the least.
const RATE_MIN: u64 = 1024 * 1024;

/// The same on the parts.
pub(crate) async fn scrub(kv: &Arc<dyn Kv>, blobs: &Blobs, bytes_per_second: u64) -> Result<Scrubbed> {
    let pace = Pace { bytes_per_second, began: Instant::now(), bytes: 0 };
    let mut scrub = Scrub { kv, blobs, pace, found: Scrubbed::default() };
    let mut from = vec![keys::BLOB];
    loop {
        let page = scrub.page(&from).await?;
        let Some(last) = page.last() else { return Ok(scrub.found) };
        // Behind the row and all that belongs to it.
        from = coffre_kv::after_prefix(&keys::blob(last)).unwrap_or_default().to_vec();
        for blob in page {
            scrub.look(blob).await?;
        }
    }
}

impl Scrub<'_> {
    /// The next blobs, from this key on.
    async fn page(&self, from: &[u8]) -> Result<Vec<BlobId>> {
        let range = Range { start: from.to_vec().into(), end: Range::prefix(vec![keys::BLOB]).end };
        let scan = Scan::forward(range).keys_only();
        let page = self.kv.scan_into(scan, Vec::new(), |page, row| match refs::parse_blob_key(row.key) {
            Some(BlobKey::Row(blob)) => {
                page.push(blob);
                if page.len() == PAGE_BLOBS {
                    return Step::Stop;
                }
                coffre_kv::after_prefix(row.key).map_or(Step::Stop, Step::Seek)
            }
            Some(_) | None => Step::Next,
        });
        Ok(page.await?)
    }

    /// Compares one blob's bytes with what they should be.
    async fn look(&mut self, blob: BlobId) -> Result<()> {
        let _pin = self.blobs.pins().pin(blob).await;
        let (row, position) = match refs::find_row(&**self.kv, &blob).await {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            // Not the bytes but what is known of them. `check` has more to say about it.
            Err(Error::Corrupt { what }) => {
                tracing::error!(?blob, what, "a blob's row is damaged");
                self.found.damaged.push(id(&blob));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if row.state == State::Quarantined {
            return Ok(());
        }
        self.found.blobs += 1;
        let is_sound = match self.is_sound(&blob, &row).await {
            Ok(sound) => sound,
            // Bytes that cannot be read are not there; any other failure ends the scrub.
            Err(Error::Corrupt { .. } | Error::Internal { .. }) => false,
            Err(error) => return Err(error),
        };
        // What moved while we read was read at its old place: not damaged, and the next scrub sees it.
        if !is_sound && self.quarantine(blob, &row, position).await? {
            tracing::error!(?blob, "a blob is damaged; it is in quarantine");
            self.found.damaged.push(id(&blob));
        }
        Ok(())
    }

    async fn is_sound(&mut self, blob: &BlobId, row: &BlobRow) -> Result<bool> {
        match (&row.place, blob) {
            (Place::Inline, BlobId::Content(sha256)) => {
                let Some(entry) = self.kv.get(&refs::inline_key(blob)).await? else { return Ok(false) };
                self.count(entry.value.len() as u64).await;
                Ok(Sha256(Hasher::digest(&entry.value).into()) == *sha256)
            }
            (Place::File { name, offset, len }, BlobId::Content(sha256)) => {
                let stretch = Stretch { offset: *offset, len: *len, sha256: *sha256 };
                self.is_stretch_sound(name, stretch).await
            }
            (Place::File { name, .. }, BlobId::Parts(_)) => {
                let stretches = Scan::forward(Range::prefix(refs::stretches_prefix(blob)));
                for (key, entry) in self.kv.rows(stretches, usize::MAX).await? {
                    let Some(BlobKey::Stretch(_, offset)) = refs::parse_blob_key(&key) else { continue };
                    if !self.is_stretch_sound(name, Stretch::decode(offset, &entry.value)?).await? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Place::Inline, BlobId::Parts(_)) => Ok(false),
        }
    }

    async fn is_stretch_sound(&mut self, name: &str, stretch: Stretch) -> Result<bool> {
        let file = self.blobs.open_file(name).await?;
        let mut hasher = Hasher::new();
        let (mut offset, end) = (stretch.offset, stretch.offset.saturating_add(stretch.len));
        while offset < end {
            let step = (end - offset).min(STEP_BYTES);
            let (n, back) = self.blobs.hash_step(&file, offset, step, hasher).await?;
            hasher = back;
            if n == 0 {
                return Ok(false);
            }
            offset += n;
            self.count(n).await;
        }
        Ok(Sha256(hasher.finalize().into()) == stretch.sha256)
    }

    async fn count(&mut self, bytes: u64) {
        self.found.bytes += bytes;
        self.pace.after(bytes).await;
    }

    /// Marks the row, then moves the file. Whether the row was still the one that was read.
    async fn quarantine(&self, blob: BlobId, row: &BlobRow, position: Position) -> Result<bool> {
        let marked = BlobRow { state: State::Quarantined, ..row.clone() };
        let key = keys::blob(&blob);
        let mut writes = vec![Write::Put(key.clone(), marked.encode())];
        if row.place == Place::Inline {
            // Who finds bytes beside a row reads them without asking the row.
            writes.push(Write::Delete(refs::inline_key(&blob)));
        }
        if row.owners.is_empty() {
            writes.push(Write::Put(refs::candidate_key(&blob), Bytes::new()));
        }
        let commit = Commit { checks: vec![Check::At(key, position)], writes, ..Commit::default() };
        match self.kv.commit(commit).await {
            Ok(_) => {}
            Err(KvError::Conflict { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        if let Some(name) = row.place.file() {
            self.blobs.set_aside(name).await?;
        }
        Ok(true)
    }
}

fn id(blob: &BlobId) -> String {
    match blob {
        BlobId::Content(sha256) => sha256.to_string(),
        BlobId::Parts(upload) => upload.to_string(),
    }
}
