//! Beginning an upload, asking about it, giving it up.

use coffre_kv::{Check, Write};

use super::hash::HashState;
use super::record::{Record, State, due};
use super::{CreateResumable, Kind, Resumable};
use crate::codec::keys;
use crate::commit::{Turn, counts_for, note};
use crate::condition::Conditions;
use crate::error::{Error, Missing, Result};
use crate::object::Bucket;
use crate::plan::{Placed, Plan};
use crate::put::check_tags;
use crate::watch::Note;
use crate::{Action, Cx, Growth, Store, UploadId, usage};

/// Longest text a client may leave with an upload: it stands in the row.
const SAID_BYTES_MAX: usize = 16 * 1024;

/// An upload that is there, with its bucket.
pub(super) struct Known {
    pub(super) bucket: Placed<Bucket>,
    pub(super) upload: Placed<Record>,
}

impl Store {
    /// Begins an upload. Durable on return. One of no bytes is finished at once.
    ///
    /// # Errors
    /// `NotFound(Bucket)`, `Denied`, `Hidden`, `Invalid` (tags; a bucket that is not built in), `TooLarge` (the text),
    /// `QuotaExceeded`.
    pub async fn create_resumable(&self, cx: &Cx, create: CreateResumable) -> Result<Resumable> {
        let id = UploadId(self.inner.options.ids.next());
        let kind = if create.is_partial { Kind::Partial } else { Kind::Whole };
        let now_ms = self.now_ms();
        let expires_ms = now_ms.saturating_add(create.lives_ms);
        let record = Record {
            organisation: None,
            at: create.at,
            initiator: cx.principal.user(),
            kind,
            said: create.said,
            attributes: create.attributes,
            created_ms: now_ms,
            expires_ms,
            lives_ms: create.lives_ms,
            due_ms: expires_ms,
            length: create.length_bytes,
            offset: 0,
            state: State::Open(HashState::start()),
            unknown: Vec::new(),
        };
        let record = self.commit_new(cx, id, record).await?;
        if record.is_whole() {
            let turn = self.inner.lines.enter(id).await?;
            return self.finish_resumable(cx, id, &turn).await;
        }
        Ok(record.shown(id, self.now_ms()))
    }

    async fn commit_new(&self, cx: &Cx, id: UploadId, mut record: Record) -> Result<Record> {
        check_said(&record.said)?;
        check_tags(&record.attributes.tags)?;
        let note = note(cx, "CreateResumableUpload", &record.at);
        let mut tries = self.inner.turns.tries(Vec::new());
        loop {
            tries.begin().await;
            let has_tags = !record.attributes.tags.is_empty();
            let admitted = self.admit(cx, &record.at, &Conditions::default(), has_tags).await?;
            check_built_in(&admitted.bucket.value)?;
            record.organisation = counts_for(cx, &admitted.bucket.value, &record.at.key);
            let mut plan = Plan::new(&admitted.bucket);
            plan_new(&mut plan, id, &record);
            // what is announced has to fit; it counts once it has come
            let announced = i64::try_from(record.length.unwrap_or(0)).unwrap_or(i64::MAX);
            plan.grow(record.initiator, record.organisation, announced);
            match self.commit(&record.at.bucket, plan, Some(&note)).await? {
                Turn::Done(_) => return Ok(record),
                Turn::Lost(row) => tries.lost(row)?,
            }
        }
    }

    /// What has become of an upload. One that has all its bytes and is not finished, because the end of its last
    /// request was cut off, is finished first.
    ///
    /// # Errors
    /// `NotFound(Upload)`; when it is finished, as [`Store::append_resumable`].
    pub async fn resumable(&self, cx: &Cx, id: UploadId) -> Result<Resumable> {
        let known = self.known_resumable(cx, Action::ListMultipartUploadParts, id).await?;
        let record = known.upload.value;
        let now_ms = self.now_ms();
        let is_pending = record.is_whole() && matches!(record.state, State::Open(_));
        if is_pending && !record.is_expired(now_ms) {
            let turn = self.inner.lines.enter(id).await?;
            return self.finish_resumable(cx, id, &turn).await;
        }
        Ok(record.shown(id, now_ms))
    }

