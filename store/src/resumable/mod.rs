//! Resumable uploads: bytes that come in as many requests as it takes, each at the offset the last one reached.
//!
//! Owns the rows of uploads (`record`) and whose turn it is at one (`line`). An upload's bytes are one file among the
//! blobs, which grows (`blob/growing.rs`); the offset row is committed after they were synced, with the states of the
//! digests (`hash`), so that an offset is never more than what is stored, and going on never reads what is there.
//! An upload that is whole becomes the current version of its key in one commit that also ends it; its file becomes
//! the blob, or goes if the bytes are stored already. Partial uploads end as blobs of their own and are composed by
//! reference (`concatenate`).
//!
//! An upload's row stays until it expires, also when it is finished: who lost the last answer asks again. Unfinished
//! bytes count as such (contract D22). Only in built-in buckets, which never go: a row names its bucket for good.
//! Leaves out headers and statuses: TUS is the door's.

mod append;
mod concatenate;
mod create;
mod expire;
mod finish;
mod hash;
mod line;
pub(crate) mod record;
mod recount;
#[cfg(test)]
mod tests;

use crate::object::{At, Attributes};
use crate::put::Claims;
use crate::{ByteStream, UploadId, UserId};

pub(crate) use line::Lines;
pub(crate) use recount::recount;

/// Most partial uploads that one is composed of. A commit writes a few rows for each.
pub const PARTIALS_MAX: usize = 1_000;

/// What an upload is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An object.
    Whole,
    /// A piece of an object, for [`crate::Store::concatenate`].
    Partial,
    /// An object composed of these.
    Final(Vec<UploadId>),
}

/// Begins an upload.
#[derive(Clone, Debug)]
pub struct CreateResumable {
    /// Where the object will be.
    pub at: At,
    /// What goes with it.
    pub attributes: Attributes,
    /// What the client said of it, as it said it; given back with [`Resumable`].
    pub said: String,
    /// How many bytes it will have; `None`: to be said later.
    pub length_bytes: Option<u64>,
    /// It is a piece.
    pub is_partial: bool,
    /// Goes if nothing comes for so long, ms.
    pub lives_ms: u64,
}

/// An upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumable {
    /// Its id.
    pub id: UploadId,
    /// Where the object will be, or is.
    pub at: At,
    /// Who began it.
    pub initiator: Option<UserId>,
    /// What it is for.
    pub kind: Kind,
    /// As in [`CreateResumable`].
    pub said: String,
    /// How many bytes it will have, once that was said.
    pub length_bytes: Option<u64>,
    /// How many are stored.
    pub offset_bytes: u64,
    /// All bytes are stored and, unless it is a piece, the object is there.
    pub is_complete: bool,
    /// When it began, ms since 1970.
    pub created_ms: u64,
    /// When it goes, ms since 1970.
    pub expires_ms: u64,
    /// That time has come; it may go at any moment, and takes nothing more.
    pub is_expired: bool,
}

/// Bytes for an upload.
pub struct Append {
    /// Which.
    pub upload: UploadId,
    /// Where they begin: has to be where it ends.
    pub offset_bytes: u64,
    /// How many it will have in all, when that is said only now.
    pub length_bytes: Option<u64>,
    /// The most it may have in all.
    pub length_max: u64,
    /// The bytes.
    pub body: ByteStream,
    /// How many are announced.
    pub size_bytes: Option<u64>,
    /// What the client claims of these bytes. Where it claims something they are kept all or not at all.
    pub claims: Claims,
}

/// Composes an object of pieces.
#[derive(Clone, Debug)]
pub struct Concatenate {
    /// Where the object will be.
    pub at: At,
    /// What goes with it.
    pub attributes: Attributes,
    /// As in [`CreateResumable`].
    pub said: String,
    /// The pieces, in order.
    pub partials: Vec<UploadId>,
    /// The most it may have in all.
    pub length_max: u64,
    /// How long it can be asked about, ms.
    pub lives_ms: u64,
}
