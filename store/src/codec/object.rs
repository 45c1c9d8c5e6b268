//! Records of versions, delete markers, buckets and manifest pages. The numbers below are the format: never used
//! again for something else.

use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::digest::{Algorithm, Checksum, ChecksumKind, ETag, Sha256};
use crate::error::{Error, Result};
use crate::name::{BucketId, BucketName, OrgId, PartNumber, UploadId, UserId, VersionId};
use crate::object::{
    Attributes, BlobId, Brief, Bucket, BuiltIn, DeleteMarker, Digest, Extent, HistoryEntry, Identity,
    Manifest, ObjectIds, PartSizes, Posix, Version, Versioning,
};

use super::corrupt;
use super::record::{Reader, Writer};

/// Tags of a version's and a delete marker's fields.
mod tag {
    pub(super) const ID: u32 = 1;
    pub(super) const IS_NULL: u32 = 2;
    pub(super) const SEQUENCE: u32 = 3;
    pub(super) const INO: u32 = 4;
    pub(super) const FILING: u32 = 5;
    pub(super) const MEDIA: u32 = 6;
    pub(super) const COMPANY: u32 = 7;
    pub(super) const OWNER: u32 = 8;
    pub(super) const ORGANISATION: u32 = 9;
    pub(super) const WRITER: u32 = 10;
    pub(super) const SIZE: u32 = 11;
    pub(super) const MODIFIED: u32 = 12;
    pub(super) const ETAG: u32 = 13;
    pub(super) const SHA256: u32 = 14;
    pub(super) const CRC64: u32 = 15;
    pub(super) const CHECKSUMS: u32 = 16;
    pub(super) const SNIFFED: u32 = 17;
    pub(super) const CONTENT_TYPE: u32 = 20;
    pub(super) const CONTENT_ENCODING: u32 = 21;
    pub(super) const CONTENT_LANGUAGE: u32 = 22;
    pub(super) const CONTENT_DISPOSITION: u32 = 23;
    pub(super) const CACHE_CONTROL: u32 = 24;
    pub(super) const EXPIRES: u32 = 25;
    pub(super) const WEBSITE_REDIRECT: u32 = 26;
    pub(super) const USER_METADATA: u32 = 27;
    pub(super) const TAGS: u32 = 28;
    pub(super) const LABEL: u32 = 29;
    pub(super) const DESCRIPTION: u32 = 30;
    pub(super) const IS_PUBLIC: u32 = 31;
    pub(super) const POSIX: u32 = 32;
    pub(super) const EXTENTS: u32 = 40;
    pub(super) const PAGED: u32 = 41;
    pub(super) const PARTS_UNIFORM: u32 = 42;
    pub(super) const PARTS_LISTED: u32 = 43;
    // 50: seal (encryption), kept free for it.
    pub(super) const IS_DELETE_MARKER: u32 = 60;
}

/// A blob's id on its way to bytes.
#[derive(Serialize, Deserialize)]
enum WireBlob {
    Content([u8; 32]),
    Parts([u8; 16]),
}

/// Blob, offset, length.
type WireExtent = (WireBlob, u64, u64);

/// Everything of [`Posix`]; a field more needs a tag more (`POSIX` is then left to old readers).
#[derive(Serialize, Deserialize)]
struct WirePosix {
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    accessed_ns: Option<i64>,
    modified_ns: Option<i64>,
    changed_ns: Option<i64>,
    xattrs: Vec<(String, Vec<u8>)>,
    symlink: Option<String>,
}

