//! Uploads that nobody goes on with: what they hold is freed when their time has come.
//!
//! An upload has one row in the order of time. Its time is only ever put off in the upload's own row; the due row moves
//! when it is met. Somebody who is appending is left alone.

use coffre_kv::{Check, Commit, KvExt, Range, Scan, Wait, Write};

use super::create::Known;
use super::record::{Record, due, parse_due};
use crate::codec::keys::{self, Key};
use crate::commit::Turn;
use crate::error::{Error, Result};
use crate::plan::Placed;
use crate::watch::Note;
use crate::{Store, UploadId};

/// Due rows looked at together.
const ROWS_MAX: usize = 500;

impl Store {
    /// Ends the uploads whose time has come.
    pub(crate) async fn expire_resumable(&self) -> Result<()> {
        let now_ms = self.now_ms();
        let mut start = Key::of(keys::TUS_DUE).done();
        let end = Key::of(keys::TUS_DUE).raw(&now_ms.saturating_add(1).to_be_bytes()).done();
        loop {
            let range = Range { start: start.clone(), end: Some(end.clone()) };
            let rows = self.inner.kv().rows(Scan::forward(range).keys_only(), ROWS_MAX).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            start = [last.as_ref(), &[0]].concat().into();
            for (row, _) in rows {
                let (due_ms, id) = parse_due(&row)?;
                match self.expire(id, due_ms, now_ms).await {
                    // one damaged row does not keep the others
                    Err(Error::Corrupt { what }) => {
                        tracing::error!(%id, what, "a resumable upload cannot be ended");
                    }
                    other => other?,
                }
            }
        }
    }

    async fn expire(&self, id: UploadId, due_ms: u64, now_ms: u64) -> Result<()> {
        let Some(_turn) = self.inner.lines.try_enter(id) else { return Ok(()) };
        let Some(upload) = self.find_resumable(id).await? else { return Ok(()) };
        if upload.value.due_ms != due_ms {
            return Ok(());
        }
        if !upload.value.is_expired(now_ms) {
            return self.put_off(id, &upload).await;
        }
        let bucket = self.find_bucket(&upload.value.at.bucket).await?;
        let mut note = Note::own(now_ms, "ExpireResumableUpload");
        note.bucket = Some(upload.value.at.bucket.as_str().to_owned());
        note.key = Some(upload.value.at.key.as_str().to_owned());
        match self.forget_resumable(id, &Known { bucket, upload }, &note).await? {
            // overtaken: looked at again next time
            Turn::Done(_) | Turn::Lost(_) => Ok(()),
        }
    }

    /// Moves the due row to where the upload's own row has it.
    async fn put_off(&self, id: UploadId, upload: &Placed<Record>) -> Result<()> {
        let old = &upload.value;
        let record = Record { due_ms: old.expires_ms, ..old.clone() };
        let row = keys::tus(id);
        let commit = Commit {
            checks: vec![Check::At(row.clone(), upload.position)],
            writes: vec![
                Write::Put(row, record.encode()),
                Write::Delete(due(old.due_ms, id)),
                Write::Put(due(record.due_ms, id), bytes::Bytes::new()),
            ],
            wait: Wait::Ordered,
            may_use_reserve: true,
            ..Commit::default()
        };
        let _gate = self.inner.gate.read().await;
        match self.inner.kv().commit(commit).await {
            Ok(_) | Err(coffre_kv::Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
