//! References: which owner uses which blob, as rows; and what a commit has to check and write when that changes.
//!
//! Key layout (first byte = table; a blob's key is kind 0 + SHA-256 or kind 1 + upload id):
//!
//! | key | value |
//! |---|---|
//! | `b` blob | [`BlobRow`]: place, size, first 8 owners, state |
//! | `b` blob 0x01 | the bytes of an inline blob, beside its row |
//! | `b` blob 0x02 owner | an owner beyond the first 8; empty value |
//! | `c` blob | the blob may have lost its last owner: the sweep looks |
//! | `u` due ms (8, big-endian) blob | condemned, to be removed from then on |
//! | `d` file name | the file belongs to no row any more and is to be unlinked |
//! | `p` file name | the file is in use by the blob in the value, which its name does not tell |
//!
//! Decisions ([`decide`], [`decide_sweep`]) are pure; the model check in `refs/model.rs` runs the same functions.
//! Promises: every commit that adds or removes an owner checks the row it decided on (`At` or `Absent`), so it and a
//! sweep of the same blob exclude each other. A blob without owners has a candidate or due row.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use coffre_kv::{Check, Kv, Position, Write};
use serde::{Deserialize, Serialize};

use crate::blob::{Place, parse_name};
use crate::digest::Sha256;
use crate::object::BlobId;
use crate::{Error, Result, UploadId};

/// Who refers to a blob: a version, an upload or a manifest.
pub(crate) type Owner = [u8; 16];

/// Owners that stand in the blob's own row (design §2.4).
pub(crate) const OWNERS_IN_ROW_MAX: usize = 8;

pub(crate) const BLOB_TABLE: u8 = b'b';
pub(crate) const CANDIDATE_TABLE: u8 = b'c';
pub(crate) const DEAD_TABLE: u8 = b'd';
pub(crate) const DUE_TABLE: u8 = b'u';
pub(crate) const MARK_TABLE: u8 = b'p';

const INLINE: u8 = 1;
const OWNER: u8 = 2;

/// Format byte of the rows here.
const FORMAT: u8 = 1;
/// CRC-32C, big-endian, at a row's end.
const CRC_BYTES: usize = 4;

/// What is known of a blob.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct BlobRow {
    pub(crate) place: Place,
    /// Bytes; 0 for a parts file, whose length its extents say.
    pub(crate) size_bytes: u64,
    /// The first 8.
    pub(crate) owners: Vec<Owner>,
    /// There may be owners in rows of their own. Once true it stays, so that later ones do not touch this row.
    pub(crate) has_more: bool,
    pub(crate) state: State,
}

/// How a blob stands with the sweep and the scrub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum State {
    /// In use, or just not any more.
    Live,
    /// Without owners since then, ms since 1970; goes after the grace.
    Condemned {
        /// When the sweep saw it.
        since_ms: u64,
    },
    /// Its bytes are not what they were.
    Quarantined,
}

/// What makes a row for a blob that has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewBlob {
    pub(crate) place: Place,
    pub(crate) size_bytes: u64,
    /// The bytes, when the place is `Inline`.
    pub(crate) inline: Option<Bytes>,
}

/// The blob's part of a key.
fn blob_bytes(blob: &BlobId) -> Vec<u8> {
    match blob {
        BlobId::Content(Sha256(bytes)) => [&[0], bytes.as_slice()].concat(),
        BlobId::Parts(UploadId(bytes)) => [&[1], bytes.as_slice()].concat(),
    }
}

/// Reads [`blob_bytes`] from the start of `bytes`, and what follows.
fn parse_blob(bytes: &[u8]) -> Option<(BlobId, &[u8])> {
    match bytes.split_first()? {
        (0, rest) => {
            let (id, rest) = rest.split_first_chunk::<32>()?;
            Some((BlobId::Content(Sha256(*id)), rest))
        }
        (1, rest) => {
            let (id, rest) = rest.split_first_chunk::<16>()?;
            Some((BlobId::Parts(UploadId(*id)), rest))
        }
        _ => None,
    }
}

