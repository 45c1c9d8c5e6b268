//! The key layout: first byte = table. Everything that is read together stands together.
//!
//! | byte | table | key after it | why so |
//! |---|---|---|---|
//! | 00 | kv | – | belongs to `kv` itself |
//! | 10 | bucket | name | one seek from a request's bucket name to its settings; lists by name |
//! | 20 | head | bucket id (be32), raw object key | one row is the current version; a listing is one scan in UTF-8 byte order, never stepping over old versions; last in its key the object key needs no escape |
//! | 21 | version | bucket id, escaped object key, `00 00`, `!sequence` (be64) | what is not current: older versions, and delete markers (a current one too: then there is no head row); newest first within a key |
//! | 22 | upload | bucket id, escaped object key, `00 00`, upload id | S3 lists uploads by key, then age (ids sort by time); a bucket's are one prefix |
//! | 23 | part | upload id, part number (be16) | an upload's parts are one prefix, ascending |
//! | 24 | tus | upload id | resumable uploads: whoever goes on with one knows its id and nothing else |
//! | 25 | gone | bucket id, raw object key | the sequence of a delete marker that is current: what says that a key without a head has not changed |
//! | 26 | tus due | time (be64), upload id | resumable uploads in the order in which they may expire |
//! | 30 | blob | kind, id, then `refs.rs` | the row, its inline bytes and its further owners side by side |
//! | 31 | manifest | manifest id, page (be32) | pages of 1,000 extents |
//! | 32 | manifest owner | manifest id, owner | who shares a manifest; apart from the pages so that "nobody" is one empty prefix |
//! | 33 | dead | place | files to unlink |
//! | 34 | candidate | blob | blobs that may have lost their last owner: what the sweep looks at |
//! | 35 | due | time, blob | condemned blobs in the order their grace ends |
//! | 36 | mark | file name | files whose name does not tell which blob they hold: a parts file that became content |
//! | 37 | manifest due | manifest id | manifests that may have lost their last owner |
//! | 38 | pending | version id | versions whose bytes are still to be hashed: the background's list |
//! | 40 | – | – | kept for inode numbers, should the mount ever need a way from a number to a key |
//! | 41 | file | kind, id | filing's, media's and company's ids |
//! | 42 | by | scope, filter, sort, id | the lists of views (`views.rs`) |
//! | 50 | use | measure, dimension, value | counters of `usage.rs` |
//! | 51 | serial | name | counters numbers are drawn from, in blocks |
//! | 52 | state | name | single rows of the store itself |
//! | 60 | identity | its own second byte | users, access keys, … |
//! | 61–7f | – | – | kept for the other crates above (`billing`, `jobs`) |

use bytes::Bytes;

use crate::error::Result;
use crate::name::{BucketId, BucketName, ObjectKey, PartNumber, UploadId, VersionId};
use crate::object::BlobId;

use super::corrupt;

/// Table `bucket`.
pub(crate) const BUCKET: u8 = 0x10;
/// Table `head`.
pub(crate) const HEAD: u8 = 0x20;
/// Table `version`.
pub(crate) const VERSION: u8 = 0x21;
/// Table `upload`.
pub(crate) const UPLOAD: u8 = 0x22;
/// Table `part`.
pub(crate) const PART: u8 = 0x23;
/// Table `tus`.
pub(crate) const TUS: u8 = 0x24;
/// Table `tus due`.
pub(crate) const TUS_DUE: u8 = 0x26;
/// Table `gone`.
pub(crate) const GONE: u8 = 0x25;
/// Table `blob`.
pub(crate) const BLOB: u8 = 0x30;
/// Table `manifest`.
pub(crate) const MANIFEST: u8 = 0x31;
/// Table `manifest owner`.
pub(crate) const MANIFEST_OWNER: u8 = 0x32;
/// Table `dead`.
pub(crate) const DEAD: u8 = 0x33;
/// Table `candidate`.
pub(crate) const CANDIDATE: u8 = 0x34;
/// Table `due`.
pub(crate) const DUE: u8 = 0x35;
/// Table `mark`.
pub(crate) const MARK: u8 = 0x36;
/// Table `manifest due`.
pub(crate) const MANIFEST_DUE: u8 = 0x37;
/// Table `pending`.
pub(crate) const PENDING: u8 = 0x38;
/// Table `file`.
pub(crate) const FILE: u8 = 0x41;
/// Table `by`.
pub(crate) const BY: u8 = 0x42;
/// Table `use`.
pub(crate) const USE: u8 = 0x50;
/// Table `serial`.
pub(crate) const SERIAL: u8 = 0x51;
/// Table `state`.
pub(crate) const STATE: u8 = 0x52;

/// Ends an escaped object key; sorts before everything that may follow inside one.
const END: [u8; 2] = [0, 0];

