//! The daemon's life: lock, listen, open, ready, serve, drain, stop.
//!
//! Order at the start: the lock before anything is touched, the listeners before the (maybe long) opening, so that a
//! port in use is told at once and `/readyz` says 503 meanwhile; `credentials.json` before readiness (contract §6).
//! Order at the end: not ready, no new connections, the requests being answered (up to 30 s), store, rows, exit 0. After a
//! failed write nothing can be promised any more: the mounts' directories are given back, exit 70, and the next start
//! finds out what is on the disk.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use coffre_admin_api::{Peer, Readiness, RestDoor};
use coffre_kv::Kv as _;
use coffre_s3api::S3Door;
use hyper_util::service::TowerToHyperService;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::config::Loaded;
use crate::control::server::Control;
use crate::error::{Error, Result};
use crate::lock;
use crate::metrics::Metrics;
use crate::mounts;
use crate::net::connection::{self, Door};
use crate::net::listen::{Addresses, Listeners};
use crate::net::observe::DoorKind;
use crate::net::tls::Tls;
use crate::status::Host;
use crate::wire::{self, Daemon};

/// How long requests being answered may take after SIGTERM (contract D34).
const DRAIN: Duration = Duration::from_secs(30);
/// How often histograms are folded when nobody asks for metrics.
const UPKEEP: Duration = Duration::from_secs(5);
/// How long programs in a mount have to take their errors after a write that failed for good.
const GIVE_UP: Duration = Duration::from_secs(1);

/// Serves `data` until a signal ends it. `say` is told once how to reach the doors.
pub(crate) async fn run(loaded: Loaded, data: PathBuf, say: impl Fn(&str)) -> Result<()> {
    let began = Instant::now();
    let mut signals = Signals::install()?;
    log_panics();
    raise_descriptor_limit();
    warn_of_unused(&loaded);
    let config = loaded.config;
    let tls = match (&config.tls.cert, &config.tls.key) {
        (Some(cert), Some(key)) => Some(Arc::new(Tls::open(cert.clone(), key.clone())?)),
        _ => None,
    };
    let _lock = lock::take(&data)?;
    Addresses::remove(&data)?;
    let listeners = Listeners::open(&config).await?;
    let addresses = listeners.addresses(&config)?;
    let host = Arc::new(Host::new(Metrics::install()?, data.clone(), addresses.clone()));

    let (stop_rest, rest_stopping) = watch::channel(false);
    let rest = RestDoor::new(coffre_admin_api::Options {
        host: Arc::clone(&host) as Arc<dyn coffre_admin_api::Host>,
        metrics_token: config.rest.metrics_token.as_ref().map(|token| token.0.clone()),
    });
    let rest_opening = rest.clone();
    let mut rest_door = JoinSet::new();
    rest_door.spawn(connection::serve(
        Door {
            kind: DoorKind::Rest,
            listener: listeners.rest,
            tls: tls.clone(),
            service: move |address, is_secure| {
                TowerToHyperService::new(rest.for_connection(Peer { address, is_secure }))
            },
        },
        rest_stopping,
    ));
    addresses.write(&data)?;
    tracing::info!(s3 = %addresses.s3, rest = %addresses.rest, data = %data.display(), "listening; opening the store");

    let daemon = tokio::select! {
        opened = wire::open(config, &data, false) => Arc::new(opened?),
        // What is half open ends as by a kill, which every start copes with.
        () = signals.end() => return Ok(()),
    };
    let is_first = daemon.first_start().await?;
    let audit_failed = daemon.follow().await?;
    let (stop, stopping) = watch::channel(false);
    let mut doors = JoinSet::new();
    let s3 = s3_door(&daemon)?;
    let service = move |peer: SocketAddr, is_secure| s3.for_connection(peer.ip(), is_secure);
    doors.spawn(connection::serve(
        Door { kind: DoorKind::S3, listener: listeners.s3, tls: tls.clone(), service },
        stopping.clone(),
    ));
    if let Some(wanted) = mounts::at_start(&daemon) {
        daemon.mounts.mount(&daemon, wanted).await?;
    }
    let control = Control::bind(&data)?;
    doors.spawn(control.serve(Arc::clone(&daemon), Arc::clone(&host), stopping));
    rest_opening.open(crate::rest::ground(&daemon, &host, &addresses));
    host.opened(Arc::clone(&daemon));
    host.set(Readiness::Ready);
    notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
    tracing::info!(
        opened = daemon.kv.stats().opened,
        is_first,
        elapsed_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        version = env!("CARGO_PKG_VERSION"),
        "ready"
    );
    // Under a supervisor nobody reads it.
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        say(&banner(&addresses, &data, is_first));
    }

    let ended = tokio::select! {
        ended = watch_over(&daemon, &host, tls.as_deref(), &mut signals) => ended,
        error = audit_failed => Err(error),
    };
    if let Err(e) = ended {
        host.set(Readiness::Failed);
        tracing::error!("a write failed for good: ending, so that the next start repairs");
        // what programs in the mount are waiting for is answered with an error, and no dead directory is left to them
        daemon.mounts.give_up_all(GIVE_UP).await;
        return Err(e);
    }
    host.set(Readiness::Stopping);
    notify(&[NotifyState::Stopping, NotifyState::Status("draining")]);
    tracing::info!("draining");
    // Whoever listens is a task above: told even when one has ended already.
    stop.send_replace(true);
    // programs in the mount are drained by the kernel: what they have open is committed, and the directory is given back
    let unmounted = daemon.mounts.unmount_all().await;
    drain(&mut doors, &mut signals, DRAIN).await;
    let closed = daemon.close().await;
    stop_rest.send_replace(true);
    drain(&mut rest_door, &mut signals, Duration::from_secs(1)).await;
    Addresses::remove(&data)?;
    closed?;
    unmounted?;
    tracing::info!("stopped");
    Ok(())
}