/// The record of a current or older version.
pub(crate) fn encode_version(version: &Version) -> Bytes {
    let mut w = Writer::new();
    w.put(tag::ID, &version.id.0);
    w.put_unless_default(tag::IS_NULL, &version.is_null);
    w.put(tag::SEQUENCE, &version.sequence);
    w.put(tag::INO, &version.ino);
    w.put_some(tag::FILING, version.ids.filing.as_ref());
    w.put_some(tag::MEDIA, version.ids.media.as_ref());
    w.put_some(tag::COMPANY, version.ids.company.as_ref());
    w.put_some(tag::OWNER, version.owner.map(|u| u.0.into_bytes()).as_ref());
    w.put_some(tag::ORGANISATION, version.organisation.map(|o| o.0.into_bytes()).as_ref());
    w.put_some(tag::WRITER, version.writer.map(|u| u.0.into_bytes()).as_ref());
    w.put(tag::SIZE, &version.size_bytes);
    w.put(tag::MODIFIED, &version.modified_ms);
    w.put(tag::ETAG, version.etag.as_str());
    if let Digest::Known(sha256) = version.sha256 {
        w.put(tag::SHA256, &sha256.0);
    }
    w.put_some(tag::CRC64, version.crc64nvme.as_ref());
    if !version.checksums.is_empty() {
        w.put(tag::CHECKSUMS, &encode_checksums(&version.checksums));
    }
    w.put_some(tag::SNIFFED, version.sniffed_type.as_ref());
    put_attributes(&mut w, &version.attributes);
    match &version.manifest {
        Manifest::Inline(extents) if extents.is_empty() => {}
        Manifest::Inline(extents) => w.put(tag::EXTENTS, &wire_extents(extents)),
        Manifest::Paged { id, pages } => w.put(tag::PAGED, &(id.0, *pages)),
    }
    match &version.parts {
        None => {}
        Some(PartSizes::Uniform { count, each }) => w.put(tag::PARTS_UNIFORM, &(*count, *each)),
        Some(PartSizes::Listed(sizes)) => {
            let sizes: Vec<(u16, u64)> = sizes.iter().map(|(number, size)| (number.get(), *size)).collect();
            w.put(tag::PARTS_LISTED, &sizes);
        }
    }
    w.put_unknown(&version.unknown);
    w.finish()
}

/// Reads a version's record.
pub(crate) fn decode_version(record: &[u8]) -> Result<Version> {
    read_version(&mut Reader::new("version", record)?)
}

/// A delete marker was found among the versions that are current.
pub(crate) fn marker_for_version() -> Error {
    corrupt("a delete marker stands where a version should")
}

/// Reads what a listing shows of a version's record.
pub(crate) fn decode_brief(record: &[u8]) -> Result<Brief> {
    let mut r = Reader::new("version", record)?;
    if r.take::<bool>(tag::IS_DELETE_MARKER)?.is_some() {
        return Err(marker_for_version());
    }
    Ok(Brief {
        size_bytes: r.need(tag::SIZE)?,
        modified_ms: r.need(tag::MODIFIED)?,
        etag: ETag::parse(r.need(tag::ETAG)?),
        owner: r.take_array(tag::OWNER)?.map(|id| UserId(Uuid::from_bytes(id))),
        checksums: decode_checksums(r.or_default(tag::CHECKSUMS)?)?,
    })
}

fn read_version(r: &mut Reader<'_>) -> Result<Version> {
    if r.take::<bool>(tag::IS_DELETE_MARKER)?.is_some() {
        return Err(marker_for_version());
    }
    let manifest = match (r.take::<Vec<WireExtent>>(tag::EXTENTS)?, r.take(tag::PAGED)?) {
        (extents, None) => Manifest::Inline(extents.unwrap_or_default().into_iter().map(extent).collect()),
        (None, Some((id, pages))) => Manifest::Paged { id: UploadId(id), pages },
        (Some(_), Some(_)) => return Err(corrupt("a version record has two manifests")),
    };
    let parts = match (r.take(tag::PARTS_UNIFORM)?, r.take::<Vec<(u16, u64)>>(tag::PARTS_LISTED)?) {
        (None, None) => None,
        (Some((count, each)), None) => Some(PartSizes::Uniform { count, each }),
        (None, Some(sizes)) => Some(PartSizes::Listed(
            sizes
                .into_iter()
                .map(|(number, size)| Ok((part_number(number)?, size)))
                .collect::<Result<_>>()?,
        )),
        (Some(_), Some(_)) => return Err(corrupt("a version record has two lists of parts")),
    };
    Ok(Version {
        id: VersionId(r.need(tag::ID)?),
        is_null: r.or_default(tag::IS_NULL)?,
        sequence: r.need(tag::SEQUENCE)?,
        ino: r.need(tag::INO)?,
        ids: ObjectIds {
            filing: r.take(tag::FILING)?,
            media: r.take_array(tag::MEDIA)?,
            company: r.take_array(tag::COMPANY)?,
        },
        owner: r.take_array(tag::OWNER)?.map(|id| UserId(Uuid::from_bytes(id))),
        organisation: r.take_array(tag::ORGANISATION)?.map(|id| OrgId(Uuid::from_bytes(id))),
        writer: r.take_array(tag::WRITER)?.map(|id| UserId(Uuid::from_bytes(id))),
        size_bytes: r.need(tag::SIZE)?,
        modified_ms: r.need(tag::MODIFIED)?,
        etag: ETag::parse(r.need(tag::ETAG)?),
        sha256: r.take_array(tag::SHA256)?.map_or(Digest::Pending, |sha256| Digest::Known(Sha256(sha256))),
        crc64nvme: r.take(tag::CRC64)?,
        checksums: decode_checksums(r.or_default(tag::CHECKSUMS)?)?,
        sniffed_type: r.take(tag::SNIFFED)?,
        attributes: take_attributes(r)?,
        manifest,
        parts,
        unknown: r.unknown(),
    })
}

