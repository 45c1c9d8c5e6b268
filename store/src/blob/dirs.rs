//! One directory sync for everyone who waits for one.
//!
//! A caller takes a ticket after its rename; whoever holds the directory's lock syncs for all tickets taken before.
//! A sync that failed fails everyone it would have served: a later one that succeeds says nothing about them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Blobs, Inner, lock};
use crate::{Error, Result};

#[derive(Debug, Default)]
struct Dir {
    tickets: AtomicU64,
    /// Tickets up to this one have been served. Locked across the sync: this queue is what shares it.
    served: tokio::sync::Mutex<u64>,
    /// The spans of tickets whose sync failed; there is rarely one. Written by the thread that synced, so that a
    /// dropped future hides no failure.
    failed: Mutex<Vec<(u64, u64)>>,
}

/// The 256 directories.
#[derive(Debug)]
pub(super) struct Dirs(Vec<Dir>);

impl Dirs {
    pub(super) fn new() -> Self {
        Self((0..256).map(|_| Dir::default()).collect())
    }

    fn get(&self, number: u8) -> &Dir {
        self.0.get(usize::from(number)).expect("there are 256 directories")
    }
}

impl Blobs {
    /// Makes the names given so far in the directory of `name` durable.
    pub(super) async fn sync_dir_of(&self, name: &str) -> Result<()> {
        let number = name.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or_default();
        let dir = self.inner.dirs.get(number);
        let ticket = dir.tickets.fetch_add(1, Ordering::AcqRel) + 1;
        let mut served = dir.served.lock().await;
        if ticket > *served {
            let (from, upto) = (*served + 1, dir.tickets.load(Ordering::Acquire));
            self.blocking("syncing a blob directory", move |inner| inner.sync_dir(number, from, upto))
                .await?;
            *served = upto;
        }
        let failed = lock(&dir.failed).iter().any(|(from, to)| (*from..=*to).contains(&ticket));
        if failed { Err(Error::Stopped) } else { Ok(()) }
    }
}

impl Inner {
    fn sync_dir(&self, number: u8, from: u64, upto: u64) -> std::io::Result<()> {
        let path = self.dir.join("blobs").join(hex::encode([number]));
        self.disk.sync_dir(&path).inspect_err(|error| {
            lock(&self.dirs.get(number).failed).push((from, upto));
            // For want of room this much fails and the next may succeed. After anything else nothing can be said
            // about names: no writes until opened again.
            if error.kind() != std::io::ErrorKind::StorageFull {
                tracing::error!(%error, "a blob directory could not be synced; refusing writes");
                self.stopped.store(true, Ordering::Release);
            }
        })
    }
}
