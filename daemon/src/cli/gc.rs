//! `coffre gc`: removes what nothing refers to, without waiting out the grace time (contract D39).

use std::process::ExitCode;

use super::output::{count, size};
use super::{Context, number};
use crate::control::Command;
use crate::error::Result;

pub(super) fn run(context: &Context) -> Result<ExitCode> {
    let freed = context.ask(&Command::Gc)?;
    context.output.result(&freed, |freed| {
        format!("freed {} in {}", size(number(freed, "freed_bytes")), count(number(freed, "blobs"), "blob"))
    });
    Ok(ExitCode::SUCCESS)
}
