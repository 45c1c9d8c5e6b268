//! References: which owner uses which blob, as rows; and what a commit has to check and write when that changes.
//!
//! The rows are in `refs/rows.rs`. Decisions ([`decide`], [`decide_sweep`]) are pure; the model check in
//! `refs/model.rs` runs the same functions. Promises: every commit that adds or removes an owner checks the row it
//! decided on (`At` or `Absent`), so it and a sweep of the same blob exclude each other. A blob without owners has a
//! candidate or due row.

#[cfg(test)]
mod model;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use coffre_kv::{Check, Kv, KvExt, Position, Range, Scan, Write};

pub(crate) use rows::{
    BlobKey, BlobRow, NewBlob, Owner, State, Stretch, candidate_key, dead_key, dead_writes, due_key,
    find_row, inline_key, mark_key, owner_key, owners_prefix, parse_blob_key, parse_candidate_key,
    parse_dead_key, parse_due_key, stretch_key, stretches_prefix,
};

use crate::blob::Place;
use crate::codec::keys;
use crate::object::BlobId;
use crate::{Error, Result};

/// Owners that stand in the blob's own row (design §2.4).
pub(crate) const OWNERS_IN_ROW_MAX: usize = 8;

/// What a commit wants to change about one blob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) adds: BTreeSet<Owner>,
    pub(crate) removes: BTreeSet<Owner>,
    pub(crate) new: Option<NewBlob>,
}

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) row: Option<BlobRow>,
    /// Of the owners asked about, those that have a row of their own.
    pub(crate) more: BTreeSet<Owner>,
}

/// Why a blob cannot be referenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It has no row, and no new place was given: what the caller read is out of date.
    NoRow,
    /// It is in quarantine, and no new place was given.
    Damaged,
    /// The upload's parts file is another one.
    OtherPlace,
}

/// What a commit writes about one blob. It always checks that the row is as it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Effect {
    /// The row from now on, when it changes.
    pub(crate) row: Option<BlobRow>,
    /// Bytes to put beside it.
    pub(crate) inline: Option<Bytes>,
    /// What a stretch of a parts file is.
    pub(crate) stretch: Option<Stretch>,
    /// Bytes beside it go.
    pub(crate) drops_inline: bool,
    pub(crate) puts_more: Vec<Owner>,
    pub(crate) deletes_more: Vec<Owner>,
    /// A file that no row names any more.
    pub(crate) dead: Option<String>,
    /// The blob may have no owner now.
    pub(crate) is_candidate: bool,
    /// The row names the new place.
    pub(crate) used_new: bool,
}

/// Decides what a commit does about one blob. `in_row_max` is [`OWNERS_IN_ROW_MAX`] but for the model check.
///
/// An owner both added and removed stays as it is, or is added when it is not there.
pub(crate) fn decide(seen: &Seen, asked: &Asked, in_row_max: usize) -> Result<Effect, Refused> {
    let Some(before) = &seen.row else { return decide_first(asked, in_row_max) };
    let mut effect = Effect::default();
    let mut row = before.clone();
    if !asked.adds.is_empty() {
        revive(&mut row, asked, &mut effect)?;
    }
    for owner in asked.removes.difference(&asked.adds) {
        if let Some(at) = row.owners.iter().position(|o| o == owner) {
            row.owners.swap_remove(at);
            effect.is_candidate = true;
        } else if seen.more.contains(owner) {
            effect.deletes_more.push(*owner);
            effect.is_candidate = true;
        }
    }
    for owner in &asked.adds {
        if row.owners.contains(owner) || seen.more.contains(owner) {
        } else if row.owners.len() < in_row_max {
            row.owners.push(*owner);
        } else {
            row.has_more = true;
            effect.puts_more.push(*owner);
        }
    }
    // Who removes an owner while others stand in the row leaves the last of those to tell the sweep; the check of
    // the row makes sure that there is one.
    effect.is_candidate &= row.owners.is_empty() && asked.adds.is_empty();
    effect.row = (row != *before).then_some(row);
    Ok(effect)
}

