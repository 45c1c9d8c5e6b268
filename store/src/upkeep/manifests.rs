//! Paged manifests that nobody shares any more: their pages and their references to blobs go in one commit.
//!
//! A commit that takes the last (or any) owner away leaves a `manifest due` row. A manifest is released while no
//! owner row is there, and an owner is added only while the first page is: so it never gets one too late.

use coffre_kv::{Check, Commit, KvExt, Position, Range, Scan, Write};

use crate::codec::keys::{self, Key, MANIFEST_DUE};
use crate::codec::object::decode_page;
use crate::error::Result;
use crate::name::UploadId;
use crate::{Store, refs};

/// Due manifests looked at in one go; the next call takes the next.
const MANIFESTS_MAX: usize = 1_000;

impl Store {
    /// Releases the manifests that have lost their last owner.
    pub(crate) async fn release_manifests(&self) -> Result<()> {
        let kv = self.inner.kv();
        let scan = Scan::forward(Range::prefix(Key::of(MANIFEST_DUE).done()));
        for (row, entry) in kv.rows(scan, MANIFESTS_MAX).await? {
            let (_, id) = keys::split::<1>(&row)?;
            let (id, _) = keys::split::<16>(id)?;
            self.release_manifest(UploadId(id), entry.position).await?;
        }
        Ok(())
    }

    async fn release_manifest(&self, id: UploadId, due_since: Position) -> Result<()> {
        let _gate = self.inner.gate.read().await;
        let kv = self.inner.kv();
        let due = keys::manifest_due(id);
        let owners = keys::manifest_owners(id);
        let is_owned = !kv.rows(Scan::forward(Range::prefix(owners.clone())), 1).await?.is_empty();
        let mut commit = Commit { may_use_reserve: true, ..Commit::default() };
        commit.writes.push(Write::Delete(due.clone()));
        if is_owned {
            // an owner that has gone since the row was read has put it again: then it stays
            commit.checks.push(Check::At(due, due_since));
        } else {
            commit.checks.push(Check::PrefixEmpty(owners));
            let mut changes = refs::Changes::new();
            let pages = Scan::forward(Range::prefix(keys::manifest_pages(id)));
            for (row, entry) in kv.rows(pages, usize::MAX).await? {
                for extent in decode_page(&entry.value)? {
                    changes.remove(extent.blob, id.0);
                }
                commit.writes.push(Write::Delete(row));
            }
            let plan = changes.plan(&**kv).await?;
            commit.checks.extend(plan.checks);
            commit.writes.extend(plan.writes);
        }
        match kv.commit(commit).await {
            // lost: it is due still, and looked at next time
            Ok(_) | Err(coffre_kv::Error::Conflict { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
