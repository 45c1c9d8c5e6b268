//! Reads that the kernel makes by itself: a handle is joined to the blob's file (passthrough, Linux 6.9).
//!
//! Only for handles that cannot write: the kernel would open the blob anew with the handle's own flags and write into
//! it. While such handles are open every open of the inode has to be one of them, of the same backing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use coffre_disk::DiskFile;
use coffre_store::file::OpenFile;

/// Joins a handle to a file; `Err`: the kernel does not want to.
pub(crate) type Join<'a> = &'a mut dyn FnMut(&std::fs::File) -> std::io::Result<fuser::BackingId>;

/// What the kernel reads through.
#[derive(Debug)]
pub(crate) struct Backing {
    pub(crate) id: fuser::BackingId,
    /// Its pins keep the blob.
    _file: Arc<OpenFile>,
}

/// Whether the kernel does it, and may be asked.
#[derive(Debug)]
pub(crate) struct Passthrough {
    is_on: AtomicBool,
}

impl Passthrough {
    pub(crate) fn new(is_wanted: bool) -> Self {
        Self { is_on: AtomicBool::new(is_wanted) }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    pub(crate) fn switch_off(&self) {
        self.is_on.store(false, Ordering::Relaxed);
    }

    /// A backing for a committed file that is one plain blob. `None`: ordinary reads, from here on for every file when
    /// the kernel refused.
    pub(crate) fn back(
        &self,
        file: &Arc<OpenFile>,
        plain: &dyn DiskFile,
        join: Join<'_>,
    ) -> Option<Arc<Backing>> {
        match join(plain.std_file()?) {
            Ok(id) => Some(Arc::new(Backing { id, _file: Arc::clone(file) })),
            Err(error) => {
                tracing::info!(%error, "no passthrough here: files are read in the ordinary way");
                self.switch_off();
                None
            }
        }
    }
}
