//! Open files: a private working copy of one object, held by a door that writes anywhere in it.
//!
//! An [`OpenFile`] is a base (a version's extents, pinned: the sweep takes nothing that is open) and what was written
//! over it since, in memory up to 1 MiB, beyond that in one staging file at the same offsets. Nobody else sees the
//! difference until [`OpenFile::commit`], which makes it the object's content whole: dirty bytes become blobs, the
//! rest stays extents of the old ones. After a commit the file goes on from there, so that the next commit costs only
//! what was written since.
//!
//! Promises: bytes before rows; a commit that failed leaves the working copy as it was, and can be tried again.
//! Reads never wait for a commit of the same file; writes do.
//! The futures of [`OpenFile`] read and write files on the thread that polls them: poll them on a thread that may
//! block (`Handle::block_on` on the door's own), not on the runtime's workers.
//!
//! Lock order: the writer, then the state. The state is held over no I/O.

mod commit;
mod content;
mod edit;
mod pieces;
mod read;
mod running;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::attributes::AttributeChange;
use crate::blob::{Draft, File, Pin};
use crate::commit::RESTARTS_MAX;
use crate::error::{Error, Missing, Result};
use crate::name::{BucketId, UserId, VersionId};
use crate::object::{At, Attributes, BlobId, Manifest, Version};
use crate::{Action, Cx, OrgId, Store};

use pieces::Pieces;
use running::Running;

/// Longest file: what a staging file may be on ext4, with room.
pub const FILE_BYTES_MAX: u64 = 8 << 40;

/// What an open file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Needs `GetObject`.
    Read,
    /// Needs `PutObject`.
    Write,
    /// Needs both.
    ReadWrite,
}

/// What a commit wants to find at the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// Anything: the last close wins. What stood there becomes history where the bucket keeps it.
    #[default]
    Any,
    /// The version this file was opened on or committed last; nothing, if it is new. Else `Precondition`.
    Unchanged,
}

/// A private working copy of one object. Share it by `Arc` among all handles of one file; dropping it forgets what was
/// not committed and lets go of its pins.
#[derive(Debug)]
pub struct OpenFile {
    store: Store,
    /// Its bucket, whose owner and organisation count its bytes.
    bucket: BucketId,
    owner: Option<UserId>,
    organisation: Option<OrgId>,
    /// Held by who changes or commits the file.
    writer: tokio::sync::Mutex<Writer>,
    state: Mutex<State>,
}

/// What only writers use.
#[derive(Debug)]
struct Writer {
    draft: Option<Draft>,
    running: Running,
    /// Bytes written to the draft since somebody looked whether there is room.
    unlooked: u64,
    /// A sync failed or nobody knows how a commit ended: nothing is committed any more.
    is_broken: bool,
    /// The version that this open file has made: further commits change it in place while it is current.
    session: Option<Session>,
}

/// A version made by an open file that is still open. The background leaves it alone until it is closed.
#[derive(Debug)]
struct Session {
    id: VersionId,
    store: Store,
}

impl Session {
    fn begin(store: &Store, id: VersionId) -> Self {
        store.inner.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        Self { id, store: store.clone() }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.store.inner.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.store.inner.background.wake_digests();
    }
}

/// What the file is now.
#[derive(Debug)]
struct State {
    /// The record it was opened on or committed last.
    version: Option<Version>,
    ino: u64,
    /// Of a file that is new.
    initial: Attributes,
    /// To be made with the next commit, and, while one runs, what comes after it.
    changes: AttributeChange,
    later: AttributeChange,
    is_committing: bool,
    pieces: Pieces,
    /// The bytes or their number are not those of the version.
    has_new_content: bool,
    /// Where the last commit stands.
    committed: Option<coffre_kv::Position>,
    /// The draft's file, for readers.
    draft: Option<File>,
    pins: Arc<Pins>,
}

/// The blobs that the pieces refer to, kept from the sweep.
type Pins = BTreeMap<BlobId, Arc<Pin>>;

