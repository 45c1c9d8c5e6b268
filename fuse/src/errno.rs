//! Store error → errno: the only place.

use coffre_store::Error;
use rustix::io::Errno;

/// The crate's result inside: an errno for the kernel.
pub(crate) type Result<T, E = Errno> = std::result::Result<T, E>;

/// What the caller of a system call is told. What nobody expected is logged here, once.
#[expect(clippy::needless_pass_by_value, reason = "it is for map_err")]
pub(crate) fn errno(error: Error) -> Errno {
    match &error {
        Error::NotFound(_) | Error::Hidden => Errno::NOENT,
        Error::Denied => Errno::ACCESS,
        Error::Retained => Errno::PERM,
        Error::Exists(_) => Errno::EXIST,
        Error::NotEmpty => Errno::NOTEMPTY,
        // somebody else's change: look the name up again
        Error::Precondition { .. } | Error::NotModified(_) => Errno::STALE,
        Error::Busy => Errno::BUSY,
        Error::Invalid { .. } | Error::InvalidRange { .. } | Error::BadParts(_) => Errno::INVAL,
        Error::KeyTooLong => Errno::NAMETOOLONG,
        Error::TooLarge { .. } => Errno::FBIG,
        Error::QuotaExceeded => Errno::DQUOT,
        Error::NoSpace => Errno::NOSPC,
        Error::Stopped => Errno::IO,
        Error::ChecksumMismatch { .. }
        | Error::NotAsSigned
        | Error::IncompleteBody { .. }
        | Error::Corrupt { .. }
        | Error::Internal { .. } => {
            tracing::error!(error = &error as &dyn std::error::Error, "a file operation failed");
            Errno::IO
        }
    }
}

/// The same where the name was to be free.
pub(crate) fn errno_of_new(error: Error) -> Errno {
    match error {
        Error::Precondition { .. } => Errno::EXIST,
        other => errno(other),
    }
}

/// A directory of too many keys for one commit: `mv` copies then, without moving bytes (contract §4).
pub(crate) fn errno_of_move(error: Error) -> Errno {
    match error {
        Error::Precondition { .. } => Errno::EXIST,
        Error::TooLarge { .. } => Errno::XDEV,
        other => errno(other),
    }
}
