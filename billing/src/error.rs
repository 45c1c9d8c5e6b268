//! The crate's one error. Names, figures and reasons only: no secrets, nothing that Stripe said in words.

use std::sync::Arc;

/// Why a function of this crate did not do what was asked. Cheap to clone: one failed commit answers all who waited
/// for it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// There is no such feature, plan, line or organisation.
    #[error("no such {what}")]
    NotFound {
        /// What was looked for.
        what: &'static str,
    },
    /// An argument is outside what the operation takes.
    #[error("invalid {what}")]
    Invalid {
        /// The argument and, where it helps, what it should be.
        what: &'static str,
    },
    /// The balance is too small. Nothing was consumed.
    #[error("insufficient balance: {required} asked for, {current} there")]
    Insufficient {
        /// Units asked for.
        required: u64,
        /// Units there.
        current: u64,
    },
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// It was done before and is done once.
    #[error("this {what} already")]
    Done {
        /// What was done to what.
        what: &'static str,
    },
    /// Only an ADMIN may do this.
    #[error("access denied")]
    Denied,
    /// Others keep changing the same thing, or too many wait for it; try again.
    #[error("a concurrent change is in the way")]
    Busy,
    /// There is no secret key or webhook secret in the configuration.
    #[error("Stripe is not configured")]
    NotConfigured,
    /// Stripe answered that it will not.
    #[error("Stripe refused ({status}{})", .code.as_deref().map(|code| format!(", {code}")).unwrap_or_default())]
    Refused {
        /// Its HTTP status.
        status: u16,
        /// Its error code or type, when it is a plain word.
        code: Option<String>,
    },
    /// Stripe did not answer, or answered that it cannot now.
    #[error("Stripe cannot be reached")]
    Unreachable,
    /// A webhook that is not signed with the secret, or too long ago.
    #[error("the webhook's signature is not valid: {why}")]
    BadSignature {
        /// What is wrong with it.
        why: &'static str,
    },
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
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn internal(
        doing: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Internal { doing, source: Arc::new(source) }
    }

    pub(crate) fn corrupt(what: &str) -> Self {
        Self::Corrupt { what: what.to_owned() }
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
            coffre_kv::Error::Io { doing, source } => Self::internal(doing, source),
        }
    }
}

impl From<coffre_identity::Error> for Error {
    fn from(error: coffre_identity::Error) -> Self {
        match error {
            coffre_identity::Error::Stopped => Self::Stopped,
            coffre_identity::Error::NoSpace => Self::NoSpace,
            coffre_identity::Error::Busy => Self::Busy,
            coffre_identity::Error::Corrupt { what } => Self::Corrupt { what },
            other => Self::internal("asking for an organisation", other),
        }
    }
}
