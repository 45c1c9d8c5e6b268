//! Who is reading what: guards that keep a blob from the sweep.
//!
//! A reader pins before it looks at the blob's row; the sweep claims a blob before it deletes the row. Whoever comes
//! second sees the other: a claim of a pinned blob is refused, a pin of a claimed blob waits until the sweep is
//! through and then reads the row as it is. Pins are of this process; for others the grace time is the pin.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::lock;
use crate::object::BlobId;

#[derive(Debug, Default)]
struct Shared {
    /// Readers of each blob, or a claim.
    uses: Mutex<HashMap<BlobId, Use>>,
    /// Told when a claim ends.
    ended: Notify,
}

#[derive(Debug)]
enum Use {
    Read(usize),
    Claimed,
}

/// The pins of a store.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pins(Arc<Shared>);

/// Keeps a blob from the sweep while it lives.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Pins,
    blob: BlobId,
}

/// The sweep's right to remove a blob; nobody pins it meanwhile.
#[derive(Debug)]
pub(crate) struct Claim {
    pins: Pins,
    blob: BlobId,
}

impl Pins {
    /// Pins a blob; waits while the sweep has it.
    pub(crate) async fn pin(&self, blob: BlobId) -> Pin {
        loop {
            let ended = self.0.ended.notified();
            tokio::pin!(ended);
            // Listens before it looks, so that an end in between is not missed.
            ended.as_mut().enable();
            if let Some(pin) = self.try_pin(blob) {
                return pin;
            }
            ended.await;
        }
    }

    fn try_pin(&self, blob: BlobId) -> Option<Pin> {
        match lock(&self.0.uses).entry(blob).or_insert(Use::Read(0)) {
            Use::Read(readers) => *readers += 1,
            Use::Claimed => return None,
        }
        Some(Pin { pins: self.clone(), blob })
    }

    /// Claims a blob for removal; `None` when somebody reads it.
    pub(crate) fn claim(&self, blob: BlobId) -> Option<Claim> {
        let mut uses = lock(&self.0.uses);
        if uses.contains_key(&blob) {
            return None;
        }
        uses.insert(blob, Use::Claimed);
        Some(Claim { pins: self.clone(), blob })
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut uses = lock(&self.pins.0.uses);
        if let Some(Use::Read(readers)) = uses.get_mut(&self.blob) {
            *readers -= 1;
            if *readers == 0 {
                uses.remove(&self.blob);
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.pins.0.uses).remove(&self.blob);
        self.pins.0.ended.notify_waiters();
    }
}
