//! Deleting: a version for good, or the key by a delete marker.

use std::collections::HashSet;

use crate::commit::{Need, Turn, note};
use crate::condition::{Conditions, decide_write};
use crate::object::{At, Bucket, DeleteMarker, Versioning};
use crate::plan::{Plan, names};
use crate::watch::Note;
use crate::{Action, BucketName, Cx, Error, ObjectKey, Result, Store, VersionId, VersionRef};

/// What to delete.
#[derive(Clone, Debug)]
pub struct DeleteObject {
    /// Which object.
    pub at: At,
    /// A version for good; `None`: the key, which with versioning leaves a delete marker.
    pub version: Option<VersionRef>,
    /// What has to hold of the current version (`If-Match` and kin).
    pub conditions: Conditions,
}

/// What a delete did. Deleting what is not there is fine and does nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// The version removed, or the delete marker made; `None` without versioning.
    pub version: Option<VersionId>,
    /// It is the `null` version.
    pub is_null: bool,
    /// A delete marker was made, or the version removed was one.
    pub is_delete_marker: bool,
    /// The bucket's versioning.
    pub versioning: Versioning,
}

/// One of many (`DeleteObjects`).
#[derive(Clone, Debug)]
pub struct DeleteOne {
    /// Which key.
    pub key: ObjectKey,
    /// As in [`DeleteObject`].
    pub version: Option<VersionRef>,
    /// As in [`DeleteObject`].
    pub conditions: Conditions,
}

/// Most keys of one `DeleteObjects` (S3).
pub const DELETE_MANY_MAX: usize = 1000;

impl Store {
    /// Deletes a version or the key. Durable on return.
    ///
    /// # Errors
    /// `NotFound(Bucket)`, `Denied`, `Hidden`, `Precondition`, `Retained`.
    pub async fn delete(&self, cx: &Cx, delete: DeleteObject) -> Result<Deleted> {
        let DeleteObject { at, version, conditions } = delete;
        let one = DeleteOne { key: at.key.clone(), version, conditions };
        let action = if version.is_some() { "DeleteObjectVersion" } else { "DeleteObject" };
        let note = note(cx, action, &at);
        let mut tries = self.inner.turns.tries(Vec::new());
        loop {
            tries.begin().await;
            let bucket = self.find_bucket(&at.bucket).await?;
            let mut plan = Plan::new(&bucket);
            plan.may_use_reserve = true;
            let (deleted, is_change) = self.plan_delete(cx, &bucket.value, &one, &mut plan).await?;
            if !is_change {
                return Ok(deleted);
            }
            match self.commit(&at.bucket, plan, Some(&note)).await? {
                Turn::Done(_) => return Ok(deleted),
                Turn::Lost(row) => tries.lost(row)?,
            }
        }
    }

    /// Deletes up to 1,000 keys of a bucket, in as few commits as fit; one answer for each, in order.
    ///
    /// # Errors
    /// `NotFound(Bucket)`, `TooLarge`; what fails for one key stands in its place.
    pub async fn delete_many(
        &self,
        cx: &Cx,
        bucket: &BucketName,
        ones: Vec<DeleteOne>,
    ) -> Result<Vec<Result<Deleted>>> {
        if ones.len() > DELETE_MANY_MAX {
            return Err(Error::TooLarge { what: "the list of keys", max: DELETE_MANY_MAX as u64 });
        }
        let placed = self.find_bucket(bucket).await?;
        let mut plan = Plan::new(&placed);
        plan.may_use_reserve = true;
        let mut answers: Vec<Option<Result<Deleted>>> = Vec::with_capacity(ones.len());
        let mut planned = HashSet::new();
        let mut changes = 0;
        for one in &ones {
            // a key named twice is decided on what its first deletion left
            let is_first = planned.insert(&one.key);
            answers.push(if is_first {
                let planned = self.plan_delete(cx, &placed.value, one, &mut plan).await;
                changes += usize::from(planned.as_ref().is_ok_and(|(_, is_change)| *is_change));
                Some(planned.map(|(deleted, _)| deleted))
            } else {
                None
            });
        }
        let is_done = changes == 0 || {
            let note = Note::of(cx, "DeleteObjects", Some(bucket.as_str()), None);
            match self.commit(bucket, plan, Some(&note)).await {
                Ok(Turn::Done(_)) => true,
                // somebody changed one of them, or together they are too much: each by itself
                Ok(Turn::Lost(_)) | Err(Error::TooLarge { .. }) => false,
                Err(error) => return Err(error),
            }
        };
        let mut all = Vec::with_capacity(ones.len());
        for (one, answer) in ones.into_iter().zip(answers) {
            all.push(match answer {
                Some(answer) if is_done => answer,
                Some(Err(error)) => Err(error),
                Some(Ok(_)) | None => {
                    let at = At { bucket: bucket.clone(), key: one.key };
                    let (version, conditions) = (one.version, one.conditions);
                    self.delete(cx, DeleteObject { at, version, conditions }).await
                }
            });
        }
        Ok(all)
    }

    /// Decides one deletion and adds it to a plan; whether it changes anything.
    async fn plan_delete(
        &self,
        cx: &Cx,
        bucket: &Bucket,
        one: &DeleteOne,
        plan: &mut Plan,
    ) -> Result<(Deleted, bool)> {
        let (key, versioning) = (&one.key, bucket.versioning);
        let nothing = Deleted { versioning, ..Deleted::default() };
        let need = one.version.map_or(Need::Write, Need::Named);
        let standing = self.standing(bucket, key, need).await?;
        let Some(which) = one.version else {
            self.ask(cx, Action::DeleteObject, bucket, Some(key), standing.current())?;
            decide_write(&one.conditions, key, standing.current())?;
            if versioning == Versioning::Off && standing.head.is_none() {
                return Ok((nothing, false));
            }
            let marker = self.new_marker(cx);
            return Ok(match plan.delete(key, &standing, marker) {
                None => (nothing, true),
                Some(marker) => {
                    let version = Some(marker.id);
                    (Deleted { version, is_null: marker.is_null, is_delete_marker: true, versioning }, true)
                }
            });
        };
        let head = standing.current().filter(|head| names(which, head.id, head.is_null));
        let named = standing.named.as_ref().and_then(|named| named.value.version());
        self.ask(cx, Action::DeleteObjectVersion, bucket, Some(key), head.or(named))?;
        decide_write(&one.conditions, key, standing.current())?;
        let new = if standing.needs_identity(which) {
            Some(self.identity_at(bucket, key, None).await?)
        } else {
            None
        };
        Ok(match plan.remove(key, &standing, which, new) {
            None => (nothing, false),
            Some(entry) => {
                let is_delete_marker = entry.version().is_none();
                let version = Some(entry.id());
                (Deleted { version, is_null: entry.is_null(), is_delete_marker, versioning }, true)
            }
        })
    }

    /// A delete marker; where it stands the planner says.
    pub(crate) fn new_marker(&self, cx: &Cx) -> DeleteMarker {
        DeleteMarker {
            id: VersionId(self.inner.options.ids.next()),
            is_null: false,
            sequence: 0,
            owner: cx.principal.user(),
            modified_ms: self.now_ms(),
            identity: None,
            unknown: Vec::new(),
        }
    }
}