/// The record of one entry of a key's history.
pub(crate) fn encode_history(entry: &HistoryEntry) -> Bytes {
    match entry {
        HistoryEntry::Version(version) => encode_version(version),
        HistoryEntry::DeleteMarker(marker) => {
            let mut w = Writer::new();
            w.put(tag::IS_DELETE_MARKER, &true);
            w.put(tag::ID, &marker.id.0);
            w.put_unless_default(tag::IS_NULL, &marker.is_null);
            w.put(tag::SEQUENCE, &marker.sequence);
            w.put_some(tag::INO, marker.identity.map(|identity| identity.ino).as_ref());
            w.put_some(tag::FILING, marker.identity.and_then(|identity| identity.filing).as_ref());
            w.put_some(tag::OWNER, marker.owner.map(|u| u.0.into_bytes()).as_ref());
            w.put(tag::MODIFIED, &marker.modified_ms);
            w.put_unknown(&marker.unknown);
            w.finish()
        }
    }
}

/// Reads an entry of a key's history.
pub(crate) fn decode_history(record: &[u8]) -> Result<HistoryEntry> {
    let mut r = Reader::new("version", record)?;
    if r.take::<bool>(tag::IS_DELETE_MARKER)?.is_none() {
        return Ok(HistoryEntry::Version(Box::new(read_version(&mut r)?)));
    }
    Ok(HistoryEntry::DeleteMarker(DeleteMarker {
        id: VersionId(r.need(tag::ID)?),
        is_null: r.or_default(tag::IS_NULL)?,
        sequence: r.need(tag::SEQUENCE)?,
        owner: r.take(tag::OWNER)?.map(|id| UserId(Uuid::from_bytes(id))),
        modified_ms: r.need(tag::MODIFIED)?,
        identity: match (r.take(tag::INO)?, r.take(tag::FILING)?) {
            (Some(ino), filing) => Some(Identity { ino, filing }),
            (None, _) => None,
        },
        unknown: r.unknown(),
    }))
}

/// The record of a key whose current entry is a delete marker with this sequence.
pub(crate) fn encode_gone(sequence: u64) -> Bytes {
    let mut w = Writer::new();
    w.put(tag::SEQUENCE, &sequence);
    w.finish()
}

/// Reads the sequence back.
pub(crate) fn decode_gone(record: &[u8]) -> Result<u64> {
    Reader::new("gone", record)?.need(tag::SEQUENCE)
}

/// Adds a writer's attributes (tags 20–32), also for an upload's record.
pub(crate) fn put_attributes(w: &mut Writer, a: &Attributes) {
    w.put_some(tag::CONTENT_TYPE, a.content_type.as_ref());
    w.put_some(tag::CONTENT_ENCODING, a.content_encoding.as_ref());
    w.put_some(tag::CONTENT_LANGUAGE, a.content_language.as_ref());
    w.put_some(tag::CONTENT_DISPOSITION, a.content_disposition.as_ref());
    w.put_some(tag::CACHE_CONTROL, a.cache_control.as_ref());
    w.put_some(tag::EXPIRES, a.expires.as_ref());
    w.put_some(tag::WEBSITE_REDIRECT, a.website_redirect.as_ref());
    w.put_unless_default(tag::USER_METADATA, &a.user_metadata);
    w.put_unless_default(tag::TAGS, &a.tags);
    w.put_some(tag::LABEL, a.label.as_ref());
    w.put_some(tag::DESCRIPTION, a.description.as_ref());
    w.put_unless_default(tag::IS_PUBLIC, &a.is_public);
    if let Some(posix) = a.posix.as_deref() {
        let Posix { mode, uid, gid, accessed_ns, modified_ns, changed_ns, xattrs, symlink } = posix.clone();
        w.put(
            tag::POSIX,
            &WirePosix { mode, uid, gid, accessed_ns, modified_ns, changed_ns, xattrs, symlink },
        );
    }
}

