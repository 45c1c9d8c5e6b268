//! The crate's one error. Names and reasons only: no secrets, no paths of the server.

/// Why a function of this crate did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such user, organisation, key or token.
    #[error("no such {what}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
    },
    /// The name or address belongs to somebody else.
    #[error("this {what} is taken")]
    Exists {
        /// Which.
        what: &'static str,
    },
    /// An argument is outside what the operation takes.
    #[error("invalid {what}")]
    Invalid {
        /// The argument and, where it helps, what it should be.
        what: &'static str,
    },
    /// Only an ADMIN may do this.
    #[error("access denied")]
    Denied,
    /// The token was good once; its time is over.
    #[error("the token has expired")]
    TokenExpired,
    /// The keys of a JWT's issuer cannot be had.
    #[error("the keys of the token's issuer cannot be read")]
    IssuerUnavailable,
    /// Others keep changing the same thing; try again.
    #[error("a concurrent change is in the way")]
    Busy,
    /// Secrets are sealed in the data, and no master key is to be found.
    #[error(
        "the data holds sealed secrets and there is no master key: give COFFRE_MASTER_KEY, the credential \
         master-key, or put master.key back into the data directory"
    )]
    MasterKeyMissing,
    /// The master key is not the one the stored secrets were sealed under.
    #[error(
        "the master key is not the one this data was sealed under: give the right COFFRE_MASTER_KEY, credential \
         master-key or master.key"
    )]
    WrongMasterKey,
    /// The master key cannot be used as it is.
    #[error("master key from {place}: {reason}")]
    MasterKey {
        /// Which of its places: the environment, the credential, the file.
        place: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A sealed secret does not open: it was changed, or moved to another row.
    #[error("a sealed secret is damaged")]
    BadSeal,
    /// Stored bytes are not what was written.
    #[error("stored data is damaged: {what}")]
    Corrupt {
        /// What; no values, no paths.
        what: String,
    },
    /// The disk is full but for the reserve.
    #[error("no space left")]
    NoSpace,
    /// The rows' engine is stopping or has been poisoned.
    #[error("the store has stopped")]
    Stopped,
    /// Anything else the system refused.
    #[error("while {doing}")]
    Internal {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wraps an I/O error, telling a full disk from the rest.
    pub(crate) fn io(doing: &'static str, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::NoSpace,
            _ => Self::Internal { doing, source: source.into() },
        }
    }
}

impl From<coffre_kv::Error> for Error {
    /// A conflict that reaches here was not decided again by who committed: the caller may try again.
    fn from(error: coffre_kv::Error) -> Self {
        match error {
            coffre_kv::Error::Conflict { .. } => Self::Busy,
            coffre_kv::Error::Invalid { what } => Self::Invalid { what },
            coffre_kv::Error::NoSpace => Self::NoSpace,
            coffre_kv::Error::Stopped | coffre_kv::Error::InUse => Self::Stopped,
            coffre_kv::Error::Corrupt { what } => Self::Corrupt { what },
            coffre_kv::Error::Io { doing, source } => Self::Internal { doing, source: source.into() },
        }
    }
}
