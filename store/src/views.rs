//! A record's index rows: pure (design §2.5, contract D42).
//!
//! Every commit puts `rows(new) − rows(old)` and deletes `rows(old) − rows(new)`, so a view is a function and a
//! rebuild. Rows per object beside head and blob: filing 4 or 5, media 2, company 1, others none.
//!
//! | row | key after the table | for |
//! |---|---|---|
//! | file | 1, serial (be64) | filing's `/{id}` |
//! | file | 2 or 3, 16-byte id, ino (be64) | t2m's and the company's ids, which stand in the key: two keys may name one id, the ino keeps their rows apart, the oldest inode is the one meant |
//! | by | scope, category, MIME type, `!uploaded_at` (be64), `!serial` (be64) | filing's lists, newest first |
//! | by | scope, kind, `!modified` (be64), id | a t2m user's lists, newest first |
//! | by | 5, hash of place, writer and content (16), serial (be64) | whether the same bytes are there already (contract D4) |
//!
//! Filing's scopes are everything, a client, and a user's four ([`Scope`]), of which a file is in one as a rule. One
//! row a scope serves four questions: with category and
//! type given it is one scan; with one of them or none it is a merge of the (few) pairs that occur, which the
//! counters of `usage.rs` name. The rows carry what combined filters and `search` look at, so that these scan one
//! index and read heads only for the page shown. The mount needs no row: the kernel never asks for a number whose name it has
//! not looked up, and the record has the number.

use bytes::Bytes;
use sha2::Digest as _;

use crate::codec::keys::{self, Key};
use crate::codec::record::{Reader, Writer};
use crate::digest::Sha256;
use crate::error::Result;
use crate::name::{BucketId, ObjectKey, UserId};
use crate::object::{Bucket, BuiltIn, Digest, ObjectIds, Version};
use crate::scheme::{Category, Filing, Media, Place};

/// A list that filing keeps. What a caller sees is a union of some that have no file in common: an ADMIN all, a user
/// its own and its clients'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope<'a> {
    /// Everybody's: an ADMIN's list.
    All,
    /// A client's.
    Client(&'a str),
    /// Under `general/`: written by the user and its own.
    Own(UserId),
    /// Written by the user for some client.
    ForClients(UserId),
    /// Under `general/`: written by the user, somebody else's (as when an ADMIN edits it in the mount).
    ForOthers(UserId),
    /// Under `general/`: the user's own, last written by somebody else.
    ByOthers(UserId),
}

/// A t2m file's kind, by its MIME type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaKind {
    /// Anything else.
    Document,
    /// `image/…`.
    Image,
    /// `video/…`.
    Video,
    /// `audio/…`.
    Audio,
}

/// What an index row says of the object it points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer {
    /// Its bucket.
    pub bucket: BucketId,
    /// Its key.
    pub key: String,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Filing's `file_name`, when it is not the key's last segment.
    pub label: Option<String>,
    /// Who wrote it.
    pub writer: Option<UserId>,
    /// It is open to everyone.
    pub is_public: bool,
}

/// The rows that index a version that is current at this key.
pub fn rows(bucket: &Bucket, key: &ObjectKey, version: &Version) -> Vec<(Bytes, Bytes)> {
    match bucket.place.and_then(|place| Place::parse(place, key)) {
        Some(Place::Filing(place)) => filing_rows(bucket, key, version, &place),
        Some(Place::Media(place)) => media_rows(bucket, key, version, &place),
        Some(Place::Company(place)) => {
            let id = keys::file_company(place.file_id.into_bytes());
            vec![(shared_id(&id, version.ino), pointer(bucket, key, version))]
        }
        Some(Place::Gateway(_)) | None => Vec::new(),
    }
}