impl Store {
    /// A file that is not there yet: empty, dirty, known to nobody else until its first commit. Draws its inode
    /// number. Writes nothing else. The caller needs `PutObject` at the key.
    ///
    /// # Errors
    /// `NotFound(Bucket)`, `Denied`, `Hidden`; `Precondition` when an object stands at the key.
    pub async fn create_file(&self, cx: &Cx, at: &At, attributes: Attributes) -> Result<OpenFile> {
        let bucket = self.find_bucket(&at.bucket).await?;
        let head = self.find_head(&bucket.value, &at.key).await?;
        self.ask_write(cx, &bucket.value, &at.key, head.as_ref().map(|head| &head.value), false)?;
        if head.is_some() {
            return Err(Error::Precondition { condition: "If-None-Match" });
        }
        let ino = self.inner.inodes.next(self.inner.kv()).await?;
        let owner = cx.principal.user();
        let organisation = crate::commit::counts_for(cx, &bucket.value, &at.key);
        let state = State::new(None, ino, attributes, Pieces::default(), Arc::default());
        Ok(OpenFile::new(self, bucket.value.id, (owner, organisation), state))
    }

    /// Opens the current version of a key. Reads no bytes.
    ///
    /// # Errors
    /// As [`Store::head`] and, for writing, `Denied` or `Hidden`.
    pub async fn open_file(&self, cx: &Cx, at: &At, access: Access) -> Result<OpenFile> {
        for _ in 0..RESTARTS_MAX {
            let bucket = self.find_bucket(&at.bucket).await?;
            let Some(head) = self.find_head(&bucket.value, &at.key).await? else {
                return Err(self.missing(cx, &bucket.value, &at.key, Missing::Key(at.key.clone())));
            };
            self.ask_access(cx, &bucket.value, at, Some(&head.value), access)?;
            let Some(extents) = self.extents(&head.value, 0..head.value.size_bytes).await? else { continue };
            let pieces = Pieces::stored(extents);
            let pins = self.pin(&pieces).await;
            // what was pinned is still what the record refers to: else the sweep may have been faster
            let again = self.find_head(&bucket.value, &at.key).await?;
            if again.as_ref().map(|again| again.position) != Some(head.position) {
                continue;
            }
            let version = head.value;
            let counted = (version.owner, version.organisation);
            let state = State::new(Some(version), 0, Attributes::default(), pieces, Arc::new(pins));
            return Ok(OpenFile::new(self, bucket.value.id, counted, state));
        }
        Err(Error::Busy)
    }

    /// Whether the caller may do this to the object at a key (there or not): for a handle more on an open file.
    ///
    /// # Errors
    /// `NotFound(Bucket)`, `Denied`, `Hidden`.
    pub async fn may(&self, cx: &Cx, at: &At, access: Access) -> Result<()> {
        let bucket = self.find_bucket(&at.bucket).await?;
        let head = self.find_head(&bucket.value, &at.key).await?;
        self.ask_access(cx, &bucket.value, at, head.as_ref().map(|head| &head.value), access)
    }

    /// Makes everything committed so far durable (`syncfs`, `fsync` of a directory).
    ///
    /// # Errors
    /// `NoSpace`, `Stopped`.
    pub async fn sync(&self) -> Result<()> {
        let stats = self.inner.kv().stats();
        if stats.durable < stats.applied {
            // a durable commit makes all before it durable
            self.inner.kv().commit(coffre_kv::Commit::default()).await?;
        }
        Ok(())
    }

    fn ask_access(
        &self,
        cx: &Cx,
        bucket: &crate::object::Bucket,
        at: &At,
        existing: Option<&Version>,
        access: Access,
    ) -> Result<()> {
        if access != Access::Write {
            self.ask(cx, Action::GetObject, bucket, Some(&at.key), existing)?;
        }
        if access != Access::Read {
            self.ask(cx, Action::PutObject, bucket, Some(&at.key), existing)?;
        }
        Ok(())
    }

    /// Pins everything that pieces refer to.
    async fn pin(&self, pieces: &Pieces) -> Pins {
        let mut pins = Pins::new();
        #[cfg(test)]
        if crate::plan::canary::is(crate::plan::canary::Broken::Pins) {
            return pins;
        }
        for blob in pieces.blobs() {
            if let std::collections::btree_map::Entry::Vacant(free) = pins.entry(blob) {
                free.insert(Arc::new(self.inner.blobs.pins().pin(blob).await));
            }
        }
        pins
    }
}

