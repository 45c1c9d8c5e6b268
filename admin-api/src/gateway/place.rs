//! Where the gateway puts a file, and at which address that opens (contract §1, §5.1).

use coffre_identity::TokenHolder;
use coffre_identity::presign::{self, Link, LinkKey};
use coffre_store::object::At;
use coffre_store::scheme::{Gateway, Place, Unique};
use coffre_store::{BucketName, ObjectKey};

use crate::Ground;
use crate::error::{ApiError, Code};

/// Where files go that nobody says a path for.
pub(crate) const PATH_DEFAULT: &str = "uploads";
/// What a file without a name is called.
const NAME_DEFAULT: &str = "file";
/// How long an address works that has to be signed because nobody may read without: the longest there is.
const SIGNED_S: u64 = presign::EXPIRES_S_MAX;

/// A file's path as it is kept: no empty segments, none that points elsewhere, nothing invisible.
pub(crate) fn clean_path(path: &str) -> String {
    let visible: String = path.chars().filter(|c| !c.is_control()).collect();
    let segments = visible.split(['/', '\\']).map(str::trim);
    let segments: Vec<&str> = segments.filter(|segment| !matches!(*segment, "" | "." | "..")).collect();
    if segments.is_empty() { PATH_DEFAULT.to_owned() } else { segments.join("/") }
}

/// A file's name as it is kept: its last segment (some browsers send whole paths), nothing invisible.
pub(crate) fn clean_name(name: &str) -> String {
    let visible: String = name.chars().filter(|c| !c.is_control()).collect();
    let last = visible.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    if last.is_empty() { NAME_DEFAULT.to_owned() } else { last.to_owned() }
}

/// `{application}/{grant}/{path}`: what a caller's uploads have in common.
pub(crate) fn upload_path(holder: &TokenHolder, path: &str) -> String {
    format!("{}/{}/{path}", holder.application, holder.grant)
}

/// The key of a new file.
///
/// # Errors
/// `Validation`: it would be too long.
pub(crate) fn new_key(
    holder: &TokenHolder,
    path: &str,
    file_name: &str,
    epoch_ms: u64,
    unique: Unique,
) -> Result<ObjectKey, ApiError> {
    let (stem, extension) = Gateway::divide(file_name);
    let place = Gateway {
        application: holder.application.clone(),
        grant: holder.grant.clone(),
        path: path.to_owned(),
        stem: stem.to_owned(),
        epoch_ms,
        unique,
        extension: extension.map(str::to_owned),
    };
    let too_long = || ApiError::detailed(Code::Validation, "Path and name together are too long.");
    Place::Gateway(place).key().ok_or_else(too_long)
}

impl Ground {
    /// The gateway's bucket.
    pub(crate) fn gateway_bucket(&self) -> &BucketName {
        &self.settings.buckets.gateway
    }

    /// A key of the gateway's bucket.
    pub(crate) fn gateway_at(&self, key: ObjectKey) -> At {
        At { bucket: self.gateway_bucket().clone(), key }
    }

    /// The random part of a new direct or TUS upload's key.
    pub(crate) fn short_unique(&self) -> Unique {
        let [.., a, b, c, d] = self.ids.next();
        Unique::Short(u32::from_be_bytes([a, b, c, d]))
    }

    /// What addresses of the gateway's objects begin with.
    pub(crate) fn gateway_base(&self) -> String {
        let settings = &self.settings;
        let by_door = || format!("{}/{}", settings.s3_url, settings.buckets.gateway);
        settings.gateway.public_base_url.clone().unwrap_or_else(by_door)
    }

    /// The address that opens an object: public, or signed with the caller's rights where the bucket is not.
    pub(crate) fn gateway_url(
        &self,
        holder: &TokenHolder,
        key: &ObjectKey,
        now_ms: u64,
    ) -> Result<String, ApiError> {
        let (base, path) = (self.gateway_base(), format!("/{key}"));
        if self.settings.gateway.public_read {
            return Ok(presign::address(&base, &path));
        }
        let link = Link {
            method: "GET",
            base_url: &base,
            path: &path,
            query: &[],
            headers: &[],
            region: &self.settings.s3_region,
            expires_s: SIGNED_S,
        };
        Ok(presign::presign(&self.link_key(holder), &link, now_ms)?)
    }

    /// What signs links with a caller's rights.
    pub(crate) fn link_key(&self, holder: &TokenHolder) -> LinkKey {
        self.identity.link_key_of(holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (given, kept) in [
            ("uploads/documents", "uploads/documents"),
            ("/a//b/", "a/b"),
            ("../../etc/passwd", "etc/passwd"),
            ("a/./b/..", "a/b"),
            ("..\\..\\c", "c"),
            ("", "uploads"),
            ("..", "uploads"),
            (" / / ", "uploads"),
            ("é/ü x\u{0}\n", "é/ü x"),
            ("videos/user-123", "videos/user-123"),
        ] {
            assert_eq!(clean_path(given), kept, "{given:?}");
        }
    }

    #[test]
    fn names() {
        for (given, kept) in [
            ("instruction_API(3).md", "instruction_API(3).md"),
            ("C:\\fakepath\\a.txt", "a.txt"),
            ("/etc/passwd", "passwd"),
            ("a/", "file"),
            ("", "file"),
            ("..", ".."),
            ("a\u{0}b\r\n.txt", "ab.txt"),
        ] {
            assert_eq!(clean_name(given), kept, "{given:?}");
        }
    }
}