/// A key under construction.
pub(crate) struct Key(Vec<u8>);

impl Key {
    /// Begins a key of a table.
    pub(crate) fn of(table: u8) -> Self {
        let mut bytes = Vec::with_capacity(64);
        bytes.push(table);
        Self(bytes)
    }

    /// Adds bytes as they are: of fixed length, or last.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Adds a bucket's number.
    pub(crate) fn bucket(self, bucket: BucketId) -> Self {
        self.raw(&bucket.0.to_be_bytes())
    }

    /// Adds text with `00` written as `00 FF`, then `00 00`: order is kept and something may follow.
    pub(crate) fn escaped(mut self, text: &str) -> Self {
        self = self.escaped_prefix(text);
        self.raw(&END)
    }

    /// The same without the end: for scans by a prefix of the text.
    pub(crate) fn escaped_prefix(mut self, text: &str) -> Self {
        for &byte in text.as_bytes() {
            self.0.push(byte);
            if byte == 0 {
                self.0.push(0xFF);
            }
        }
        self
    }

    /// Done.
    pub(crate) fn done(self) -> Bytes {
        self.0.into()
    }
}

/// Reads escaped text back: the text and what follows its end.
pub(crate) fn unescape(bytes: &[u8]) -> Result<(String, &[u8])> {
    let mut text = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        match rest {
            [0, 0, after @ ..] => {
                let text = String::from_utf8(text).map_err(|_| corrupt("a key is not UTF-8"))?;
                return Ok((text, after));
            }
            [0, 0xFF, after @ ..] => {
                text.push(0);
                rest = after;
            }
            [0, ..] | [] => return Err(corrupt("an escaped key has no end")),
            [byte, after @ ..] => {
                text.push(*byte);
                rest = after;
            }
        }
    }
}

/// Takes `N` bytes off the front.
pub(crate) fn split<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8])> {
    let (front, rest) = bytes.split_first_chunk::<N>().ok_or_else(|| corrupt("a key is too short"))?;
    Ok((*front, rest))
}

/// Takes the table byte off and a bucket's number.
fn split_bucket(key: &[u8], table: u8) -> Result<(BucketId, &[u8])> {
    let ([first], rest) = split::<1>(key)?;
    if first != table {
        return Err(corrupt("a key is of another table"));
    }
    let (id, rest) = split(rest)?;
    Ok((BucketId(u32::from_be_bytes(id)), rest))
}

/// Row of a bucket.
pub(crate) fn bucket(name: &BucketName) -> Bytes {
    bucket_prefix(name.as_str())
}

/// Rows of the buckets whose names begin so.
pub(crate) fn bucket_prefix(prefix: &str) -> Bytes {
    Key::of(BUCKET).raw(prefix.as_bytes()).done()
}

/// Row of a key's current version.
pub(crate) fn head(bucket: BucketId, key: &ObjectKey) -> Bytes {
    head_prefix(bucket, key.as_str())
}

/// Rows of the current versions whose keys begin so.
pub(crate) fn head_prefix(bucket: BucketId, prefix: &str) -> Bytes {
    Key::of(HEAD).bucket(bucket).raw(prefix.as_bytes()).done()
}

/// Reads a head row's key back.
pub(crate) fn parse_head(key: &[u8]) -> Result<(BucketId, &str)> {
    let (bucket, text) = split_bucket(key, HEAD)?;
    Ok((bucket, std::str::from_utf8(text).map_err(|_| corrupt("a key is not UTF-8"))?))
}

/// Row of a key whose current entry is a delete marker.
pub(crate) fn gone(bucket: BucketId, key: &ObjectKey) -> Bytes {
    Key::of(GONE).bucket(bucket).raw(key.as_str().as_bytes()).done()
}

/// Row of one entry of a key's history.
pub(crate) fn version(bucket: BucketId, key: &ObjectKey, sequence: u64) -> Bytes {
    Key::of(VERSION).bucket(bucket).escaped(key.as_str()).raw(&(!sequence).to_be_bytes()).done()
}

/// Rows of a key's whole history, newest first.
pub(crate) fn versions(bucket: BucketId, key: &ObjectKey) -> Bytes {
    Key::of(VERSION).bucket(bucket).escaped(key.as_str()).done()
}

/// Rows of the history of all keys that begin so.
pub(crate) fn versions_prefix(bucket: BucketId, prefix: &str) -> Bytes {
    Key::of(VERSION).bucket(bucket).escaped_prefix(prefix).done()
}

/// Reads a version row's key back: bucket, object key, sequence.
pub(crate) fn parse_version(key: &[u8]) -> Result<(BucketId, String, u64)> {
    let (bucket, rest) = split_bucket(key, VERSION)?;
    let (text, rest) = unescape(rest)?;
    let (inverted, rest) = split(rest)?;
    if !rest.is_empty() {
        return Err(corrupt("a version key is too long"));
    }
    Ok((bucket, text, !u64::from_be_bytes(inverted)))
}

