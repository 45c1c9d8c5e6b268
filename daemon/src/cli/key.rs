//! `coffre key`: S3 access keys.

use std::process::ExitCode;

use clap::Subcommand;

use super::output::columns;
use super::{Context, list, text};
use crate::control::Command;
use crate::error::Result;

#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// Make an access key; its secret is shown this once
    Create {
        /// Whose, by id or name
        #[arg(long)]
        user: String,
    },
    /// List keys, without their secrets
    List {
        /// Only this user's, by id or name
        #[arg(long)]
        user: Option<String>,
    },
    /// Make a key useless
    Revoke {
        /// The access key id
        access_key_id: String,
    },
}

pub(super) fn run(context: &Context, args: Args) -> Result<ExitCode> {
    match args {
        Args::Create { user } => {
            let key = context.ask(&Command::KeyCreate { user })?;
            context.output.result(&key, |key| {
                let (id, secret) = (text(key, "access_key_id"), text(key, "secret_access_key"));
                format!(
                    "access_key_id      {id}\nsecret_access_key  {secret}\n\nThe secret is not shown again."
                )
            });
        }
        Args::List { user } => {
            let keys = context.ask(&Command::KeyList { user })?;
            context.output.result(&keys, |keys| {
                let row = |key: &serde_json::Value| {
                    ["access_key_id", "user_id", "created_at"].map(|name| text(key, name).to_owned()).to_vec()
                };
                columns(
                    &["ACCESS KEY ID", "USER", "CREATED"],
                    &list(keys, "keys").iter().map(row).collect::<Vec<_>>(),
                )
            });
        }
        Args::Revoke { access_key_id } => {
            let revoked = context.ask(&Command::KeyRevoke { access_key_id })?;
            context.output.result(&revoked, |key| format!("{} no longer works", text(key, "access_key_id")));
        }
    }
    Ok(ExitCode::SUCCESS)
}