/// The first owners of a blob without a row.
fn decide_first(asked: &Asked, in_row_max: usize) -> Result<Effect, Refused> {
    if asked.adds.is_empty() {
        return Ok(Effect::default());
    }
    let new = asked.new.as_ref().ok_or(Refused::NoRow)?;
    let mut owners: Vec<Owner> = asked.adds.iter().copied().collect();
    let puts_more = owners.split_off(owners.len().min(in_row_max));
    let row = BlobRow {
        place: new.place.clone(),
        size_bytes: new.size_bytes,
        owners,
        has_more: !puts_more.is_empty(),
        state: State::Live,
        unknown: Vec::new(),
    };
    let (inline, stretch) = (new.inline.clone(), new.stretch);
    Ok(Effect { row: Some(row), inline, stretch, puts_more, used_new: true, ..Effect::default() })
}

/// Makes a row fit to be referenced: a condemned one lives again, a damaged one takes the new bytes.
fn revive(row: &mut BlobRow, asked: &Asked, effect: &mut Effect) -> Result<(), Refused> {
    let new = asked.new.as_ref();
    let same_place = new.is_some_and(|new| new.place.file().is_some() && new.place == row.place);
    effect.used_new = same_place;
    effect.stretch = new.and_then(|new| new.stretch).filter(|_| same_place);
    match (row.state, new) {
        (State::Quarantined, None) => return Err(Refused::Damaged),
        (State::Quarantined, Some(_)) if same_place => return Err(Refused::Damaged),
        (State::Quarantined, Some(new)) => {
            effect.dead = row.place.file().map(str::to_owned);
            effect.drops_inline = row.place == Place::Inline && new.inline.is_none();
            effect.inline.clone_from(&new.inline);
            effect.used_new = true;
            row.place = new.place.clone();
            row.size_bytes = new.size_bytes;
        }
        // The length of a parts file is not known: several writers of one upload name the same one or are wrong.
        (_, Some(NewBlob { place: Place::File { len: 0, .. }, .. })) if !same_place => {
            return Err(Refused::OtherPlace);
        }
        (State::Live | State::Condemned { .. }, _) => {}
    }
    row.state = State::Live;
    Ok(())
}

/// What the sweep does with a blob.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum SweepStep {
    /// It has owners: nothing to do.
    Keep,
    /// Its first commit: the row becomes this. Checks `At` the row and no owners beyond it.
    Condemn(BlobRow),
    /// Not yet.
    Wait,
    /// Its second commit: the row goes; the file, if there is one, is dead. Checks as the first.
    Remove {
        /// The file's name.
        dead: Option<String>,
    },
}

/// Decides what the sweep does with a blob that has this row now. Whether there are owners beyond the row is for the
/// commit to check.
pub(crate) fn decide_sweep(row: &BlobRow, now_ms: u64, grace_ms: u64) -> SweepStep {
    if !row.owners.is_empty() {
        return SweepStep::Keep;
    }
    let dead = row.place.file().map(str::to_owned);
    match row.state {
        State::Live => {
            SweepStep::Condemn(BlobRow { state: State::Condemned { since_ms: now_ms }, ..row.clone() })
        }
        State::Condemned { since_ms } if now_ms < since_ms.saturating_add(grace_ms) => SweepStep::Wait,
        // Nobody can read what is in quarantine, so nobody needs the grace.
        State::Condemned { .. } | State::Quarantined => SweepStep::Remove { dead },
    }
}

/// Whether a parts file may go on as the content it turned out to be: it does when its only owner leaves it in this
/// commit, so that one row and one name stand for the file before and after.
pub(crate) fn can_adopt(parts: &BlobRow, leaving: &BTreeSet<Owner>) -> bool {
    !parts.has_more && parts.state != State::Quarantined && parts.owners.iter().all(|o| leaving.contains(o))
}

/// Changes of references in one commit, gathered by blob.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    blobs: BTreeMap<BlobId, Asked>,
    /// By parts file: the content it is, and its size.
    adopts: BTreeMap<BlobId, (BlobId, u64)>,
}

