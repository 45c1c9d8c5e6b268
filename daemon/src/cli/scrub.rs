//! `coffre scrub`: reads and re-hashes every stored byte. Ending the command ends the scrub.

use std::process::ExitCode;

use super::output::{count, size};
use super::{Context, list, number};
use crate::control::Command;
use crate::error::Result;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// At most this many bytes a second [default: the setting storage.scrub_bytes_per_second]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    bytes_per_second: Option<u64>,
}

/// Exit code 1 when damage was found.
pub(super) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let scrubbed = context.ask(&Command::Scrub { bytes_per_second: args.bytes_per_second })?;
    let damaged = list(&scrubbed, "damaged");
    context.output.result(&scrubbed, |scrubbed| {
        let read = format!(
            "read {} in {}",
            size(number(scrubbed, "bytes")),
            count(number(scrubbed, "blobs"), "blob")
        );
        if damaged.is_empty() {
            return format!("{read}; all are what they were");
        }
        let names: Vec<&str> = damaged.iter().filter_map(serde_json::Value::as_str).collect();
        format!(
            "{read}; damaged and set aside (uploading the same bytes again heals them):\n{}",
            names.join("\n")
        )
    });
    Ok(if damaged.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
