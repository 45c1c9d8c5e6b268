//! The rows of resumable uploads.
//!
//! | row | key | value |
//! |---|---|---|
//! | tus | upload id | [`Record`] |
//! | tus due | time (be64), upload id | empty: when to look whether the upload has expired |
//!
//! References: an unfinished upload's file is the blob `Parts(upload)`, which belongs to the upload id from the commit
//! of the first bytes on. A piece that is finished holds its content by the same id, until it is used. A finished
//! upload holds nothing.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::hash::{HashState, Whole};
use super::{Kind, Resumable};
use crate::codec::keys::{self, Key};
use crate::codec::object::{put_attributes, take_attributes};
use crate::codec::record::{Reader, Unknown, Writer};
use crate::digest::Sha256;
use crate::error::Result;
use crate::object::{At, Attributes, BlobId};
use crate::refs::Owner;
use crate::{OrgId, UploadId, UserId};

/// An upload as its row has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) at: At,
    pub(crate) initiator: Option<UserId>,
    /// Whom its bytes count for until it is finished.
    pub(crate) organisation: Option<OrgId>,
    pub(crate) kind: Kind,
    pub(crate) said: String,
    pub(crate) attributes: Attributes,
    pub(crate) created_ms: u64,
    pub(crate) expires_ms: u64,
    pub(crate) lives_ms: u64,
    /// The time in its due row: never later than when it expires.
    pub(crate) due_ms: u64,
    pub(crate) length: Option<u64>,
    pub(crate) offset: u64,
    pub(crate) state: State,
    pub(crate) unknown: Unknown,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Takes bytes; or has them all and is not finished.
    Open(HashState),
    /// A piece that is whole: its bytes are a blob.
    Piece(Whole),
    /// A piece that this upload was composed of: it holds nothing any more.
    Used(UploadId),
    /// The object is there.
    Done,
}

/// Tags of the fields; attributes have 20 to 32.
mod tag {
    pub(super) const INITIATOR: u32 = 1;
    pub(super) const ORGANISATION: u32 = 2;
    pub(super) const CREATED: u32 = 3;
    pub(super) const BUCKET: u32 = 4;
    pub(super) const KEY: u32 = 5;
    pub(super) const SAID: u32 = 6;
    pub(super) const EXPIRES: u32 = 7;
    pub(super) const LIVES: u32 = 8;
    pub(super) const DUE: u32 = 9;
    pub(super) const LENGTH: u32 = 10;
    pub(super) const OFFSET: u32 = 11;
    pub(super) const KIND: u32 = 12;
    pub(super) const STATE: u32 = 13;
}

#[derive(Serialize, Deserialize)]
enum WireKind {
    Whole,
    Partial,
    Final(Vec<[u8; 16]>),
}

#[derive(Serialize, Deserialize)]
enum WireState {
    /// Words of SHA-256 and MD5, CRC-64/NVME, bytes behind the last block.
    Open([u32; 8], [u32; 4], u64, Vec<u8>),
    /// SHA-256, MD5, CRC-64/NVME.
    Piece([u8; 32], [u8; 16], u64),
    Used([u8; 16]),
    Done,
}

impl Record {
    pub(crate) fn encode(&self) -> Bytes {
        let mut w = Writer::new();
        w.put_some(tag::INITIATOR, self.initiator.map(|user| user.0.into_bytes()).as_ref());
        w.put_some(tag::ORGANISATION, self.organisation.map(|org| org.0.into_bytes()).as_ref());
        w.put(tag::CREATED, &self.created_ms);
        w.put(tag::BUCKET, self.at.bucket.as_str());
        w.put(tag::KEY, self.at.key.as_str());
        w.put_unless_default(tag::SAID, &self.said);
        w.put(tag::EXPIRES, &self.expires_ms);
        w.put(tag::LIVES, &self.lives_ms);
        w.put(tag::DUE, &self.due_ms);
        w.put_some(tag::LENGTH, self.length.as_ref());
        w.put(tag::OFFSET, &self.offset);
        let kind = match &self.kind {
            Kind::Whole => WireKind::Whole,
            Kind::Partial => WireKind::Partial,
            Kind::Final(partials) => WireKind::Final(partials.iter().map(|id| id.0).collect()),
        };
        w.put(tag::KIND, &kind);
        let state = match &self.state {
            State::Open(HashState { sha256, md5, crc64nvme, rest }) => {
                WireState::Open(*sha256, *md5, *crc64nvme, rest.clone())
            }
            State::Piece(Whole { sha256, md5, crc64nvme }) => WireState::Piece(sha256.0, *md5, *crc64nvme),
            State::Used(by) => WireState::Used(by.0),
            State::Done => WireState::Done,
        };
        w.put(tag::STATE, &state);
        put_attributes(&mut w, &self.attributes);
        w.put_unknown(&self.unknown);
        w.finish()
    }