/// What the commit needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct RefPlan {
    pub(crate) checks: Vec<Check>,
    pub(crate) writes: Vec<Write>,
    used: BTreeSet<BlobId>,
}

impl RefPlan {
    /// Whether the blob's row names the new place that was given, once this is committed.
    pub(crate) fn used(&self, blob: &BlobId) -> bool {
        self.used.contains(blob)
    }
}

impl Changes {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The owner uses the blob from now on; `new` makes its row when it has none (or heals it).
    pub(crate) fn add(&mut self, blob: BlobId, owner: Owner, new: Option<NewBlob>) {
        let asked = self.blobs.entry(blob).or_default();
        asked.adds.insert(owner);
        if new.is_some() {
            asked.new = new;
        }
    }

    /// The owner does not use the blob any more.
    pub(crate) fn remove(&mut self, blob: BlobId, owner: Owner) {
        self.blobs.entry(blob).or_default().removes.insert(owner);
    }

    /// The file of `parts` is `content` from its first byte on, `size_bytes` long. Goes with an [`Changes::add`] to
    /// the content and a [`Changes::remove`] from the parts: has the content no row, it gets one with that file and
    /// the parts' row goes; has it one already, the parts' file goes with the sweep. [`may_adopt`] says beforehand
    /// whether this can be.
    pub(crate) fn adopt(&mut self, parts: BlobId, content: BlobId, size_bytes: u64) {
        self.adopts.insert(parts, (content, size_bytes));
    }

    /// Reads the rows and decides. On a conflict of the commit the caller calls it again.
    ///
    /// # Errors
    /// `Busy` when a blob has no row and no new place was given (what the caller read is out of date), `Corrupt` when
    /// it is in quarantine.
    pub(crate) async fn plan(&self, kv: &dyn Kv) -> Result<RefPlan> {
        let mut plan = RefPlan::default();
        let mut blobs = self.blobs.clone();
        for (parts, (content, size_bytes)) in &self.adopts {
            plan_adoption(kv, (parts, content, *size_bytes), &mut blobs, &mut plan).await?;
        }
        for (blob, asked) in &blobs {
            if asked.new.is_none() && asked.adds == asked.removes {
                // its owners stay: their records, which the commit checks, say that the blob has them
                continue;
            }
            let found = find_row(kv, blob).await?;
            let more = more_owners(kv, blob, asked, found.as_ref()).await?;
            let seen = Seen { more, row: found.clone().map(|f| f.0) };
            let effect = decide(&seen, asked, OWNERS_IN_ROW_MAX).map_err(|refused| match refused {
                Refused::NoRow | Refused::OtherPlace => Error::Busy,
                Refused::Damaged => Error::Corrupt { what: "a blob is in quarantine".into() },
            })?;
            plan.checks.push(row_check(blob, found.as_ref()));
            plan.apply(blob, effect);
        }
        Ok(plan)
    }
}

/// Holds while the row is as it was found.
fn row_check(blob: &BlobId, found: Option<&(BlobRow, Position)>) -> Check {
    match found {
        Some((_, position)) => Check::At(keys::blob(blob), *position),
        None => Check::Absent(keys::blob(blob)),
    }
}

/// Takes the parts' row away and gives its file to the content, unless the content has a sound row already.
async fn plan_adoption(
    kv: &dyn Kv,
    (parts, content, size_bytes): (&BlobId, &BlobId, u64),
    blobs: &mut BTreeMap<BlobId, Asked>,
    plan: &mut RefPlan,
) -> Result<()> {
    if find_row(kv, content).await?.is_some_and(|(row, _)| row.state != State::Quarantined) {
        return Ok(());
    }
    let leaving = blobs.remove(parts).unwrap_or_default().removes;
    let found = find_row(kv, parts).await?.filter(|(row, _)| can_adopt(row, &leaving)).ok_or(Error::Busy)?;
    let name = found.0.place.file().ok_or(Error::Busy)?.to_owned();
    plan.checks.push(row_check(parts, Some(&found)));
    plan.writes.push(Write::Delete(keys::blob(parts)));
    let stretches = Scan::forward(Range::prefix(stretches_prefix(parts))).keys_only();
    plan.writes.extend(kv.rows(stretches, usize::MAX).await?.into_iter().map(|(key, _)| Write::Delete(key)));
    let place = Place::File { name, offset: 0, len: size_bytes };
    let asked = blobs.entry(*content).or_default();
    asked.new = Some(NewBlob { place, size_bytes, inline: None, stretch: None });
    Ok(())
}

