//! Figures for Prometheus: counted as things happen (`net::observe`, the doors), or measured when asked for.
//!
//! Promises: measured only. What cannot be measured is left out, never made up.

use std::path::Path;
use std::time::Instant;

use coffre_disk::{Disk as _, RealDisk};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::error::{Error, Result};

/// Bounds of the duration histograms, seconds: from a cached read to a large upload.
const DURATION_BOUNDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0];

/// The process's recorder.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    handle: PrometheusHandle,
    begun: Instant,
}

impl Metrics {
    /// Makes this the process's recorder; once.
    pub(crate) fn install() -> Result<Self> {
        let refused = |e: metrics_exporter_prometheus::BuildError| Error::Io {
            doing: "starting the metrics",
            source: std::io::Error::other(e),
        };
        let handle = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), DURATION_BOUNDS)
            .map_err(refused)?
            .install_recorder()
            .map_err(refused)?;
        describe();
        Ok(Self { handle, begun: Instant::now() })
    }

    /// How long the process has been up.
    pub(crate) fn uptime_seconds(&self) -> u64 {
        self.begun.elapsed().as_secs()
    }

    /// Everything, in Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }

    /// Folds what histograms have gathered; without it they grow until the next scrape.
    pub(crate) fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

fn describe() {
    describe_counter!("coffre_requests_total", "Requests answered, by door, operation and status");
    describe_histogram!(
        "coffre_request_duration_seconds",
        "From the request's head to the last byte of its answer"
    );
    describe_gauge!("coffre_requests_in_flight", "Requests being answered");
    describe_counter!(
        "coffre_connection_bytes_total",
        "Bytes on a door's connections, heads included, inside TLS"
    );
    describe_counter!("coffre_panics_total", "Bugs met: each was logged with its place");
    describe_counter!("coffre_kv_commits_total", "Commits accepted since the start");
    describe_counter!(
        "coffre_kv_groups_total",
        "Groups of commits since the start; each costs at most one sync"
    );
    describe_counter!("coffre_kv_syncs_total", "Syncs of the log since the start");
    describe_gauge!("coffre_kv_applied_position", "Position of the last commit applied");
    describe_gauge!("coffre_kv_durable_position", "Position of the last commit known durable");
    describe_gauge!("coffre_kv_log_bytes", "Bytes of log on disk");
    describe_gauge!("coffre_kv_index_bytes", "Bytes of index on disk");
    describe_gauge!("coffre_disk_free_bytes", "Bytes free where the data lies");
    describe_gauge!("coffre_disk_total_bytes", "Size of the file system where the data lies");
    describe_gauge!("coffre_store_objects", "Objects, by bucket");
    describe_gauge!("coffre_store_bytes", "Bytes of objects, by bucket");
    describe_counter!("coffre_gc_freed_bytes_total", "Bytes given back by `coffre gc` since the start");
    describe_gauge!("coffre_build_info", "1, with the version as a label");
    describe_gauge!("process_resident_memory_bytes", "Resident memory");
    describe_gauge!("process_resident_anonymous_bytes", "Resident memory that is not file-backed");
    describe_gauge!("process_open_fds", "Open file descriptors");
    describe_gauge!("process_start_time_seconds", "Start, seconds since 1970");
    gauge!("coffre_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// The engine's figures.
pub(crate) fn set_kv(stats: &coffre_kv::Stats) {
    counter!("coffre_kv_commits_total").absolute(stats.commits);
    counter!("coffre_kv_groups_total").absolute(stats.groups);
    counter!("coffre_kv_syncs_total").absolute(stats.syncs);
    set("coffre_kv_applied_position", Some(stats.applied.0));
    set("coffre_kv_durable_position", Some(stats.durable.0));
    set("coffre_kv_log_bytes", stats.log_bytes);
    set("coffre_kv_index_bytes", stats.index_bytes);
}

/// The process's and the disk's figures, as the kernel tells them.
pub(crate) fn set_process(data: &Path) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    set("process_resident_memory_bytes", kib_of(&status, "VmRSS:"));
    set("process_resident_anonymous_bytes", kib_of(&status, "RssAnon:"));
    // One of the entries is the listing's own descriptor.
    let fds = std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1) as u64);
    set("process_open_fds", fds);
    if let Ok(space) = RealDisk.space(data) {
        set("coffre_disk_free_bytes", Some(space.free_bytes));
        set("coffre_disk_total_bytes", Some(space.total_bytes));
    }
}

/// A value in KiB of `/proc/self/status`, in bytes.
pub(crate) fn kib_of(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows only f64; exact to 2^53")]
pub(crate) fn as_f64(n: u64) -> f64 {
    n as f64
}

fn set(name: &'static str, value: Option<u64>) {
    if let Some(value) = value {
        gauge!(name).set(as_f64(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_kernels_text() {
        let status = "Name:\tcoffre\nVmRSS:\t   1234 kB\nRssAnon:\t 7 kB\n";
        assert_eq!(kib_of(status, "VmRSS:"), Some(1234 * 1024));
        assert_eq!(kib_of(status, "RssAnon:"), Some(7 * 1024));
        assert_eq!(kib_of(status, "VmSwap:"), None);
    }
}
