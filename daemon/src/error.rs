//! The crate's one error: what stops the daemon or a command, said to the operator on one line.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why the daemon did not start, or a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A setting is wrong: where it stands (file, variable or flag), which key, why.
    #[error("{place}: {key}: {reason}")]
    Setting { place: String, key: String, reason: String },
    /// The configuration file cannot be read or is not TOML.
    #[error("{place}: {reason}")]
    ConfigFile { place: String, reason: String },
    /// Another daemon holds the data directory.
    #[error("{} is in use by another coffre{}; stop it first, or give another --data", .data.display(), held_by(*.pid))]
    InUse { data: PathBuf, pid: Option<u32> },
    /// The listener's port is taken.
    #[error("the {door} listener cannot have {address}: the port is in use (see --{flag}-listen)")]
    PortInUse { door: &'static str, flag: &'static str, address: SocketAddr },
    /// The listener's address cannot be bound for another reason.
    #[error("the {door} listener cannot have {address}: {source}")]
    Bind { door: &'static str, address: SocketAddr, source: std::io::Error },
    /// No daemon answers at the control socket.
    #[error("no coffre runs on {0}; start it with `coffre serve --data {0}`", .data.display())]
    NotRunning { data: PathBuf },
    /// An import would have to overwrite.
    #[error("{} has rows already; an import needs a directory without `kv`", .data.display())]
    HasRows { data: PathBuf },
    /// An import was cut off. To a store without rows, what lies in `blobs` would be rubbish.
    #[error("an import into {} was not finished; run it again, or remove `kv.new`", .data.display())]
    HalfImported { data: PathBuf },
    /// The daemon answered that it cannot.
    #[error("{0}")]
    Refused(String),
    /// The rows' engine.
    #[error("while {doing}")]
    Kv {
        doing: &'static str,
        #[source]
        source: coffre_kv::Error,
    },
    /// Users and keys.
    #[error("while {doing}")]
    Identity {
        doing: &'static str,
        #[source]
        source: coffre_identity::Error,
    },
    /// The store.
    #[error("while {doing}")]
    Store {
        doing: &'static str,
        #[source]
        source: coffre_store::Error,
    },
    /// Nothing of this daemon is mounted there.
    #[error("nothing of this daemon is mounted on {}", .path.display())]
    NotMounted { path: PathBuf },
    /// The mount door.
    #[error("while mounting or unmounting")]
    Mount(#[source] coffre_fuse::Error),
    /// Anything the system refused.
    #[error("while {doing}")]
    Io {
        doing: &'static str,
        #[source]
        source: std::io::Error,
    },
    /// The rows' engine or the index lost its footing while serving: exit 70, so that the supervisor starts anew.
    #[error("the store stopped after a failed write; it repairs itself when started again")]
    Poisoned,
}

fn held_by(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

/// The crate's result.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err` on I/O.
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// The exit code of the process (sysexits: 70 is an internal failure a restart may mend).
    pub(crate) fn exit_code(&self) -> u8 {
        if matches!(self, Self::Poisoned) { 70 } else { 1 }
    }

    /// The whole chain on one line.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}
