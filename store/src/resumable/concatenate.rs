//! Composing an object of pieces that came by themselves (TUS 1.0 "Concatenation").
//!
//! One commit: the version with the pieces' blobs as its extents, the pieces' references and unfinished bytes handed
//! over, their rows marked as used by this upload, and its own row, done from the start. No byte is copied. Pieces are
//! used once, so that their bytes count once; who asks again with the same pieces, having lost the answer, gets the
//! same upload.

use std::collections::BTreeMap;

use coffre_kv::{Check, Write};

use super::create::{check_built_in, check_said, plan_new};
use super::finish::Became;
use super::hash::Whole;
use super::record::{Record, State};
use super::{Concatenate, Kind, PARTIALS_MAX, Resumable};
use crate::codec::keys;
use crate::commit::{RESTARTS_MAX, counts_for, note};
use crate::condition::Conditions;
use crate::digest::{Algorithm, ETag};
use crate::error::{Error, Missing, Result};
use crate::incoming::{Admitted, Extend, Incoming};
use crate::multipart::{joined, manifest_of, page_writes};
use crate::object::{BlobId, Digest, Extent, Manifest, PartSizes, Version};
use crate::plan::{Placed, Plan};
use crate::put::check_tags;
use crate::{Action, Cx, PartNumber, Store, UploadId};

/// A piece as it is used.
struct Piece {
    id: UploadId,
    row: Placed<Record>,
    whole: Whole,
}

/// What the pieces are when they are asked for.
enum Pieces {
    /// There, and used by nobody.
    Ready(Vec<Piece>),
    /// Used already, all by this upload.
    Used(UploadId),
}

impl Store {
    /// Composes an object. Durable on return; copies no bytes.
    ///
    /// # Errors
    /// `NotFound(Upload)`: a piece that is not there, or is used by another; `Invalid`: one that is no piece or not
    /// whole, none, or too many; `TooLarge`; as [`Store::put`].
    pub async fn concatenate(&self, cx: &Cx, concatenate: Concatenate) -> Result<Resumable> {
        if concatenate.partials.is_empty() || concatenate.partials.len() > PARTIALS_MAX {
            return Err(Error::Invalid { what: "number of partial uploads" });
        }
        check_said(&concatenate.said)?;
        check_tags(&concatenate.attributes.tags)?;
        let id = UploadId(self.inner.options.ids.next());
        for _ in 0..RESTARTS_MAX {
            let pieces = match self.pieces(cx, &concatenate).await? {
                Pieces::Ready(pieces) => pieces,
                Pieces::Used(by) => return self.composed_before(cx, by, &concatenate.partials).await,
            };
            match self.try_concatenate(cx, id, &concatenate, pieces).await {
                Err(Error::Busy) => {}
                other => return other,
            }
        }
        Err(Error::Busy)
    }

    async fn pieces(&self, cx: &Cx, asked: &Concatenate) -> Result<Pieces> {
        let ids = asked.partials.as_slice();
        let mut pieces = Vec::with_capacity(ids.len());
        let mut used = Vec::new();
        for id in ids {
            let row = self.known_resumable(cx, Action::PutObject, *id).await?.upload;
            let missing = Error::NotFound(Missing::Upload(*id));
            if row.value.is_expired(self.now_ms()) {
                return Err(missing);
            }
            // their bytes are counted where they were begun
            if row.value.at.bucket != asked.at.bucket {
                return Err(Error::Invalid { what: "partial upload: of another bucket" });
            }
            match &row.value.state {
                State::Piece(whole) => {
                    let whole = whole.clone();
                    pieces.push(Piece { id: *id, row, whole });
                }
                State::Used(by) => used.push(*by),
                State::Open(_) | State::Done => {
                    return Err(Error::Invalid { what: "partial upload: not one, or not whole" });
                }
            }
        }
        match used.first() {
            None => Ok(Pieces::Ready(pieces)),
            Some(by) if pieces.is_empty() && used.iter().all(|other| other == by) => Ok(Pieces::Used(*by)),
            Some(_) => {
                let id = ids.first().copied().unwrap_or(UploadId([0; 16]));
                Err(Error::NotFound(Missing::Upload(id)))
            }
        }
    }

    /// The upload that the same pieces have been composed to.
    async fn composed_before(&self, cx: &Cx, by: UploadId, partials: &[UploadId]) -> Result<Resumable> {
        let found = self.known_resumable(cx, Action::PutObject, by).await?.upload.value;
        if found.kind != Kind::Final(partials.to_vec()) {
            return Err(Error::NotFound(Missing::Upload(by)));
        }
        Ok(found.shown(by, self.now_ms()))
    }

