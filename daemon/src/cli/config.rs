//! `coffre config`: looks at the settings without starting anything.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::Context;
use crate::config::{Given, Sources};
use crate::error::Result;

#[derive(Debug, Subcommand)]
pub(super) enum Args {
    /// Read file and environment as `serve` would; exit code 1 with file, key and reason when a setting is wrong
    Check {
        /// The file
        #[arg(long, value_name = "FILE", env = "COFFRE_CONFIG", hide_env = true)]
        config: Option<PathBuf>,
    },
}

pub(super) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let Args::Check { config } = args;
    let loaded = Sources::of_process(config.clone(), Vec::new()).load()?;
    let view = |given: &Given| json!({"key": given.key, "from": given.place, "unused": given.is_unused});
    let value = json!({"ok": true, "given": loaded.given.iter().map(view).collect::<Vec<_>>()});
    context.output.result(&value, |_| {
        let mut lines = vec!["the configuration is good".to_owned()];
        for given in &loaded.given {
            let note = if given.is_unused { "  (not used by this version)" } else { "" };
            lines.push(format!("  {} from {}{note}", given.key, given.place));
        }
        if loaded.given.is_empty() {
            lines.push("  every setting is at its default".into());
        }
        lines.join("\n")
    });
    Ok(ExitCode::SUCCESS)
}
