//! Names and ids, parsed once at the edge; behind it nobody checks again.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::error::Error;

/// Longest object key in bytes (S3).
pub const KEY_BYTES_MAX: usize = 1024;
/// Parts are numbered 1 to this (S3).
pub const PART_NUMBER_MAX: u16 = 10_000;

/// A bucket's name: 3 to 63 of `[a-z0-9.-]`, beginning and ending with a letter or digit, no `..`, not an IPv4
/// address (S3 "Bucket naming rules").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketName(String);

/// An object's key: UTF-8, 1 to 1,024 bytes, opaque; `/`, `..` and NUL mean nothing here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

/// Names one version of an object, and owns the references of its content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId(pub [u8; 16]);

/// A multipart upload; also the id of the manifest it completes to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadId(pub [u8; 16]);

/// A part's number, 1 to 10,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartNumber(u16);

/// A user (UUIDv7, contract D1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct UserId(pub Uuid);

/// An organisation, which is also a company (contract §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct OrgId(pub Uuid);

/// A bucket's number: short, stable under everything, first part of its rows' keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct BucketId(pub u32);

/// Which version of a key is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionRef {
    /// The one named so.
    Id(VersionId),
    /// S3's `null` version: the one written while versioning was not enabled.
    Null,
}

impl BucketName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BucketName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = Err(Error::Invalid { what: "bucket name" });
        let bytes = text.as_bytes();
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !(3..=63).contains(&bytes.len()) || !edge(bytes.first()) || !edge(bytes.last()) {
            return invalid;
        }
        let allowed = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
        if !bytes.iter().all(allowed) || text.contains("..") || text.parse::<std::net::Ipv4Addr>().is_ok() {
            return invalid;
        }
        Ok(Self(text.to_owned()))
    }
}

impl ObjectKey {
    /// The key.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows the last `/`.
    pub fn last_segment(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl FromStr for ObjectKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::Invalid { what: "object key" });
        }
        if text.len() > KEY_BYTES_MAX {
            return Err(Error::KeyTooLong);
        }
        Ok(Self(text.to_owned()))
    }
}

impl PartNumber {
    /// The number, 1 to 10,000.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<i64> for PartNumber {
    type Error = Error;

    fn try_from(number: i64) -> Result<Self, Error> {
        match u16::try_from(number) {
            Ok(n) if (1..=PART_NUMBER_MAX).contains(&n) => Ok(Self(n)),
            _ => Err(Error::Invalid { what: "part number" }),
        }
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 16-byte ids are written as 32 hex digits.
macro_rules! hex_id {
    ($name:ident, $what:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), hex::encode(self.0))
            }
        }
        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                let mut bytes = [0; 16];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| Error::Invalid { what: $what })?;
                Ok(Self(bytes))
            }
        }
    };
}

hex_id!(VersionId, "version id");
hex_id!(UploadId, "upload id");

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for OrgId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bucket_names() {
        let table = [
            ("abc", true),
            ("my-bucket.2024", true),
            ("1ab", true),
            (&"a".repeat(63), true),
            ("ab", false),
            (&"a".repeat(64), false),
            ("Abc", false),
            ("a_b", false),
            ("-ab", false),
            ("ab-", false),
            (".ab", false),
            ("a..b", false),
            ("192.168.0.1", false),
            ("192.168.0.1a", true),
            ("", false),
            ("abé", false),
            ("a/b", false),
            ("a\0b", false),
        ];
        for (text, is_name) in table {
            assert_eq!(text.parse::<BucketName>().is_ok(), is_name, "{text:?}");
        }
    }

    #[test]
    fn object_keys() {
        for key in ["a", "/", "//", "..", "../../etc/passwd", " ", "+", "é😀", "a\0b", &"é".repeat(512)] {
            assert_eq!(key.parse::<ObjectKey>().unwrap().as_str(), key);
        }
        assert!(matches!("".parse::<ObjectKey>(), Err(Error::Invalid { .. })));
        assert!(matches!("é".repeat(513).parse::<ObjectKey>(), Err(Error::KeyTooLong)));
        for (key, last) in [("a/b", "b"), ("a/", ""), ("a", "a"), ("/", ""), ("a//b c", "b c")] {
            assert_eq!(key.parse::<ObjectKey>().unwrap().last_segment(), last, "{key}");
        }
    }

    #[test]
    fn part_numbers() {
        for (number, is_one) in
            [(0, false), (1, true), (10_000, true), (10_001, false), (-1, false), (65_537, false)]
        {
            assert_eq!(PartNumber::try_from(number).is_ok(), is_one, "{number}");
        }
    }

    proptest! {
        #[test]
        fn what_a_name_says_is_what_it_was_made_of(text in "\\PC{0,70}") {
            if let Ok(name) = text.parse::<BucketName>() {
                prop_assert_eq!(name.as_str(), &text);
                prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn ids_read_back(bytes in any::<[u8; 16]>(), noise in "\\PC{0,40}") {
            let (version, upload) = (VersionId(bytes), UploadId(bytes));
            prop_assert_eq!(version.to_string().parse::<VersionId>().unwrap(), version);
            prop_assert_eq!(upload.to_string().parse::<UploadId>().unwrap(), upload);
            prop_assert_eq!(noise.parse::<UploadId>().is_ok(), hex::decode(&noise).is_ok_and(|b| b.len() == 16));
        }
    }
}
