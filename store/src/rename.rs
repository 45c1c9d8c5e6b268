//! Renaming: the same version under another key of the same bucket, in one commit; ids, references and bytes stay.

use crate::commit::{Need, Turn, note};
use crate::error::{Error, Missing};
use crate::object::{At, Version, Versioning};
use crate::plan::Plan;
use crate::{Action, Cx, ObjectKey, Result, Store, VersionId};

/// What a rename does with what is at the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// Retires it like an overwrite.
    Yes,
    /// `Precondition` when there is something.
    No,
}

impl Store {
    /// Moves the current version of a key to another key. Durable on return. Needs delete on the source and put on
    /// the target.
    ///
    /// Where the source's history keeps what was current, the version that stays there and the one that arrives are
    /// two, sharing the blobs: then the one that arrives has a new version id. Inode number and the views' ids move
    /// either way.
    ///
    /// # Errors
    /// As [`Store::delete`] and [`Store::put`].
    pub async fn rename(&self, cx: &Cx, from: At, to: ObjectKey, replace: Replace) -> Result<Version> {
        let note = note(cx, "RenameObject", &from);
        let mut tries = self.inner.turns.tries(Vec::new());
        let id = VersionId(self.inner.options.ids.next());
        loop {
            tries.begin().await;
            let bucket = self.find_bucket(&from.bucket).await?;
            let source = self.standing(&bucket.value, &from.key, Need::Write).await?;
            let Some(moving) = source.current().cloned() else {
                let missing = Missing::Key(from.key.clone());
                return Err(self.missing(cx, &bucket.value, &from.key, missing));
            };
            let target = self.standing(&bucket.value, &to, Need::Write).await?;
            self.ask(cx, Action::DeleteObject, &bucket.value, Some(&from.key), Some(&moving))?;
            self.ask_write(cx, &bucket.value, &to, target.current(), false)?;
            if from.key == to {
                return Ok(moving);
            }
            if replace == Replace::No && target.head.is_some() {
                return Err(Error::Precondition { condition: "If-None-Match" });
            }
            let mut arriving = moving.clone();
            if !leaves_nothing(bucket.value.versioning, &moving) {
                arriving.id = id;
            }
            self.settle_in(&bucket.value, &to, Some(&moving), &mut arriving).await?;
            if from.key.last_segment() != to.last_segment() {
                // the new name is the name shown (contract D5)
                arriving.attributes.label = None;
            }
            let mut plan = Plan::new(&bucket);
            plan.move_away(&from.key, &source, self.new_marker(cx));
            let arriving = plan.put(&to, &target, arriving, &[]);
            match self.commit(&from.bucket, plan, Some(&note)).await? {
                Turn::Done(_) => return Ok(arriving),
                Turn::Lost(row) => tries.lost(row)?,
            }
        }
    }
}

/// Whether deleting the key leaves nothing of its current version behind, so that the version itself can move.
pub(crate) fn leaves_nothing(versioning: Versioning, current: &Version) -> bool {
    match versioning {
        Versioning::Off => true,
        Versioning::Enabled => false,
        Versioning::Suspended => current.is_null,
    }
}
