//! Keys and records: how rows are named, and how values become bytes.
//!
//! [`keys`] holds the table of prefixes with the reason for each; [`record`] the frame all records share (format
//! byte, tagged fields, CRC32C); [`object`] the records of versions, delete markers, buckets and manifest pages.
//! Promises: keys sort as (bucket, object key) do; unknown fields survive read-modify-write; damaged bytes are
//! `Error::Corrupt`, never a panic. `docs/format.md` §"Records" is the same in prose.

pub(crate) mod keys;
pub(crate) mod object;
pub(crate) mod record;

#[cfg(test)]
mod tests;

use crate::error::Error;

/// A record of this kind cannot be read.
pub(crate) fn corrupt(what: &str) -> Error {
    Error::Corrupt { what: what.to_owned() }
}
