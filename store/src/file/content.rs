//! From the pieces of an open file to extents: what is dirty becomes blobs, the rest stays where it is.
//!
//! Small runs go into the rows beside the commit, so that an fsync costs one sync of the log; they take small stored
//! neighbours along, and a dense stretch of small extents is written anew, so that a file that is appended to or
//! rewritten page by page does not become a long list. Larger ones stay in the staging file, which becomes a blob by
//! rename: named by content when the whole file is in it and its digest is known, else like the parts of an upload.

use bytes::Bytes;
use coffre_disk::DiskFileExt;
use coffre_kv::Write;
use sha2::Digest as _;

use super::pieces::Span;
use super::running::Running;
use super::{OpenFile, Writer};
use crate::blob::{Place, Staged, Wants};
use crate::digest::Sha256;
use crate::error::{Error, Result};
use crate::multipart::joined;
use crate::name::UploadId;
use crate::object::{BlobId, Digest, Extent};
use crate::put::Claims;
use crate::refs::{self, NewBlob, Stretch};

/// Dirty bytes that go into the rows; more go to a file of their own.
const INLINE_COMMIT_BYTES_MAX: u64 = 1024 * 1024;
/// A file this small is stored anew as a whole whatever changed, and a larger inline one when a quarter of it did.
const ANEW_BYTES_MAX: u64 = 16 * 1024;
/// A small run takes small neighbours along up to this: half of it is what an append of some bytes rewrites on the
/// average, and each time it is full the list grows by one.
const RUN_BYTES_MAX: u64 = 2 * 1024;
/// From this many extents on a dense stretch is looked for, and a stretch is dense when its extents are smaller than
/// that on the average: then what is written anew is saved again by a few hundred shorter records.
const DENSE_SPANS_MIN: usize = 64;
const DENSE_BYTES_MAX: u64 = 16 * 1024;
/// Extents of a file that is open, at most, unless it is too large to be written anew.
pub(super) const EXTENTS_MAX: usize = 1_024;
/// Largest file that is written anew for having more.
const JOIN_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Runs are not cut into smaller blobs than that even if blobs of that size do not stay in the rows.
const BLOB_BYTES_MIN: u64 = 128 * 1024;
/// Bytes hashed before a commit is answered when the digest did not run along; of more the background makes it.
const HASH_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of one step of reading.
const STEP_BYTES: u64 = 1024 * 1024;

/// What a commit refers to.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) size_bytes: u64,
    pub(super) extents: Vec<Extent>,
    pub(super) sha256: Digest,
    pub(super) crc64nvme: Option<u64>,
    /// Blobs that the commit makes known.
    pub(super) blobs: Vec<(BlobId, NewBlob)>,
    /// Rows that say what stretches of the draft are.
    pub(super) stretches: Vec<Write>,
    /// What the draft was published as.
    pub(super) draft: Option<BlobId>,
    /// Other files published for it, where hardly anything may stay in the rows.
    pub(super) staged: Vec<Staged>,
}

impl Content {
    fn new(size_bytes: u64) -> Self {
        Self {
            size_bytes,
            extents: Vec::new(),
            sha256: Digest::Pending,
            crc64nvme: None,
            blobs: Vec::new(),
            stretches: Vec::new(),
            draft: None,
            staged: Vec::new(),
        }
    }

    fn with_digests(mut self, sha256: Sha256, crc64nvme: u64) -> Self {
        self.sha256 = Digest::Known(sha256);
        self.crc64nvme = Some(crc64nvme);
        self
    }
}

impl OpenFile {
    /// Stores what is dirty. What it makes is durable, or comes with the commit.
    pub(super) async fn make_content(&self, writer: &mut Writer) -> Result<Content> {
        let (size, spans) = {
            let state = self.state();
            (state.pieces.size(), state.pieces.layout())
        };
        if size == 0 {
            let (sha256, crc64nvme) = Running::new().digests();
            return Ok(Content::new(0).with_digests(sha256, crc64nvme));
        }
        let inline_max = self.store.inner.blobs.inline_max();
        let is_whole = spans.iter().all(|span| span.stored.is_none());
        let dirty: u64 = spans.iter().filter(|span| span.stored.is_none()).map(Span::len).sum();
        if size <= inline_max && (is_whole || size <= ANEW_BYTES_MAX.saturating_add(4 * dirty)) {
            return self.store_anew(size).await;
        }
        if is_whole {
            return self.publish_whole(writer, size).await;
        }
        if dirty > INLINE_COMMIT_BYTES_MAX {
            return self.publish_runs(writer, size, &spans).await;
        }
        let spans = densified(absorbed(spans));
        if spans.len() > EXTENTS_MAX && size <= JOIN_BYTES_MAX {
            self.gather_in_draft(writer).await?;
            return self.publish_whole(writer, size).await;
        }
        self.store_runs(size, spans).await
    }

    /// A small file as one blob in the rows.
    async fn store_anew(&self, size: u64) -> Result<Content> {
        let bytes = self.read(0..size).await?;
        let mut content = Content::new(size);
        let (sha256, crc64nvme) = self.store_blob(bytes, &mut content).await?;
        Ok(content.with_digests(sha256, crc64nvme))
    }