fn key(table: u8, parts: &[&[u8]]) -> Bytes {
    let mut key = vec![table];
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key.into()
}

/// The blob's row.
pub(crate) fn blob_key(blob: &BlobId) -> Bytes {
    key(BLOB_TABLE, &[&blob_bytes(blob)])
}

/// The bytes of an inline blob.
pub(crate) fn inline_key(blob: &BlobId) -> Bytes {
    key(BLOB_TABLE, &[&blob_bytes(blob), &[INLINE]])
}

/// Prefix of the owners beyond the first 8.
pub(crate) fn owners_prefix(blob: &BlobId) -> Bytes {
    key(BLOB_TABLE, &[&blob_bytes(blob), &[OWNER]])
}

/// One of them.
pub(crate) fn owner_key(blob: &BlobId, owner: &Owner) -> Bytes {
    key(BLOB_TABLE, &[&blob_bytes(blob), &[OWNER], owner])
}

pub(crate) fn candidate_key(blob: &BlobId) -> Bytes {
    key(CANDIDATE_TABLE, &[&blob_bytes(blob)])
}

pub(crate) fn due_key(due_ms: u64, blob: &BlobId) -> Bytes {
    key(DUE_TABLE, &[&due_ms.to_be_bytes(), &blob_bytes(blob)])
}

pub(crate) fn dead_key(name: &str) -> Bytes {
    key(DEAD_TABLE, &[name.as_bytes()])
}

pub(crate) fn mark_key(name: &str) -> Bytes {
    key(MARK_TABLE, &[name.as_bytes()])
}

/// What a key of table `b` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlobKey {
    Row(BlobId),
    Inline(BlobId),
    Owner(BlobId, Owner),
}

/// Reads a key of table `b`; `None` when it is none.
pub(crate) fn parse_blob_key(key: &[u8]) -> Option<BlobKey> {
    let (blob, rest) = parse_blob(key.strip_prefix(&[BLOB_TABLE])?)?;
    match rest.split_first() {
        None => Some(BlobKey::Row(blob)),
        Some((&INLINE, [])) => Some(BlobKey::Inline(blob)),
        Some((&OWNER, owner)) => Some(BlobKey::Owner(blob, owner.try_into().ok()?)),
        Some(_) => None,
    }
}

pub(crate) fn parse_candidate_key(key: &[u8]) -> Option<BlobId> {
    let (blob, rest) = parse_blob(key.strip_prefix(&[CANDIDATE_TABLE])?)?;
    rest.is_empty().then_some(blob)
}

pub(crate) fn parse_due_key(key: &[u8]) -> Option<(u64, BlobId)> {
    let (due, rest) = key.strip_prefix(&[DUE_TABLE])?.split_first_chunk::<8>()?;
    let (blob, rest) = parse_blob(rest)?;
    rest.is_empty().then_some((u64::from_be_bytes(*due), blob))
}

pub(crate) fn parse_dead_key(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(&[DEAD_TABLE])?).ok()
}

impl BlobRow {
    /// Format byte, postcard, CRC-32C.
    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes =
            postcard::to_extend(self, vec![FORMAT]).expect("a row of plain values always encodes");
        let crc = crc_fast::crc32_iscsi(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes.into()
    }

    /// # Errors
    /// `Corrupt`.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self> {
        let damaged = |what: &str| Error::Corrupt { what: format!("a blob's row: {what}") };
        let (body, crc) = bytes.split_last_chunk::<CRC_BYTES>().ok_or_else(|| damaged("too short"))?;
        if crc_fast::crc32_iscsi(body) != u32::from_be_bytes(*crc) {
            return Err(damaged("checksum"));
        }
        match body.split_first() {
            Some((&FORMAT, body)) => postcard::from_bytes(body).map_err(|_| damaged("encoding")),
            Some(_) | None => Err(damaged("a format this version does not know")),
        }
    }
}