    pub(crate) fn decode(record: &Bytes) -> Result<Self> {
        let mut r = Reader::new("tus", record)?;
        let malformed = |_| crate::codec::corrupt("a tus record names no object");
        let (bucket, key): (&str, &str) = (r.need(tag::BUCKET)?, r.need(tag::KEY)?);
        let kind = match r.need(tag::KIND)? {
            WireKind::Whole => Kind::Whole,
            WireKind::Partial => Kind::Partial,
            WireKind::Final(partials) => Kind::Final(partials.into_iter().map(UploadId).collect()),
        };
        let offset: u64 = r.need(tag::OFFSET)?;
        let state = match r.need(tag::STATE)? {
            WireState::Open(sha256, md5, crc64nvme, rest) => {
                if rest.len() as u64 != offset % 64 {
                    return Err(crate::codec::corrupt("a tus record's digests are of another offset"));
                }
                State::Open(HashState { sha256, md5, crc64nvme, rest })
            }
            WireState::Piece(sha256, md5, crc64nvme) => {
                State::Piece(Whole { sha256: Sha256(sha256), md5, crc64nvme })
            }
            WireState::Used(by) => State::Used(UploadId(by)),
            WireState::Done => State::Done,
        };
        Ok(Self {
            at: At { bucket: bucket.parse().map_err(malformed)?, key: key.parse().map_err(malformed)? },
            initiator: r.take(tag::INITIATOR)?.map(|id| UserId(Uuid::from_bytes(id))),
            organisation: r.take(tag::ORGANISATION)?.map(|id| OrgId(Uuid::from_bytes(id))),
            kind,
            said: r.or_default(tag::SAID)?,
            created_ms: r.need(tag::CREATED)?,
            expires_ms: r.need(tag::EXPIRES)?,
            lives_ms: r.need(tag::LIVES)?,
            due_ms: r.need(tag::DUE)?,
            length: r.take(tag::LENGTH)?,
            offset,
            state,
            attributes: take_attributes(&mut r)?,
            unknown: r.unknown(),
        })
    }

    /// As callers see it.
    pub(crate) fn shown(&self, id: UploadId, now_ms: u64) -> Resumable {
        Resumable {
            id,
            at: self.at.clone(),
            initiator: self.initiator,
            kind: self.kind.clone(),
            said: self.said.clone(),
            length_bytes: self.length,
            offset_bytes: self.offset,
            is_complete: !matches!(self.state, State::Open(_)),
            created_ms: self.created_ms,
            expires_ms: self.expires_ms,
            is_expired: self.is_expired(now_ms),
        }
    }

    pub(crate) fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms <= now_ms
    }

    /// All bytes are stored.
    pub(crate) fn is_whole(&self) -> bool {
        self.length == Some(self.offset)
    }

    /// The blob whose reference the row holds.
    pub(crate) fn held(&self, id: UploadId) -> Option<(BlobId, Owner)> {
        let blob = match &self.state {
            _ if self.offset == 0 => return None,
            State::Open(_) => BlobId::Parts(id),
            State::Piece(whole) => BlobId::Content(whole.sha256),
            State::Used(_) | State::Done => return None,
        };
        Some((blob, id.0))
    }

    /// Bytes that count as unfinished.
    pub(crate) fn unfinished_bytes(&self) -> i64 {
        match &self.state {
            State::Open(_) | State::Piece(_) => i64::try_from(self.offset).unwrap_or(i64::MAX),
            State::Used(_) | State::Done => 0,
        }
    }
}

/// Reads a due row's key back.
pub(crate) fn parse_due(row: &[u8]) -> Result<(u64, UploadId)> {
    let (_, rest) = keys::split::<1>(row)?;
    let (time, rest) = keys::split::<8>(rest)?;
    let (id, _) = keys::split::<16>(rest)?;
    Ok((u64::from_be_bytes(time), UploadId(id)))
}

/// Row that says when to look whether an upload has expired.
pub(crate) fn due(time_ms: u64, id: UploadId) -> Bytes {
    Key::of(keys::TUS_DUE).raw(&time_ms.to_be_bytes()).raw(&id.0).done()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::at;

    fn record(kind: Kind, state: State, offset: u64) -> Record {
        let attributes = Attributes { content_type: Some("video/mp4".into()), ..Attributes::default() };
        Record {
            at: at("gateway", "a/b/c"),
            initiator: Some(UserId(Uuid::from_u128(7))),
            organisation: Some(OrgId(Uuid::from_u128(8))),
            kind,
            said: "filename YQ==".into(),
            attributes,
            created_ms: 1,
            expires_ms: 2,
            lives_ms: 3,
            due_ms: 4,
            length: Some(5),
            offset,
            state,
            unknown: vec![(77, Bytes::from_static(b"newer"))],
        }
    }

    #[test]
    fn records_come_back_as_they_were() {
        let whole = Whole { sha256: Sha256([1; 32]), md5: [2; 16], crc64nvme: u64::MAX };
        let rest = vec![9; 3];
        let open = HashState { sha256: [u32::MAX; 8], md5: [1, 2, 3, 4], crc64nvme: 5, rest };
        for record in [
            record(Kind::Whole, State::Open(open), 67),
            record(Kind::Whole, State::Open(HashState::start()), 0),
            record(Kind::Partial, State::Piece(whole), 5),
            record(Kind::Partial, State::Used(UploadId([3; 16])), 5),
            record(Kind::Final(vec![UploadId([4; 16]); 3]), State::Done, 5),
        ] {
            assert_eq!(Record::decode(&record.encode()).unwrap(), record);
        }
    }

    #[test]
    fn digests_of_another_offset_are_damage() {
        let record = record(Kind::Whole, State::Open(HashState::start()), 65);
        assert!(matches!(Record::decode(&record.encode()), Err(crate::Error::Corrupt { .. })));
    }

    #[test]
    fn due_rows_sort_by_time() {
        let id = UploadId([5; 16]);
        assert_eq!(parse_due(&due(u64::MAX, id)).unwrap(), (u64::MAX, id));
        assert!(due(255, UploadId([9; 16])) < due(256, id));
    }
}