/// Whether [`Changes::adopt`] can be when these owners leave: the content has a row already, or the file is theirs
/// alone.
pub(crate) async fn may_adopt(
    kv: &dyn Kv,
    parts: &BlobId,
    content: &BlobId,
    leaving: &BTreeSet<Owner>,
) -> Result<bool> {
    if find_row(kv, content).await?.is_some_and(|(row, _)| row.state != State::Quarantined) {
        return Ok(true);
    }
    Ok(find_row(kv, parts).await?.is_some_and(|(row, _)| can_adopt(&row, leaving)))
}

/// Of the owners asked about and not in the row, those that have a row of their own.
async fn more_owners(
    kv: &dyn Kv,
    blob: &BlobId,
    asked: &Asked,
    found: Option<&(BlobRow, Position)>,
) -> Result<BTreeSet<Owner>> {
    let mut more = BTreeSet::new();
    let Some((row, _)) = found.filter(|(row, _)| row.has_more) else { return Ok(more) };
    for owner in asked.adds.union(&asked.removes).filter(|owner| !row.owners.contains(*owner)) {
        if kv.get(&owner_key(blob, owner)).await?.is_some() {
            more.insert(*owner);
        }
    }
    Ok(more)
}

impl RefPlan {
    fn apply(&mut self, blob: &BlobId, effect: Effect) {
        let Effect {
            row,
            inline,
            stretch,
            drops_inline,
            puts_more,
            deletes_more,
            dead,
            is_candidate,
            used_new,
        } = effect;
        let writes = &mut self.writes;
        if let Some(row) = row {
            if let (true, Some(name)) = (used_new, row.place.file())
                && rows::needs_mark(name, blob)
            {
                writes.push(Write::Put(mark_key(name), keys::blob(blob)));
            }
            writes.push(Write::Put(keys::blob(blob), row.encode()));
        }
        match inline {
            Some(bytes) => writes.push(Write::Put(inline_key(blob), bytes)),
            None if drops_inline => writes.push(Write::Delete(inline_key(blob))),
            None => {}
        }
        if let Some(stretch) = stretch {
            writes.push(Write::Put(stretch_key(blob, stretch.offset), stretch.encode()));
        }
        writes.extend(puts_more.iter().map(|owner| Write::Put(owner_key(blob, owner), Bytes::new())));
        writes.extend(deletes_more.iter().map(|owner| Write::Delete(owner_key(blob, owner))));
        if let Some(name) = dead {
            writes.extend(dead_writes(&name, blob));
        }
        if is_candidate {
            writes.push(Write::Put(candidate_key(blob), Bytes::new()));
        }
        if used_new {
            self.used.insert(*blob);
        }
    }
}

/// As [`Changes`] with one owner more.
#[cfg(test)]
pub(crate) async fn plan_add(
    kv: &dyn Kv,
    blob: BlobId,
    owner: Owner,
    new: Option<NewBlob>,
) -> Result<RefPlan> {
    let mut changes = Changes::new();
    changes.add(blob, owner, new);
    changes.plan(kv).await
}

/// As [`Changes`] with one owner less.
#[cfg(test)]
pub(crate) async fn plan_remove(kv: &dyn Kv, blob: BlobId, owner: Owner) -> Result<RefPlan> {
    let mut changes = Changes::new();
    changes.remove(blob, owner);
    changes.plan(kv).await
}
