//! The crate's one error: why there is no mount.

use std::path::PathBuf;

/// Why something was not mounted or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is a file.
    #[error("{} is not a directory", .path.display())]
    NotADirectory {
        /// Where.
        path: PathBuf,
    },
    /// A coffre is mounted there already.
    #[error("{} is mounted already", .path.display())]
    Busy {
        /// Where.
        path: PathBuf,
    },
    /// The user in whose name it is to be mounted is not there, or disabled.
    #[error("the mount's user does not exist or is disabled")]
    NoUser,
    /// The system said no.
    #[error("{} cannot be mounted or unmounted", .path.display())]
    Refused {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;
