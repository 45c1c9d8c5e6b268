//! The parameters of an upload, in all the spellings that clients use (contract D31): pure.
//!
//! `total_chunks`, `totalChunks`, `resumableTotalChunks`, …: letters count without regard to case and underscores, and
//! with or without `resumable` in front.

use crate::error::{ApiError, Code};

/// Most chunks of a file: the parts of an upload.
pub(crate) const CHUNKS_MAX: u16 = 10_000;
/// Longest name of a file, in bytes: what a file system takes.
const NAME_BYTES_MAX: usize = 255;
/// What a file without a name is called.
pub(crate) const NO_NAME: &str = "file";

/// What an upload says of itself in its query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// The file's name.
    pub(crate) name: Option<String>,
    /// Its type.
    pub(crate) kind: Option<String>,
    /// How many chunks there will be.
    pub(crate) total_chunks: Option<u16>,
    /// The file's size in bytes, as announced.
    pub(crate) total_size_bytes: Option<u64>,
    /// Which chunk this is, from 1; `None`: the file is only announced, or comes whole.
    pub(crate) chunk: Option<u16>,
    /// The answer waits for the preview.
    pub(crate) waits_for_preview: bool,
}

impl Parameters {
    /// Reads decoded pairs.
    ///
    /// # Errors
    /// A field error for what is no number, 0, or beyond the total.
    pub(crate) fn parse<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ApiError> {
        let mut read = Self::default();
        for (name, value) in pairs {
            // A client's script writes what it does not have.
            if value.is_empty() || value == "undefined" || value == "null" {
                read.waits_for_preview |= value.is_empty() && plain(name) == "thumbnailsync";
                continue;
            }
            match plain(name).as_str() {
                "filename" => read.name = Some(clean_name(value)),
                "type" => read.kind = Some(value.to_owned()),
                "totalchunks" => read.total_chunks = Some(number(name, value)?),
                "totalsize" => read.total_size_bytes = Some(size(name, value)?),
                "chunknumber" => read.chunk = Some(number(name, value)?),
                "thumbnailsync" => {
                    read.waits_for_preview = !matches!(value.to_ascii_lowercase().as_str(), "0" | "false");
                }
                _ => {}
            }
        }
        match (read.chunk, read.total_chunks) {
            (Some(chunk), Some(total)) if chunk > total => {
                Err(ApiError::field("chunk_number", format!("There are {total} chunks.")))
            }
            (Some(_), None) => Err(ApiError::field("total_chunks", "A chunk has to say how many there are.")),
            _ => Ok(read),
        }
    }
}

fn plain(name: &str) -> String {
    let plain: String = name.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect();
    plain.strip_prefix("resumable").map(str::to_owned).unwrap_or(plain)
}

/// A number of chunks, or a chunk's.
fn number(name: &str, value: &str) -> Result<u16, ApiError> {
    match value.parse() {
        Ok(n) if (1..=CHUNKS_MAX).contains(&n) => Ok(n),
        _ => Err(ApiError::field(name, format!("It has to be 1 to {CHUNKS_MAX}."))),
    }
}

fn size(name: &str, value: &str) -> Result<u64, ApiError> {
    value.parse().map_err(|_| ApiError::field(name, "It has to be a number of bytes."))
}

/// A file's name as the last segment of a key: without directories, without what cannot be seen.
pub(crate) fn clean_name(text: &str) -> String {
    let last = text.rsplit(['/', '\\']).next().unwrap_or_default();
    let mut name: String = last.chars().filter(|c| !c.is_control()).collect();
    while name.len() > NAME_BYTES_MAX {
        name.pop();
    }
    let name = name.trim();
    if name.is_empty() || name == "." || name == ".." { NO_NAME.to_owned() } else { name.to_owned() }
}

/// The pairs of a query, decoded.
///
/// # Errors
/// `Malformed` when it is not UTF-8.
pub(crate) fn pairs(query: Option<&str>) -> Result<Vec<(String, String)>, ApiError> {
    let decode = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text)
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| ApiError::detailed(Code::Malformed, "The query is not UTF-8."))
    };
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decode(name)?, decode(value)?))
    };
    query.unwrap_or_default().split('&').filter(|text| !text.is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Parameters, ApiError> {
        let pairs = pairs(Some(query))?;
        Parameters::parse(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    #[test]
    fn all_spellings_are_one() {
        let expected = Parameters {
            name: Some("é a.png".into()),
            kind: Some("image/png".into()),
            total_chunks: Some(3),
            total_size_bytes: Some(12),
            chunk: Some(2),
            waits_for_preview: true,
        };
        for query in [
            "filename=%C3%A9+a.png&type=image%2Fpng&total_chunks=3&total_size=12&chunk_number=2&thumbnail_sync=1",
            "filename=%C3%A9%20a.png&type=image/png&totalChunks=3&total_Size=12&chunkNumber=2&thumbnail_sync",
            "resumableFilename=%C3%A9%20a.png&resumableType=image/png&resumableTotalChunks=3&resumableTotalSize=12\
             &resumableChunkNumber=2&thumbnail_sync=true",
            "FILENAME=%C3%A9%20a.png&TYPE=image/png&TOTAL_CHUNKS=3&TOTALSIZE=12&CHUNK_NUMBER=2&ThumbnailSync=yes&x=y",
        ] {
            assert_eq!(parse(query).as_ref(), Ok(&expected), "{query}");
        }
        let none = parse("chunk_number=undefined&total_chunks=&thumbnail_sync=0&&").unwrap();
        assert_eq!(none, Parameters::default());
    }

    #[test]
    fn what_is_no_chunk_is_refused() {
        for (query, field) in [
            ("chunk_number=0&total_chunks=3", "chunk_number"),
            ("chunk_number=4&total_chunks=3", "chunk_number"),
            ("chunk_number=-1&total_chunks=3", "chunk_number"),
            ("chunk_number=x&total_chunks=3", "chunk_number"),
            ("chunk_number=1", "total_chunks"),
            ("total_chunks=0", "total_chunks"),
            ("total_chunks=10001", "total_chunks"),
            ("total_Size=much", "total_Size"),
        ] {
            let error = parse(query).unwrap_err();
            assert_eq!((error.code, error.fields[0].0.as_str()), (Code::Validation, field), "{query}");
        }
        assert_eq!(parse("filename=%FF").unwrap_err().code, Code::Malformed);
    }

    #[test]
    fn names_are_one_segment() {
        for (text, name) in [
            ("a.png", "a.png"),
            ("../../etc/passwd", "passwd"),
            ("C:\\dir\\a.png", "a.png"),
            ("a\u{0}b\n", "ab"),
            (" ", "file"),
            ("..", "file"),
            ("dir/", "file"),
            ("", "file"),
        ] {
            assert_eq!(clean_name(text), name, "{text:?}");
        }
        assert_eq!(clean_name(&"é".repeat(200)).len(), 254);
    }
}