    /// Bytes as a blob, in the rows where it may be, behind what the content has.
    async fn store_blob(&self, bytes: Bytes, content: &mut Content) -> Result<(Sha256, u64)> {
        let len = bytes.len() as u64;
        let body = Box::pin(futures_util::stream::once(async move { Ok(bytes) }));
        let (claims, wants) = (Claims::default(), Wants { md5: false });
        let blobs = &self.store.inner.blobs;
        let mut staged = blobs.take_in(body, Some(len), claims, wants).await?;
        let place = blobs.publish(&mut staged).await?;
        let digests = (staged.sha256, staged.crc64nvme);
        content.extents.push(Extent { blob: staged.blob(), offset: 0, len });
        if content.blobs.iter().any(|(blob, _)| *blob == staged.blob()) {
            staged.settle(false);
            return Ok(digests);
        }
        content.blobs.extend(staged.new_blob());
        if place != Place::Inline {
            content.staged.push(staged);
        }
        Ok(digests)
    }

    /// Each run as blobs in the rows, and what is stored as it is.
    async fn store_runs(&self, size: u64, spans: Vec<Span>) -> Result<Content> {
        let blob_max = self.store.inner.blobs.inline_max().max(BLOB_BYTES_MIN);
        let mut content = Content::new(size);
        for span in spans {
            if let Some(extent) = span.stored {
                content.extents.push(extent);
                continue;
            }
            let mut at = span.range.start;
            while at < span.range.end {
                let end = span.range.end.min(at + blob_max);
                let bytes = self.read(at..end).await?;
                self.store_blob(bytes, &mut content).await?;
                at = end;
            }
        }
        content.extents = joined(content.extents);
        self.know_whole_blob(content).await
    }

    /// A file that is one whole blob has its digest.
    async fn know_whole_blob(&self, mut content: Content) -> Result<Content> {
        if let [Extent { blob: BlobId::Content(sha256), offset: 0, len }] = content.extents.as_slice() {
            let row = refs::find_row(&**self.store.inner.kv(), &BlobId::Content(*sha256)).await?;
            if row.is_some_and(|(row, _)| row.size_bytes == *len) {
                content.sha256 = Digest::Known(*sha256);
            }
        }
        Ok(content)
    }

    /// Brings what is stored into the draft, so that all of the file is there.
    async fn gather_in_draft(&self, writer: &mut Writer) -> Result<()> {
        self.spill(writer)?;
        let spans = self.state().pieces.layout();
        for span in spans.into_iter().filter(|span| span.stored.is_some()) {
            let mut at = span.range.start;
            while at < span.range.end {
                let bytes = self.read(at..span.range.end.min(at + STEP_BYTES)).await?;
                self.write_draft(writer, at, &bytes)?;
                at += bytes.len() as u64;
            }
            self.state().pieces.put_staged(span.range);
        }
        Ok(())
    }

    /// The draft is the file: it becomes a blob.
    async fn publish_whole(&self, writer: &mut Writer, size: u64) -> Result<Content> {
        self.spill(writer)?;
        self.punch_holes(writer, std::slice::from_ref(&(0..size)))?;
        let known = finish_digest(writer, size)?;
        let id = UploadId(self.store.inner.options.ids.next());
        let blob = known.map_or(BlobId::Parts(id), |(sha256, _)| BlobId::Content(sha256));
        let mut content = Content::new(size);
        content.extents.push(Extent { blob, offset: 0, len: size });
        self.publish(writer, blob, size, &mut content).await?;
        Ok(match known {
            Some((sha256, crc64nvme)) => content.with_digests(sha256, crc64nvme),
            None => content,
        })
    }

    /// The runs are in the draft, which becomes a blob that only they are used of.
    async fn publish_runs(&self, writer: &mut Writer, size: u64, spans: &[Span]) -> Result<Content> {
        self.spill(writer)?;
        let runs: Vec<_> = spans.iter().filter(|s| s.stored.is_none()).map(|s| s.range.clone()).collect();
        if runs.len() > EXTENTS_MAX && size <= JOIN_BYTES_MAX {
            self.gather_in_draft(writer).await?;
            return self.publish_whole(writer, size).await;
        }
        self.punch_holes(writer, &runs)?;
        let blob = BlobId::Parts(UploadId(self.store.inner.options.ids.next()));
        let mut content = Content::new(size);
        for span in spans {
            let run = || Extent { blob, offset: span.range.start, len: span.len() };
            content.extents.push(span.stored.clone().unwrap_or_else(run));
        }
        content.extents = joined(content.extents);
        let dirty: u64 = runs.iter().map(|run| run.end - run.start).sum();
        if dirty <= HASH_BYTES_MAX {
            for run in &runs {
                let sha256 = hash_range(writer, run.clone())?;
                let stretch = Stretch { offset: run.start, len: run.end - run.start, sha256 };
                content.stretches.push(Write::Put(refs::stretch_key(&blob, run.start), stretch.encode()));
            }
        }
        let len = runs.last().map_or(0, |run| run.end);
        self.publish(writer, blob, len, &mut content).await?;
        Ok(content)
    }

