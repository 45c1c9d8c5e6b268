//! Changing an open file's bytes: in memory up to 1 MiB, then in its staging file.

use std::ops::Range;
use std::sync::Arc;

use super::pieces::Part;
use super::{FILE_BYTES_MAX, OpenFile, Writer};
use crate::attributes::AttributeChange;
use crate::error::{Error, Result};
use crate::object::Extent;
use crate::{Growth, usage};

/// Bytes an open file holds in memory before it makes a staging file.
const MEMORY_BYTES_MAX: u64 = 1024 * 1024;
/// Bytes written to a staging file between two looks at the free space, and between two hints to write them out.
const LOOK_BYTES: u64 = 1024 * 1024;
/// Bytes of one step of a copy that has to move them.
const COPY_STEP_BYTES: u64 = 1024 * 1024;
/// Shorter pieces are copied as bytes: an extent costs about as much in every later record.
const SHARED_BYTES_MIN: u64 = 16 * 1024;

impl OpenFile {
    /// Writes all of `bytes` at `offset`; what lies between the old end and `offset` reads as zeros. `now_ns` becomes
    /// the modification and change time.
    ///
    /// # Errors
    /// `QuotaExceeded`, `NoSpace`, `TooLarge` (beyond 8 TiB), `Stopped` (after a sync of this file failed).
    pub async fn write(&self, offset: u64, bytes: &[u8], now_ns: i64) -> Result<()> {
        let mut writer = self.writer.lock().await;
        self.write_in(&mut writer, offset, bytes, now_ns).await
    }

    /// Writes at the end as it is now, atomically among the writers of this file; where that was.
    ///
    /// # Errors
    /// As [`OpenFile::write`].
    pub async fn append(&self, bytes: &[u8], now_ns: i64) -> Result<u64> {
        let mut writer = self.writer.lock().await;
        let offset = self.size();
        self.write_in(&mut writer, offset, bytes, now_ns).await?;
        Ok(offset)
    }

