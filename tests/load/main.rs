//! `coffre-load`: how fast the S3 door and the REST door are, with what it costs the server, beside a floor measured in the same run.
//!
//! Starts a daemon of its own on a temporary folder (or takes `--endpoint`), drives one case after the other over
//! connections that stay open, and prints a line each; then ratios to the floor, JSON or the README's table.
//! Nothing is judged here: a slow run is no failure, a wrong answer is.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "figures go to standard output, progress to standard error"
)]

mod bounds;
mod cases;
mod floor;
mod http;
mod life;
mod measure;
mod report;
mod rest;
mod s3;

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use coffre_tests::daemon::Daemon;
use coffre_tests::sign::Key;

use cases::{Bench, CASES, Extent, FLOOR};
use floor::Floor;
use measure::{Measured, Server, disk_of};
use report::{Machine, Rates, Report};
use rest::{Door, PLANS};
use s3::Target;

/// What is measured is the door, not its limits.
const UNLIMITED: [(&str, &str); 3] =
    [("COFFRE_LIMITS__RATE__GENERAL", "0"), ("COFFRE_LIMITS__RATE__UPLOAD", "0"), PLANS];

type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Measures the S3 door of Coffre.
#[derive(Debug, Parser)]
#[command(name = "coffre-load")]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
struct Arguments {
    /// Only cases whose name contains one of these (floor cases too)
    filter: Vec<String>,
    /// About two minutes: shorter cases, fewer bytes
    #[arg(long)]
    quick: bool,
    /// Seconds a case
    #[arg(long)]
    seconds: Option<f64>,
    /// Objects of 1 KiB to load before anything is measured
    #[arg(long, default_value_t = 0)]
    objects: usize,
    /// Folder in which the daemon's data lie while it is measured; default: this program's
    #[arg(long)]
    data: Option<PathBuf>,
    /// Then starts, check, gc, scrub and export of the store as it is by then
    #[arg(long, conflicts_with = "endpoint")]
    life: bool,
    /// NAME=VALUE for the daemon's environment
    #[arg(long)]
    env: Vec<String>,
    /// Measure the server at HOST:PORT; keys from `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`
    #[arg(long)]
    endpoint: Option<String>,
    /// Process of that server: its CPU and memory
    #[arg(long, requires = "endpoint")]
    pid: Option<u32>,
    /// HOST:PORT of that server's REST door: its syncs (`/metrics`), and its own cases with the token in `COFFRE_TOKEN`
    #[arg(long, requires = "endpoint")]
    rest: Option<String>,
    /// No floor
    #[arg(long)]
    no_floor: bool,
    /// The whole run as JSON
    #[arg(long)]
    json: bool,
    /// The table of the README
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// The names of the cases
    #[arg(long)]
    list: bool,
}

impl Arguments {
    fn wants(&self, name: &str) -> bool {
        self.filter.is_empty() || self.filter.iter().any(|part| name.contains(part.as_str()))
    }

    fn folder(&self) -> Outcome<PathBuf> {
        let beside = || std::env::current_exe().ok()?.parent().map(PathBuf::from);
        Ok(self.data.clone().or_else(beside).ok_or("say --data")?)
    }
}

fn main() -> Outcome<()> {
    if std::env::args().nth(1).as_deref() == Some(floor::SERVE) {
        return floor::serve();
    }
    let arguments = Arguments::parse();
    if arguments.list {
        for case in CASES.iter().chain(FLOOR) {
            println!("{}", case.name);
        }
        return Ok(());
    }
    let folder = arguments.folder()?;
    let mut extent = Extent::new(arguments.quick);
    extent.seconds = arguments.seconds.unwrap_or(extent.seconds);
    let machine = Machine::look(&folder);
    eprintln!("{}", report::head());
    let (floor, rates) = if arguments.no_floor {
        (Vec::new(), Rates::default())
    } else {
        measure_floor(&arguments, extent, &folder)?
    };
    let mut report =
        Report { machine, objects: arguments.objects, idle_rss_anon: None, cases: Vec::new(), floor, rates };
    measure_door(&arguments, extent, &folder, &mut report)?;
    if arguments.json {
        println!("{:#}", report.json());
    } else if arguments.markdown {
        println!("{}", report.markdown());
    } else {
        println!("\n{}", report.text());
    }
    Ok(())
}

