//! A file that grows at its end, request by request: the bytes of a resumable upload.
//!
//! It lies among the blobs under its upload's name from its first byte on, like a parts file: so what finishes an
//! upload is a commit, and nothing is renamed between an offset that was acknowledged and the version. Promises: after
//! [`Growing::sync`] the bytes taken so far are durable and the file ends behind them; what lies behind the offset in
//! the rows (a crash left it) is written over by the next bytes. Who appends holds the upload's turn, and so do the
//! writes on the pool: dropped in the middle, the next one begins only when none of them can reach the file any more.

use std::any::Any;
use std::sync::Arc;

use coffre_disk::Open;

use super::buffer::{ALIGNMENT, BLOCK_BYTES};
use super::parts::Doubt;
use super::pipeline::{End, Pipeline, Target};
use super::place::Place;
use super::{Blobs, DIRECT_BYTES_MIN, File};
use crate::hasher::{Takes, TakesMd5};
use crate::refs::NewBlob;
use crate::{Error, Result, UploadId};

/// What keeps others from appending to the same file, as long as anybody holds a clone of it.
pub(crate) type Turn = Arc<dyn Any + Send + Sync>;

/// Bytes on their way to the end of a file.
pub(crate) struct Growing<M, D> {
    blobs: Blobs,
    file: File,
    turn: Turn,
    /// Where the bytes of the pipeline begin.
    offset: u64,
    taken: u64,
    /// The digests' states are large, and this is moved about.
    pipeline: Box<Pipeline<M, D>>,
}

/// What has become durable.
pub(crate) struct Grown<M, D> {
    pub(crate) main: M,
    pub(crate) md5: D,
    /// Where the file ends now.
    pub(crate) end: u64,
    file: File,
}

/// A file that no row names yet.
#[derive(Debug)]
pub(crate) struct NewFile(Doubt);

impl NewFile {
    /// What the commit that makes it known adds.
    pub(crate) fn new_blob(&self) -> NewBlob {
        let place = Place::File { name: self.0.name().to_owned(), offset: 0, len: 0 };
        NewBlob { place, size_bytes: 0, inline: None, stretch: None }
    }

    /// That commit happened.
    pub(crate) fn settle(self) {
        self.0.dispel();
    }
}

impl Blobs {
    /// Makes an upload's file, its name durable. `announced`: how many bytes are to come.
    ///
    /// # Errors
    /// `NoSpace`, `Stopped`, `Internal`.
    pub(crate) async fn make_growing(&self, upload: UploadId, announced: u64) -> Result<(NewFile, File)> {
        self.check_running()?;
        self.look_for_room(announced).await?;
        let how = if self.is_direct(0, announced) { Open::CreateDirect } else { Open::Create };
        let (doubt, file) = self.make_file_of(upload, how).await?;
        Ok((NewFile(doubt), file))
    }

    /// Opens an upload's file to go on at `offset`.
    ///
    /// # Errors
    /// `Corrupt` when it is shorter, `NoSpace`, `Stopped`, `Internal`.
    pub(crate) async fn open_growing(&self, name: &str, offset: u64, announced: u64) -> Result<File> {
        self.check_running()?;
        self.look_for_room(announced).await?;
        let how = if self.is_direct(offset, announced) { Open::WriteDirect } else { Open::Write };
        let path = self.inner.path_of(name);
        let (file, len) = self
            .blocking("opening an upload's file", move |inner| {
                let mut file = inner.disk.open(&path, how)?;
                if file.direct_alignment().is_some_and(|alignment| alignment > ALIGNMENT) {
                    file = inner.disk.open(&path, Open::Write)?;
                }
                let len = file.len_bytes()?;
                Ok((file, len))
            })
            .await?;
        if len < offset {
            return Err(Error::Corrupt { what: "an upload's file is shorter than its offset".into() });
        }
        Ok(file)
    }

    /// An upload's file will not grow any more: read-only for everyone. Nothing depends on it.
    pub(crate) fn close_growing(&self, name: String) {
        self.remove_soon(move |inner| match inner.disk.open(&inner.path_of(&name), Open::Read) {
            Ok(file) => file.set_read_only(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        });
    }

    async fn look_for_room(&self, len: u64) -> Result<()> {
        self.blocking("looking for room", move |inner| inner.check_room(len)).await
    }

    /// Whether bytes go past the page cache: many of them, from where a block of the device begins.
    fn is_direct(&self, offset: u64, announced: u64) -> bool {
        let is_aligned = offset.is_multiple_of(ALIGNMENT as u64);
        self.inner.options.direct_io && announced >= DIRECT_BYTES_MIN && is_aligned
    }

    /// Begins to append at `offset`; at most `room` bytes. `lanes` go on from the bytes before.
    pub(crate) fn grow<M: Takes, D: TakesMd5>(
        &self,
        file: File,
        offset: u64,
        room: u64,
        lanes: (M, D),
        turn: Turn,
    ) -> Growing<M, D> {
        let end = End::Growing(Arc::clone(&turn));
        let target = Target { file: Arc::clone(&file), offset, len_max: room, end };
        let pipeline = Box::new(Pipeline::new(self, lanes, target));
        Growing { blobs: self.clone(), file, turn, offset, taken: 0, pipeline }
    }
}

impl<M: Takes, D: TakesMd5> Growing<M, D> {
    /// Takes the next bytes.
    pub(crate) async fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.taken += bytes.len() as u64;
        self.pipeline.take(bytes).await
    }

    /// Bytes taken and not synced.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Makes what was taken durable.
    pub(crate) async fn sync(self) -> Result<Grown<M, D>> {
        let (main, md5, _) = Box::pin(self.pipeline.finish()).await?;
        Ok(Grown { main, md5, end: self.offset + self.taken, file: self.file })
    }

    /// The same in the middle of a request: goes on behind it.
    pub(crate) async fn sync_and_go_on<T>(
        self,
        room: u64,
        look: impl FnOnce(&M, &D, u64) -> T,
    ) -> Result<(T, Self)> {
        let (blobs, turn) = (self.blobs.clone(), Arc::clone(&self.turn));
        let Grown { main, md5, end, file } = self.sync().await?;
        let seen = look(&main, &md5, end);
        Ok((seen, blobs.grow(file, end, room, (main, md5), turn)))
    }
}

/// Bytes between two syncs of one request: whole blocks, so that the file is written in whole blocks all along.
pub(crate) const SYNC_STEP_BYTES: u64 = 64 * BLOCK_BYTES as u64;