    async fn try_concatenate(
        &self,
        cx: &Cx,
        id: UploadId,
        asked: &Concatenate,
        pieces: Vec<Piece>,
    ) -> Result<Resumable> {
        let Concatenate { at, attributes, .. } = asked;
        let conditions = Conditions::default();
        let admitted = self.admit(cx, at, &conditions, !attributes.tags.is_empty()).await?;
        check_built_in(&admitted.bucket.value)?;
        let record = self.final_record(cx, asked, &admitted, &pieces)?;
        let extents = joined(pieces.iter().filter_map(extent));
        let sha256 = match pieces.as_slice() {
            [only] => Digest::Known(only.whole.sha256),
            _ => self.digest_extents(&admitted.bucket.value, &extents, record.offset).await?,
        };
        let place = match sha256 {
            Digest::Known(sha256) if record.offset > 0 => self.known_place(&extents, sha256, id.0).await?,
            Digest::Known(_) | Digest::Pending => None,
        };
        let extents = place.map_or(extents, |place| place.extents(record.offset));
        let sniffed = self.sniff_extents(&extents, &at.key).await?;
        let version = version_of(id, &record, &pieces, &extents, sha256, sniffed);
        let has_pages = matches!(version.manifest, Manifest::Paged { .. });
        // one that is named twice is used once
        let used: BTreeMap<UploadId, &Piece> = pieces.iter().map(|piece| (piece.id, piece)).collect();
        let mut own = Plan::new(&admitted.bucket);
        plan_new(&mut own, id, &record);
        let (mut checks, mut writes) = (own.checks, own.writes);
        for (piece, Piece { row, .. }) in &used {
            let after = Record { state: State::Used(id), ..row.value.clone() };
            checks.push(Check::At(keys::tus(*piece), row.position));
            writes.push(Write::Put(keys::tus(*piece), after.encode()));
        }
        if has_pages {
            checks.push(Check::Absent(keys::manifest_page(id, 0)));
            writes.extend(page_writes(id, &extents));
        }
        let extend = |plan: &mut Plan| {
            for (piece, Piece { row, .. }) in &used {
                if let Some((blob, owner)) = row.value.held(*piece) {
                    plan.refs.remove(blob, owner);
                }
                let Record { initiator, organisation, .. } = row.value;
                plan.count_unfinished(initiator, organisation, -row.value.unfinished_bytes());
            }
            if has_pages {
                for extent in &extents {
                    plan.refs.add(extent.blob, id.0, None);
                }
            }
        };
        let incoming = Incoming {
            at,
            version,
            blobs: Vec::new(),
            conditions: &conditions,
            note: note(cx, "CompleteResumableUpload", at),
            checks,
            writes,
            extend: Some(Extend(Box::new(extend))),
        };
        self.make_current(cx, admitted, incoming).await?;
        Ok(record.shown(id, self.now_ms()))
    }

    /// The row of the upload that the pieces become.
    fn final_record(
        &self,
        cx: &Cx,
        asked: &Concatenate,
        admitted: &Admitted,
        pieces: &[Piece],
    ) -> Result<Record> {
        let size_bytes: u64 = pieces.iter().map(|piece| piece.row.value.offset).sum();
        if size_bytes > asked.length_max {
            return Err(Error::TooLarge { what: "the upload", max: asked.length_max });
        }
        let now_ms = self.now_ms();
        let expires_ms = now_ms.saturating_add(asked.lives_ms);
        Ok(Record {
            at: asked.at.clone(),
            initiator: cx.principal.user(),
            organisation: counts_for(cx, &admitted.bucket.value, &asked.at.key),
            kind: Kind::Final(asked.partials.clone()),
            said: asked.said.clone(),
            attributes: asked.attributes.clone(),
            created_ms: now_ms,
            expires_ms,
            lives_ms: asked.lives_ms,
            due_ms: expires_ms,
            length: Some(size_bytes),
            offset: size_bytes,
            state: State::Done,
            unknown: Vec::new(),
        })
    }
}

fn extent(piece: &Piece) -> Option<Extent> {
    let len = piece.row.value.offset;
    let blob = BlobId::Content(piece.whole.sha256);
    (len > 0).then_some(Extent { blob, offset: 0, len })
}

/// The record of what the pieces have become: like an upload in parts, but for a single piece, which is a whole.
fn version_of(
    id: UploadId,
    record: &Record,
    pieces: &[Piece],
    extents: &[Extent],
    sha256: Digest,
    sniffed_type: Option<String>,
) -> Version {
    let md5s: Vec<[u8; 16]> = pieces.iter().map(|piece| piece.whole.md5).collect();
    let (etag, parts) = match md5s.as_slice() {
        [only] => (ETag::of_md5(*only), None),
        several => (ETag::of_parts(several), Some(sizes(pieces))),
    };
    let crcs = pieces.iter().map(|piece| (piece.whole.crc64nvme.to_be_bytes(), piece.row.value.offset));
    let crcs: Vec<_> = crcs.collect();
    let crc64nvme = Algorithm::Crc64Nvme.combine(crcs.iter().map(|(crc, len)| (crc.as_slice(), *len)));
    let crc64nvme = crc64nvme.and_then(|crc| crc.try_into().ok()).map(u64::from_be_bytes);
    let manifest = manifest_of(id, extents);
    Became { etag, sha256, crc64nvme, sniffed_type, manifest, parts }.version(id, record)
}

fn sizes(pieces: &[Piece]) -> PartSizes {
    let numbered = pieces.iter().zip(1_i64..);
    let size = |(piece, n): (&Piece, i64)| Some((PartNumber::try_from(n).ok()?, piece.row.value.offset));
    PartSizes::Listed(numbered.filter_map(size).collect())
}
