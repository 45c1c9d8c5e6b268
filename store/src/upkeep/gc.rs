//! The sweep: takes away blobs that nobody refers to, and files that no row names.
//!
//! Two commits for each blob (design §2.4): the first condemns it, the second, after the grace, deletes its row and
//! writes a dead row for its file. The file goes when that is durable; then the dead row. Both check that the row is
//! still the one that was read and that no owner stands beyond it, so a put that comes between wins. Between the
//! two commits a put finds the row and makes it live again; after the second it finds none and brings its own file.
//! A reader's pin keeps a blob from the second commit.
//!
//! What it looks at are lists that commits keep (`candidate`, `due`, `dead` rows), not all blobs. Only the search for
//! files that a crash left behind, once after opening, walks the directories.

use std::sync::Arc;

use coffre_kv::{Check, Commit, Error as KvError, Kv, KvExt, Range, Scan, Wait, Write};

use super::Freed;
use crate::blob::{Blobs, Claim, Place, parse_name};
use crate::codec::keys;
use crate::object::BlobId;
use crate::refs::{self, BlobRow, SweepStep};
use crate::{Error, Result, Store};

/// Rows looked at in one step.
const PAGE_ROWS: usize = 1024;
/// Blobs of one commit.
const BATCH_BLOBS: usize = 256;

/// One sweep's view of the store.
#[derive(Clone, Copy)]
pub(crate) struct Sweep<'a> {
    pub(crate) kv: &'a Arc<dyn Kv>,
    pub(crate) blobs: &'a Blobs,
    pub(crate) now_ms: u64,
    /// How long a condemned blob waits; 0 when forced.
    pub(crate) grace_ms: u64,
}

/// Checks and writes for one blob, and what happens when they are in.
struct Step {
    blob: BlobId,
    checks: Vec<Check>,
    writes: Vec<Write>,
    removes: Option<Removal>,
}

/// A blob whose row goes.
struct Removal {
    /// Nobody reads it until its file is gone too.
    _claim: Claim,
    dead: Option<String>,
    size_bytes: u64,
}

impl Store {
    /// Sweeps what has no reference; `force` does not wait out the grace time (contract D39).
    ///
    /// # Errors
    /// `Stopped`, `NoSpace`, `Internal`: what is left goes with the next sweep.
    pub async fn gc(&self, force: bool) -> Result<Freed> {
        self.expire_resumable().await?;
        self.release_manifests().await?;
        let options = &self.inner.options;
        let grace_ms = if force { 0 } else { options.grace_ms };
        let now_ms = options.clock.now_ms();
        Sweep { kv: &options.kv, blobs: &self.inner.blobs, now_ms, grace_ms }.run().await
    }
}

