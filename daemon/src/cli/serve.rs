//! `coffre serve`: reads the settings, starts the logs and the runtime, and serves until told to stop.

use std::path::PathBuf;
use std::process::ExitCode;

use super::Context;
use crate::config::Sources;
use crate::error::{Error, Result};
use crate::{logging, serve};

/// Threads for work that blocks: more than disks and cores can use at once. Each keeps some memory of what went through
/// it, and tokio would make 512. None of that work waits for other such work.
const BLOCKING_THREADS: usize = 32;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Settings (TOML) [default: $CONFIGURATION_DIRECTORY/coffre.toml when it is there]
    #[arg(long, value_name = "FILE", env = "COFFRE_CONFIG", hide_env = true)]
    config: Option<PathBuf>,
    /// Address and port of the S3 door [default: 127.0.0.1:9000]
    #[arg(long, value_name = "ADDR")]
    s3_listen: Option<String>,
    /// What clients reach the S3 door by
    #[arg(long, value_name = "URL")]
    s3_public_url: Option<String>,
    /// Address and port of the REST door [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDR")]
    rest_listen: Option<String>,
    /// What clients reach the REST door by
    #[arg(long, value_name = "URL")]
    rest_public_url: Option<String>,
    /// Mount the filing bucket on this directory (more in the section [mount] of the settings)
    #[arg(long, value_name = "DIR")]
    mount: Option<String>,
    /// error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

pub(super) fn run(context: &Context, args: Args) -> Result<ExitCode> {
    let flags = [
        ("s3.listen", args.s3_listen),
        ("s3.public_url", args.s3_public_url),
        ("rest.listen", args.rest_listen),
        ("rest.public_url", args.rest_public_url),
        ("mount.path", args.mount),
        ("log.level", args.log_level),
        ("log.format", args.log_format),
    ];
    let flags = flags.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
    let loaded = Sources::of_process(args.config, flags).load()?;
    logging::start(loaded.config.log.level, loaded.config.log.format);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.enable_all().max_blocking_threads(BLOCKING_THREADS).build();
    let runtime = runtime.map_err(Error::io("starting"))?;
    let output = context.output;
    let served = runtime.block_on(serve::run(loaded, context.data.clone(), |text| output.lines(text)));
    // What still runs has had its time to drain; the end does not wait for it.
    runtime.shutdown_background();
    served.map(|()| ExitCode::SUCCESS)
}
