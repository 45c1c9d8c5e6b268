//! `coffre client`: who may use which client's files.

use std::process::ExitCode;

use clap::Subcommand;

use super::Context;
use crate::control::Command;
use crate::error::Result;

#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// Let a user read and change a client's files
    Grant {
        /// The client's id
        client_id: String,
        /// Id or name
        #[arg(long)]
        user: String,
    },
    /// Take that back
    Revoke {
        /// The client's id
        client_id: String,
        /// Id or name
        #[arg(long)]
        user: String,
    },
}

pub(super) fn run(context: &Context, args: Args) -> Result<ExitCode> {
    match args {
        Args::Grant { client_id: client, user } => {
            let done = context.ask(&Command::ClientGrant { client: client.clone(), user: user.clone() })?;
            context.output.result(&done, |_| format!("{user} may use the files of client {client}"));
        }
        Args::Revoke { client_id: client, user } => {
            let done = context.ask(&Command::ClientRevoke { client: client.clone(), user: user.clone() })?;
            context.output.result(&done, |_| format!("{user} may not use the files of client {client}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