impl Sweep<'_> {
    /// One sweep over all lists. Sweeps of one store exclude each other.
    pub(crate) async fn run(self) -> Result<Freed> {
        // Files go on the word of the rows.
        self.kv.verified().await?;
        let sweeping = self.blobs.sweeping();
        let mut searched = sweeping.lock().await;
        let mut freed = Freed::default();
        self.bury_dead(&mut freed).await?;
        self.judge_doubtful(&mut freed).await?;
        self.look_at_candidates(&mut freed).await?;
        self.remove_due(&mut freed).await?;
        if !*searched {
            self.remove_orphans(&mut freed).await?;
            *searched = true;
        }
        Ok(freed)
    }

    /// The first commit, for every blob that may have lost its last owner.
    async fn look_at_candidates(self, freed: &mut Freed) -> Result<()> {
        let mut from = vec![keys::CANDIDATE];
        loop {
            let rows = self.page(&from, keys::CANDIDATE).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from = [last.as_ref(), &[0]].concat();
            let mut steps = Vec::with_capacity(rows.len());
            for (key, entry) in rows {
                let still = Check::At(key.clone(), entry.position);
                let done = Write::Delete(key.clone());
                let Some(blob) = refs::parse_candidate_key(&key) else {
                    tracing::warn!("a candidate row has a key that is none");
                    continue;
                };
                steps.extend(skip_damaged(self.look(blob, still, done).await)?);
            }
            self.commit(steps, freed).await?;
        }
    }

    /// What to do about a candidate. `still` holds while nobody wrote the candidate again, `done` takes it away.
    async fn look(self, blob: BlobId, still: Check, done: Write) -> Result<Option<Step>> {
        let step = |checks, writes, removes| Ok(Some(Step { blob, checks, writes, removes }));
        let Some((row, position)) = self.row(&blob).await? else {
            return step(vec![still], vec![done], None);
        };
        match refs::decide_sweep(&row, self.now_ms, self.grace_ms) {
            SweepStep::Keep | SweepStep::Wait => step(vec![still], vec![done], None),
            SweepStep::Condemn(_) | SweepStep::Remove { .. } if self.has_more(&blob, &row).await? => {
                step(vec![still], vec![done], None)
            }
            SweepStep::Condemn(condemned) => {
                let due = refs::due_key(self.now_ms.saturating_add(self.grace_ms), &blob);
                let writes = vec![
                    Write::Put(keys::blob(&blob), condemned.encode()),
                    Write::Put(due, bytes::Bytes::new()),
                    done,
                ];
                step(unreferenced(&blob, position), writes, None)
            }
            SweepStep::Remove { dead } => self.remove(blob, &row, position, dead, done).await,
        }
    }

    /// The second commit, for every blob whose grace has passed, and then its file.
    async fn remove_due(self, freed: &mut Freed) -> Result<()> {
        let mut from = vec![keys::DUE];
        loop {
            let rows = self.page(&from, keys::DUE).await?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            from = [last.as_ref(), &[0]].concat();
            let mut steps = Vec::with_capacity(rows.len());
            for (key, entry) in rows {
                let Some((due_ms, blob)) = refs::parse_due_key(&key) else {
                    tracing::warn!("a due row has a key that is none");
                    continue;
                };
                if due_ms > self.now_ms && self.grace_ms > 0 {
                    return self.commit(steps, freed).await;
                }
                steps.extend(
                    self.due(blob, Check::At(key.clone(), entry.position), Write::Delete(key)).await?,
                );
            }
            self.commit(steps, freed).await?;
        }
    }

    async fn due(self, blob: BlobId, still: Check, done: Write) -> Result<Option<Step>> {
        let found = self.row(&blob).await?;
        let decision = found.as_ref().map(|(row, _)| refs::decide_sweep(row, self.now_ms, self.grace_ms));
        match (found, decision) {
            (Some((row, position)), Some(SweepStep::Remove { dead })) => {
                self.remove(blob, &row, position, dead, done).await
            }
            // Its time was shorter when it was written.
            (Some(_), Some(SweepStep::Wait)) => Ok(None),
            // Gone, or in use again; if it loses its owners once more it is a candidate again.
            _ => Ok(Some(Step { blob, checks: vec![still], writes: vec![done], removes: None })),
        }
    }

    async fn remove(
        self,
        blob: BlobId,
        row: &BlobRow,
        position: coffre_kv::Position,
        dead: Option<String>,
        done: Write,
    ) -> Result<Option<Step>> {
        let Some(claim) = self.blobs.pins().claim(blob) else { return Ok(None) };
        let mut writes = vec![Write::Delete(keys::blob(&blob)), done];
        if row.place == Place::Inline {
            writes.push(Write::Delete(refs::inline_key(&blob)));
        }
        if let Some(name) = &dead {
            writes.extend(refs::dead_writes(name, &blob));
        }
        if matches!(blob, BlobId::Parts(_)) {
            let stretches = Scan::forward(Range::prefix(refs::stretches_prefix(&blob))).keys_only();
            let stretches = self.kv.rows(stretches, usize::MAX).await?;
            writes.extend(stretches.into_iter().map(|(key, _)| Write::Delete(key)));
        }
        let removal = Removal { _claim: claim, dead, size_bytes: row.size_bytes };
        Ok(Some(Step { blob, checks: unreferenced(&blob, position), writes, removes: Some(removal) }))
    }

    /// Commits the steps together, or, when one of them is overtaken, each by itself; what was overtaken is looked at
    /// again with the next sweep.
    async fn commit(self, steps: Vec<Step>, freed: &mut Freed) -> Result<()> {
        let mut steps = steps.into_iter().peekable();
        while steps.peek().is_some() {
            let mut batch = Batch::default();
            // Bounded by writes too: a parts file brings one for each of its parts.
            while let Some(step) = steps.next_if(|_| batch.has_room()) {
                batch.steps.push(step);
            }
            if self.try_commit(&batch.steps).await? {
                self.unlink(batch.steps, freed).await?;
                continue;
            }
            for step in batch.steps {
                let one = vec![step];
                if self.try_commit(&one).await? {
                    self.unlink(one, freed).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether the checks of all steps held.
    async fn try_commit(self, steps: &[Step]) -> Result<bool> {
        // What a removal deletes has to be gone for good before its file goes. The rest may be lost and done again.
        let wait = if steps.iter().any(|s| s.removes.is_some()) { Wait::Durable } else { Wait::Ordered };
        let commit = Commit {
            checks: steps.iter().flat_map(|step| step.checks.clone()).collect(),
            writes: steps.iter().flat_map(|step| step.writes.clone()).collect(),
            wait,
            may_use_reserve: true,
            ..Commit::default()
        };
        match self.kv.commit(commit).await {
            Ok(_) => Ok(true),
            Err(KvError::Conflict { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the files of committed removals, then their dead rows.
    async fn unlink(self, steps: Vec<Step>, freed: &mut Freed) -> Result<()> {
        let mut buried = Vec::new();
        for step in steps {
            let Some(removal) = &step.removes else { continue };
            freed.blobs += 1;
            match &removal.dead {
                None => freed.freed_bytes += removal.size_bytes,
                Some(name) => {
                    freed.freed_bytes += self.blobs.remove_file(name).await?;
                    buried.push(Write::Delete(refs::dead_key(name)));
                }
            }
            tracing::debug!(blob = ?step.blob, "swept");
        }
        self.forget_dead(buried).await
    }

    /// Files whose dead row is there although their removal did not get to its end.
    async fn bury_dead(self, freed: &mut Freed) -> Result<()> {
        loop {
            let rows = self.page(&[keys::DEAD], keys::DEAD).await?;
            if rows.is_empty() {
                return Ok(());
            }
            let mut buried = Vec::with_capacity(rows.len());
            for (key, _) in rows {
                if let Some(name) = refs::parse_dead_key(&key) {
                    freed.freed_bytes += self.blobs.remove_file(name).await?;
                }
                buried.push(Write::Delete(key));
            }
            self.forget_dead(buried).await?;
        }
    }

    async fn forget_dead(self, writes: Vec<Write>) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        // Coming back after a crash they only name files that are gone: names are never used twice.
        let commit = Commit { writes, wait: Wait::Ordered, may_use_reserve: true, ..Commit::default() };
        self.kv.commit(commit).await?;
        Ok(())
    }

    /// Files published for a commit whose end nobody saw. That commit stands before ours in the order, so what the
    /// checks find is final.
    async fn judge_doubtful(self, freed: &mut Freed) -> Result<()> {
        for (name, blob) in self.blobs.take_doubtful() {
            match self.judge(&name, blob).await {
                Ok(Some(step)) => match self.try_commit(std::slice::from_ref(&step)).await {
                    Ok(true) => {
                        freed.freed_bytes += self.blobs.remove_file(&name).await?;
                        self.forget_dead(vec![Write::Delete(refs::dead_key(&name))]).await?;
                    }
                    Ok(false) => self.blobs.doubt(name, blob),
                    Err(error) => {
                        self.blobs.doubt(name, blob);
                        return Err(error);
                    }
                },
                Ok(None) => {}
                Err(error) => {
                    self.blobs.doubt(name, blob);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The commit that makes a file dead, unless a row names it.
    async fn judge(self, name: &str, blob: BlobId) -> Result<Option<Step>> {
        let key = keys::blob(&blob);
        let mark = refs::mark_key(name);
        let row = match self.kv.get(&key).await? {
            None => Check::Absent(key),
            Some(entry) => match BlobRow::decode(&entry.value) {
                Ok(row) if row.place.file() == Some(name) => return Ok(None),
                Ok(_) => Check::At(key, entry.position),
                // Nothing is removed on the word of a damaged row.
                Err(_) => return Ok(None),
            },
        };
        if self.kv.get(&mark).await?.is_some() {
            return Ok(None);
        }
        let writes = refs::dead_writes(name, &blob);
        Ok(Some(Step { blob, checks: vec![row, Check::Absent(mark)], writes, removes: None }))
    }

    /// Files of earlier openings that no row names: what a crash left between publishing and the commit.
    async fn remove_orphans(self, freed: &mut Freed) -> Result<()> {
        for dir in self.blobs.dirs() {
            for name in self.blobs.list(&dir).await? {
                let Some((blob, epoch)) = parse_name(&name) else {
                    tracing::warn!(name, "a file among the blobs is not ours; left alone");
                    continue;
                };
                if epoch < self.blobs.epoch() && self.judge(&name, blob).await?.is_some() {
                    // No commit of this opening names a file of an earlier one, so this stays true.
                    freed.freed_bytes += self.blobs.remove_file(&name).await?;
                }
            }
        }
        Ok(())
    }

    async fn page(self, from: &[u8], table: u8) -> Result<Vec<(bytes::Bytes, coffre_kv::Entry)>> {
        let range = Range { start: from.to_vec().into(), end: Range::prefix(vec![table]).end };
        Ok(self.kv.rows(Scan::forward(range).keys_only(), PAGE_ROWS).await?)
    }

    /// The row. A damaged one is none of the sweep's business: `Err(Corrupt)` makes it leave blob and file alone.
    async fn row(self, blob: &BlobId) -> Result<Option<(BlobRow, coffre_kv::Position)>> {
        refs::find_row(&**self.kv, blob).await
    }

    async fn has_more(self, blob: &BlobId, row: &BlobRow) -> Result<bool> {
        if !row.has_more {
            return Ok(false);
        }
        let owners = Scan::forward(Range::prefix(refs::owners_prefix(blob))).keys_only();
        Ok(!self.kv.rows(owners, 1).await?.is_empty())
    }
}

/// Steps that go into one commit.
#[derive(Default)]
struct Batch {
    steps: Vec<Step>,
}

impl Batch {
    fn has_room(&self) -> bool {
        // A parts file has at most 10,000 stretches and a commit 100,000 writes.
        let writes: usize = self.steps.iter().map(|step| step.writes.len()).sum();
        self.steps.len() < BATCH_BLOBS && writes < 50_000
    }
}

/// Holds while the row is as it was read and nobody stands beyond it.
fn unreferenced(blob: &BlobId, position: coffre_kv::Position) -> Vec<Check> {
    vec![Check::At(keys::blob(blob), position), Check::PrefixEmpty(refs::owners_prefix(blob))]
}

/// One damaged row does not stop the sweep of the others.
fn skip_damaged(step: Result<Option<Step>>) -> Result<Option<Step>> {
    match step {
        Err(Error::Corrupt { what }) => {
            tracing::error!(what, "the sweep leaves a damaged blob row alone");
            Ok(None)
        }
        other => other,
    }
}
