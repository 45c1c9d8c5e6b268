//! What is stored: buckets, versions, delete markers, content. Plain values; `codec.rs` turns them into records.

use std::net::IpAddr;

use crate::digest::{Checksum, ETag, Sha256};
use crate::name::{BucketId, BucketName, ObjectKey, OrgId, PartNumber, UploadId, UserId, VersionId};

/// A range of a blob, in bytes, half open: `[offset, offset + len)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Which blob.
    pub blob: BlobId,
    /// First byte.
    pub offset: u64,
    /// How many.
    pub len: u64,
}

/// Immutable bytes stored once. Named by content, or, until the content of a composed file has been hashed, by the
/// upload whose parts share the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlobId {
    /// By the SHA-256 of its bytes.
    Content(Sha256),
    /// The parts file of an upload (design §2.3): its bytes are written once per part, its digest comes later.
    Parts(UploadId),
}

/// Most extents that stand in the version's own record; more go to pages of their own (design §2.3).
pub const EXTENTS_INLINE_MAX: usize = 32;

/// The ordered extents that are a version's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    /// In the record; empty for an object without bytes. The version owns the blob references.
    Inline(Vec<Extent>),
    /// In `manifest/{id}/{page}` rows of 1,000 extents, shared by reference; the manifest owns the blob references
    /// and the version owns a reference to the manifest.
    Paged {
        /// The upload that was completed.
        id: UploadId,
        /// How many pages.
        pages: u32,
    },
}

/// The SHA-256 of a version's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// Known.
    Known(Sha256),
    /// A composed version whose bytes have not been hashed yet.
    Pending,
}

/// Sizes of the parts a version was completed from (for `partNumber` reads and GetObjectAttributes).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartSizes {
    /// All but the last have the same size.
    Uniform {
        /// How many parts.
        count: u32,
        /// Size of all but the last, bytes.
        each: u64,
    },
    /// Each one's number and size, in order; kept in the record up to 10,000.
    Listed(Vec<(PartNumber, u64)>),
}

impl PartSizes {
    /// How many parts.
    pub fn count(&self) -> u32 {
        match self {
            Self::Uniform { count, .. } => *count,
            Self::Listed(sizes) => u32::try_from(sizes.len()).unwrap_or(u32::MAX),
        }
    }
}

/// Who does something. Made by `identity` when the caller is authenticated; values, no lookups behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Who it is.
    pub who: Who,
    /// The user's name, for `aws:username`; `None` for who has none.
    pub name: Option<String>,
    /// May do everything.
    pub is_admin: bool,
    /// Member of these.
    pub organisations: Vec<OrgId>,
    /// Comes with a token of this one: what it writes counts for it (contract D22).
    pub organisation: Option<OrgId>,
    /// May use these clients' files (contract §2).
    pub clients: Vec<String>,
    /// `{application}/{grant}` prefix of the gateway keys this principal owns; `None` outside gateway tokens.
    pub gateway_prefix: Option<String>,
}

/// The three kinds of principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// Nobody in particular.
    Anonymous,
    /// A user.
    User(UserId),
    /// The daemon itself: lifecycle, gc, the command line on the control socket.
    System,
}

impl Principal {
    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self {
            who: Who::Anonymous,
            name: None,
            is_admin: false,
            organisations: vec![],
            organisation: None,
            clients: vec![],
            gateway_prefix: None,
        }
    }

    /// The daemon itself.
    pub fn system() -> Self {
        Self { who: Who::System, is_admin: true, ..Self::anonymous() }
    }

    /// The user, when it is one.
    pub fn user(&self) -> Option<UserId> {
        match self.who {
            Who::User(id) => Some(id),
            Who::Anonymous | Who::System => None,
        }
    }
}

/// Through which door a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Door {
    /// The S3 API.
    S3,
    /// The FUSE mount.
    Mount,
    /// The REST API.
    Rest,
    /// The control socket and the daemon's own work.
    Control,
}

