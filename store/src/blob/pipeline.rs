//! Three lanes beside each other for one stream: SHA-256 with the CRCs, MD5, and the writes.
//!
//! Each lane takes the blocks in order; a block returns to the pool when all lanes are through with it, and the
//! number of blocks bounds how far a lane may lag. No thread is held while the client sends nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::buffer::{Allowance, Block};
use super::growing::Turn;
use super::parts::SlotClaim;
use super::stage::head_of;
use super::together::Stream;
use super::{Blobs, File, Inner};
use crate::hasher::{Takes, TakesMd5};
use crate::{Error, Result};

/// Bytes between two looks at the free space of a body whose size was not announced.
const ROOM_STEP_BYTES: u64 = 64 * 1024 * 1024;

/// Where a stream is written to.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) file: File,
    /// Where in the file it begins.
    pub(super) offset: u64,
    /// How many bytes it may have.
    pub(super) len_max: u64,
    /// What becomes of the file at its end.
    pub(super) end: End,
}

/// What a stream's end does with the file, before the bytes are answered for.
#[derive(Clone, Debug)]
pub(super) enum End {
    /// It is this stream's alone: cut to length, made read-only, synced.
    Whole,
    /// Synced. Keeps the slot of a parts file until no write can reach it any more.
    Slot(Arc<SlotClaim>),
    /// Cut behind the stream's last byte, and synced. Keeps others from the file until no write can reach it any
    /// more.
    Growing(#[expect(dead_code, reason = "held, not read")] Turn),
}

/// Work in order on one state.
struct Lane<S>(Tail<S>);

enum Tail<S> {
    Idle(S),
    Running(JoinHandle<Result<S>>),
    Taken,
}

impl<S: Send + 'static> Lane<S> {
    /// A step on the blocking pool.
    fn push<F>(&mut self, blobs: &Blobs, failed: &Arc<AtomicBool>, doing: &'static str, work: F)
    where
        F: FnOnce(&mut S, &Inner) -> std::io::Result<()> + Send + 'static,
    {
        let blobs = blobs.clone();
        self.then(failed, move |mut state| async move {
            let step = move |inner: &Inner| {
                work(&mut state, inner)?;
                Ok(state)
            };
            blobs.blocking(doing, step).await
        });
    }

    /// A step, wherever it goes on.
    fn then<F>(&mut self, failed: &Arc<AtomicBool>, step: impl FnOnce(S) -> F + Send + 'static)
    where
        F: Future<Output = Result<S>> + Send + 'static,
    {
        let before = std::mem::replace(&mut self.0, Tail::Taken);
        let failed = Arc::clone(failed);
        self.0 = Tail::Running(tokio::spawn(async move {
            let state = before.end().await?;
            step(state).await.inspect_err(|_| failed.store(true, Ordering::Release))
        }));
    }

    async fn end(self) -> Result<S> {
        self.0.end().await
    }
}

/// Hashes a block: together with other streams' where that is all there is to do.
async fn chained<D: TakesMd5>(blobs: &Blobs, stream: Stream, mut lane: D, block: Arc<Block>) -> Result<D> {
    let Some(md5) = lane.alone() else {
        let hash = move |_: &Inner| {
            lane.take(block.bytes());
            Ok(lane)
        };
        return blobs.blocking("hashing", hash).await;
    };
    let range = md5.open(block.bytes());
    let chain = blobs.chain(stream, md5.chain, Arc::clone(&block), range.clone()).await?;
    md5.close(chain, block.bytes().get(range.end..).unwrap_or_default());
    Ok(lane)
}

impl<S> Tail<S> {
    async fn end(self) -> Result<S> {
        match self {
            Self::Idle(state) => Ok(state),
            Self::Running(task) => match task.await {
                Ok(result) => result,
                Err(e) => Err(Error::Internal { doing: "receiving a body", source: e.into() }),
            },
            Self::Taken => Err(Error::Stopped),
        }
    }
}

/// One stream on its way to a [`Target`].
pub(super) struct Pipeline<M, D> {
    blobs: Blobs,
    target: Target,
    allowance: Allowance,
    filling: Option<Block>,
    /// Bytes given to the lanes.
    sent: u64,
    head: Bytes,
    failed: Arc<AtomicBool>,
    main: Lane<M>,
    md5: Lane<D>,
    /// `None`: there is no MD5 to make.
    stream: Option<Stream>,
    write: Lane<Target>,
}

impl<M: Takes, D: TakesMd5> Pipeline<M, D> {
    pub(super) fn new(blobs: &Blobs, (main, md5): (M, D), target: Target) -> Self {
        Self {
            blobs: blobs.clone(),
            target: target.clone(),
            allowance: blobs.inner.buffers.allowance(),
            filling: None,
            sent: 0,
            head: Bytes::new(),
            failed: Arc::default(),
            main: Lane(Tail::Idle(main)),
            stream: (!md5.is_idle()).then(|| blobs.stream()),
            md5: Lane(Tail::Idle(md5)),
            write: Lane(Tail::Idle(target)),
        }
    }

    /// Takes the next bytes. Waits when all blocks are in the lanes.
    pub(super) async fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.filling.is_none() {
                self.filling = Some(self.allowance.block().await);
            }
            let Some(block) = &mut self.filling else { break };
            let n = block.fill(bytes);
            bytes = bytes.get(n..).unwrap_or_default();
            if block.is_full() {
                self.send().await?;
            }
        }
        Ok(())
    }

