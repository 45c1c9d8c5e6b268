//! A record's index rows: pure (design §2.5, contract D42).
//!
//! Every commit puts `rows(new) − rows(old)` and deletes `rows(old) − rows(new)`, so a view is a function and a
//! rebuild. Rows per object beside head and blob: filing 3 or 4, media 2, company 1, others none.
//!
//! | row | key after the table | for |
//! |---|---|---|
//! | file | 1, serial (be64) | filing's `/{id}` |
//! | file | 2 or 3, 16-byte id, ino (be64) | t2m's and the company's ids, which stand in the key: two keys may name one id, the ino keeps their rows apart, the oldest inode is the one meant |
//! | by | scope, category, MIME type, `!uploaded_at` (be64), `!serial` (be64) | filing's lists, newest first |
//! | by | scope, kind, `!modified` (be64), id | a t2m user's lists, newest first |
//!
//! Filing's scopes are everything, a client, an uploader. One row a scope serves four questions: with category and
//! type given it is one scan; with one of them or none it is a merge of the (few) pairs that occur, found by seeking
//! from one to the next. The rows carry what combined filters and `search` look at, so that these scan one index and
//! read heads only for the page shown. The mount needs no row: the kernel never asks for a number whose name it has
//! not looked up, and the record has the number.

use bytes::Bytes;

use crate::codec::keys::{self, Key};
use crate::codec::record::{Reader, Writer};
use crate::error::Result;
use crate::name::{BucketId, ObjectKey, UserId};
use crate::object::{Bucket, BuiltIn, ObjectIds, Version};
use crate::scheme::{Category, Filing, Media, Place};

/// Whose files a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Everybody's: an ADMIN's list.
    All,
    /// A client's.
    Client(&'a str),
    /// What a user uploaded.
    Uploader(UserId),
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
            let mut lists = vec![by(Scope::All)];
            lists.extend(place.client.as_deref().map(|client| by(Scope::Client(client))));
            lists.extend(version.writer.map(|writer| by(Scope::Uploader(writer))));
            lists
        }
        Some(Place::Media(place)) => {
            vec![media_list_prefix(place.user, MediaKind::of(&type_essence(version)))]
        }
        Some(Place::Filing(_) | Place::Company(_) | Place::Gateway(_)) | None => Vec::new(),
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
    let mut rows = vec![(keys::file_filing(serial), value.clone()), by(Scope::All)];
    rows.extend(place.client.as_deref().map(|client| by(Scope::Client(client))));
    rows.extend(version.writer.map(|writer| by(Scope::Uploader(writer))));
    rows
}

/// Rows of a scope's lists, whatever category and type.
pub fn filing_scope_prefix(scope: Scope<'_>) -> Bytes {
    filing_scope(scope).done()
}

/// Rows of one scope, category and type, newest first.
pub fn filing_list_prefix(scope: Scope<'_>, category: Category, mime: &str) -> Bytes {
    filing_list(scope, category, mime).done()
}

/// Category, MIME type, upload time and serial of a row under [`filing_scope_prefix`].
///
/// # Errors
/// `Corrupt` when it is none.
pub fn parse_filing_row(scope: Scope<'_>, row: &[u8]) -> Result<(Category, String, u64, u64)> {
    let corrupt = || crate::codec::corrupt("a row of filing's lists has another form");
    let rest = row.strip_prefix(filing_scope_prefix(scope).as_ref()).ok_or_else(corrupt)?;
    let ([number], rest) = keys::split::<1>(rest)?;
    let category = Category::ALL.into_iter().find(|c| category_number(*c) == number).ok_or_else(corrupt)?;
    let (mime, rest) = keys::unescape(rest)?;
    let (modified, rest) = keys::split::<8>(rest)?;
    let (serial, _) = keys::split::<8>(rest)?;
    Ok((category, mime, !u64::from_be_bytes(modified), !u64::from_be_bytes(serial)))
}

fn filing_scope(scope: Scope<'_>) -> Key {
    let key = Key::of(keys::BY);
    match scope {
        Scope::All => key.raw(&[1]),
        Scope::Client(client) => key.raw(&[2]).escaped(client),
        Scope::Uploader(user) => key.raw(&[3]).raw(user.0.as_bytes()),
    }
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