/// Facts of the request that policies may ask about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// The client's address (after trusted proxies).
    pub client_address: Option<IpAddr>,
    /// Came over TLS.
    pub is_secure: bool,
    /// `User-Agent`, for `aws:UserAgent`.
    pub user_agent: Option<String>,
    /// `Referer`, for `aws:Referer`.
    pub referer: Option<String>,
    /// A listing's delimiter, for `s3:delimiter`.
    pub delimiter: Option<String>,
    /// A listing's page size as asked for, for `s3:max-keys`.
    pub max_keys: Option<u32>,
}

/// What belongs to content and is not bytes: set by the writer, kept as given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Declared MIME type.
    pub content_type: Option<String>,
    /// `Content-Encoding`, without `aws-chunked`.
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    pub content_language: Option<String>,
    /// `Content-Disposition`.
    pub content_disposition: Option<String>,
    /// `Cache-Control`.
    pub cache_control: Option<String>,
    /// `Expires`, as sent.
    pub expires: Option<String>,
    /// `x-amz-website-redirect-location`.
    pub website_redirect: Option<String>,
    /// `x-amz-meta-*` and its kin: lower-case names without the prefix, in order.
    pub user_metadata: Vec<(String, String)>,
    /// Object tags, at most 10.
    pub tags: Vec<(String, String)>,
    /// Filing's `file_name`: a label, not the key (contract D5).
    pub label: Option<String>,
    /// Filing's description.
    pub description: Option<String>,
    /// Opens the object to everyone (contract D26).
    pub is_public: bool,
    /// What a file system keeps beside the bytes; `None` until the mount sets something.
    pub posix: Option<Box<Posix>>,
}

/// File-system attributes (contract §4).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Posix {
    /// Permission bits and type as in `st_mode`.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Access time, ns since 1970.
    pub accessed_ns: Option<i64>,
    /// Modification time, ns since 1970.
    pub modified_ns: Option<i64>,
    /// Status change time, ns since 1970.
    pub changed_ns: Option<i64>,
    /// Extended attributes.
    pub xattrs: Vec<(String, Vec<u8>)>,
    /// Where a symbolic link points.
    pub symlink: Option<String>,
}

/// Ids that views give an object (contract D1): each is an index on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectIds {
    /// Filing's serial number.
    pub filing: Option<u64>,
    /// t2m's id, without its `file_` prefix.
    pub media: Option<[u8; 16]>,
    /// The company's UUID.
    pub company: Option<[u8; 16]>,
}

/// One version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Names it; owns its references.
    pub id: VersionId,
    /// It is S3's `null` version: written while versioning was not enabled.
    pub is_null: bool,
    /// 1 for a key's first version, the previous one's + 1 after; never the clock.
    pub sequence: u64,
    /// The inode number the mount shows.
    pub ino: u64,
    /// Ids given by views.
    pub ids: ObjectIds,
    /// Whose it is; `None` for an anonymous writer.
    pub owner: Option<UserId>,
    /// The organisation it counts for.
    pub organisation: Option<OrgId>,
    /// Who wrote it.
    pub writer: Option<UserId>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// When it became current, ms since 1970.
    pub modified_ms: u64,
    /// The entity tag.
    pub etag: ETag,
    /// SHA-256 of the content.
    pub sha256: Digest,
    /// CRC-64/NVME of the content, where it was computed over the whole.
    pub crc64nvme: Option<u64>,
    /// Checksums that the client gave and we verified; shown back to it.
    pub checksums: Vec<Checksum>,
    /// MIME type by the first 4 KiB; `None` when they say nothing.
    pub sniffed_type: Option<String>,
    /// What the writer set.
    pub attributes: Attributes,
    /// The bytes.
    pub manifest: Manifest,
    /// How it was completed; `None` for a simple put.
    pub parts: Option<PartSizes>,
    /// Fields of a newer format, kept as they are: tag and bytes.
    pub unknown: Vec<(u32, bytes::Bytes)>,
}