/// The lists a current version stands in, as the prefixes of its rows there: what `usage` counts lists by.
pub(crate) fn lists(bucket: &Bucket, key: &ObjectKey, version: &Version) -> Vec<Bytes> {
    match bucket.place.and_then(|place| Place::parse(place, key)) {
        Some(Place::Filing(place)) if version.ids.filing.is_some() => {
            let mime = type_essence(version);
            let by = |scope: Scope<'_>| filing_list_prefix(scope, place.category, &mime);
            scopes(&place, version).into_iter().flatten().map(by).collect()
        }
        Some(Place::Media(place)) => {
            vec![media_list_prefix(place.user, MediaKind::of(&type_essence(version)))]
        }
        Some(Place::Filing(_) | Place::Company(_) | Place::Gateway(_)) | None => Vec::new(),
    }
}

/// The lists of filing a current version stands in, whatever category and type: their rows' prefixes.
pub(crate) fn filing_scopes(bucket: &Bucket, key: &ObjectKey, version: &Version) -> Vec<Bytes> {
    match bucket.place.and_then(|place| Place::parse(place, key)) {
        Some(Place::Filing(place)) if version.ids.filing.is_some() => {
            scopes(&place, version).into_iter().flatten().map(filing_scope_prefix).collect()
        }
        _ => Vec::new(),
    }
}

/// The ids of an object at this key: its serial number, and those that stand in the key. Filing's serial number stays
/// with an object that leaves the scheme, so that it comes back as the same file.
pub fn ids_at(bucket: &Bucket, key: &ObjectKey, filing: Option<u64>) -> ObjectIds {
    let place = bucket.place.and_then(|place| Place::parse(place, key));
    ObjectIds {
        filing,
        media: if let Some(Place::Media(place)) = &place { Some(place.file_id.into_bytes()) } else { None },
        company: if let Some(Place::Company(place)) = &place {
            Some(place.file_id.into_bytes())
        } else {
            None
        },
    }
}

/// Whether an object at this key needs a serial number.
pub fn needs_serial(bucket: &Bucket, key: &ObjectKey) -> bool {
    let place = bucket.place.filter(|place| *place == BuiltIn::Filing);
    place.is_some_and(|place| Place::parse(place, key).is_some())
}

/// The MIME type that filing shows (contract D17): the declared one unless it says nothing, then the sniffed one.
pub fn shown_type(version: &Version) -> &str {
    let declared = version.attributes.content_type.as_deref();
    let says_something = |mime: &&str| !mime.is_empty() && !mime.eq_ignore_ascii_case("binary/octet-stream");
    declared.filter(says_something).or(version.sniffed_type.as_deref()).unwrap_or("application/octet-stream")
}

/// Longest MIME type in an index row, bytes; RFC 6838 allows 127 on each side, real ones stay under 80. What is
/// longer is listed as `application/octet-stream`, so that a made-up header cannot outgrow a row's key.
const TYPE_BYTES_MAX: usize = 255;

/// The type that lists filter and count by: without parameters, lower case.
pub fn type_essence(version: &Version) -> String {
    let shown = shown_type(version);
    let essence = shown.split(';').next().unwrap_or(shown).trim();
    let essence = if essence.len() > TYPE_BYTES_MAX { "application/octet-stream" } else { essence };
    essence.to_ascii_lowercase()
}

impl MediaKind {
    /// Of a MIME type.
    pub fn of(mime: &str) -> Self {
        match mime.split('/').next() {
            Some("image") => Self::Image,
            Some("video") => Self::Video,
            Some("audio") => Self::Audio,
            _ => Self::Document,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Document => 1,
            Self::Image => 2,
            Self::Video => 3,
            Self::Audio => 4,
        }
    }
}

fn filing_rows(bucket: &Bucket, key: &ObjectKey, version: &Version, place: &Filing) -> Vec<(Bytes, Bytes)> {
    let Some(serial) = version.ids.filing else { return Vec::new() };
    let value = pointer(bucket, key, version);
    let mime = type_essence(version);
    let by = |scope: Scope<'_>| {
        let row = filing_list(scope, place.category, &mime)
            .raw(&(!version.modified_ms).to_be_bytes())
            .raw(&(!serial).to_be_bytes());
        (row.done(), value.clone())
    };
    let mut rows = vec![(keys::file_filing(serial), value.clone())];
    rows.extend(scopes(place, version).into_iter().flatten().map(by));
    if let (Some(writer), Digest::Known(sha256)) = (version.writer, version.sha256) {
        let row = filing_same(&place.folder(), writer, &sha256).raw(&serial.to_be_bytes());
        rows.push((row.done(), Bytes::new()));
    }
    rows
}

