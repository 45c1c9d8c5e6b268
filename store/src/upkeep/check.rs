//! check and rebuild: derived rows against the truth, and the truth's blobs against what is on disk.
//!
//! check reads while others write. What looks wrong then may be a change seen half: so whatever is found is looked
//! at again with the writers held back, and only that counts. rebuild holds them back from the start.

use bytes::Bytes;
use coffre_kv::{Commit, Write};

use super::survey::{Difference, Surveyed};
use super::{Checked, Finding};
use crate::codec::keys;
use crate::error::{Error, Result};
use crate::object::BlobId;
use crate::pages::Pages;
use crate::refs::{self, BlobKey, BlobRow, State};
use crate::{Store, blob, usage};

/// Rounds of mending: each mends all that one survey collects, which is all but in a store that is wholly wrong.
const ROUNDS_MAX: usize = 64;

impl Store {
    /// Compares references, usage, views and blob files with the versions, which are the truth. Changes nothing.
    ///
    /// # Errors
    /// What ends it early: `Stopped`, `Internal`. Damage is no error but a finding.
    pub async fn check(&self) -> Result<Checked> {
        self.inner.kv().verified().await?;
        let is_searched = *self.inner.blobs.sweeping().lock().await;
        let before = self.look_over(is_searched).await?;
        if before.findings.is_empty() {
            return Ok(before);
        }
        let _quiet = self.quiet().await;
        self.look_over(is_searched).await
    }

    /// Writes references, usage and views anew from the versions; what it mended. Writers wait meanwhile.
    ///
    /// # Errors
    /// As [`Store::check`].
    pub async fn rebuild(&self) -> Result<Checked> {
        self.inner.kv().verified().await?;
        let _quiet = self.quiet().await;
        let mut mended = Checked::default();
        for _ in 0..ROUNDS_MAX {
            let surveyed = self.survey().await?;
            (mended.versions, mended.blobs) = (surveyed.versions, surveyed.blobs);
            let found = findings(&surveyed);
            if surveyed.differences.is_empty() && surveyed.counters.is_empty() {
                // what is left cannot be mended from here
                mended.findings.extend(found);
                break;
            }
            mended.findings.extend(found.into_iter().filter(|finding| finding.kind != "record"));
            let mut is_progress = false;
            for difference in &surveyed.differences {
                is_progress |= self.mend(difference).await?;
            }
            for (row, lack) in surveyed.counters {
                self.write(vec![Write::Add(row, lack)]).await?;
                is_progress = true;
            }
            if !is_progress {
                break;
            }
        }
        Ok(mended)
    }

    /// Holds writers and the sweep back.
    async fn quiet(&self) -> impl Sized {
        let no_sweep = self.inner.blobs.sweeping().lock_owned().await;
        (no_sweep, self.inner.gate.clone().write_owned().await)
    }

    /// `is_searched`: the sweep has looked for files that no row names, so that there should be none.
    async fn look_over(&self, is_searched: bool) -> Result<Checked> {
        let surveyed = self.survey().await?;
        let mut checked =
            Checked { versions: surveyed.versions, blobs: surveyed.blobs, findings: findings(&surveyed) };
        self.look_at_places(&mut checked).await?;
        if is_searched {
            self.look_at_files(&mut checked).await?;
        }
        Ok(checked)
    }