/// Takes a writer's attributes back.
pub(crate) fn take_attributes(r: &mut Reader<'_>) -> Result<Attributes> {
    let posix = r.take::<WirePosix>(tag::POSIX)?.map(|wire| {
        let WirePosix { mode, uid, gid, accessed_ns, modified_ns, changed_ns, xattrs, symlink } = wire;
        Box::new(Posix { mode, uid, gid, accessed_ns, modified_ns, changed_ns, xattrs, symlink })
    });
    Ok(Attributes {
        content_type: r.take(tag::CONTENT_TYPE)?,
        content_encoding: r.take(tag::CONTENT_ENCODING)?,
        content_language: r.take(tag::CONTENT_LANGUAGE)?,
        content_disposition: r.take(tag::CONTENT_DISPOSITION)?,
        cache_control: r.take(tag::CACHE_CONTROL)?,
        expires: r.take(tag::EXPIRES)?,
        website_redirect: r.take(tag::WEBSITE_REDIRECT)?,
        user_metadata: r.or_default(tag::USER_METADATA)?,
        tags: r.or_default(tag::TAGS)?,
        label: r.take(tag::LABEL)?,
        description: r.take(tag::DESCRIPTION)?,
        is_public: r.or_default(tag::IS_PUBLIC)?,
        posix,
    })
}

/// The record of a page of a manifest.
pub(crate) fn encode_page(extents: &[Extent]) -> Bytes {
    let mut w = Writer::new();
    w.put(tag::EXTENTS, &wire_extents(extents));
    w.finish()
}

/// Reads a page of a manifest.
pub(crate) fn decode_page(record: &[u8]) -> Result<Vec<Extent>> {
    let mut r = Reader::new("manifest", record)?;
    Ok(r.need::<Vec<WireExtent>>(tag::EXTENTS)?.into_iter().map(extent).collect())
}

/// Extents as they go into a field.
pub(crate) fn wire_extents(extents: &[Extent]) -> impl Serialize + use<> {
    let wire = |extent: &Extent| {
        let blob = match extent.blob {
            BlobId::Content(sha256) => WireBlob::Content(sha256.0),
            BlobId::Parts(upload) => WireBlob::Parts(upload.0),
        };
        (blob, extent.offset, extent.len)
    };
    extents.iter().map(wire).collect::<Vec<WireExtent>>()
}

/// Takes extents out of a field; none when it is not there.
pub(crate) fn take_extents(r: &mut Reader<'_>, tag: u32) -> Result<Vec<Extent>> {
    Ok(r.or_default::<Vec<WireExtent>>(tag)?.into_iter().map(extent).collect())
}

fn extent((blob, offset, len): WireExtent) -> Extent {
    let blob = match blob {
        WireBlob::Content(sha256) => BlobId::Content(Sha256(sha256)),
        WireBlob::Parts(upload) => BlobId::Parts(UploadId(upload)),
    };
    Extent { blob, offset, len }
}

fn part_number(number: u16) -> Result<PartNumber> {
    PartNumber::try_from(i64::from(number)).map_err(|_| corrupt("a part number beyond 10,000"))
}

/// Checksums as they go into a field.
pub(crate) fn encode_checksums(checksums: &[Checksum]) -> impl Serialize + use<> {
    let wire = |checksum: &Checksum| {
        let parts = match checksum.kind {
            ChecksumKind::FullObject => None,
            ChecksumKind::Composite { parts } => Some(parts),
        };
        (algorithm_number(checksum.algorithm), parts, checksum.value.clone())
    };
    checksums.iter().map(wire).collect::<WireChecksums>()
}

/// Algorithm, parts when composite, value.
pub(crate) type WireChecksums = Vec<(u8, Option<u32>, Vec<u8>)>;

/// Checksums from a field.
pub(crate) fn decode_checksums(wire: WireChecksums) -> Result<Vec<Checksum>> {
    wire.into_iter()
        .map(|(number, parts, value)| {
            let algorithm = algorithm_of(number)?;
            if value.len() != algorithm.len_bytes() {
                return Err(corrupt("a checksum has the wrong length"));
            }
            let kind = parts.map_or(ChecksumKind::FullObject, |parts| ChecksumKind::Composite { parts });
            Ok(Checksum { algorithm, kind, value })
        })
        .collect()
}