/// The scopes a file is in.
fn scopes<'a>(place: &'a Filing, version: &Version) -> [Option<Scope<'a>>; 4] {
    let [client, writer, owner] = match (place.client.as_deref(), version.writer, version.owner) {
        (Some(client), writer, _) => [Some(Scope::Client(client)), writer.map(Scope::ForClients), None],
        (None, Some(writer), Some(owner)) if writer == owner => [None, Some(Scope::Own(owner)), None],
        (None, writer, owner) => [None, writer.map(Scope::ForOthers), owner.map(Scope::ByOthers)],
    };
    [Some(Scope::All), client, writer, owner]
}

/// Rows of the files of the same bytes, place and writer.
pub(crate) fn filing_same_prefix(folder: &str, writer: UserId, sha256: &Sha256) -> Bytes {
    filing_same(folder, writer, sha256).done()
}

/// Half a SHA-256 keeps the row short; who finds one looks at the record.
fn filing_same(folder: &str, writer: UserId, sha256: &Sha256) -> Key {
    let mut hash = sha2::Sha256::new();
    hash.update(writer.0.as_bytes());
    hash.update(sha256.0);
    hash.update(folder.as_bytes());
    let hash = hash.finalize();
    Key::of(keys::BY).raw(&[5]).raw(hash.get(..16).unwrap_or_default())
}

/// Rows of a scope's lists, whatever category and type.
pub fn filing_scope_prefix(scope: Scope<'_>) -> Bytes {
    filing_scope(scope).done()
}

/// Rows of one scope, category and type, newest first.
pub fn filing_list_prefix(scope: Scope<'_>, category: Category, mime: &str) -> Bytes {
    filing_list(scope, category, mime).done()
}

/// Category and MIME type of what follows a scope's prefix, and what follows them.
///
/// # Errors
/// `Corrupt` when it is none.
pub(crate) fn parse_filing_list(rest: &[u8]) -> Result<(Category, String, &[u8])> {
    let ([number], rest) = keys::split::<1>(rest)?;
    let category = Category::ALL.into_iter().find(|category| category_number(*category) == number);
    let category =
        category.ok_or_else(|| crate::codec::corrupt("a row of filing's lists has another form"))?;
    let (mime, rest) = keys::unescape(rest)?;
    Ok((category, mime, rest))
}

fn filing_scope(scope: Scope<'_>) -> Key {
    let key = Key::of(keys::BY);
    match scope {
        Scope::All => key.raw(&[1]),
        Scope::Client(client) => key.raw(&[2]).escaped(client),
        Scope::Own(user) => user_scope(key, user, 1),
        Scope::ForClients(user) => user_scope(key, user, 2),
        Scope::ForOthers(user) => user_scope(key, user, 3),
        Scope::ByOthers(user) => user_scope(key, user, 4),
    }
}

fn user_scope(key: Key, user: UserId, which: u8) -> Key {
    key.raw(&[3]).raw(user.0.as_bytes()).raw(&[which])
}

fn filing_list(scope: Scope<'_>, category: Category, mime: &str) -> Key {
    filing_scope(scope).raw(&[category_number(category)]).escaped(mime)
}

/// A category's number in keys.
fn category_number(category: Category) -> u8 {
    match category {
        Category::Devis => 1,
        Category::Facture => 2,
        Category::Contrat => 3,
        Category::Document => 4,
        Category::Image => 5,
        Category::Autre => 6,
    }
}

