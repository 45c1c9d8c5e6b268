//! Bytes coming in at an upload's end.
//!
//! Order: authorise, take the turn, look where the upload ends, receive, sync, then one commit that moves the offset;
//! long requests do so every 64 MiB. What arrived before the body broke off is kept, unless something was claimed of
//! it. Dropped in the middle, what was synced and committed stays; the rest is written over by who comes next.

use coffre_kv::{Check, Write};
use futures_util::StreamExt;

use super::hash::{HashState, LongLane, LongMd5Lane};
use super::line::Turn;
use super::record::{Record, State};
use super::{Append, Kind, Resumable};
use crate::blob::{Growing, Grown, NewFile, SYNC_STEP_BYTES};
use crate::codec::keys;
use crate::commit::{self, note};
use crate::error::{Error, Missing, Result};
use crate::hasher::{self, Wanted};
use crate::object::BlobId;
use crate::plan::{Placed, Plan};
use crate::put::Claims;
use crate::watch::Note;
use crate::{Action, BodyError, ByteStream, Cx, Store, UploadId, refs};

/// What may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    /// The upload's length, if it is known now.
    length: Option<u64>,
    /// Where it ends at the latest.
    end: u64,
    /// How many bytes may still come.
    bytes: u64,
}

/// How a body ended.
enum Ending {
    /// It was whole.
    Whole,
    /// It broke off.
    Cut(BodyError),
    /// Somebody else wants to go on.
    Asked,
}

impl Ending {
    fn short(received: u64, announced: u64) -> Self {
        Self::Cut(format!("the body ended after {received} of {announced} bytes").into())
    }

    /// What a request that did not end whole is answered.
    fn error(self) -> Error {
        match self {
            Self::Cut(source) => Error::IncompleteBody { source },
            Self::Whole | Self::Asked => Error::Busy,
        }
    }
}

/// A request under way.
struct Receiving<'a> {
    cx: &'a Cx,
    id: UploadId,
    turn: &'a Turn,
    room: Room,
    /// The upload as its row has it.
    upload: Placed<Record>,
    /// Until the first commit names it.
    new_file: Option<NewFile>,
    received: u64,
}

impl Store {
    /// Appends bytes to an upload, and finishes it when they were the last. Durable on return.
    ///
    /// The future may be dropped; who wants to keep what arrived when its client has gone lets it run on.
    ///
    /// # Errors
    /// `NotFound(Upload)`, `Precondition { condition: "offset" }` (it ends elsewhere), `Invalid` (a length that is not
    /// its own), `TooLarge`, `Busy` (another request is at it, or has asked this one to leave; then what arrived is
    /// kept), `IncompleteBody` (what arrived is kept), `ChecksumMismatch` (nothing is), `Denied` (it is composed of
    /// others), `QuotaExceeded`, `NoSpace`; as [`Store::put`] when it is finished.
    pub async fn append_resumable(&self, cx: &Cx, append: Append) -> Result<Resumable> {
        let id = append.upload;
        self.known_resumable(cx, Action::PutObject, id).await?;
        let turn = self.inner.lines.enter(id).await?;
        let known = self.known_resumable(cx, Action::PutObject, id).await?;
        let upload = known.upload;
        let room = decide(&upload.value, id, &append, self.now_ms())?;
        self.check_quota(&known.bucket.value, &upload.value, append.size_bytes.unwrap_or(0)).await?;
        let receiving = Receiving { cx, id, turn: &turn, room, upload, new_file: None, received: 0 };
        let receive = self.receive(receiving, append.body, append.size_bytes, append.claims);
        let record = Box::pin(receive).await?;
        if record.is_whole() && matches!(record.state, State::Open(_)) {
            return self.finish_resumable(cx, id, &turn).await;
        }
        Ok(record.shown(id, self.now_ms()))
    }

