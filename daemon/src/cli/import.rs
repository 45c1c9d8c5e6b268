//! `coffre import`: makes the rows of a data directory from what `coffre export` wrote.
//!
//! The rows are read into `kv.new/` and get their name when all of them are durable. As long as that folder is there no
//! daemon starts: to a store without rows every blob in the directory is one that nobody needs.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use coffre_disk::{Disk as _, RealDisk};
use coffre_kv::Kv as _;
use serde_json::json;

use super::{Context, block_on};
use crate::config::Sources;
use crate::error::{Error, Result};
use crate::{lock, wire};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What `coffre export` wrote
    file: PathBuf,
    /// The daemon's configuration file: it says which index is made
    #[arg(long, value_name = "FILE", env = "COFFRE_CONFIG", hide_env = true)]
    config: Option<PathBuf>,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    let loaded = Sources::of_process(args.config.clone(), Vec::new()).load()?;
    let from = std::fs::File::open(&args.file).map_err(Error::io("opening the export"))?;
    let data = &context.data;
    let _lock = lock::take(data)?;
    if data.join(wire::ROWS).exists() {
        return Err(Error::HasRows { data: data.clone() });
    }
    remove(&data.join(wire::ROWS_IMPORTED))?;
    remove(&data.join(wire::INDEX))?;
    block_on(async {
        let kv = wire::open_rows_in(wire::ROWS_IMPORTED, &loaded.config, data, false).await?;
        let imported = kv.import(Box::new(from)).await;
        let closed = kv.close().await;
        imported.and(closed).map_err(|source| Error::Kv { doing: "importing", source })
    })?;
    RealDisk
        .rename(&data.join(wire::ROWS_IMPORTED), &data.join(wire::ROWS))
        .and_then(|()| RealDisk.sync_dir(data))
        .map_err(Error::io("naming the rows"))?;
    let value = json!({"file": args.file.display().to_string(), "imported": true});
    context.output.result(&value, |_| "imported; `coffre serve` can start".into());
    Ok(ExitCode::SUCCESS)
}

/// What an import that did not end has left.
fn remove(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("removing what an earlier import left")(e))
        }
        _ => Ok(()),
    }
}
