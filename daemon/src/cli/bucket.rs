//! `coffre bucket`: buckets.

use std::process::ExitCode;

use clap::Subcommand;

use super::output::columns;
use super::{Context, list, text};
use crate::control::Command;
use crate::error::Result;

#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// Make a bucket
    Create {
        /// Its name
        name: String,
        /// Whose it is, by id or name [default: the system's]
        #[arg(long)]
        owner: Option<String>,
    },
    /// List all buckets
    List,
    /// Remove an empty bucket
    Delete {
        /// Its name
        name: String,
    },
}

pub(super) fn run(context: &Context, args: Args) -> Result<ExitCode> {
    match args {
        Args::Create { name, owner } => {
            let bucket = context.ask(&Command::BucketCreate { name, owner })?;
            context.output.result(&bucket, |bucket| format!("made bucket {}", text(bucket, "name")));
        }
        Args::List => {
            let buckets = context.ask(&Command::BucketList)?;
            context.output.result(&buckets, |buckets| {
                let row = |bucket: &serde_json::Value| {
                    let owner =
                        Some(text(bucket, "owner")).filter(|owner| !owner.is_empty()).unwrap_or("system");
                    [text(bucket, "name"), owner, text(bucket, "created_at")].map(str::to_owned).to_vec()
                };
                columns(
                    &["NAME", "OWNER", "CREATED"],
                    &list(buckets, "buckets").iter().map(row).collect::<Vec<_>>(),
                )
            });
        }
        Args::Delete { name } => {
            let deleted = context.ask(&Command::BucketDelete { name })?;
            context.output.result(&deleted, |bucket| format!("removed bucket {}", text(bucket, "name")));
        }
    }
    Ok(ExitCode::SUCCESS)
}
