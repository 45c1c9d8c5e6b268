//! Rows of blobs: their keys and the record.
//!
//! | key (a blob's key is `keys::blob`) | value |
//! |---|---|
//! | blob | [`BlobRow`]: place, size, first 8 owners, state |
//! | blob 01 | the bytes of an inline blob, beside its row |
//! | blob 02 owner | an owner beyond the first 8; empty value |
//! | blob 03 offset (be64) | a stretch of a parts file, [`Stretch`]: what the scrub compares with |
//! | candidate blob | the blob may have lost its last owner: the sweep looks; empty value |
//! | due ms (be64) blob | condemned, to be removed from then on; empty value |
//! | dead file name | the file belongs to no row any more and is to be unlinked; empty value |
//! | mark file name | the file is in use by the blob in the value, which its name does not tell |

use bytes::Bytes;
use coffre_kv::{Kv, Position, Write};
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::blob::{Place, parse_name};
use crate::codec::keys::{self, Key};
use crate::codec::record::{Reader, Unknown, Writer};
use crate::digest::Sha256;
use crate::object::BlobId;

/// Who refers to a blob: a version, an upload or a manifest.
pub(crate) type Owner = [u8; 16];

const INLINE: u8 = 1;
const OWNER: u8 = 2;
const STRETCH: u8 = 3;

/// Fields of the record.
mod tag {
    pub(super) const PLACE: u32 = 1;
    pub(super) const SIZE_BYTES: u32 = 2;
    pub(super) const OWNERS: u32 = 3;
    pub(super) const HAS_MORE: u32 = 4;
    pub(super) const STATE: u32 = 5;
    pub(super) const STRETCH_LEN: u32 = 1;
    pub(super) const STRETCH_SHA256: u32 = 2;
}

/// What is known of a blob.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BlobRow {
    pub(crate) place: Place,
    /// Bytes; 0 for a parts file, whose length its extents say.
    pub(crate) size_bytes: u64,
    /// The first 8.
    pub(crate) owners: Vec<Owner>,
    /// There may be owners in rows of their own. Once true it stays, so that later ones do not touch this row.
    pub(crate) has_more: bool,
    pub(crate) state: State,
    /// Fields of a newer format, kept as they are.
    pub(crate) unknown: Unknown,
}

/// How a blob stands with the sweep and the scrub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum State {
    /// In use, or just not any more.
    #[default]
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
    /// Which bytes of a parts file this is about.
    pub(crate) stretch: Option<Stretch>,
}

/// A part's bytes in a parts file and what they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Stretch {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) sha256: Sha256,
}

/// The bytes of an inline blob.
pub(crate) fn inline_key(blob: &BlobId) -> Bytes {
    [keys::blob(blob).as_ref(), &[INLINE]].concat().into()
}

/// Prefix of the owners beyond the first 8.
pub(crate) fn owners_prefix(blob: &BlobId) -> Bytes {
    [keys::blob(blob).as_ref(), &[OWNER]].concat().into()
}

/// One of them.
pub(crate) fn owner_key(blob: &BlobId, owner: &Owner) -> Bytes {
    [keys::blob(blob).as_ref(), &[OWNER], owner].concat().into()
}

/// Prefix of the stretches of a parts file.
pub(crate) fn stretches_prefix(blob: &BlobId) -> Bytes {
    [keys::blob(blob).as_ref(), &[STRETCH]].concat().into()
}

/// One of them.
pub(crate) fn stretch_key(blob: &BlobId, offset: u64) -> Bytes {
    [keys::blob(blob).as_ref(), &[STRETCH], &offset.to_be_bytes()].concat().into()
}

/// Says that the sweep should look at the blob.
pub(crate) fn candidate_key(blob: &BlobId) -> Bytes {
    Key::of(keys::CANDIDATE).raw(&keys::blob(blob)).done()
}

/// Says when a condemned blob may go.
pub(crate) fn due_key(due_ms: u64, blob: &BlobId) -> Bytes {
    Key::of(keys::DUE).raw(&due_ms.to_be_bytes()).raw(&keys::blob(blob)).done()
}

/// Says that a file is to be unlinked.
pub(crate) fn dead_key(name: &str) -> Bytes {
    Key::of(keys::DEAD).raw(name.as_bytes()).done()
}

