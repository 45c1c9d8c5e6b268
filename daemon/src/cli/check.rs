//! `coffre check`: compares derived data with the truth, by the running daemon or, when none runs, right here.

use std::process::ExitCode;

use serde_json::Value;

use super::output::count;
use super::{Context, block_on, list, number, take_over, text};
use crate::control::Command;
use crate::error::{Error, Result};
use crate::wire;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Also rebuild the index from the log: now when no daemon runs, else at its next start
    #[arg(long)]
    rebuild_index: bool,
    /// The daemon's configuration file, for when no daemon runs
    #[arg(long, value_name = "FILE", env = "COFFRE_CONFIG", hide_env = true)]
    config: Option<std::path::PathBuf>,
}

/// Exit code 1 when something is wrong.
pub(super) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let checked = match context.ask(&Command::Check { rebuild_index: args.rebuild_index }) {
        Err(Error::NotRunning { .. }) => here(context, args)?,
        other => other?,
    };
    let findings = list(&checked, "findings");
    context.output.result(&checked, |checked| human(checked, findings));
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn human(checked: &Value, findings: &[Value]) -> String {
    let mut lines = vec![format!(
        "looked at {} and {}",
        count(number(checked, "versions"), "version"),
        count(number(checked, "blobs"), "blob")
    )];
    if findings.is_empty() {
        lines.push("nothing is wrong".into());
    }
    for finding in findings {
        lines.push(format!("{}: {}", text(finding, "kind"), text(finding, "message")));
    }
    if !text(checked, "index").is_empty() {
        lines.push(format!("the index: {}", text(checked, "index")));
    }
    lines.join("\n")
}

/// Opens the data itself.
fn here(context: &Context, args: &Args) -> Result<Value> {
    let (loaded, _lock) = take_over(context, args.config.as_ref())?;
    block_on(async {
        let daemon = wire::open(loaded.config, &context.data, args.rebuild_index).await?;
        let checked = daemon.store.check().await;
        let closed = daemon.close().await;
        let checked = checked.map_err(|source| Error::Store { doing: "checking", source })?;
        closed?;
        let mut value = serde_json::to_value(checked).expect("figures and text are JSON");
        if args.rebuild_index
            && let Some(object) = value.as_object_mut()
        {
            object.insert("index".into(), "rebuilt".into());
        }
        Ok(value)
    })
}