fn s3_door(daemon: &Daemon) -> Result<S3Door> {
    let (config, clock, ids) = (&daemon.config.s3, daemon.clock(), daemon.ids());
    coffre_s3api::service(coffre_s3api::Options {
        store: daemon.store.clone(),
        identity: daemon.identity.clone(),
        region: config.region.clone(),
        domains: config.domains.clone(),
        clock,
        ids,
    })
    .map_err(|e| Error::Setting {
        place: "the configuration".into(),
        key: "s3.domains".into(),
        reason: e.to_string(),
    })
}

/// Waits for the end, meanwhile pinging the supervisor's watchdog and minding SIGHUP.
async fn watch_over(daemon: &Daemon, host: &Host, tls: Option<&Tls>, signals: &mut Signals) -> Result<()> {
    let mut poisoned = daemon.kv.poisoned();
    let mut upkeep = ticks(UPKEEP);
    let watchdog = sd_notify::watchdog_enabled();
    let mut pings = ticks(watchdog.map_or(Duration::from_hours(1), |limit| limit / 3));
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::End => return Ok(()),
                Asked::Reload => reload(tls),
            },
            _ = poisoned.wait_for(|poisoned| *poisoned) => return Err(Error::Poisoned),
            _ = upkeep.tick() => host.upkeep(),
            _ = pings.tick(), if watchdog.is_some() => {
                // A daemon that cannot read a row does not deserve the ping.
                if daemon.kv.get(b"\0watchdog").await.is_ok() {
                    notify(&[NotifyState::Watchdog]);
                }
            }
        }
    }
}

fn reload(tls: Option<&Tls>) {
    match tls.map(Tls::reload) {
        None => tracing::info!("SIGHUP: there is no TLS certificate to read again"),
        Some(Ok(())) => tracing::info!("SIGHUP: new connections use the certificate as it is now"),
        Some(Err(e)) => tracing::error!(error = e.chain(), "SIGHUP: going on with the old certificate"),
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Waits for the doors' last requests; a second signal, or the limit, cuts that short.
async fn drain(doors: &mut JoinSet<()>, signals: &mut Signals, limit: Duration) {
    let all = async { while doors.join_next().await.is_some() {} };
    tokio::select! {
        () = all => {}
        () = signals.end() => tracing::warn!("a second signal: not waiting for the requests being answered"),
        () = tokio::time::sleep_until(tokio::time::Instant::now() + limit) => {
            tracing::warn!("requests still being answered after {limit:?} are cut off");
        }
    }
    doors.abort_all();
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// SIGTERM or SIGINT.
    End,
    /// SIGHUP.
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn install() -> Result<Self> {
        let on = |kind| signal(kind).map_err(Error::io("listening for signals"));
        Ok(Self {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            hangup: on(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.terminate.recv() => Asked::End,
            _ = self.interrupt.recv() => Asked::End,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// The next SIGTERM or SIGINT.
    async fn end(&mut self) {
        while self.next().await != Asked::End {}
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(e) = sd_notify::notify(state) {
        tracing::warn!(error = %e, "the supervisor cannot be told");
    }
}

/// Panics go to the log like everything else, with their place.
fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string);
        ::metrics::counter!("coffre_panics_total").increment(1);
        tracing::error!(
            place,
            thread = std::thread::current().name(),
            "panic: {}",
            info.payload_as_str().unwrap_or("?")
        );
    }));
}

/// As many descriptors as the system lets us have: each connection and each open blob takes one.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(e) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(error = %e, "cannot raise the limit of open files");
    }
}

fn warn_of_unused(loaded: &Loaded) {
    for given in loaded.given.iter().filter(|given| given.is_unused) {
        tracing::warn!(key = given.key, from = given.place, "this setting has no effect in this version");
    }
}

/// How to reach the doors: addresses, where the credentials are, a line to paste. Never a secret.
fn banner(addresses: &Addresses, data: &Path, is_first: bool) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "coffre".into());
    let whose = if is_first { "The first ADMIN was made; its" } else { "The first ADMIN's" };
    format!(
        "\nCoffre {version} is ready.\n\n  \
         S3    {s3}  (region {region})\n  \
         REST  {rest}  (/healthz, /readyz, /metrics)\n  \
         data  {data}\n\n\
         {whose} credentials are in {credentials}. With aws-cli:\n\n  \
         eval \"$({program} env --data {data_quoted})\" && aws --endpoint-url {s3} s3 ls\n",
        version = env!("CARGO_PKG_VERSION"),
        s3 = addresses.s3_url,
        region = addresses.region,
        rest = addresses.rest_url,
        data = data.display(),
        credentials = data.join("credentials.json").display(),
        program = quoted(&program),
        data_quoted = quoted(&data.display().to_string()),
    )
}

/// As a shell takes it whole.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_to_paste_survives_odd_paths() {
        for (text, shell) in [("data", "data"), ("/a b/c", "'/a b/c'"), ("it's", "'it'\\''s'"), ("", "''")] {
            assert_eq!(quoted(text), shell);
        }
    }
}