/// What S3's listings show of a current version: a quarter of what there is to decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brief {
    /// As [`Version::size_bytes`].
    pub size_bytes: u64,
    /// As [`Version::modified_ms`].
    pub modified_ms: u64,
    /// As [`Version::etag`].
    pub etag: ETag,
    /// As [`Version::owner`].
    pub owner: Option<UserId>,
    /// As [`Version::checksums`].
    pub checksums: Vec<Checksum>,
}

impl From<Version> for Brief {
    fn from(version: Version) -> Self {
        let Version { size_bytes, modified_ms, etag, owner, checksums, .. } = version;
        Self { size_bytes, modified_ms, etag, owner, checksums }
    }
}

/// Says that from its sequence on the key is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteMarker {
    /// Names it.
    pub id: VersionId,
    /// It stands for the `null` version.
    pub is_null: bool,
    /// As [`Version::sequence`].
    pub sequence: u64,
    /// Who deleted.
    pub owner: Option<UserId>,
    /// When, ms since 1970.
    pub modified_ms: u64,
    /// Whose place it took: what becomes current when it is removed is that file again. `None`: it was moved away.
    pub identity: Option<Identity>,
    /// Fields of a newer format, kept as they are: tag and bytes.
    pub unknown: Vec<(u32, bytes::Bytes)>,
}

/// What makes an object the same file to who knows it by a number. It stays through overwrites and goes along when the
/// object is renamed; no two current versions have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// As [`Version::ino`].
    pub ino: u64,
    /// As [`ObjectIds::filing`].
    pub filing: Option<u64>,
}

/// One entry of a key's history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryEntry {
    /// A version with content.
    Version(Box<Version>),
    /// A delete marker.
    DeleteMarker(DeleteMarker),
}

/// Whether overwriting keeps what was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Versioning {
    /// Never was enabled.
    #[default]
    Off,
    /// Each write adds a version.
    Enabled,
    /// Writes replace the `null` version, older versions stay.
    Suspended,
}

/// A named container with settings, owner and policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: BucketName,
    /// Its number.
    pub id: BucketId,
    /// Which of the built-in buckets it is; `None` for a user's own.
    pub place: Option<BuiltIn>,
    /// Whose it is; `None`: the system's (contract D2).
    pub owner: Option<UserId>,
    /// When it was made, ms since 1970.
    pub created_ms: u64,
    /// Versioning.
    pub versioning: Versioning,
    /// Tags.
    pub tags: Vec<(String, String)>,
    /// The policy document as it was put (JSON).
    pub policy: Option<String>,
    /// Policies and ACLs that open it to everyone are without effect (contract D36).
    pub blocks_public: bool,
    /// Fields of a newer format, kept as they are.
    pub unknown: Vec<(u32, bytes::Bytes)>,
}

/// The buckets made at first start (contract §1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BuiltIn {
    /// `files`.
    Filing,
    /// `gateway`.
    Gateway,
    /// `media`.
    Media,
    /// `companies`.
    Companies,
}

/// Where an object stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct At {
    /// Its bucket.
    pub bucket: BucketName,
    /// Its key.
    pub key: ObjectKey,
}

/// Names of the built-in buckets (`[buckets]` of contract D32).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltInNames {
    /// `files` by default.
    pub filing: BucketName,
    /// `gateway` by default.
    pub gateway: BucketName,
    /// `media` by default.
    pub media: BucketName,
    /// `companies` by default.
    pub companies: BucketName,
}

impl Default for BuiltInNames {
    fn default() -> Self {
        let name = |text: &str| text.parse().expect("the default names are names");
        Self {
            filing: name("files"),
            gateway: name("gateway"),
            media: name("media"),
            companies: name("companies"),
        }
    }
}
