//! The rows of unfinished uploads.
//!
//! | row | key | value |
//! |---|---|---|
//! | upload | bucket, object key, upload id | [`UploadRecord`] |
//! | part | upload id, 0 | counter of part commits: a completion that saw it unchanged saw all parts |
//! | part | upload id, number | [`PartRecord`] |
//!
//! References: the upload's parts file belongs to the upload id, which becomes the id of the version (or manifest) it
//! completes to, so completing changes nothing about it. Any other blob belongs to [`part_owner`], one for each
//! number: two parts of the same bytes then hold it twice, and replacing one does not let go of the other's.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use uuid::Uuid;

use super::{Part, Upload, UploadChecksum};
use crate::codec::keys::{self, Key};
use crate::codec::object::{
    WireChecksums, algorithm_number, algorithm_of, decode_checksums, encode_checksums, put_attributes,
    take_attributes, take_extents, wire_extents,
};
use crate::codec::record::{Reader, Unknown, Writer};
use crate::digest::{Algorithm, Checksum, ETag};
use crate::error::Result;
use crate::object::{At, Attributes, BlobId, Extent};
use crate::refs::Owner;
use crate::{OrgId, PartNumber, UploadId, UserId};

/// An upload as its row has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UploadRecord {
    pub(crate) initiator: Option<UserId>,
    /// Whom its bytes count for until it is complete.
    pub(crate) organisation: Option<OrgId>,
    pub(crate) created_ms: u64,
    pub(crate) attributes: Attributes,
    pub(crate) checksum: Option<(Algorithm, UploadChecksum)>,
    /// Size of the places in the parts file, bytes; `None` while no part is in it.
    pub(crate) slot: Option<u64>,
    pub(crate) unknown: Unknown,
}

/// A part as its row has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartRecord {
    pub(crate) size_bytes: u64,
    pub(crate) md5: [u8; 16],
    pub(crate) crc64nvme: u64,
    pub(crate) modified_ms: u64,
    /// In the upload's algorithm.
    pub(crate) checksum: Option<Checksum>,
    /// MIME type by the first 4 KiB: the object's when this is its first part.
    pub(crate) sniffed_type: Option<String>,
    pub(crate) extents: Vec<Extent>,
    pub(crate) unknown: Unknown,
}

/// Tags of an upload's fields; attributes have 20 to 32.
mod tag {
    pub(super) const INITIATOR: u32 = 1;
    pub(super) const ORGANISATION: u32 = 2;
    pub(super) const CREATED: u32 = 3;
    pub(super) const CHECKSUM: u32 = 4;
    pub(super) const SLOT: u32 = 5;
}

/// Tags of a part's fields.
mod part_tag {
    pub(super) const SIZE: u32 = 1;
    pub(super) const MD5: u32 = 2;
    pub(super) const CRC64: u32 = 3;
    pub(super) const MODIFIED: u32 = 4;
    pub(super) const CHECKSUM: u32 = 5;
    pub(super) const SNIFFED: u32 = 6;
    pub(super) const EXTENTS: u32 = 7;
}

/// Algorithm, and whether it is composite.
#[derive(Serialize, Deserialize)]
struct WireUploadChecksum(u8, bool);

impl UploadRecord {
    pub(crate) fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        w.put_some(tag::INITIATOR, self.initiator.map(|user| user.0.into_bytes()).as_ref());
        w.put_some(tag::ORGANISATION, self.organisation.map(|org| org.0.into_bytes()).as_ref());
        w.put(tag::CREATED, &self.created_ms);
        if let Some((algorithm, kind)) = self.checksum {
            let is_composite = kind == UploadChecksum::Composite;
            w.put(tag::CHECKSUM, &WireUploadChecksum(algorithm_number(algorithm), is_composite));
        }
        w.put_some(tag::SLOT, self.slot.as_ref());
        put_attributes(&mut w, &self.attributes);
        w.put_unknown(&self.unknown);
        w.finish()
    }

    pub(crate) fn decode(record: &Bytes) -> Result<Self> {
        let mut r = Reader::new("upload", record)?;
        let checksum = match r.take(tag::CHECKSUM)? {
            None => None,
            Some(WireUploadChecksum(number, is_composite)) => Some((
                algorithm_of(number)?,
                if is_composite { UploadChecksum::Composite } else { UploadChecksum::FullObject },
            )),
        };
        Ok(Self {
            initiator: r.take(tag::INITIATOR)?.map(|id| UserId(Uuid::from_bytes(id))),
            organisation: r.take(tag::ORGANISATION)?.map(|id| OrgId(Uuid::from_bytes(id))),
            created_ms: r.need(tag::CREATED)?,
            checksum,
            slot: r.take(tag::SLOT)?,
            attributes: take_attributes(&mut r)?,
            unknown: r.unknown(),
        })
    }

    /// As callers see it.
    pub(crate) fn upload(&self, id: UploadId, at: At) -> Upload {
        Upload {
            id,
            at,
            initiator: self.initiator,
            created_ms: self.created_ms,
            attributes: self.attributes.clone(),
            checksum: self.checksum,
        }
    }
}

