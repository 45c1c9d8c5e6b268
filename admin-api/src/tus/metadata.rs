//! `Upload-Metadata`: pairs of a key and a value in base64, separated by commas.

use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{UPLOAD_METADATA, invalid, text};
use crate::error::ApiError;

/// Most bytes of user metadata, names and values together (S3).
const USER_BYTES_MAX: usize = 2048;

/// What a client says of its upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// As it came, to be given back.
    pub(crate) said: String,
    pairs: Vec<(String, String)>,
}

/// Keys that say what we understand, in the order of preference (contract D15).
const FILE_NAME: &[&str] = &["filename", "name"];
const CONTENT_TYPE: &[&str] = &["contentType", "filetype", "type"];
const PATH: &[&str] = &["path"];

impl Metadata {
    /// Reads the header; an empty one says nothing (tuspy sends it).
    ///
    /// # Errors
    /// `Validation`: a key that is none, a value that is no base64 or not UTF-8, a key twice.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, ApiError> {
        let said = text(headers, &UPLOAD_METADATA)?.unwrap_or_default();
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in said.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
            if !key.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(invalid(&UPLOAD_METADATA, "has a key that is not plain ASCII"));
            }
            if pairs.iter().any(|(other, _)| other == key) {
                return Err(invalid(&UPLOAD_METADATA, "has a key twice"));
            }
            let value = STANDARD.decode(value.trim());
            let value = value.map_err(|_| invalid(&UPLOAD_METADATA, "has a value that is not base64"))?;
            let value = String::from_utf8(value);
            let value = value.map_err(|_| invalid(&UPLOAD_METADATA, "has a value that is not UTF-8"))?;
            pairs.push((key.to_owned(), value));
        }
        Ok(Self { said, pairs })
    }

    /// The file's name.
    pub(crate) fn file_name(&self) -> Option<&str> {
        self.first(FILE_NAME)
    }

    /// Its declared type.
    pub(crate) fn content_type(&self) -> Option<&str> {
        self.first(CONTENT_TYPE)
    }

    /// Where it is to be.
    pub(crate) fn path(&self) -> Option<&str> {
        self.first(PATH)
    }

    /// What else there is, as an object keeps it.
    ///
    /// # Errors
    /// `Validation` when it is too much.
    pub(crate) fn others(&self) -> Result<Vec<(String, String)>, ApiError> {
        let known = [FILE_NAME, CONTENT_TYPE, PATH].concat();
        let others = self.pairs.iter().filter(|(key, _)| !known.contains(&key.as_str()));
        let others: Vec<_> = others.map(|(key, value)| (key.to_ascii_lowercase(), value.clone())).collect();
        let bytes: usize = others.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > USER_BYTES_MAX {
            return Err(invalid(&UPLOAD_METADATA, "has more than 2,048 bytes of its own"));
        }
        Ok(others)
    }

    fn first(&self, keys: &[&str]) -> Option<&str> {
        let value =
            |key: &&str| self.pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        keys.iter().filter_map(value).find(|value| !value.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Result<Metadata, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(UPLOAD_METADATA, value.parse().unwrap());
        Metadata::of(&headers)
    }

    #[test]
    fn what_clients_say() {
        // the document's, tus-js-client's, Uppy's (`null` as text, an empty value), tuspy's
        let said = "filename dGVzdC5tcDQ=,contentType dmlkZW8vbXA0";
        let metadata = of(said).unwrap();
        assert_eq!((metadata.file_name(), metadata.content_type()), (Some("test.mp4"), Some("video/mp4")));
        assert_eq!((metadata.said.as_str(), metadata.path()), (said, None));
        let metadata =
            of("relativePath bnVsbA==, name w6kudHh0 ,type dGV4dC9wbGFpbg==,flag,Path eA==,path eS96")
                .unwrap();
        assert_eq!((metadata.file_name(), metadata.content_type()), (Some("é.txt"), Some("text/plain")));
        assert_eq!(metadata.path(), Some("y/z"));
        let others =
            [("relativepath", "null"), ("flag", ""), ("path", "x")].map(|(k, v)| (k.into(), v.into()));
        assert_eq!(metadata.others().unwrap(), others);
        assert_eq!(of("").unwrap(), Metadata::default());
        assert_eq!(Metadata::of(&HeaderMap::new()).unwrap(), Metadata::default());
        assert_eq!(of("filename,name YQ==").unwrap().file_name(), Some("a"), "an empty name is none");
    }

    #[test]
    fn what_is_none() {
        for value in ["filename !!!", "filename YQ", "a YQ==,a YQ==", "filename gICA", "\u{e9} YQ=="] {
            assert!(of(value).is_err(), "{value}");
        }
        let long = format!("note {}", STANDARD.encode("x".repeat(USER_BYTES_MAX)));
        assert!(of(&long).unwrap().others().is_err());
    }
}
