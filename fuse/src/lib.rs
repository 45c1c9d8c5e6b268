//! The mount door: a file system over the store's objects, for the kernel, by way of fuser.
//!
//! Promises: a file is seen at the other doors when it is closed or synced, whole; what other doors change is seen here
//! before they answer, though the kernel caches for an hour; an inode is one content lineage; no call waits without an
//! end, and none for the kernel. Owns: the inode table, open files, names and their escape. Leaves out: what a
//! directory, a rename or a commit is (`store`), who may do what (`identity`), locks (the kernel's own).

mod attr;
mod change;
mod dirs;
mod door;
mod errno;
mod error;
mod files;
mod filesystem;
mod handle;
mod inode;
mod lookup;
mod moves;
mod name;
mod notify;
mod passthrough;
mod session;
mod xattr;

pub use door::{Space, SpaceOf};
pub use error::{Error, Result};
pub use session::{Mount, Options, is_ours};