    /// Gives the block to the lanes.
    async fn send(&mut self) -> Result<()> {
        let Some(mut block) = self.filling.take() else { return Ok(()) };
        if self.failed.load(Ordering::Acquire) {
            return Err(self.why_failed().await);
        }
        let len = block.bytes().len() as u64;
        if self.sent == 0 {
            self.head = head_of(&block);
        }
        if self.sent + len > self.target.len_max {
            return Err(Error::Invalid { what: "size" });
        }
        if let Some(alignment) = self.target.file.direct_alignment() {
            block.pad(alignment);
        }
        let offset = self.target.offset + self.sent;
        let look = self.sent / ROOM_STEP_BYTES != (self.sent + len) / ROOM_STEP_BYTES;
        self.sent += len;
        let block = Arc::new(block);
        let written = Arc::clone(&block);
        self.write.push(&self.blobs, &self.failed, "writing a blob", move |target, inner| {
            if look {
                inner.check_room(0)?;
            }
            write_block(target, &written, offset)
        });
        if let Some(stream) = self.stream {
            let hashed = Arc::clone(&block);
            let blobs = self.blobs.clone();
            self.md5.then(&self.failed, move |md5| async move { chained(&blobs, stream, md5, hashed).await });
        }
        self.main.push(&self.blobs, &self.failed, "hashing", move |main, _| {
            main.take(block.bytes());
            Ok(())
        });
        Ok(())
    }

    /// Ends the stream: the last block, the length, the sync. The lanes and the first 4 KiB.
    pub(super) async fn finish(mut self) -> Result<(M, D, Bytes)> {
        self.send().await?;
        let len = self.sent;
        self.write.push(&self.blobs, &self.failed, "syncing a blob", move |target, _| match &target.end {
            End::Whole => {
                if target.file.direct_alignment().is_some() {
                    target.file.set_len(len)?;
                }
                target.file.set_read_only()?;
                target.file.sync_data()
            }
            End::Slot(claim) => claim.sync(&target.file),
            End::Growing(_) => {
                let end = target.offset + len;
                if target.file.len_bytes()? != end {
                    target.file.set_len(end)?;
                }
                target.file.sync_data()
            }
        });
        // The writes first: only when they have ended nothing reaches the file any more.
        self.write.end().await?;
        let (main, md5) = (self.main.end().await?, self.md5.end().await?);
        if let Some(stream) = self.stream {
            self.blobs.ended(stream);
        }
        Ok((main, md5, self.head))
    }

    async fn why_failed(&mut self) -> Error {
        let write = std::mem::replace(&mut self.write, Lane(Tail::Taken));
        write.end().await.err().unwrap_or(Error::Stopped)
    }
}

fn write_block(target: &Target, block: &Block, offset: u64) -> std::io::Result<()> {
    if let Some(alignment) = target.file.direct_alignment() {
        target.file.write_all_at(block.padded(alignment), offset)
    } else {
        target.file.write_all_at(block.bytes(), offset)?;
        target.file.start_writeback(offset, block.bytes().len() as u64);
        Ok(())
    }
}