/// An algorithm's number in records.
pub(crate) fn algorithm_number(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::Crc32 => 1,
        Algorithm::Crc32c => 2,
        Algorithm::Crc64Nvme => 3,
        Algorithm::Sha1 => 4,
        Algorithm::Sha256 => 5,
    }
}

/// The algorithm of a number.
pub(crate) fn algorithm_of(number: u8) -> Result<Algorithm> {
    Ok(match number {
        1 => Algorithm::Crc32,
        2 => Algorithm::Crc32c,
        3 => Algorithm::Crc64Nvme,
        4 => Algorithm::Sha1,
        5 => Algorithm::Sha256,
        _ => return Err(corrupt("a checksum of an unknown algorithm")),
    })
}

/// Tags of a bucket's fields.
mod bucket_tag {
    pub(super) const NAME: u32 = 1;
    pub(super) const ID: u32 = 2;
    pub(super) const PLACE: u32 = 3;
    pub(super) const OWNER: u32 = 4;
    pub(super) const CREATED: u32 = 5;
    pub(super) const VERSIONING: u32 = 6;
    pub(super) const TAGS: u32 = 7;
    pub(super) const POLICY: u32 = 8;
    pub(super) const BLOCKS_PUBLIC: u32 = 9;
}

/// The record of a bucket.
pub(crate) fn encode_bucket(bucket: &Bucket) -> Bytes {
    let mut w = Writer::new();
    w.put(bucket_tag::NAME, bucket.name.as_str());
    w.put(bucket_tag::ID, &bucket.id.0);
    let place = bucket.place.map(|place| match place {
        BuiltIn::Filing => 1u8,
        BuiltIn::Gateway => 2,
        BuiltIn::Media => 3,
        BuiltIn::Companies => 4,
    });
    w.put_some(bucket_tag::PLACE, place.as_ref());
    w.put_some(bucket_tag::OWNER, bucket.owner.map(|u| u.0.into_bytes()).as_ref());
    w.put(bucket_tag::CREATED, &bucket.created_ms);
    let versioning = match bucket.versioning {
        Versioning::Off => 0u8,
        Versioning::Enabled => 1,
        Versioning::Suspended => 2,
    };
    w.put_unless_default(bucket_tag::VERSIONING, &versioning);
    w.put_unless_default(bucket_tag::TAGS, &bucket.tags);
    w.put_some(bucket_tag::POLICY, bucket.policy.as_ref());
    w.put_unless_default(bucket_tag::BLOCKS_PUBLIC, &bucket.blocks_public);
    w.put_unknown(&bucket.unknown);
    w.finish()
}

/// Reads a bucket's record.
pub(crate) fn decode_bucket(record: &[u8]) -> Result<Bucket> {
    let mut r = Reader::new("bucket", record)?;
    let place = match r.take::<u8>(bucket_tag::PLACE)? {
        None => None,
        Some(1) => Some(BuiltIn::Filing),
        Some(2) => Some(BuiltIn::Gateway),
        Some(3) => Some(BuiltIn::Media),
        Some(4) => Some(BuiltIn::Companies),
        Some(_) => return Err(corrupt("a bucket of an unknown place")),
    };
    let versioning = match r.or_default::<u8>(bucket_tag::VERSIONING)? {
        0 => Versioning::Off,
        1 => Versioning::Enabled,
        2 => Versioning::Suspended,
        _ => return Err(corrupt("a bucket of an unknown versioning")),
    };
    let name = BucketName::from_str(r.need(bucket_tag::NAME)?).map_err(|_| corrupt("a bucket's name"))?;
    Ok(Bucket {
        name,
        id: BucketId(r.need(bucket_tag::ID)?),
        place,
        owner: r.take(bucket_tag::OWNER)?.map(|id| UserId(Uuid::from_bytes(id))),
        created_ms: r.need(bucket_tag::CREATED)?,
        versioning,
        tags: r.or_default(bucket_tag::TAGS)?,
        policy: r.take(bucket_tag::POLICY)?,
        blocks_public: r.or_default(bucket_tag::BLOCKS_PUBLIC)?,
        unknown: r.unknown(),
    })
}
