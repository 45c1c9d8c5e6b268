//! The command line: one file for each command. Results go to stdout (as JSON with `--json`), errors to stderr with
//! exit code 1, wrong usage with 2. `--data` and `--json` work before and after the subcommand (contract D33).

mod access;
mod billing;
mod bucket;
mod check;
mod config;
mod env;
mod export;
mod gc;
mod import;
mod key;
mod mount;
mod org;
mod output;
mod scrub;
mod serve;
mod status;
mod token;
mod user;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::Value;

use crate::config::{Loaded, Sources};
use crate::control::{self, Command};
use crate::error::{Error, Result};
use crate::lock::{self, DataLock};
use crate::wire;
use output::Output;

/// Coffre: files kept once, by content, behind an S3 door (and more to come).
#[derive(Debug, Parser)]
#[command(name = "coffre", version, disable_help_subcommand = true)]
struct Cli {
    /// The data directory [default: $STATE_DIRECTORY, else ./data]
    #[arg(long, global = true, value_name = "DIR", env = "COFFRE_DATA", hide_env = true)]
    data: Option<PathBuf>,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Start the daemon
    Serve(serve::Args),
    /// Users: create, list, disable, enable
    #[command(subcommand)]
    User(user::Args),
    /// S3 access keys: create, list, revoke
    #[command(subcommand)]
    Key(key::Args),
    /// Bearer tokens: create, list, revoke
    #[command(subcommand)]
    Token(token::Args),
    /// Organisations: create, add-member, remove-member
    #[command(subcommand)]
    Org(org::Args),
    /// Clients of the filing bucket: grant, revoke
    #[command(subcommand)]
    Client(access::Args),
    /// Buckets: create, list, delete
    #[command(subcommand)]
    Bucket(bucket::Args),
    /// Plans of organisations: set, clear, show
    #[command(subcommand)]
    Plan(billing::PlanArgs),
    /// Units of features: grant, refund
    #[command(subcommand)]
    Billing(billing::BillingArgs),
    /// What users, organisations and buckets may store: set, show
    #[command(subcommand)]
    Quota(billing::QuotaArgs),
    /// Give the bytes of deleted objects back to the disk now
    Gc,
    /// Read and re-hash every stored byte
    Scrub(scrub::Args),
    /// Compare derived data with the truth; exit code 1 when something is wrong
    Check(check::Args),
    /// Write every row to a file: what a new data directory can be made from, with the blobs and the master key
    Export(export::Args),
    /// Read an export into a data directory that has no rows yet, while no daemon runs on it
    Import(import::Args),
    /// Show a bucket as a directory
    Mount(mount::MountArgs),
    /// End that
    Umount(mount::UmountArgs),
    /// What the daemon does, where its doors are, what is stored
    Status,
    /// The configuration: check
    #[command(subcommand)]
    Config(config::Args),
    /// Environment variables for aws-cli and the SDKs, with the first ADMIN's key: eval "$(coffre env)"
    Env,
}

/// What every command is given.
#[derive(Debug)]
struct Context {
    data: PathBuf,
    output: Output,
}

impl Context {
    /// Asks the running daemon.
    fn ask(&self, command: &Command) -> Result<Value> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(Error::io("starting"))?.block_on(control::client::ask(&self.data, command))
    }
}

/// Settings and lock of a data directory on which no daemon runs. The lock keeps one from starting meanwhile.
fn take_over(context: &Context, config: Option<&PathBuf>) -> Result<(Loaded, DataLock)> {
    // A folder that was never a store is not made one.
    if !context.data.join(wire::ROWS).is_dir() {
        return Err(Error::NotRunning { data: context.data.clone() });
    }
    let loaded = Sources::of_process(config.cloned(), Vec::new()).load()?;
    Ok((loaded, lock::take(&context.data)?))
}

/// Runs what opens rows itself.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(Error::io("starting"))?.block_on(work)
}

/// Runs the command of the process's arguments.
pub(crate) fn run() -> ExitCode {
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    if std::path::Path::new(&name).file_name().is_some_and(|name| name == "mount.coffre") {
        return mount::run_as_helper(&arguments.collect::<Vec<_>>());
    }
    let cli = Cli::parse();
    let data = cli.data.unwrap_or_else(default_data);
    // The store syncs directories above its files: a name alone has none.
    let data = std::path::absolute(&data).unwrap_or(data);
    let context = Context { data, output: Output::new(cli.json) };
    let done = match cli.command {
        Sub::Serve(args) => serve::run(&context, args),
        Sub::User(args) => user::run(&context, args),
        Sub::Key(args) => key::run(&context, args),
        Sub::Token(args) => token::run(&context, args),
        Sub::Org(args) => org::run(&context, args),
        Sub::Client(args) => access::run(&context, args),
        Sub::Bucket(args) => bucket::run(&context, args),
        Sub::Plan(args) => billing::plan(&context, args),
        Sub::Billing(args) => billing::billing(&context, args),
        Sub::Quota(args) => billing::quota(&context, args),
        Sub::Gc => gc::run(&context),
        Sub::Scrub(args) => scrub::run(&context, &args),
        Sub::Check(args) => check::run(&context, &args),
        Sub::Export(args) => export::run(&context, &args),
        Sub::Import(args) => import::run(&context, &args),
        Sub::Mount(args) => mount::mount(&context, args),
        Sub::Umount(args) => mount::umount(&context, &args),
        Sub::Status => status::run(&context),
        Sub::Config(args) => config::run(&context, &args),
        Sub::Env => env::run(&context),
    };
    match done {
        Ok(code) => code,
        Err(e) => {
            context.output.error(&e.chain());
            ExitCode::from(e.exit_code())
        }
    }
}

/// systemd's state directory (the first of its list), else a folder here.
fn default_data() -> PathBuf {
    let state = std::env::var("STATE_DIRECTORY").unwrap_or_default();
    match state.split(':').next() {
        Some(first) if !first.is_empty() => first.into(),
        _ => "data".into(),
    }
}

/// A text field of an answer; empty when it is null.
fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A number of an answer.
fn number(value: &Value, name: &str) -> u64 {
    value.get(name).and_then(Value::as_u64).unwrap_or_default()
}

/// A list of an answer.
fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