    async fn publish(
        &self,
        writer: &mut Writer,
        blob: BlobId,
        len: u64,
        content: &mut Content,
    ) -> Result<()> {
        let draft = writer.draft.as_mut().ok_or(Error::Stopped)?;
        // after a failed sync nothing can be said about the bytes: they are not offered again
        let sealed = draft.seal(len);
        writer.is_broken |= sealed.is_err();
        sealed?;
        let place = match draft.publish(blob, len).await {
            Ok(place) => place,
            Err(error) => {
                writer.is_broken |= draft.take_back().await.is_err();
                return Err(error);
            }
        };
        let size_bytes = match &place {
            Place::File { len, .. } => *len,
            Place::Inline => 0,
        };
        content.blobs.push((blob, NewBlob { place, size_bytes, inline: None, stretch: None }));
        content.draft = Some(blob);
        Ok(())
    }

    /// Where the pieces say zeros, the draft has zeros.
    fn punch_holes(&self, writer: &Writer, runs: &[std::ops::Range<u64>]) -> Result<()> {
        #[cfg(test)]
        if crate::plan::canary::is(crate::plan::canary::Broken::Holes) {
            return Ok(());
        }
        let draft = writer.draft.as_ref().ok_or(Error::Stopped)?;
        let holes: Vec<_> = {
            let state = self.state();
            runs.iter().flat_map(|run| state.pieces.holes(run.clone())).collect()
        };
        for hole in holes {
            let punched = draft.file().punch(hole.start, hole.end - hole.start);
            punched.map_err(|e| Error::io("writing a staging file", e))?;
        }
        Ok(())
    }
}

/// The digests of the whole draft, when they ran along or do not take long.
fn finish_digest(writer: &mut Writer, size: u64) -> Result<Option<(Sha256, u64)>> {
    let (mut running, from) = match writer.running.upto() {
        Some(upto) if upto <= size => (writer.running.clone(), upto),
        Some(_) | None => (Running::new(), 0),
    };
    if size - from > HASH_BYTES_MAX {
        return Ok(None);
    }
    let mut at = from;
    while at < size {
        let bytes = read_draft(writer, at, size.min(at + STEP_BYTES))?;
        running.write(at, &bytes);
        at += bytes.len() as u64;
    }
    let digests = running.digests();
    // what comes after may go on from here
    writer.running = running;
    Ok(Some(digests))
}

fn hash_range(writer: &Writer, range: std::ops::Range<u64>) -> Result<Sha256> {
    let mut hasher = sha2::Sha256::new();
    let mut at = range.start;
    while at < range.end {
        let bytes = read_draft(writer, at, range.end.min(at + STEP_BYTES))?;
        hasher.update(&bytes);
        at += bytes.len() as u64;
    }
    Ok(Sha256(hasher.finalize().into()))
}

/// Bytes of the draft; zeros where it ends before.
fn read_draft(writer: &Writer, from: u64, to: u64) -> Result<Vec<u8>> {
    let draft = writer.draft.as_ref().ok_or(Error::Stopped)?;
    let doing = |e| Error::io("reading a staging file", e);
    let mut bytes = vec![0; usize::try_from(to - from).unwrap_or_default()];
    let there = draft.file().len_bytes().map_err(doing)?.min(to).saturating_sub(from);
    let there = usize::try_from(there).unwrap_or_default();
    draft.file().read_exact_at(bytes.get_mut(..there).unwrap_or_default(), from).map_err(doing)?;
    Ok(bytes)
}

/// Small runs take small stored neighbours along.
fn absorbed(spans: Vec<Span>) -> Vec<Span> {
    let mut out: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match out.last_mut() {
            Some(last)
                if last.stored.is_none() != span.stored.is_none()
                    && last.len() + span.len() <= RUN_BYTES_MAX =>
            {
                last.range.end = span.range.end;
                last.stored = None;
            }
            Some(last) if last.stored.is_none() && span.stored.is_none() => last.range.end = span.range.end,
            _ => out.push(span),
        }
    }
    out
}

/// The half of the spans that has the fewest bytes becomes one run, if its spans are small.
fn densified(spans: Vec<Span>) -> Vec<Span> {
    if spans.len() < DENSE_SPANS_MIN {
        return spans;
    }
    let width = spans.len() / 2;
    let bytes = |window: &[Span]| match (window.first(), window.last()) {
        (Some(first), Some(last)) => last.range.end - first.range.start,
        _ => u64::MAX,
    };
    let densest = spans.windows(width).enumerate().min_by_key(|(_, window)| bytes(window));
    let Some((at, window)) = densest else { return spans };
    if bytes(window) > DENSE_BYTES_MAX * width as u64 {
        return spans;
    }
    let (Some(first), Some(last)) = (window.first(), window.last()) else { return spans };
    let run = Span { range: first.range.start..last.range.end, stored: None };
    let mut out: Vec<Span> = spans.iter().take(at).cloned().collect();
    out.push(run);
    out.extend(spans.into_iter().skip(at + width));
    out
}
