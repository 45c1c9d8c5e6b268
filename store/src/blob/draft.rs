//! The staging file of an open file: written anywhere, for as long as it takes, then published like any other.
//!
//! Unlike what [`Blobs::take_in`] stages it is not hashed on the way and its bytes keep the offsets they have in the
//! file that is written; what nobody wrote is a hole. All but publishing runs on the caller's thread, which may block.
//! Promises: dropped unpublished the file goes at once; dropped published it is left to the sweep (see `stage.rs`).

use coffre_disk::Open;

use super::place::{Place, stem};
use super::stage::{Content, Held};
use super::{Blobs, File};
use crate::object::BlobId;
use crate::{Error, Result};

/// A staging file in the hands of an open file.
#[derive(Debug)]
pub(crate) struct Draft {
    held: Held,
    unique: String,
    file: File,
}

impl Blobs {
    /// Makes a staging file.
    ///
    /// # Errors
    /// `NoSpace` when `len` bytes more would not leave the reserve free, `Stopped`, `Internal`.
    pub(crate) fn make_draft(&self, len: u64) -> Result<Draft> {
        self.check_running()?;
        self.check_room(len)?;
        let held = self.hold_staging();
        let unique = held.staging_name();
        let path = self.inner.staging().join(&unique);
        let file =
            self.inner.disk.open(&path, Open::Create).map_err(|e| Error::io("making a staging file", e))?;
        Ok(Draft { held, unique, file })
    }

    /// Whether there is room for so many bytes more.
    ///
    /// # Errors
    /// `NoSpace`.
    pub(crate) fn check_room(&self, len: u64) -> Result<()> {
        self.inner.check_room(len).map_err(|e| Error::io("looking for room", e))
    }
}

impl Draft {
    /// The file, for reading and writing.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Cuts the file to `len` and makes its bytes durable. After an error it must not be used any more.
    ///
    /// # Errors
    /// `NoSpace`, `Internal`.
    pub(crate) fn seal(&self, len: u64) -> Result<()> {
        let sealed = || {
            if self.file.len_bytes()? != len {
                self.file.set_len(len)?;
            }
            self.file.set_read_only()?;
            self.file.sync_data()
        };
        sealed().map_err(|e| Error::io("syncing a staging file", e))
    }

    /// Gives the sealed file its name among the blobs, durably: the place that a commit makes known. To be called
    /// before the commit is queued.
    ///
    /// # Errors
    /// `NoSpace`, `Stopped`, `Internal`: not published.
    pub(crate) async fn publish(&mut self, blob: BlobId, len: u64) -> Result<Place> {
        let blobs = self.held.blobs.clone();
        blobs.check_running()?;
        blobs.named().await?;
        let name = format!("{}.{}", stem(&blob), self.unique);
        let (from, to) = (blobs.inner.staging().join(&self.unique), blobs.inner.path_of(&name));
        // said before the rename: dropped in the middle the file is left to the sweep wherever it is
        self.held.content = Content::Published { name: name.clone(), blob };
        blobs.blocking("publishing a blob", move |inner| inner.disk.rename(&from, &to)).await?;
        blobs.sync_dir_of(&name).await?;
        let len = if matches!(blob, BlobId::Parts(_)) { 0 } else { len };
        Ok(Place::File { name, offset: 0, len })
    }

    /// Makes it a staging file again after a commit that certainly did not happen.
    ///
    /// # Errors
    /// `Internal`: it stays where it is, for the sweep; it must not be used any more.
    pub(crate) async fn take_back(&mut self) -> Result<()> {
        let Content::Published { name, .. } = &self.held.content else { return Ok(()) };
        let blobs = self.held.blobs.clone();
        let (from, to) = (blobs.inner.path_of(name), blobs.inner.staging().join(&self.unique));
        blobs
            .blocking("taking a blob back", move |inner| match inner.disk.rename(&from, &to) {
                // it never left
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                other => other,
            })
            .await?;
        self.held.content = Content::Staging(self.unique.clone());
        Ok(())
    }

    /// Says how the commit ended: whether a row names the published file now. If none does it goes.
    pub(crate) fn settle(mut self, used: bool) {
        let content = std::mem::replace(&mut self.held.content, Content::Settled);
        match content {
            Content::Published { name, .. } if !used => {
                self.held.blobs.remove_soon(move |inner| inner.remove_file(&name).map(drop));
            }
            Content::Staging(_) => self.held.content = content,
            Content::Published { .. } | Content::Inline(_) | Content::Settled => {}
        }
    }
}
