//! The crate's one error.

/// What a call on an engine may answer instead of a result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A check failed, or an `Add` would leave i64 (then `check` is the number of checks). Nothing happened; read
    /// and decide again.
    #[error("check {check} of the commit does not hold")]
    Conflict {
        /// Index of the first check that failed.
        check: usize,
    },
    /// The commit breaks a limit of the contract. Nothing happened.
    #[error("the commit has {what}")]
    Invalid {
        /// Which limit.
        what: &'static str,
    },
    /// No room but the reserve. Nothing happened; later commits may succeed.
    #[error("no space left on the device")]
    NoSpace,
    /// The engine has been poisoned by an earlier failure, or closed. Open it again.
    #[error("the engine has stopped")]
    Stopped,
    /// Another process has this data open.
    #[error("the data is in use by another process")]
    InUse,
    /// Stored bytes are not what was written, and replay cannot mend it.
    #[error("stored data is damaged: {what}")]
    Corrupt {
        /// What is damaged; no values, no paths.
        what: String,
    },
    /// The system refused.
    #[error("while {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wraps a system error, telling a full disk from the rest.
    pub fn io(doing: &'static str, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Io { doing, source },
        }
    }
}