    /// Makes a derived row what it should be; whether that was possible.
    async fn mend(&self, difference: &Difference) -> Result<bool> {
        let Difference { key, wanted, .. } = difference;
        let Some(BlobKey::Owner(blob, owner)) = refs::parse_blob_key(key) else {
            let write = match wanted {
                Some(value) => Write::Put(key.clone(), value.clone()),
                None => Write::Delete(key.clone()),
            };
            self.write(vec![write]).await?;
            return Ok(true);
        };
        let mut changes = refs::Changes::new();
        if wanted.is_some() {
            changes.add(blob, owner, None);
        } else {
            changes.remove(blob, owner);
        }
        match changes.plan(&**self.inner.kv()).await {
            Ok(plan) => {
                let commit = Commit { checks: plan.checks, writes: plan.writes, ..Commit::default() };
                match self.inner.kv().commit(commit).await {
                    Ok(_) => Ok(true),
                    // the sweep was at it: the next round sees
                    Err(coffre_kv::Error::Conflict { .. }) => Ok(false),
                    Err(error) => Err(error.into()),
                }
            }
            // the blob is gone or damaged: nothing to refer to
            Err(Error::Busy | Error::Corrupt { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn write(&self, writes: Vec<Write>) -> Result<()> {
        self.inner.kv().commit(Commit { writes, ..Commit::default() }).await?;
        Ok(())
    }

    /// Every blob's row names bytes that are there, as many as it says.
    async fn look_at_places(&self, checked: &mut Checked) -> Result<()> {
        let mut pages = Pages::of(keys::BLOB);
        while let Some(rows) = pages.next(self).await? {
            for (key, entry) in rows {
                let Some(BlobKey::Row(blob)) = refs::parse_blob_key(&key) else { continue };
                // a damaged row has been told of already
                let Ok(row) = BlobRow::decode(&entry.value) else { continue };
                if let Some(wrong) = self.wrong_with(&row, &refs::inline_key(&blob)).await? {
                    // gone by now: the sweep took it
                    if self.inner.kv().get(&key).await?.is_some_and(|now| now.position == entry.position) {
                        let message = format!("blob {}: {wrong}", hex::encode(&key));
                        checked.findings.push(Finding { kind: "blob", message });
                    }
                }
            }
        }
        Ok(())
    }

    /// Every file of an earlier opening is named by a row: a blob's, or a dead one. One of this opening may be on its
    /// way to its row.
    async fn look_at_files(&self, checked: &mut Checked) -> Result<()> {
        for directory in 0..=u8::MAX {
            for (name, len_bytes) in self.inner.blobs.files_in(directory).await? {
                let parsed = blob::parse_name(&name);
                if parsed.is_some_and(|(_, epoch)| epoch >= self.inner.blobs.epoch()) {
                    continue;
                }
                let is_named = match parsed {
                    Some((blob, _)) => self.is_named(&name, blob).await?,
                    None => false,
                };
                if !is_named {
                    let message = format!("file {name} of {len_bytes} bytes belongs to no row");
                    checked.findings.push(Finding { kind: "orphan", message });
                }
            }
        }
        Ok(())
    }

    async fn is_named(&self, name: &str, blob: BlobId) -> Result<bool> {
        let kv = &**self.inner.kv();
        let is_place = |row: Option<(BlobRow, _)>| row.is_some_and(|(row, _)| row.place.file() == Some(name));
        if is_place(refs::find_row(kv, &blob).await?) || kv.get(&refs::dead_key(name)).await?.is_some() {
            return Ok(true);
        }
        // a parts file that goes on as the content it turned out to be
        Ok(kv.get(&refs::mark_key(name)).await?.is_some())
    }

    async fn wrong_with(&self, row: &BlobRow, inline: &Bytes) -> Result<Option<&'static str>> {
        if row.state == State::Quarantined {
            return Ok(Some("its bytes are not what they were; it is in quarantine"));
        }
        let blob::Place::File { name, offset, len } = &row.place else {
            let bytes = self.inner.kv().get(inline).await?;
            return Ok(match bytes {
                None => Some("its bytes are missing"),
                Some(bytes) if bytes.value.len() as u64 != row.size_bytes => Some("its length differs"),
                Some(_) => None,
            });
        };
        let file = match self.inner.blobs.open_file(name).await {
            Ok(file) => file,
            Err(Error::Corrupt { .. }) => return Ok(Some("its file is missing")),
            Err(error) => return Err(error),
        };
        let doing = "reading a blob's length";
        let there = tokio::task::spawn_blocking(move || file.len_bytes()).await;
        let there = there.map_err(|error| Error::Internal { doing, source: error.into() })?;
        let there = there.map_err(|error| Error::io(doing, error))?;
        Ok((there < offset + len).then_some("its file is too short"))
    }
}

/// What a survey found, in sentences.
fn findings(surveyed: &Surveyed) -> Vec<Finding> {
    let mut findings = surveyed.findings.clone();
    for difference in &surveyed.differences {
        let kind = match difference.key.first() {
            Some(&keys::BLOB) => "reference",
            Some(&keys::MANIFEST_OWNER) => "manifest",
            _ => "view",
        };
        let what = match (&difference.wanted, &difference.there) {
            (Some(_), None) => "is missing",
            (Some(_), Some(_)) => "says something else than its version",
            (None, _) => "follows from nothing",
        };
        findings.push(Finding { kind, message: format!("row {} {what}", hex::encode(&difference.key)) });
    }
    if surveyed.is_partial {
        findings
            .push(Finding { kind: "view", message: "there are more than could be collected at once".into() });
    }
    for (row, lack) in &surveyed.counters {
        let name = usage::describe(row).unwrap_or_else(|_| hex::encode(row));
        findings.push(Finding { kind: "usage", message: format!("the counter of {name} lacks {lack}") });
    }
    findings
}
