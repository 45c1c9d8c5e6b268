//! Aligned buffers for bytes on their way to disk, pooled.
//!
//! A transfer always may hold one block; its second and third come out of a budget shared by all, so that ten
//! transfers of any size stay within contract D38 and no transfer waits for another one's client.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::lock;

/// Bytes of a block (design §3).
pub(super) const BLOCK_BYTES: usize = 1024 * 1024;
/// Alignment of blocks: what `O_DIRECT` asks for on every device in use.
pub(super) const ALIGNMENT: usize = 4096;
/// Blocks beyond each transfer's first, over all transfers: 10 + 8 blocks, the sockets' buffers and
/// what the allocator holds between them stay under 32 MB.
const EXTRA_BLOCKS: usize = 8;
/// Blocks kept for the next transfers.
const KEPT_BLOCKS: usize = 12;
/// Blocks of one transfer: one filling, two being hashed and written.
const BLOCKS_PER_TRANSFER: usize = 3;

/// The pool of a store.
#[derive(Debug)]
pub(super) struct Buffers {
    kept: Mutex<Vec<Vec<u8>>>,
    extra: Arc<Semaphore>,
    /// Blocks out now, and the most that ever were.
    out: AtomicUsize,
    most: AtomicUsize,
}

impl Default for Buffers {
    fn default() -> Self {
        let extra = Arc::new(Semaphore::new(EXTRA_BLOCKS));
        Self { kept: Mutex::default(), extra, out: AtomicUsize::new(0), most: AtomicUsize::new(0) }
    }
}

/// The blocks one transfer may hold.
#[derive(Debug)]
pub(super) struct Allowance {
    buffers: Arc<Buffers>,
    /// The one it always may hold.
    first: Arc<Semaphore>,
    /// Those it may hold when the budget has them.
    more: Arc<Semaphore>,
}

/// What lets a block be held; given back with it.
#[derive(Debug)]
struct Permit(#[expect(dead_code, reason = "held, not read")] Vec<OwnedSemaphorePermit>);

/// A block, aligned, with its fill. Goes back to the pool when dropped.
#[derive(Debug)]
pub(super) struct Block {
    memory: Vec<u8>,
    /// Where the aligned bytes begin in `memory`.
    start: usize,
    len: usize,
    buffers: Arc<Buffers>,
    _permit: Permit,
}

impl Buffers {
    pub(super) fn allowance(self: &Arc<Self>) -> Allowance {
        let more = Arc::new(Semaphore::new(BLOCKS_PER_TRANSFER - 1));
        Allowance { buffers: Arc::clone(self), first: Arc::new(Semaphore::new(1)), more }
    }

    /// The most blocks that were out at a time, and how many are kept.
    #[cfg(test)]
    pub(super) fn figures(&self) -> (usize, usize) {
        (self.most.load(Ordering::Relaxed), lock(&self.kept).len())
    }
}

impl Allowance {
    /// An empty block: the transfer's own if it is free, an extra one if the budget has one, else its own once its
    /// hashing and writing have ended.
    pub(super) async fn block(&self) -> Block {
        let permit = match Arc::clone(&self.first).try_acquire_owned() {
            Ok(permit) => Permit(vec![permit]),
            Err(_) => match self.extra() {
                Some(permit) => permit,
                None => Permit(Vec::from_iter(Arc::clone(&self.first).acquire_owned().await)),
            },
        };
        let out = self.buffers.out.fetch_add(1, Ordering::Relaxed) + 1;
        self.buffers.most.fetch_max(out, Ordering::Relaxed);
        let memory = lock(&self.buffers.kept).pop();
        let memory = memory.unwrap_or_else(|| vec![0; BLOCK_BYTES + ALIGNMENT]);
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Block { memory, start, len: 0, buffers: Arc::clone(&self.buffers), _permit: permit }
    }

    fn extra(&self) -> Option<Permit> {
        let mine = Arc::clone(&self.more).try_acquire_owned().ok()?;
        let shared = Arc::clone(&self.buffers.extra).try_acquire_owned().ok()?;
        Some(Permit(vec![mine, shared]))
    }
}

impl Block {
    /// Takes as many of `bytes` as fit; how many.
    pub(super) fn fill(&mut self, bytes: &[u8]) -> usize {
        let from = self.start + self.len;
        let n = bytes.len().min(BLOCK_BYTES - self.len);
        if let (Some(to), Some(bytes)) = (self.memory.get_mut(from..from + n), bytes.get(..n)) {
            to.copy_from_slice(bytes);
        }
        self.len += n;
        n
    }

    pub(super) fn is_full(&self) -> bool {
        self.len == BLOCK_BYTES
    }

    /// The bytes filled.
    pub(super) fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..self.start + self.len).unwrap_or_default()
    }

    /// Zeros after the fill, up to a multiple of `alignment`.
    pub(super) fn pad(&mut self, alignment: usize) {
        let padded = self.len.next_multiple_of(alignment).min(BLOCK_BYTES);
        if let Some(rest) = self.memory.get_mut(self.start + self.len..self.start + padded) {
            rest.fill(0);
        }
    }

    /// The bytes filled and what [`Block::pad`] put behind them.
    pub(super) fn padded(&self, alignment: usize) -> &[u8] {
        let padded = self.len.next_multiple_of(alignment).min(BLOCK_BYTES);
        self.memory.get(self.start..self.start + padded).unwrap_or_default()
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.buffers.out.fetch_sub(1, Ordering::Relaxed);
        let mut kept = lock(&self.buffers.kept);
        if kept.len() < KEPT_BLOCKS {
            kept.push(std::mem::take(&mut self.memory));
        }
    }
}

/// Smaller reads take memory of their own.
const READ_POOLED_MIN: usize = 64 * 1024;
/// Bytes of a pooled read buffer: one step.
const READ_BYTES: usize = 256 * 1024;
/// Read buffers kept.
const KEPT_READS: usize = 16;

/// Buffers for bytes on their way out.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadBuffers(Arc<Mutex<Vec<Vec<u8>>>>);

/// One of them.
#[derive(Debug)]
pub(super) struct ReadBuffer {
    memory: Vec<u8>,
    len: usize,
    pool: ReadBuffers,
}

impl ReadBuffers {
    /// A buffer of `len` bytes, at most one step.
    pub(super) fn buffer(&self, len: usize) -> ReadBuffer {
        let len = len.min(READ_BYTES);
        let memory = if len < READ_POOLED_MIN {
            vec![0; len]
        } else {
            lock(&self.0).pop().unwrap_or_else(|| vec![0; READ_BYTES])
        };
        ReadBuffer { memory, len, pool: self.clone() }
    }
}

impl ReadBuffer {
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(..self.len).unwrap_or_default()
    }

    /// The first `n` bytes; the memory returns to the pool with the last clone.
    pub(super) fn freeze(mut self, n: usize) -> Bytes {
        self.len = self.len.min(n);
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(..self.len).unwrap_or_default()
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        if self.memory.len() == READ_BYTES {
            let mut kept = lock(&self.pool.0);
            if kept.len() < KEPT_READS {
                kept.push(std::mem::take(&mut self.memory));
            }
        }
    }
}