    async fn receive(
        &self,
        mut receiving: Receiving<'_>,
        mut body: ByteStream,
        announced: Option<u64>,
        claims: Claims,
    ) -> Result<Record> {
        let wanted = has_claims(&claims).then(|| Wanted::of(&claims, false));
        let first = loop {
            match next(&mut body, receiving.turn).await {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(Some(bytes)) => break bytes,
                Ok(None) => {
                    if let Some(wanted) = &wanted {
                        hasher::verify(&hasher::digest(wanted, b""), claims)?;
                    }
                    return self.say_length(receiving, announced).await;
                }
                Err(ending) => return Err(ending.error()),
            }
        };
        let mut growing = self.begin_growing(&mut receiving, announced.unwrap_or(0), wanted.as_ref()).await?;
        let mut piece = Ok(Some(first));
        let ending = loop {
            let bytes = match piece {
                Ok(Some(bytes)) => bytes,
                Ok(None) => break Ending::Whole,
                Err(ending) => break ending,
            };
            receiving.received += bytes.len() as u64;
            if receiving.received > receiving.room.bytes {
                return Err(too_large(receiving.room.end));
            }
            growing = self.take(&mut receiving, growing, &bytes, wanted.is_none()).await?;
            piece = next(&mut body, receiving.turn).await;
        };
        let ending = match (ending, announced) {
            (Ending::Whole, Some(n)) if n != receiving.received => Ending::short(receiving.received, n),
            (ending, _) => ending,
        };
        if wanted.is_some() && !matches!(ending, Ending::Whole) {
            return Err(ending.error());
        }
        let Grown { main, md5, end, .. } = growing.sync().await?;
        let state = HashState::of(&main, &md5);
        if let Some(wanted) = &wanted
            && let (Some(main), Some(md5)) = (main.into_claimed(), md5.into_claimed())
        {
            hasher::verify(&hasher::finish(wanted, main, md5), claims)?;
        }
        let note = note(receiving.cx, "AppendResumableUpload", &receiving.upload.value.at);
        self.move_offset(&mut receiving, end, state, Some(&note)).await?;
        match ending {
            Ending::Whole => Ok(receiving.upload.value),
            Ending::Cut(_) | Ending::Asked => Err(ending.error()),
        }
    }

    /// A request without bytes may still say how long the upload is.
    async fn say_length(&self, mut receiving: Receiving<'_>, announced: Option<u64>) -> Result<Record> {
        if let Some(n) = announced.filter(|n| *n > 0) {
            return Err(Ending::short(0, n).error());
        }
        let record = &receiving.upload.value;
        if let State::Open(state) = &record.state
            && record.length != receiving.room.length
        {
            let (offset, state) = (record.offset, state.clone());
            let note = note(receiving.cx, "AppendResumableUpload", &record.at);
            self.move_offset(&mut receiving, offset, state, Some(&note)).await?;
        }
        Ok(receiving.upload.value)
    }

    async fn begin_growing(
        &self,
        receiving: &mut Receiving<'_>,
        announced: u64,
        wanted: Option<&Wanted>,
    ) -> Result<Growing<LongLane, LongMd5Lane>> {
        let (blobs, record) = (&self.inner.blobs, &receiving.upload.value);
        let State::Open(state) = &record.state else { return Err(missing(receiving.id)) };
        let file = if record.offset == 0 {
            let (new_file, file) = blobs.make_growing(receiving.id, announced).await?;
            receiving.new_file = Some(new_file);
            file
        } else {
            let row = refs::find_row(&**self.inner.kv(), &BlobId::Parts(receiving.id)).await?;
            let lost = || crate::codec::corrupt("an upload's file has no row");
            let (row, _) = row.ok_or_else(lost)?;
            let name = row.place.file().ok_or_else(lost)?;
            blobs.open_growing(name, record.offset, announced).await?
        };
        let lanes = state.lanes(wanted.map(hasher::lanes));
        Ok(blobs.grow(file, record.offset, receiving.room.bytes, lanes, receiving.turn.held()))
    }

