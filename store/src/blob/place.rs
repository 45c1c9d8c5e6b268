//! Where a blob's bytes are, and the names of files.
//!
//! A name is `<id>.<epoch>-<n>`: id = 64 hex digits of a SHA-256 or 32 of an upload id; its first two digits choose
//! the directory. Names are never used twice.

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::name::UploadId;
use crate::object::BlobId;

/// Where a blob's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Place {
    /// In the row beside the blob's own.
    Inline,
    /// In a file.
    File {
        /// Its name; the directory follows from it.
        name: String,
        /// Where in it the blob begins.
        offset: u64,
        /// How long the blob is; for a parts file, whose length grows, 0.
        len: u64,
    },
}

impl Place {
    /// The file's name, when it is one.
    pub(crate) fn file(&self) -> Option<&str> {
        match self {
            Self::Inline => None,
            Self::File { name, .. } => Some(name),
        }
    }
}

/// The part of a file's name that says what it holds.
pub(super) fn stem(blob: &BlobId) -> String {
    match blob {
        BlobId::Content(sha256) => sha256.to_string(),
        BlobId::Parts(upload) => upload.to_string(),
    }
}

/// What a name says: blob and epoch; `None` for names we did not make.
pub(crate) fn parse_name(name: &str) -> Option<(BlobId, u64)> {
    let (stem, unique) = name.split_once('.')?;
    let (epoch, number) = unique.split_once('-')?;
    number.parse::<u64>().ok()?;
    let blob = match stem.len() {
        64 => {
            let mut bytes = [0; 32];
            hex::decode_to_slice(stem, &mut bytes).ok()?;
            BlobId::Content(Sha256(bytes))
        }
        32 => BlobId::Parts(stem.parse::<UploadId>().ok()?),
        _ => return None,
    };
    Some((blob, epoch.parse().ok()?))
}
