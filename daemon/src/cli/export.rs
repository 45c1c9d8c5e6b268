//! `coffre export`: every row of one moment in one file, by the running daemon or, when none runs, right here.
//!
//! The file is what `coffre import` reads, whatever index either side uses. It holds the rows: objects up to `inline_max`,
//! the records of all objects, users, keys (sealed). Larger objects' bytes stay in `blobs/`.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use coffre_disk::{Disk as _, DiskFile, Open, RealDisk};
use coffre_kv::Kv as _;
use serde_json::json;

use super::output::size;
use super::{Context, block_on, number, take_over};
use crate::control::{self, Command};
use crate::error::{Error, Result};
use crate::wire;

const BUFFER_BYTES: usize = 1024 * 1024;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The file to make; one that is there is not overwritten
    file: PathBuf,
    /// The daemon's configuration file, for when no daemon runs
    #[arg(long, value_name = "FILE", env = "COFFRE_CONFIG", hide_env = true)]
    config: Option<PathBuf>,
}

pub(super) fn run(context: &Context, args: &Args) -> Result<ExitCode> {
    if args.file.exists() {
        let source = io::ErrorKind::AlreadyExists.into();
        return Err(Error::Io { doing: "making the file to export to", source });
    }
    let mut name = args.file.clone().into_os_string();
    name.push(".new");
    let unfinished = PathBuf::from(name);
    let exported = write(context, args, &unfinished).and_then(|bytes| {
        RealDisk
            .rename(&unfinished, &args.file)
            .and_then(|()| RealDisk.sync_dir(&folder_of(&args.file)))
            .map_err(Error::io("naming the export"))?;
        Ok(bytes)
    });
    let bytes = exported.inspect_err(|_| {
        // Worth nothing, and gone already if it was never made.
        if let Err(e) = RealDisk.remove(&unfinished) {
            tracing::debug!(error = %e, "the unfinished export stays");
        }
    })?;
    let value = json!({"file": args.file.display().to_string(), "bytes": bytes});
    context.output.result(&value, |value| format!("wrote {}", size(number(value, "bytes"))));
    Ok(ExitCode::SUCCESS)
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => ".".into(),
    }
}

/// Writes the export and syncs it; gives its length.
fn write(context: &Context, args: &Args, path: &Path) -> Result<u64> {
    match RealDisk.remove(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("replacing an old file")(e)),
        _ => {}
    }
    let file = RealDisk.open(path, Open::Create).map_err(Error::io("making the file to export to"))?;
    let stream = || BufWriter::with_capacity(BUFFER_BYTES, Stream { file: Arc::clone(&file), at: 0 });
    block_on(async {
        let mut to = stream();
        match control::client::receive(&context.data, &Command::Export, &mut to).await {
            Err(Error::NotRunning { .. }) => here(context, args, stream()).await,
            Ok(()) => to.flush().map_err(Error::io("writing the export")),
            Err(e) => Err(e),
        }
    })?;
    let synced = file.sync_data().and_then(|()| file.len_bytes());
    synced.map_err(Error::io("writing the export"))
}

/// Opens the rows itself.
async fn here(context: &Context, args: &Args, to: impl Write + Send + 'static) -> Result<()> {
    let (loaded, _lock) = take_over(context, args.config.as_ref())?;
    let kv = wire::open_rows(&loaded.config, &context.data, false).await?;
    let exported = kv.export(Box::new(to)).await;
    let closed = kv.close().await;
    exported.and(closed).map_err(|source| Error::Kv { doing: "exporting", source })
}

/// A file written from its beginning on.
struct Stream {
    file: Arc<dyn DiskFile>,
    at: u64,
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
