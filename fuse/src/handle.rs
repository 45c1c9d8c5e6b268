//! Open files and directories.
//!
//! All handles of a file share one working copy ([`Opened`]), so that what one writes another reads at once, as on any
//! file system. Handles are numbers drawn once and never again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use coffre_store::file::OpenFile;

use crate::dirs::DirHandle;
use crate::passthrough::Backing;

/// An open file, shared by its handles.
#[derive(Debug)]
pub(crate) struct Opened {
    file: RwLock<Arc<OpenFile>>,
    /// Held by who commits it, or takes its name away: a name taken is not given back by a commit that was under way.
    pub(crate) turn: tokio::sync::Mutex<()>,
    counts: Mutex<Counts>,
    /// What the kernel reads by itself for the handles that are open so.
    pub(crate) backing: Mutex<Weak<Backing>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    handles: u32,
    writers: u32,
}

impl Opened {
    pub(crate) fn new(file: OpenFile) -> Self {
        Self {
            file: RwLock::new(Arc::new(file)),
            turn: tokio::sync::Mutex::new(()),
            counts: Mutex::default(),
            backing: Mutex::default(),
        }
    }

    /// The working copy.
    pub(crate) fn file(&self) -> Arc<OpenFile> {
        Arc::clone(&self.file.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Goes on with what somebody else put in its place. Only where nothing was written.
    pub(crate) fn replace(&self, file: OpenFile) {
        *self.file.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(file);
    }

    pub(crate) fn handles(&self) -> u32 {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).handles
    }

    pub(crate) fn has_writers(&self) -> bool {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).writers > 0
    }

    /// The handles that the kernel reads through by itself, as long as there are any.
    pub(crate) fn live_backing(&self) -> Option<Arc<Backing>> {
        self.backing.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    /// One handle more. Under the table's lock, so that the last release does not take the file from a new handle.
    pub(crate) fn add(&self, can_write: bool) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.handles += 1;
        counts.writers += u32::from(can_write);
    }

    /// One handle less.
    pub(crate) fn remove(&self, can_write: bool) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.handles = counts.handles.saturating_sub(1);
        counts.writers = counts.writers.saturating_sub(u32::from(can_write));
    }
}

/// One open of a file.
#[derive(Debug)]
pub(crate) struct FileHandle {
    pub(crate) node: u64,
    pub(crate) opened: Arc<Opened>,
    pub(crate) can_write: bool,
    /// Kept while the handle is open: the kernel reads through it.
    pub(crate) _backing: Option<Arc<Backing>>,
}

/// What is open.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    next: AtomicU64,
    files: Mutex<HashMap<u64, Arc<FileHandle>>>,
    dirs: Mutex<HashMap<u64, Arc<DirHandle>>>,
}

impl Handles {
    fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A handle that was counted ([`Opened::add`]).
    pub(crate) fn add_file(&self, handle: FileHandle) -> u64 {
        let number = self.number();
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::new(handle));
        number
    }

    pub(crate) fn file(&self, number: u64) -> Option<Arc<FileHandle>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    /// Takes a handle away; it is still counted.
    pub(crate) fn remove_file(&self, number: u64) -> Option<Arc<FileHandle>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).remove(&number)
    }

    /// All open files.
    pub(crate) fn files(&self) -> Vec<Arc<FileHandle>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn add_dir(&self, handle: DirHandle) -> u64 {
        let number = self.number();
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner).insert(number, Arc::new(handle));
        number
    }

    pub(crate) fn dir(&self, number: u64) -> Option<Arc<DirHandle>> {
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    pub(crate) fn remove_dir(&self, number: u64) {
        self.dirs.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }
}