    async fn write_in(&self, writer: &mut Writer, offset: u64, bytes: &[u8], now_ns: i64) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = self.may_grow(writer, offset, bytes.len() as u64).await?;
        let in_memory = {
            let mut state = self.state();
            let fits = state.pieces.memory_bytes() + bytes.len() as u64 <= MEMORY_BYTES_MAX;
            let fits = fits && writer.draft.is_none();
            if fits {
                state.pieces.put_memory(offset, bytes);
            }
            fits
        };
        if !in_memory {
            self.spill(writer)?;
            self.write_draft(writer, offset, bytes)?;
            self.state().pieces.put_staged(offset..end);
        }
        writer.running.write(offset, bytes);
        self.touched(now_ns);
        Ok(())
    }

    /// Cuts or grows (with zeros) the file.
    ///
    /// # Errors
    /// As [`OpenFile::write`].
    pub async fn truncate(&self, len: u64, now_ns: i64) -> Result<()> {
        let mut writer = self.writer.lock().await;
        self.may_grow(&writer, len, 0).await?;
        let is_same = {
            let mut state = self.state();
            let is_same = state.pieces.size() == len;
            state.pieces.truncate(len);
            is_same
        };
        writer.running.truncate(len);
        if is_same {
            self.state().add_change(times(now_ns));
        } else {
            self.touched(now_ns);
        }
        Ok(())
    }

    /// `fallocate`: makes sure there is room for the range; grows the file to its end unless `keep_size`.
    ///
    /// # Errors
    /// As [`OpenFile::write`].
    pub async fn allocate(&self, range: Range<u64>, keep_size: bool, now_ns: i64) -> Result<()> {
        let writer = self.writer.lock().await;
        let len = range.end.saturating_sub(range.start);
        let end = self.may_grow(&writer, range.start, len).await?;
        self.store.inner.blobs.check_room(len)?;
        if !keep_size && end > self.size() {
            self.state().pieces.truncate(end);
            self.touched(now_ns);
        }
        Ok(())
    }

    /// `FALLOC_FL_PUNCH_HOLE` and `FALLOC_FL_ZERO_RANGE`: the range reads as zeros; with `keep_size` only as far as
    /// the file goes, else the file grows to the range's end.
    ///
    /// # Errors
    /// As [`OpenFile::write`].
    pub async fn zero(&self, range: Range<u64>, keep_size: bool, now_ns: i64) -> Result<()> {
        let mut writer = self.writer.lock().await;
        let end = if keep_size { range.end.min(self.size()) } else { range.end };
        let len = end.saturating_sub(range.start);
        if len == 0 {
            return Ok(());
        }
        self.may_grow(&writer, range.start, len).await?;
        self.state().pieces.put_hole(range.start..end);
        writer.running.touch(range.start);
        self.touched(now_ns);
        Ok(())
    }

    /// `copy_file_range`: copies the bytes of `source` in `from` (which may be this file, ranges not overlapping) to
    /// `offset` here; no bytes move where they are stored already. How many: less at the source's end.
    ///
    /// # Errors
    /// As [`OpenFile::write`] and [`OpenFile::read`]; `Invalid` for overlapping ranges of one file.
    pub async fn copy_range(
        &self,
        from: &OpenFile,
        source: Range<u64>,
        offset: u64,
        now_ns: i64,
    ) -> Result<u64> {
        let len = source.end.min(from.size()).saturating_sub(source.start);
        let overlaps = offset < source.start + len && source.start < offset.saturating_add(len);
        if std::ptr::eq(self, from) && overlaps {
            return Err(Error::Invalid { what: "range" });
        }
        // what is read of the source is of one moment
        let (parts, pins) = {
            let state = from.state();
            (state.pieces.parts(source.start..source.start + len), Arc::clone(&state.pins))
        };
        let mut writer = self.writer.lock().await;
        self.may_grow(&writer, offset, len).await?;
        let mut at = 0;
        for part in parts {
            let len = part.len();
            match part {
                Part::Stored(extent) if extent.len >= SHARED_BYTES_MIN => {
                    if let Some(pin) = pins.get(&extent.blob) {
                        self.share(&mut writer, offset + at, &extent, pin);
                    }
                }
                Part::Hole(_) => {
                    self.state().pieces.put_hole(offset + at..offset + at + len);
                    writer.running.touch(offset + at);
                }
                Part::Memory(bytes) => self.write_in(&mut writer, offset + at, &bytes, now_ns).await?,
                Part::Stored(_) | Part::Staged(_) => {
                    self.copy_bytes(&mut writer, from, source.start + at, offset + at, len, now_ns).await?;
                }
            }
            at += len;
        }
        if at > 0 {
            self.touched(now_ns);
        }
        Ok(at)
    }

    /// Refers to stored bytes of another file.
    fn share(&self, writer: &mut Writer, offset: u64, extent: &Extent, pin: &Arc<crate::blob::Pin>) {
        let mut state = self.state();
        state.pieces.put_stored(offset, extent);
        Arc::make_mut(&mut state.pins).entry(extent.blob).or_insert_with(|| Arc::clone(pin));
        writer.running.touch(offset);
    }

    async fn copy_bytes(
        &self,
        writer: &mut Writer,
        from: &OpenFile,
        source: u64,
        offset: u64,
        len: u64,
        now_ns: i64,
    ) -> Result<()> {
        let mut done = 0;
        while done < len {
            let step = (len - done).min(COPY_STEP_BYTES);
            let bytes = from.read(source + done..source + done + step).await?;
            if bytes.is_empty() {
                return Ok(());
            }
            self.write_in(writer, offset + done, &bytes, now_ns).await?;
            done += bytes.len() as u64;
        }
        Ok(())
    }

    /// Whether the file may have bytes up to `offset + len`: where that is.
    async fn may_grow(&self, writer: &Writer, offset: u64, len: u64) -> Result<u64> {
        if writer.is_broken {
            return Err(Error::Stopped);
        }
        let too_large = Error::TooLarge { what: "the file", max: FILE_BYTES_MAX };
        let Some(end) = offset.checked_add(len).filter(|end| *end <= FILE_BYTES_MAX) else {
            return Err(too_large);
        };
        let (size, counted) = {
            let state = self.state();
            (state.pieces.size(), state.version.as_ref().map_or(0, |version| version.size_bytes))
        };
        if end > size {
            self.check_quota(end.saturating_sub(counted)).await?;
        }
        Ok(end)
    }

    /// Whether so many bytes more are within the quota now. The commit makes sure of it; this tells the writer.
    async fn check_quota(&self, more: u64) -> Result<()> {
        let inner = &self.store.inner;
        let bytes = i64::try_from(more).unwrap_or(i64::MAX);
        if bytes == 0 {
            return Ok(());
        }
        let whom = usage::payers(self.bucket, self.owner, self.organisation);
        let growth: Vec<Growth> = whom.into_iter().map(|of| Growth { of, bytes }).collect();
        inner.options.quota.checks(&growth).await.map(drop)
    }

    /// Moves what is in memory to the staging file, which is made if there is none.
    pub(super) fn spill(&self, writer: &mut Writer) -> Result<()> {
        let ranges = self.state().pieces.in_memory();
        if writer.draft.is_none() {
            let len = ranges.iter().map(|range| range.end - range.start).sum();
            let draft = self.store.inner.blobs.make_draft(len)?;
            self.state().draft = Some(Arc::clone(draft.file()));
            writer.draft = Some(draft);
        }
        for range in ranges {
            // nobody else writes; a reader finds the bytes in one place or the other
            let parts = self.state().pieces.parts(range.clone());
            for part in parts {
                if let Part::Memory(bytes) = part {
                    self.write_draft(writer, range.start, &bytes)?;
                }
            }
            self.state().pieces.put_staged(range);
        }
        Ok(())
    }

    pub(super) fn write_draft(&self, writer: &mut Writer, offset: u64, bytes: &[u8]) -> Result<()> {
        let len = bytes.len() as u64;
        writer.unlooked += len;
        if writer.unlooked >= LOOK_BYTES {
            writer.unlooked = 0;
            self.store.inner.blobs.check_room(len)?;
        }
        let draft = writer.draft.as_ref().ok_or(Error::Stopped)?;
        let written = draft.file().write_all_at(bytes, offset);
        if written.is_err() {
            // some of it may have been written over what was there
            writer.running.touch(offset);
        }
        written.map_err(|e| Error::io("writing a staging file", e))?;
        if writer.running.upto() == Some(offset) && offset / LOOK_BYTES != (offset + len) / LOOK_BYTES {
            let from = (offset / LOOK_BYTES) * LOOK_BYTES;
            draft.file().start_writeback(from, offset + len - from);
        }
        Ok(())
    }

    fn touched(&self, now_ns: i64) {
        let mut state = self.state();
        state.has_new_content = true;
        state.add_change(times(now_ns));
    }
}

/// Modification and change time.
fn times(now_ns: i64) -> AttributeChange {
    AttributeChange { modified_ns: Some(now_ns), changed_ns: Some(now_ns), ..AttributeChange::default() }
}
