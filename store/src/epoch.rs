//! The epoch: a number larger than at every earlier opening, part of blobs' file names (design §2.3).
//!
//! It is read when the store opens and noted by a commit, which may have to wait until the rows are verified. Until it is
//! noted nothing gets a name among the blobs; reads do not wait for it.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};

use coffre_kv::{Commit, Kv, KvExt as _, Write};
use tokio::sync::OnceCell;

use crate::codec::{self, keys};
use crate::error::{Error, Result};

/// See the module.
#[derive(Debug)]
pub(crate) struct Epoch {
    number: u64,
    /// The store's own: what is left to do with blobs when it is gone keeps no engine open.
    kv: Weak<dyn Kv>,
    noted: OnceCell<()>,
}

impl Epoch {
    /// The epoch after the last one noted.
    pub(crate) async fn next(kv: &Arc<dyn Kv>) -> Result<Self> {
        let last = kv.counter(&keys::state("epoch")).await?;
        let number = u64::try_from(last).map_err(|_| codec::corrupt("the epoch is negative"))? + 1;
        Ok(Self { number, kv: Arc::downgrade(kv), noted: OnceCell::new() })
    }

    /// One that a test gives.
    #[cfg(test)]
    pub(crate) fn given(number: u64) -> Self {
        let kv: Weak<dyn Kv> = Weak::<coffre_kv::memory::Memory>::new();
        Self { number, kv, noted: OnceCell::new_with(Some(())) }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Waits until no later opening will have it, nor any row name a file of it before that.
    ///
    /// # Errors
    /// `NoSpace`; `Stopped`; `Internal`. Asked again it tries again; should both commits happen, an epoch is left out.
    pub(crate) async fn noted(&self) -> Result<()> {
        let note = async || {
            let write = Write::Add(keys::state("epoch"), 1);
            // A store on a full disk opens too: deletes and the sweep give room back only once it has.
            let commit = Commit { writes: vec![write], may_use_reserve: true, ..Commit::default() };
            self.kv.upgrade().ok_or(Error::Stopped)?.commit(commit).await?;
            Ok(())
        };
        self.noted.get_or_try_init(note).await.copied()
    }
}
