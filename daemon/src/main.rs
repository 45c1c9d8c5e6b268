//! `coffre`: the daemon and its command line. Joins the crates and leaves the work to them.

mod cli;
mod clock;
mod config;
mod control;
mod error;
mod lock;
mod logging;
mod metrics;
mod net;
mod serve;
mod status;
mod wire;

use std::process::ExitCode;

/// A third more load than glibc's allocator takes (design §1).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