impl State {
    fn new(version: Option<Version>, ino: u64, initial: Attributes, pieces: Pieces, pins: Arc<Pins>) -> Self {
        let ino = version.as_ref().map_or(ino, |version| version.ino);
        Self {
            has_new_content: version.is_none(),
            version,
            ino,
            initial,
            changes: AttributeChange::default(),
            later: AttributeChange::default(),
            is_committing: false,
            pieces,
            committed: None,
            draft: None,
            pins,
        }
    }

    fn attributes(&self) -> Attributes {
        let mut attributes = self.version.as_ref().map_or(&self.initial, |v| &v.attributes).clone();
        self.changes.apply(&mut attributes);
        self.later.apply(&mut attributes);
        attributes
    }

    fn is_dirty(&self) -> bool {
        self.has_new_content || !self.changes.is_empty() || !self.later.is_empty()
    }

    fn add_change(&mut self, change: AttributeChange) {
        if self.is_committing { self.later.then(change) } else { self.changes.then(change) }
    }
}

impl OpenFile {
    fn new(store: &Store, bucket: BucketId, counted: (Option<UserId>, Option<OrgId>), state: State) -> Self {
        let writer =
            Writer { draft: None, running: Running::new(), unlooked: 0, is_broken: false, session: None };
        Self {
            store: store.clone(),
            bucket,
            owner: counted.0,
            organisation: counted.1,
            writer: tokio::sync::Mutex::new(writer),
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record it was opened on or committed last; `None`: it is new and was not committed.
    pub fn version(&self) -> Option<Version> {
        self.state().version.clone()
    }

    /// Its inode number: the object's, or for a new file the one drawn for it, which the first commit gives to the
    /// object unless one stands at the key by then (look at the version a commit returns).
    pub fn ino(&self) -> u64 {
        self.state().ino
    }

    /// Its size with what was written, bytes.
    pub fn size(&self) -> u64 {
        self.state().pieces.size()
    }

    /// Its attributes with what was changed here. Changes made in place meanwhile show after the next commit.
    pub fn attributes(&self) -> Attributes {
        self.state().attributes()
    }

    /// There is something to commit: bytes, length, attributes, or that it exists at all.
    pub fn is_dirty(&self) -> bool {
        self.state().is_dirty()
    }

    /// Changes attributes of the working copy; they go with the next commit. Writes set modification and change time
    /// themselves, so a later explicit time wins.
    ///
    /// # Errors
    /// As [`AttributeChange::check`]; nothing is changed then.
    pub fn change(&self, change: AttributeChange) -> Result<()> {
        let mut state = self.state();
        change.check(&state.attributes())?;
        state.add_change(change);
        Ok(())
    }

    /// The whole content as one file of the disk, for the kernel to read by itself: the base is one plain blob and
    /// nothing was written over it. The pins of this open file are what keeps it: hold both.
    ///
    /// # Errors
    /// `Corrupt`, `Stopped`.
    pub async fn plain(&self) -> Result<Option<File>> {
        let (blob, size, _pins) = {
            let state = self.state();
            let Some(version) = &state.version else { return Ok(None) };
            let Manifest::Inline(_) = version.manifest else { return Ok(None) };
            if state.has_new_content {
                return Ok(None);
            }
            match state.pieces.extents().as_deref() {
                Some([extent]) if extent.offset == 0 => {
                    (extent.blob, version.size_bytes, Arc::clone(&state.pins))
                }
                _ => return Ok(None),
            }
        };
        let kv = self.store.inner.kv();
        match self.store.inner.blobs.find(&**kv, &blob).await? {
            Some(crate::blob::Found::File(file, 0)) => {
                let len = file.len_bytes().map_err(|e| Error::io("looking at a blob", e))?;
                // a file that is longer would show the kernel more than the object has
                Ok((len == size).then_some(file))
            }
            Some(_) | None => Ok(None),
        }
    }
}