    /// Takes bytes; after each stretch, unless all or nothing is wanted, what has come is made durable for good.
    async fn take(
        &self,
        receiving: &mut Receiving<'_>,
        mut growing: Growing<LongLane, LongMd5Lane>,
        mut bytes: &[u8],
        in_steps: bool,
    ) -> Result<Growing<LongLane, LongMd5Lane>> {
        while !bytes.is_empty() {
            let step = if in_steps { SYNC_STEP_BYTES - growing.taken() } else { u64::MAX };
            let n = usize::try_from(step).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(n);
            growing.take(now).await?;
            bytes = later;
            if in_steps && growing.taken() == SYNC_STEP_BYTES {
                let look = |main: &LongLane, md5: &LongMd5Lane, end: u64| (HashState::of(main, md5), end);
                let ((state, end), next) = growing.sync_and_go_on(receiving.room.bytes, look).await?;
                growing = next;
                self.move_offset(receiving, end, state, None).await?;
            }
        }
        Ok(growing)
    }

    /// The commit that makes synced bytes the upload's.
    async fn move_offset(
        &self,
        receiving: &mut Receiving<'_>,
        end: u64,
        state: HashState,
        note: Option<&Note>,
    ) -> Result<()> {
        let (id, old) = (receiving.id, &receiving.upload);
        let now_ms = self.now_ms();
        let record = Record {
            offset: end,
            length: receiving.room.length,
            state: State::Open(state),
            expires_ms: now_ms.saturating_add(old.value.lives_ms).max(old.value.due_ms),
            ..old.value.clone()
        };
        let bucket = self.find_bucket(&record.at.bucket).await?;
        let mut plan = Plan::new(&bucket);
        let row = keys::tus(id);
        plan.checks.push(Check::At(row.clone(), old.position));
        plan.writes.push(Write::Put(row, record.encode()));
        if let Some(new_file) = &receiving.new_file {
            plan.refs.add(BlobId::Parts(id), id.0, Some(new_file.new_blob()));
        }
        let bytes = record.unfinished_bytes() - old.value.unfinished_bytes();
        plan.count_unfinished(record.initiator, record.organisation, bytes);
        match self.commit(&record.at.bucket, plan, note).await? {
            commit::Turn::Done(committed) => {
                if let Some(new_file) = receiving.new_file.take() {
                    new_file.settle();
                }
                receiving.upload = Placed { value: record, position: committed.position };
                Ok(())
            }
            // somebody ended it: who has the turn is the only one to move it on
            commit::Turn::Lost(_) => Err(missing(id)),
        }
    }
}

/// What may be appended to an upload by this request.
///
/// # Errors
/// As [`Store::append_resumable`].
fn decide(record: &Record, id: UploadId, append: &Append, now_ms: u64) -> Result<Room> {
    if record.is_expired(now_ms) {
        return Err(missing(id));
    }
    if let Kind::Final(_) = record.kind {
        return Err(Error::Denied);
    }
    if append.offset_bytes != record.offset {
        return Err(Error::Precondition { condition: "offset" });
    }
    let length = match (record.length, append.length_bytes) {
        (Some(known), Some(said)) if known != said => {
            return Err(Error::Invalid { what: "length of an upload that has one" });
        }
        (known, said) => known.or(said),
    };
    if length.is_some_and(|length| length < record.offset) {
        return Err(Error::Invalid { what: "length below the offset" });
    }
    // a length that was taken once stands, whatever the limit is today
    let max = record.length.unwrap_or(append.length_max);
    let end = length.unwrap_or(max);
    let bytes = end.saturating_sub(record.offset);
    if end > max || append.size_bytes.is_some_and(|announced| announced > bytes) {
        return Err(too_large(max));
    }
    Ok(Room { length, end, bytes })
}

/// The next bytes of a body, unless somebody asks for the turn.
async fn next(body: &mut ByteStream, turn: &Turn) -> Result<Option<bytes::Bytes>, Ending> {
    let bytes = tokio::select! {
        biased;
        bytes = body.next() => bytes,
        () = turn.asked_to_leave() => return Err(Ending::Asked),
    };
    turn.heard();
    bytes.transpose().map_err(Ending::Cut)
}

fn has_claims(claims: &Claims) -> bool {
    claims.md5.is_some() || claims.signed_sha256.is_some() || !claims.checksums.is_empty()
}

fn too_large(max: u64) -> Error {
    Error::TooLarge { what: "the upload", max }
}

fn missing(id: UploadId) -> Error {
    Error::NotFound(Missing::Upload(id))
}