/// Says which blob a file holds whose name does not.
pub(crate) fn mark_key(name: &str) -> Bytes {
    Key::of(keys::MARK).raw(name.as_bytes()).done()
}

/// What a key of the blobs' table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BlobKey {
    Row(BlobId),
    Inline(BlobId),
    Owner(BlobId, Owner),
    Stretch(BlobId, u64),
}

/// Reads a key of the blobs' table; `None` when it is none.
pub(crate) fn parse_blob_key(key: &[u8]) -> Option<BlobKey> {
    let (blob, rest) = keys::parse_blob(key).ok()?;
    match rest.split_first() {
        None => Some(BlobKey::Row(blob)),
        Some((&INLINE, [])) => Some(BlobKey::Inline(blob)),
        Some((&OWNER, owner)) => Some(BlobKey::Owner(blob, owner.try_into().ok()?)),
        Some((&STRETCH, offset)) => Some(BlobKey::Stretch(blob, u64::from_be_bytes(offset.try_into().ok()?))),
        Some(_) => None,
    }
}

/// Reads [`candidate_key`].
pub(crate) fn parse_candidate_key(key: &[u8]) -> Option<BlobId> {
    whole_blob(key.strip_prefix(&[keys::CANDIDATE])?)
}

/// Reads [`due_key`].
pub(crate) fn parse_due_key(key: &[u8]) -> Option<(u64, BlobId)> {
    let (due, blob) = key.strip_prefix(&[keys::DUE])?.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*due), whole_blob(blob)?))
}

/// Reads [`dead_key`].
pub(crate) fn parse_dead_key(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.strip_prefix(&[keys::DEAD])?).ok()
}

fn whole_blob(key: &[u8]) -> Option<BlobId> {
    let (blob, rest) = keys::parse_blob(key).ok()?;
    rest.is_empty().then_some(blob)
}

impl Stretch {
    /// As a record.
    pub(crate) fn encode(&self) -> Bytes {
        let mut record = Writer::new();
        record.put(tag::STRETCH_LEN, &self.len);
        record.put(tag::STRETCH_SHA256, &self.sha256.0);
        record.finish()
    }

    /// # Errors
    /// `Corrupt`.
    pub(crate) fn decode(offset: u64, bytes: &Bytes) -> Result<Self> {
        let mut record = Reader::new("stretch", bytes)?;
        let (len, sha256) = (record.need(tag::STRETCH_LEN)?, record.need(tag::STRETCH_SHA256)?);
        Ok(Self { offset, len, sha256: Sha256(sha256) })
    }
}

impl BlobRow {
    /// As a record.
    pub(crate) fn encode(&self) -> Bytes {
        let mut record = Writer::new();
        record.put(tag::PLACE, &self.place);
        record.put_unless_default(tag::SIZE_BYTES, &self.size_bytes);
        record.put_unless_default(tag::OWNERS, &self.owners);
        record.put_unless_default(tag::HAS_MORE, &self.has_more);
        record.put_unless_default(tag::STATE, &self.state);
        record.put_unknown(&self.unknown);
        record.finish()
    }

    /// # Errors
    /// `Corrupt`.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self> {
        let mut record = Reader::new("blob", bytes)?;
        Ok(Self {
            place: record.need(tag::PLACE)?,
            size_bytes: record.or_default(tag::SIZE_BYTES)?,
            owners: record.or_default(tag::OWNERS)?,
            has_more: record.or_default(tag::HAS_MORE)?,
            state: record.or_default(tag::STATE)?,
            unknown: record.unknown(),
        })
    }
}

/// The blob's row as it is.
pub(crate) async fn find_row(kv: &dyn Kv, blob: &BlobId) -> Result<Option<(BlobRow, Position)>> {
    let Some(entry) = kv.get(&keys::blob(blob)).await? else { return Ok(None) };
    Ok(Some((BlobRow::decode(&entry.value)?, entry.position)))
}

/// The file's name does not tell which blob it holds.
pub(crate) fn needs_mark(name: &str, blob: &BlobId) -> bool {
    parse_name(name).is_none_or(|(named, _)| named != *blob)
}

/// What makes a file dead.
pub(crate) fn dead_writes(name: &str, blob: &BlobId) -> Vec<Write> {
    let mut writes = vec![Write::Put(dead_key(name), Bytes::new())];
    if needs_mark(name, blob) {
        writes.push(Write::Delete(mark_key(name)));
    }
    writes
}