/// Row of an upload.
pub(crate) fn upload(bucket: BucketId, key: &ObjectKey, id: UploadId) -> Bytes {
    Key::of(UPLOAD).bucket(bucket).escaped(key.as_str()).raw(&id.0).done()
}

/// Rows of the uploads whose keys begin so.
pub(crate) fn uploads_prefix(bucket: BucketId, prefix: &str) -> Bytes {
    Key::of(UPLOAD).bucket(bucket).escaped_prefix(prefix).done()
}

/// Reads an upload row's key back: bucket, object key, upload.
pub(crate) fn parse_upload(key: &[u8]) -> Result<(BucketId, String, UploadId)> {
    let (bucket, rest) = split_bucket(key, UPLOAD)?;
    let (text, rest) = unescape(rest)?;
    let id = rest.try_into().map_err(|_| corrupt("an upload key has no id"))?;
    Ok((bucket, text, UploadId(id)))
}

/// Row of a part.
pub(crate) fn part(upload: UploadId, number: PartNumber) -> Bytes {
    Key::of(PART).raw(&upload.0).raw(&number.get().to_be_bytes()).done()
}

/// Rows of an upload's parts.
pub(crate) fn parts(upload: UploadId) -> Bytes {
    Key::of(PART).raw(&upload.0).done()
}

/// Row of a resumable upload.
pub(crate) fn tus(upload: UploadId) -> Bytes {
    Key::of(TUS).raw(&upload.0).done()
}

/// Row of a blob: what `refs.rs` appends to stands behind it. Kinds differ in length, and no key is a prefix of
/// another's because the kind comes first.
pub(crate) fn blob(id: &BlobId) -> Bytes {
    match id {
        BlobId::Content(sha256) => Key::of(BLOB).raw(&[1]).raw(&sha256.0).done(),
        BlobId::Parts(upload) => Key::of(BLOB).raw(&[2]).raw(&upload.0).done(),
    }
}

/// Reads a blob's id off the front of a key of its table, and what follows.
pub(crate) fn parse_blob(key: &[u8]) -> Result<(BlobId, &[u8])> {
    let ([table, kind], rest) = split::<2>(key)?;
    match (table, kind) {
        (BLOB, 1) => split(rest).map(|(id, rest)| (BlobId::Content(crate::digest::Sha256(id)), rest)),
        (BLOB, 2) => split(rest).map(|(id, rest)| (BlobId::Parts(UploadId(id)), rest)),
        _ => Err(corrupt("a blob key of an unknown kind")),
    }
}

/// Row of a page of a manifest.
pub(crate) fn manifest_page(id: UploadId, page: u32) -> Bytes {
    Key::of(MANIFEST).raw(&id.0).raw(&page.to_be_bytes()).done()
}

/// Rows of a manifest's pages.
pub(crate) fn manifest_pages(id: UploadId) -> Bytes {
    Key::of(MANIFEST).raw(&id.0).done()
}

/// Row of a version's reference to a manifest.
pub(crate) fn manifest_owner(id: UploadId, owner: VersionId) -> Bytes {
    Key::of(MANIFEST_OWNER).raw(&id.0).raw(&owner.0).done()
}

/// Rows of all references to a manifest.
pub(crate) fn manifest_owners(id: UploadId) -> Bytes {
    Key::of(MANIFEST_OWNER).raw(&id.0).done()
}

/// Row that says a manifest may have lost its last owner.
pub(crate) fn manifest_due(id: UploadId) -> Bytes {
    Key::of(MANIFEST_DUE).raw(&id.0).done()
}

/// Row of a version whose digest is pending.
pub(crate) fn pending(id: VersionId) -> Bytes {
    Key::of(PENDING).raw(&id.0).done()
}

/// Row of filing's serial number of a file.
pub(crate) fn file_filing(serial: u64) -> Bytes {
    Key::of(FILE).raw(&[1]).raw(&serial.to_be_bytes()).done()
}

/// Row of t2m's id of a file.
pub(crate) fn file_media(id: [u8; 16]) -> Bytes {
    Key::of(FILE).raw(&[2]).raw(&id).done()
}

/// Row of the company's id of a file.
pub(crate) fn file_company(id: [u8; 16]) -> Bytes {
    Key::of(FILE).raw(&[3]).raw(&id).done()
}

/// Row of a counter from which numbers are drawn.
pub(crate) fn serial(name: &str) -> Bytes {
    Key::of(SERIAL).raw(name.as_bytes()).done()
}

/// Row of the store itself.
pub(crate) fn state(name: &str) -> Bytes {
    Key::of(STATE).raw(name.as_bytes()).done()
}
