//! `coffre org`: organisations and their members.

use std::process::ExitCode;

use clap::Subcommand;

use super::{Context, text};
use crate::control::Command;
use crate::error::Result;

#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// Make an organisation
    Create {
        /// Its name, unique
        name: String,
    },
    /// Make a user a member
    AddMember {
        /// Id or name
        org: String,
        /// Id or name
        user: String,
    },
    /// End a membership
    RemoveMember {
        /// Id or name
        org: String,
        /// Id or name
        user: String,
    },
}

pub(super) fn run(context: &Context, args: Args) -> Result<ExitCode> {
    match args {
        Args::Create { name } => {
            let org = context.ask(&Command::OrgCreate { name })?;
            context
                .output
                .result(&org, |org| format!("{} is organisation {}", text(org, "name"), text(org, "id")));
        }
        Args::AddMember { org, user } => {
            let done = context.ask(&Command::OrgAddMember { org: org.clone(), user: user.clone() })?;
            context.output.result(&done, |_| format!("{user} is a member of {org}"));
        }
        Args::RemoveMember { org, user } => {
            let done = context.ask(&Command::OrgRemoveMember { org: org.clone(), user: user.clone() })?;
            context.output.result(&done, |_| format!("{user} is not a member of {org}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}