fn measure_floor(
    arguments: &Arguments,
    extent: Extent,
    folder: &std::path::Path,
) -> Outcome<(Vec<Measured>, Rates)> {
    let mut extent = extent;
    extent.seconds = extent.seconds.min(3.0);
    let seconds = extent.seconds;
    let [sha256, md5, hashes] = floor::hashing(seconds / 3.0);
    let rates = Rates {
        appends: Some(floor::appends_per_s(folder, seconds)?),
        sha256: Some(sha256),
        md5: Some(md5),
        hashes: Some(hashes),
    };
    let floor = Floor::start()?;
    let server = Server::new(Some(floor.pid()), None, None);
    let bench = Bench::new(Target::new(&floor.address, None), None, server, extent);
    let mut measured = Vec::new();
    for case in FLOOR.iter().filter(|case| arguments.wants(case.name)) {
        let case = bench.run_floor(case)?;
        eprintln!("{}", report::line(&case));
        measured.push(case);
    }
    Ok((measured, rates))
}

fn measure_door(
    arguments: &Arguments,
    extent: Extent,
    folder: &std::path::Path,
    report: &mut Report,
) -> Outcome<()> {
    let disk = disk_of(folder).map(|(name, _)| name);
    let data = tempfile::Builder::new().prefix("coffre-load-").tempdir_in(folder)?;
    let given = arguments.env.iter().filter_map(|pair| pair.split_once('='));
    let environment: Vec<_> = UNLIMITED.into_iter().chain(given).collect();
    let (target, rest, server, daemon) = if let Some(endpoint) = &arguments.endpoint {
        let variable = |name: &str| std::env::var(name).map_err(|_| format!("{name} is not set"));
        let (id, secret) = (variable("AWS_ACCESS_KEY_ID")?, variable("AWS_SECRET_ACCESS_KEY")?);
        let key = Key { id, secret, region: "us-east-1".into() };
        let server = Server::new(arguments.pid, arguments.rest.clone(), disk);
        let rest = arguments.rest.clone().zip(std::env::var("COFFRE_TOKEN").ok());
        let rest = rest.map(|(address, token)| Door { address, token, user: None });
        (Target::new(endpoint, Some(key)), rest, server, None)
    } else {
        let daemon = Daemon::start_with(&data.path().join("data"), &[], &environment);
        let server = Server::new(Some(daemon.pid()), Some(daemon.rest_address().into()), disk);
        let credentials = daemon.credentials();
        let field = |name: &str| credentials.get(name).and_then(serde_json::Value::as_str).map(str::to_owned);
        let (token, user) = (field("token").ok_or("no token")?, field("user_id"));
        let rest = Door { address: daemon.rest_address().to_owned(), token, user };
        (Target::new(daemon.s3_address(), Some(daemon.admin_key())), Some(rest), server, Some(daemon))
    };
    server.settle();
    report.idle_rss_anon = server.rss_anon();
    let bench = Bench::new(target, rest, server, extent);
    if arguments.objects > 0 {
        let begin = Instant::now();
        bench.load(arguments.objects)?;
        eprintln!("loaded {} objects in {:.1} s", arguments.objects, begin.elapsed().as_secs_f64());
    }
    for case in CASES.iter().filter(|case| arguments.wants(case.name) && bench.reaches(case)) {
        let case = bench.run(case)?;
        eprintln!("{}", report::line(&case));
        report.cases.push(case);
    }
    if let Some(daemon) = daemon {
        drop(bench);
        if arguments.life {
            life::measure(daemon, &environment)?;
        } else {
            daemon.stop_cleanly();
        }
    }
    Ok(())
}
