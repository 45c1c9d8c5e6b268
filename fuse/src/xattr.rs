//! Extended attributes: `user.*` is free; `user.coffre.*` shows what else an object has.
//!
//! `user.coffre.sha256`, `.etag`, `.content_type`, `.category`, `.client_id`, `.file_id`, `.tags` can be read where the
//! object has them; `.content_type` and `.tags` (`key=value&…`, percent-encoded) can be set and removed, and change the
//! object. They are not listed: a program that copies all attributes it sees would try to set them elsewhere.
//! Other namespaces are not there, and the answer is found without the store.

use std::ffi::OsStr;

use coffre_store::attributes::{AttributeChange, Must, XattrChange};
use coffre_store::object::{Attributes, BuiltIn, Digest, Version};
use coffre_store::scheme::Place;
use coffre_store::{Action, ObjectKey};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::attr::TYPE;
use crate::door::Door;
use crate::errno::{Result, errno};
use crate::inode::{Piece, Spot};

/// The namespace that is free.
const USER: &str = "user.";
/// What the object itself has.
const OURS: &str = "user.coffre.";
/// Longest name, largest value (Linux), bytes.
const NAME_BYTES_MAX: usize = 255;
const VALUE_BYTES_MAX: usize = 64 * 1024;

impl Door {
    pub(crate) async fn getxattr(&self, id: u64, name: &OsStr) -> Result<Vec<u8>> {
        let name = user_name(name).ok_or(Errno::NODATA)?;
        let _still = self.still().await;
        if let Some(ours) = name.strip_prefix(OURS) {
            let Some((version, place, key)) = self.object(id).await? else { return Err(Errno::NODATA) };
            let mut version = version;
            version.attributes = self.attributes(id).await?;
            return own(ours, &version, place, &key).map(String::into_bytes).ok_or(Errno::NODATA);
        }
        let attributes = self.attributes(id).await?;
        let found = attributes.posix.and_then(|posix| {
            posix.xattrs.into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
        });
        found.ok_or(Errno::NODATA)
    }

    /// The names, each ended by a NUL.
    pub(crate) async fn listxattr(&self, id: u64) -> Result<Vec<u8>> {
        let _still = self.still().await;
        let attributes = self.attributes(id).await?;
        let mut names = Vec::new();
        for (name, _) in attributes.posix.iter().flat_map(|posix| &posix.xattrs) {
            if name.starts_with(USER) {
                names.extend_from_slice(name.as_bytes());
                names.push(0);
            }
        }
        Ok(names)
    }

