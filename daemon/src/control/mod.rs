//! The control socket `DIR/coffre.sock`: how the command line speaks to a running daemon.
//!
//! HTTP/1.1 on a unix socket: `POST /` with a [`Command`] as JSON, answered with JSON — the result at 200, else
//! `{"error": text}`; an export is answered with the stream itself. Who can open the socket (mode 0600: the
//! daemon's user, and root) is trusted and acts as the system.

mod billing;
pub(crate) mod client;
mod export;
mod perform;
pub(crate) mod server;

use std::path::{Path, PathBuf};

use coffre_admin_api::view::CreateToken;
use serde::{Deserialize, Serialize};

use crate::mounts::Wanted;

/// What the command line can ask for. A name works where an id does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Command {
    UserCreate { name: String, email: Option<String>, role: String },
    UserList,
    UserDisable { user: String, is_disabled: bool },
    KeyCreate { user: String },
    KeyList { user: Option<String> },
    KeyRevoke { access_key_id: String },
    TokenCreate(CreateToken),
    TokenList { user: Option<String> },
    TokenRevoke { token: String },
    OrgCreate { name: String },
    OrgAddMember { org: String, user: String },
    OrgRemoveMember { org: String, user: String },
    ClientGrant { client: String, user: String },
    ClientRevoke { client: String, user: String },
    BucketCreate { name: String, owner: Option<String> },
    BucketList,
    BucketDelete { name: String },
    PlanSet { org: String, plan_code: Option<String> },
    PlanShow { org: String },
    BillingGrant { org: String, feature: String, amount: u64, reason: Option<String> },
    BillingRefund { org: String, feature: String, line: uuid::Uuid },
    QuotaSet { whose: Whose, bytes: Option<u64> },
    QuotaShow { whose: Whose },
    Gc,
    Scrub { bytes_per_second: Option<u64> },
    Check { rebuild_index: bool },
    Export,
    Status,
    Mount(Wanted),
    Umount { path: PathBuf },
}

/// Whose quota: one of the three.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Whose {
    pub(crate) user: Option<String>,
    pub(crate) org: Option<String>,
    pub(crate) bucket: Option<String>,
}

/// Where the socket is. A unix socket's path is at most 107 bytes: a longer one is reached by way of the open
/// directory.
pub(crate) fn socket_path(data: &Path) -> PathBuf {
    data.join("coffre.sock")
}