impl PartRecord {
    pub(crate) fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        w.put(part_tag::SIZE, &self.size_bytes);
        w.put(part_tag::MD5, &self.md5);
        w.put(part_tag::CRC64, &self.crc64nvme);
        w.put(part_tag::MODIFIED, &self.modified_ms);
        if let Some(checksum) = &self.checksum {
            w.put(part_tag::CHECKSUM, &encode_checksums(std::slice::from_ref(checksum)));
        }
        w.put_some(part_tag::SNIFFED, self.sniffed_type.as_ref());
        if !self.extents.is_empty() {
            w.put(part_tag::EXTENTS, &wire_extents(&self.extents));
        }
        w.put_unknown(&self.unknown);
        w.finish()
    }

    pub(crate) fn decode(record: &Bytes) -> Result<Self> {
        let mut r = Reader::new("part", record)?;
        let checksums: WireChecksums = r.or_default(part_tag::CHECKSUM)?;
        Ok(Self {
            size_bytes: r.need(part_tag::SIZE)?,
            md5: r.need(part_tag::MD5)?,
            crc64nvme: r.need(part_tag::CRC64)?,
            modified_ms: r.need(part_tag::MODIFIED)?,
            checksum: decode_checksums(checksums)?.pop(),
            sniffed_type: r.take(part_tag::SNIFFED)?,
            extents: take_extents(&mut r, part_tag::EXTENTS)?,
            unknown: r.unknown(),
        })
    }

    /// As callers see it.
    pub(crate) fn part(&self, number: PartNumber) -> Part {
        Part {
            number,
            size_bytes: self.size_bytes,
            etag: ETag::of_md5(self.md5),
            modified_ms: self.modified_ms,
            checksum: self.checksum.clone(),
        }
    }

    /// The references the part's row holds: its blobs but for the upload's own parts file, which the upload holds.
    pub(crate) fn held(&self, upload: UploadId, number: PartNumber) -> Vec<(BlobId, Owner)> {
        let own = BlobId::Parts(upload);
        let mut blobs: Vec<BlobId> = self.extents.iter().map(|e| e.blob).filter(|b| *b != own).collect();
        blobs.sort_unstable();
        blobs.dedup();
        let owner = part_owner(upload, number);
        blobs.into_iter().map(|blob| (blob, owner)).collect()
    }
}

/// The owner of a part's references: a digest of upload and number, so that it is nobody else's id.
pub(crate) fn part_owner(upload: UploadId, number: PartNumber) -> Owner {
    let mut hash = sha2::Sha256::new();
    hash.update(b"part");
    hash.update(upload.0);
    hash.update(number.get().to_be_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let (owner, _) = digest.split_first_chunk().expect("a digest has 32 bytes");
    *owner
}

/// The counter of an upload's part commits: part number 0, which no part has.
pub(crate) fn part_commits(upload: UploadId) -> Bytes {
    Key::of(keys::PART).raw(&upload.0).raw(&[0, 0]).done()
}

/// An upload's part rows from a number on.
pub(crate) fn parts_from(upload: UploadId, number: u16) -> coffre_kv::Range {
    let mut range = coffre_kv::Range::prefix(keys::parts(upload));
    range.start = Key::of(keys::PART).raw(&upload.0).raw(&number.max(1).to_be_bytes()).done();
    range
}

/// Reads a part row's key back.
pub(crate) fn parse_part(row: &[u8]) -> Result<(UploadId, u16)> {
    let malformed = || crate::codec::corrupt("a part row's key has another form");
    let rest = row.strip_prefix(&[keys::PART]).ok_or_else(malformed)?;
    let (upload, rest) = keys::split::<16>(rest)?;
    let number: [u8; 2] = rest.try_into().map_err(|_| malformed())?;
    Ok((UploadId(upload), u16::from_be_bytes(number)))
}