/// The blob's row as it is.
pub(crate) async fn find_row(kv: &dyn Kv, blob: &BlobId) -> Result<Option<(BlobRow, Position)>> {
    let Some(entry) = kv.get(&blob_key(blob)).await? else { return Ok(None) };
    Ok(Some((BlobRow::decode(&entry.value)?, entry.position)))
}

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    /// The row from now on, when it changes.
    pub(crate) row: Option<BlobRow>,
    /// Bytes to put beside it.
    pub(crate) inline: Option<Bytes>,
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
    };
    Ok(Effect { row: Some(row), inline: new.inline.clone(), puts_more, used_new: true, ..Effect::default() })
}

/// Makes a row fit to be referenced: a condemned one lives again, a damaged one takes the new bytes.
fn revive(row: &mut BlobRow, asked: &Asked, effect: &mut Effect) -> Result<(), Refused> {
    let new = asked.new.as_ref();
    let same_place = new.is_some_and(|new| new.place.file().is_some() && new.place == row.place);
    effect.used_new = same_place;
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
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Changes of references in one commit, gathered by blob.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes(BTreeMap<BlobId, Asked>);

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
        let asked = self.0.entry(blob).or_default();
        asked.adds.insert(owner);
        if new.is_some() {
            asked.new = new;
        }
    }

    /// The owner does not use the blob any more.
    pub(crate) fn remove(&mut self, blob: BlobId, owner: Owner) {
        self.0.entry(blob).or_default().removes.insert(owner);
    }

    /// Reads the rows and decides. On a conflict of the commit the caller calls it again.
    ///
    /// # Errors
    /// `Busy` when a blob has no row and no new place was given (what the caller read is out of date), `Corrupt` when
    /// it is in quarantine.
    pub(crate) async fn plan(&self, kv: &dyn Kv) -> Result<RefPlan> {
        let mut plan = RefPlan::default();
        for (blob, asked) in &self.0 {
            let found = find_row(kv, blob).await?;
            let seen = Seen {
                more: more_owners(kv, blob, asked, found.as_ref()).await?,
                row: found.clone().map(|f| f.0),
            };
            let effect = decide(&seen, asked, OWNERS_IN_ROW_MAX).map_err(|refused| match refused {
                Refused::NoRow | Refused::OtherPlace => Error::Busy,
                Refused::Damaged => Error::Corrupt { what: "a blob is in quarantine".into() },
            })?;
            plan.checks.push(match found {
                Some((_, position)) => Check::At(blob_key(blob), position),
                None => Check::Absent(blob_key(blob)),
            });
            plan.apply(blob, effect);
        }
        Ok(plan)
    }
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
        let Effect { row, inline, drops_inline, puts_more, deletes_more, dead, is_candidate, used_new } =
            effect;
        let writes = &mut self.writes;
        if let Some(row) = row {
            if let (true, Some(name)) = (used_new, row.place.file())
                && needs_mark(name, blob)
            {
                writes.push(Write::Put(mark_key(name), blob_bytes(blob).into()));
            }
            writes.push(Write::Put(blob_key(blob), row.encode()));
        }
        match inline {
            Some(bytes) => writes.push(Write::Put(inline_key(blob), bytes)),
            None if drops_inline => writes.push(Write::Delete(inline_key(blob))),
            None => {}
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

/// The file's name does not tell which blob it holds.
fn needs_mark(name: &str, blob: &BlobId) -> bool {
    parse_name(name).is_none_or(|(named, _)| named != *blob)
}

/// What makes a file dead.
pub(crate) fn dead_writes(name: &str, blob: &BlobId) -> Vec<Write> {
    let mut writes = vec![Write::Put(dead_key(name), Bytes::from_static(&[FORMAT]))];
    if needs_mark(name, blob) {
        writes.push(Write::Delete(mark_key(name)));
    }
    writes
}

/// As [`Changes`] with one owner more.
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
pub(crate) async fn plan_remove(kv: &dyn Kv, blob: BlobId, owner: Owner) -> Result<RefPlan> {
    let mut changes = Changes::new();
    changes.remove(blob, owner);
    changes.plan(kv).await
}