fn media_rows(bucket: &Bucket, key: &ObjectKey, version: &Version, place: &Media) -> Vec<(Bytes, Bytes)> {
    let value = pointer(bucket, key, version);
    let by_user = media_list(place.user, MediaKind::of(&type_essence(version)))
        .raw(&(!version.modified_ms).to_be_bytes())
        .raw(place.file_id.as_bytes())
        .raw(&version.ino.to_be_bytes());
    let id = keys::file_media(place.file_id.into_bytes());
    vec![(shared_id(&id, version.ino), value.clone()), (by_user.done(), value)]
}

/// Rows of a t2m user's files of a kind, newest first.
pub fn media_list_prefix(user: UserId, kind: MediaKind) -> Bytes {
    media_list(user, kind).done()
}

fn media_list(user: UserId, kind: MediaKind) -> Key {
    Key::of(keys::BY).raw(&[4]).raw(user.0.as_bytes()).raw(&[kind.number()])
}

/// An id that stands in keys, made unique by the inode number.
fn shared_id(id: &Bytes, ino: u64) -> Bytes {
    let mut row = id.to_vec();
    row.extend_from_slice(&ino.to_be_bytes());
    row.into()
}

/// Tags of a pointer's fields.
mod tag {
    pub(super) const BUCKET: u32 = 1;
    pub(super) const KEY: u32 = 2;
    pub(super) const SIZE: u32 = 3;
    pub(super) const LABEL: u32 = 4;
    pub(super) const WRITER: u32 = 5;
    pub(super) const IS_PUBLIC: u32 = 6;
}

fn pointer(bucket: &Bucket, key: &ObjectKey, version: &Version) -> Bytes {
    let mut w = Writer::new();
    w.put(tag::BUCKET, &bucket.id.0);
    w.put(tag::KEY, key.as_str());
    w.put(tag::SIZE, &version.size_bytes);
    let label = version.attributes.label.as_deref().filter(|label| *label != key.last_segment());
    w.put_some(tag::LABEL, label.as_ref());
    w.put_some(tag::WRITER, version.writer.map(|user| user.0.into_bytes()).as_ref());
    w.put_unless_default(tag::IS_PUBLIC, &version.attributes.is_public);
    w.finish()
}

/// What lists look at in an index row, without copying it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a> {
    /// As [`Pointer::key`].
    pub(crate) key: &'a str,
    /// As [`Pointer::size_bytes`].
    pub(crate) size_bytes: u64,
    /// As [`Pointer::label`].
    pub(crate) label: Option<&'a str>,
    /// As [`Pointer::writer`].
    pub(crate) writer: Option<UserId>,
}

impl<'a> Shown<'a> {
    /// Reads an index row's value.
    pub(crate) fn decode(record: &'a [u8]) -> Result<Self> {
        let mut r = Reader::new("index row", record)?;
        Ok(Self {
            key: r.need(tag::KEY)?,
            size_bytes: r.need(tag::SIZE)?,
            label: r.take(tag::LABEL)?,
            writer: r.take(tag::WRITER)?.map(|id| UserId(uuid::Uuid::from_bytes(id))),
        })
    }

    /// The name shown in filing.
    pub(crate) fn name(&self) -> &'a str {
        self.label.unwrap_or_else(|| self.key.rsplit('/').next().unwrap_or(self.key))
    }

    /// Whose it is, under `client/`.
    pub(crate) fn client(&self) -> Option<&'a str> {
        self.key.strip_prefix("client/")?.split('/').next()
    }
}

impl Pointer {
    /// Reads an index row's value.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn decode(record: &Bytes) -> Result<Self> {
        let mut r = Reader::new("index row", record)?;
        Ok(Self {
            bucket: BucketId(r.need(tag::BUCKET)?),
            key: r.need(tag::KEY)?,
            size_bytes: r.need(tag::SIZE)?,
            label: r.take(tag::LABEL)?,
            writer: r.take(tag::WRITER)?.map(|id| UserId(uuid::Uuid::from_bytes(id))),
            is_public: r.or_default(tag::IS_PUBLIC)?,
        })
    }
}

#[cfg(test)]
mod tests;
