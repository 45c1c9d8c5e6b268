//! `coffre user`: who may use the store.

use std::process::ExitCode;

use clap::Subcommand;

use super::output::columns;
use super::{Context, list, text};
use crate::control::Command;
use crate::error::Result;

#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// Make a user
    Create {
        /// Its name, unique
        name: String,
        /// Its e-mail address, counted as verified
        #[arg(long)]
        email: Option<String>,
        /// What it may do
        #[arg(long, default_value = "USER", value_parser = ["USER", "ADMIN", "APP"], ignore_case = true)]
        role: String,
    },
    /// List all users
    List,
    /// Stop a user's keys and tokens from working
    Disable {
        /// Id or name
        user: String,
    },
    /// Let a disabled user's keys and tokens work again
    Enable {
        /// Id or name
        user: String,
    },
}

pub(super) fn run(context: &Context, args: Args) -> Result<ExitCode> {
    match args {
        Args::Create { name, email, role } => {
            let role = role.to_ascii_uppercase();
            let user = context.ask(&Command::UserCreate { name, email, role })?;
            context.output.result(&user, |user| {
                let (id, name) = (text(user, "id"), text(user, "name"));
                format!("{name} is user {id}\nmake an access key: coffre key create --user {name}")
            });
        }
        Args::List => {
            let users = context.ask(&Command::UserList)?;
            context.output.result(&users, |users| {
                let row = |user: &serde_json::Value| {
                    let disabled = user.get("disabled").and_then(serde_json::Value::as_bool) == Some(true);
                    let state = if disabled { "disabled" } else { "" };
                    let cells = [
                        text(user, "id"),
                        text(user, "name"),
                        text(user, "role"),
                        text(user, "email"),
                        state,
                    ];
                    cells.map(str::to_owned).to_vec()
                };
                columns(
                    &["ID", "NAME", "ROLE", "E-MAIL", "STATE"],
                    &list(users, "users").iter().map(row).collect::<Vec<_>>(),
                )
            });
        }
        Args::Disable { user } => change(context, user, true)?,
        Args::Enable { user } => change(context, user, false)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn change(context: &Context, user: String, is_disabled: bool) -> Result<()> {
    let user = context.ask(&Command::UserDisable { user, is_disabled })?;
    let state = if is_disabled { "disabled: its keys and tokens no longer work" } else { "enabled" };
    context.output.result(&user, |user| format!("{} is {state}", text(user, "name")));
    Ok(())
}
