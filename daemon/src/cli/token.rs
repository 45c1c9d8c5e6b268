//! `coffre token`: bearer tokens.

use std::process::ExitCode;

use clap::Subcommand;
use coffre_admin_api::view::CreateToken;

use super::output::columns;
use super::{Context, list, text};
use crate::control::Command;
use crate::error::Result;

#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// Make a token; it is shown this once
    Create(Create),
    /// List tokens, without their texts
    List {
        /// Only this user's, by id or name
        #[arg(long)]
        user: Option<String>,
    },
    /// Make a token useless
    Revoke {
        /// The token's id
        token: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// Whose, by id or name
    #[arg(long)]
    user: String,
    /// What it is for
    #[arg(long)]
    name: String,
    /// Limit it to this permission; may be repeated [default: all of the user's role]
    #[arg(long = "permission", value_name = "P")]
    permissions: Vec<String>,
    /// First segment of its gateway keys [default: the name as a slug]
    #[arg(long, value_name = "A")]
    application: Option<String>,
    /// Second segment of its gateway keys [default: the user's id]
    #[arg(long, value_name = "G")]
    grant: Option<String>,
    /// May act for other users
    #[arg(long)]
    act_as: bool,
    /// The organisation it is a token of, by id or name
    #[arg(long)]
    org: Option<String>,
    /// Seconds until it ends [default: it does not]
    #[arg(long, value_name = "SECONDS")]
    expires_in: Option<u64>,
}

pub(super) fn run(context: &Context, args: Args) -> Result<ExitCode> {
    match args {
        Args::Create(new) => {
            let token = context.ask(&Command::TokenCreate(CreateToken {
                user: new.user,
                name: new.name,
                permissions: new.permissions,
                application: new.application,
                grant: new.grant,
                act_as: new.act_as,
                org: new.org,
                expires_in_seconds: new.expires_in,
            }))?;
            context.output.result(&token, |token| {
                format!(
                    "id     {}\ntoken  {}\n\nThe token is not shown again.",
                    text(token, "id"),
                    text(token, "token")
                )
            });
        }
        Args::List { user } => {
            let tokens = context.ask(&Command::TokenList { user })?;
            context.output.result(&tokens, |tokens| {
                let row = |token: &serde_json::Value| {
                    ["id", "name", "user_id", "expires_at", "last_used_at"]
                        .map(|name| text(token, name).to_owned())
                        .to_vec()
                };
                columns(
                    &["ID", "NAME", "USER", "EXPIRES", "LAST USED"],
                    &list(tokens, "tokens").iter().map(row).collect::<Vec<_>>(),
                )
            });
        }
        Args::Revoke { token } => {
            let revoked = context.ask(&Command::TokenRevoke { token })?;
            context.output.result(&revoked, |token| format!("{} no longer works", text(token, "id")));
        }
    }
    Ok(ExitCode::SUCCESS)
}
