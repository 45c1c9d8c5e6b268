//! Renaming: the same version under another key of the same bucket, in one commit; ids, references and bytes stay.

use crate::object::{At, Version};
use crate::{Cx, ObjectKey, Result, Store};

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
    /// # Errors
    /// As [`Store::delete`] and [`Store::put`].
    pub async fn rename(&self, _cx: &Cx, _from: At, _to: ObjectKey, _replace: Replace) -> Result<Version> {
        todo!("written next")
    }
}