    pub(crate) async fn setxattr(
        &self,
        id: u64,
        name: &OsStr,
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<()> {
        self.writable()?;
        let name = user_name(name).ok_or(Errno::OPNOTSUPP)?;
        if name.len() > NAME_BYTES_MAX {
            return Err(Errno::RANGE);
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(Errno::TOOBIG);
        }
        if let Some(ours) = name.strip_prefix(OURS) {
            return self.change_xattr(id, change_own(ours, Some(value))?).await;
        }
        let must = if flags.contains(XattrFlags::CREATE) {
            Must::BeAbsent
        } else if flags.contains(XattrFlags::REPLACE) {
            Must::Exist
        } else {
            Must::Any
        };
        let value = Some(value.to_vec());
        self.change_one(id, XattrChange { name: name.to_owned(), value, must }).await
    }

    pub(crate) async fn removexattr(&self, id: u64, name: &OsStr) -> Result<()> {
        self.writable()?;
        let name = user_name(name).ok_or(Errno::NODATA)?;
        if let Some(ours) = name.strip_prefix(OURS) {
            return self.change_xattr(id, change_own(ours, None)?).await;
        }
        self.change_one(id, XattrChange { name: name.to_owned(), value: None, must: Must::Exist }).await
    }

    async fn change_one(&self, id: u64, change: XattrChange) -> Result<()> {
        let must = change.must;
        let change = AttributeChange { xattrs: vec![change], ..AttributeChange::default() };
        // what must be is not: which way round, the caller is told
        self.change_xattr(id, change).await.map_err(|error| match (error, must) {
            (Errno::STALE, Must::BeAbsent) => Errno::EXIST,
            (Errno::STALE, Must::Exist) => Errno::NODATA,
            (Errno::FBIG, _) => Errno::NOSPC,
            (other, _) => other,
        })
    }

    async fn change_xattr(&self, id: u64, change: AttributeChange) -> Result<()> {
        let _still = self.still().await;
        let change = AttributeChange { changed_ns: Some(self.now_ns()), ..change };
        let piece = self.table.lock().get(id).ok_or(Errno::STALE)?.piece;
        if piece == Piece::File {
            // links and devices have none of these (xattr(7))
            if self.attr(id).await?.mode & TYPE != crate::attr::REGULAR {
                return Err(Errno::PERM);
            }
            self.change_file(&self.cx()?, id, change).await
        } else {
            self.change_dir(&self.cx()?, id, change).await
        }
    }

    /// The attributes of a file or directory as they are here.
    async fn attributes(&self, id: u64) -> Result<Attributes> {
        let (opened, piece) = {
            let table = self.table.lock();
            let node = table.get(id).ok_or(Errno::STALE)?;
            (node.opened.clone(), node.piece)
        };
        let opened =
            opened.map(|opened| opened.file()).filter(|file| file.is_dirty() || file.version().is_none());
        if let Some(file) = opened {
            return Ok(file.attributes());
        }
        let (bucket, key) = match self.spot(id)? {
            Spot::File { bucket, key } => (bucket, key),
            Spot::Dir { bucket, prefix, begin_len: 0 } if piece != Piece::File => (bucket, prefix),
            Spot::Dir { .. } | Spot::Buckets => return Ok(Attributes::default()),
        };
        let found = self.find(&self.cx()?, &bucket, &key).await?;
        Ok(found.map(|version| version.attributes).unwrap_or_default())
    }

    /// The stored object behind a file, and which built-in bucket it is in.
    async fn object(&self, id: u64) -> Result<Option<(Version, Option<BuiltIn>, ObjectKey)>> {
        let Spot::File { bucket, key } = self.spot(id)? else { return Ok(None) };
        let cx = self.cx()?;
        let Some(version) = self.find(&cx, &bucket, &key).await? else { return Ok(None) };
        let bucket = self.store.bucket(&cx, &bucket, Action::ListBucket).await.map_err(errno)?;
        Ok(Some((version, bucket.place, key.parse().map_err(errno)?)))
    }
}

/// The name, if it is in the namespace that is here.
fn user_name(name: &OsStr) -> Option<&str> {
    name.to_str().filter(|name| name.len() > USER.len() && name.starts_with(USER))
}

/// What the object itself has under a name.
fn own(name: &str, version: &Version, place: Option<BuiltIn>, key: &ObjectKey) -> Option<String> {
    let filing = || match Place::parse(place?, key)? {
        Place::Filing(filing) => Some(filing),
        Place::Gateway(_) | Place::Media(_) | Place::Company(_) => None,
    };
    match name {
        "sha256" => match version.sha256 {
            Digest::Known(sha256) => Some(sha256.to_string()),
            Digest::Pending => None,
        },
        "etag" => Some(version.etag.as_str().to_owned()),
        "content_type" => version.attributes.content_type.clone().or_else(|| version.sniffed_type.clone()),
        "category" => Some(filing()?.category.as_str().to_owned()),
        "client_id" => filing()?.client,
        "file_id" => version.ids.filing.map(|id| id.to_string()),
        "tags" => Some(render_tags(&version.attributes.tags)).filter(|tags| !tags.is_empty()),
        _ => None,
    }
}

/// The change that setting one of ours is.
fn change_own(name: &str, value: Option<&[u8]>) -> Result<AttributeChange> {
    let text = value.map(|value| std::str::from_utf8(value).map_err(|_| Errno::INVAL)).transpose()?;
    match name {
        "content_type" => {
            Ok(AttributeChange { content_type: Some(text.map(str::to_owned)), ..AttributeChange::default() })
        }
        "tags" => Ok(AttributeChange {
            tags: Some(parse_tags(text.unwrap_or_default())?),
            ..AttributeChange::default()
        }),
        // made from the content, or from where the object is
        _ => Err(Errno::PERM),
    }
}

fn render_tags(tags: &[(String, String)]) -> String {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let pairs: Vec<String> =
        tags.iter().map(|(key, value)| format!("{}={}", encode(key), encode(value))).collect();
    pairs.join("&")
}

fn parse_tags(text: &str) -> Result<Vec<(String, String)>> {
    let decode = |text: &str| match percent_decode_str(text).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(Errno::INVAL),
    };
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(key)?, decode(value)?))
    };
    text.split('&').filter(|pair| !pair.is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_come_back() {
        let tags = vec![("a b".to_owned(), "é=&".to_owned()), ("k".to_owned(), String::new())];
        assert_eq!(parse_tags(&render_tags(&tags)).unwrap(), tags);
        assert_eq!(parse_tags("").unwrap(), []);
        assert_eq!(parse_tags("%ff=1"), Err(Errno::INVAL));
    }

    #[test]
    fn what_is_derived_cannot_be_set() {
        for name in ["sha256", "etag", "category", "client_id", "file_id", "other"] {
            assert_eq!(change_own(name, Some(b"x")), Err(Errno::PERM));
        }
        assert!(change_own("tags", Some(b"a=b")).is_ok());
    }
}