    /// Gives an upload up: what it holds is freed. An object that it has become stays.
    ///
    /// # Errors
    /// `NotFound(Upload)`, `Busy`: somebody appends to it.
    pub async fn terminate_resumable(&self, cx: &Cx, id: UploadId) -> Result<()> {
        self.known_resumable(cx, Action::AbortMultipartUpload, id).await?;
        let _turn = self.inner.lines.enter(id).await?;
        let mut tries = self.inner.turns.tries(Vec::new());
        loop {
            tries.begin().await;
            let known = self.known_resumable(cx, Action::AbortMultipartUpload, id).await?;
            let note = note(cx, "AbortResumableUpload", &known.upload.value.at);
            match self.forget_resumable(id, &known, &note).await? {
                Turn::Done(_) => return Ok(()),
                Turn::Lost(row) => tries.lost(row)?,
            }
        }
    }

    /// Takes an upload's rows away, and what they hold.
    pub(super) async fn forget_resumable(&self, id: UploadId, known: &Known, note: &Note) -> Result<Turn> {
        let Known { bucket, upload: Placed { value: record, position } } = known;
        let row = keys::tus(id);
        let mut plan = Plan::new(bucket);
        plan.may_use_reserve = true;
        plan.checks.push(Check::At(row.clone(), *position));
        plan.writes.push(Write::Delete(row));
        plan.writes.push(Write::Delete(due(record.due_ms, id)));
        if let Some((blob, owner)) = record.held(id) {
            plan.refs.remove(blob, owner);
        }
        plan.count_unfinished(record.initiator, record.organisation, -record.unfinished_bytes());
        self.commit(&record.at.bucket, plan, Some(note)).await
    }

    /// An upload that they may do this to; who may not does not learn that it is there.
    pub(super) async fn known_resumable(&self, cx: &Cx, action: Action, id: UploadId) -> Result<Known> {
        let missing = || Error::NotFound(Missing::Upload(id));
        let upload = self.find_resumable(id).await?.ok_or_else(missing)?;
        let record = &upload.value;
        let bucket = self.find_bucket(&record.at.bucket).await?;
        let asked = self.ask_upload(cx, action, &bucket.value, &record.at.key, record.initiator);
        asked.map_err(|_| missing())?;
        Ok(Known { bucket, upload })
    }

    /// An upload's row.
    pub(super) async fn find_resumable(&self, id: UploadId) -> Result<Option<Placed<Record>>> {
        let Some(entry) = self.inner.kv().get(&keys::tus(id)).await? else { return Ok(None) };
        Ok(Some(Placed { value: Record::decode(&entry.value)?, position: entry.position }))
    }

    /// Whether so many bytes more would fit the quota now.
    ///
    /// # Errors
    /// `QuotaExceeded`.
    pub(super) async fn check_quota(&self, bucket: &Bucket, record: &Record, bytes: u64) -> Result<()> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if bytes == 0 {
            return Ok(());
        }
        let whom = usage::payers(bucket.id, record.initiator, record.organisation);
        let growth: Vec<Growth> = whom.into_iter().map(|of| Growth { of, bytes }).collect();
        self.inner.options.quota.checks(&growth).await.map(drop)
    }
}

/// What a new upload's commit checks and writes.
pub(super) fn plan_new(plan: &mut Plan, id: UploadId, record: &Record) {
    let row = keys::tus(id);
    plan.checks.push(Check::Absent(row.clone()));
    plan.writes.push(Write::Put(row, record.encode()));
    plan.writes.push(Write::Put(due(record.due_ms, id), bytes::Bytes::new()));
}

pub(super) fn check_said(said: &str) -> Result<()> {
    if said.len() > SAID_BYTES_MAX {
        return Err(Error::TooLarge { what: "the upload's metadata", max: SAID_BYTES_MAX as u64 });
    }
    Ok(())
}

/// A row names its bucket for good, so it has to be one that never goes.
pub(super) fn check_built_in(bucket: &Bucket) -> Result<()> {
    if bucket.place.is_none() {
        return Err(Error::Invalid { what: "bucket of a resumable upload" });
    }
    Ok(())
}
