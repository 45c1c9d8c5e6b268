//! What a run says: a line a case for people, JSON for machines, Markdown for the README.

use std::fs;
use std::path::Path;

use coffre_tests::s3::now;
use serde_json::{Value, json};

use crate::bounds::bounds;
use crate::cases::{APPENDS, CASES, HASHES};
use crate::floor::Hashing;
use crate::measure::{Measured, disk_of};

/// All of a run.
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// Objects loaded before anything was measured.
    pub(crate) objects: usize,
    /// Bytes, after the start.
    pub(crate) idle_rss_anon: Option<u64>,
    pub(crate) cases: Vec<Measured>,
    pub(crate) floor: Vec<Measured>,
    pub(crate) rates: Rates,
}

/// The floor's rates that are no HTTP.
#[derive(Default)]
pub(crate) struct Rates {
    /// A second.
    pub(crate) appends: Option<f64>,
    pub(crate) sha256: Option<Hashing>,
    pub(crate) md5: Option<Hashing>,
    pub(crate) hashes: Option<Hashing>,
}

/// Where the run took place.
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: u64,
    pub(crate) kernel: String,
    pub(crate) disk: String,
    pub(crate) date: String,
    /// Load average of the last minute before the run.
    pub(crate) load: String,
    pub(crate) build: &'static str,
}

fn first_line(path: &str, begin: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(begin)).unwrap_or_default();
    line.trim_start_matches([' ', '\t', ':']).to_owned()
}

impl Machine {
    pub(crate) fn look(data: &Path) -> Self {
        let memory = first_line("/proc/meminfo", "MemTotal:");
        let kib: u64 = memory.split(' ').next().and_then(|kib| kib.parse().ok()).unwrap_or_default();
        Self {
            cpu: first_line("/proc/cpuinfo", "model name"),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_gib: kib.div_ceil(1 << 20),
            kernel: first_line("/proc/sys/kernel/osrelease", ""),
            disk: disk_of(data).map_or_else(|| "unknown".into(), |(_, about)| about),
            date: now().date().to_string(),
            load: first_line("/proc/loadavg", "").split(' ').next().unwrap_or_default().to_owned(),
            build: if cfg!(debug_assertions) { "dev (opt-level 1)" } else { "release" },
        }
    }

    fn describe(&self) -> String {
        let Self { cpu, cores, memory_gib, kernel, disk, date, load, build } = self;
        format!(
            "{date}, {cpu}, {cores} cores, {memory_gib} GiB, Linux {kernel}, {disk}; {build} build, client on the \
             same cores, load before {load}"
        )
    }
}

fn or_dash(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}"))
}

/// The head of [`line`].
pub(crate) fn head() -> String {
    format!(
        "{:<20} {:>4} {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7} {:>6} {:>6} {:>7} {:>8}",
        "case",
        "c",
        "req/s",
        "MiB/s",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "CPU µs",
        "s/GiB",
        "later s",
        "syncs",
        "flush",
        "RSS MB",
        "client µs"
    )
}

/// A case for people. CPU is the server's a request and for a GiB; `later` its CPU between the last answer and rest;
/// syncs of the log and flushes of the device a request; memory is `RssAnon` at its peak.
pub(crate) fn line(case: &Measured) -> String {
    let throughput = (case.bytes > 0).then(|| case.mib_per_s());
    let per_gib = case.cpu_s_per_gib().filter(|_| case.bytes / case.requests >= 256 * 1024);
    let client = case.client_cpu_s * 1e6 / crate::measure::float(case.requests);
    format!(
        "{:<20} {:>4} {:>8.1} {:>8} {:>9.3} {:>9.3} {:>9.3} {:>9} {:>7} {:>7} {:>6} {:>6} {:>7} {:>8.0}",
        case.name,
        case.concurrency,
        case.rate(),
        or_dash(throughput, 1),
        case.p50_s * 1e3,
        case.p95_s * 1e3,
        case.p99_s * 1e3,
        or_dash(case.cpu_us(), 0),
        or_dash(per_gib, 2),
        or_dash(case.later_cpu_s, 2),
        or_dash(case.syncs(), 2),
        or_dash(case.flushes(), 2),
        or_dash(case.peak_rss_anon.map(|bytes| crate::measure::float(bytes) / 1e6), 0),
        client,
    )
}

fn case_json(case: &Measured) -> Value {
    json!({
        "name": case.name,
        "concurrency": case.concurrency,
        "requests": case.requests,
        "seconds": case.seconds,
        "bytes": case.bytes,
        "requests_per_s": case.rate(),
        "mib_per_s": case.mib_per_s(),
        "p50_ms": case.p50_s * 1e3,
        "p95_ms": case.p95_s * 1e3,
        "p99_ms": case.p99_s * 1e3,
        "server_cpu_us_per_request": case.cpu_us(),
        "server_cpu_s_per_gib": case.cpu_s_per_gib(),
        "server_cpu_s_later": case.later_cpu_s,
        "client_cpu_s": case.client_cpu_s,
        "log_syncs_per_request": case.syncs(),
        "device_flushes_per_request": case.flushes(),
        "peak_rss_anon_bytes": case.peak_rss_anon,
    })
}

impl Report {
    fn find(&self, name: &str) -> Option<&Measured> {
        self.cases.iter().chain(&self.floor).find(|case| case.name == name)
    }

    /// A case's rate as a part of the floor's, and what that floor is: bytes are compared where bytes are moved.
    fn ratio(&self, case: &Measured) -> Option<(f64, &'static str)> {
        let floor = CASES.iter().find(|one| one.name == case.name)?.floor?;
        let ratio = match floor {
            APPENDS => case.rate() / self.rates.appends?,
            HASHES => case.mib_per_s() / self.rates.hashes?.mib_per_s,
            name if case.mib_per_s() > 100.0 => case.mib_per_s() / self.find(name)?.mib_per_s(),
            name => case.rate() / self.find(name)?.rate(),
        };
        Some((ratio, floor))
    }

    pub(crate) fn text(&self) -> String {
        let mut lines = vec![self.machine.describe(), String::new()];
        let mut rate =
            |what: &str, value: Option<f64>| lines.push(format!("{what:<52} {:>9}", or_dash(value, 0)));
        rate("durable appends of 4 KiB, one at a time, a second", self.rates.appends);
        rate("SHA-256 on one thread, MiB/s", self.rates.sha256.map(|hashing| hashing.mib_per_s));
        rate(
            "SHA-256, MD5 and CRC-64/NVME on one thread, MiB/s",
            self.rates.hashes.map(|hashing| hashing.mib_per_s),
        );
        let idle = self.idle_rss_anon.map(|bytes| crate::measure::float(bytes) / 1e6);
        rate("memory of the idle daemon (RssAnon), MB", idle);
        lines.push(String::new());
        for case in &self.cases {
            if let Some((ratio, floor)) = self.ratio(case) {
                lines.push(format!("{:<20} {ratio:>5.2} of {floor}", case.name));
            }
        }
        lines.join("\n")
    }

    pub(crate) fn json(&self) -> Value {
        let hashing = |hashing: Hashing| json!({"mib_per_s": hashing.mib_per_s, "cpu_s_per_gib": hashing.cpu_s_per_gib});
        let Machine { cpu, cores, memory_gib, kernel, disk, date, load, build } = &self.machine;
        json!({
            "machine": {
                "cpu": cpu, "cores": cores, "memory_gib": memory_gib, "kernel": kernel, "disk": disk,
                "date": date, "load_before": load, "build": build,
            },
            "objects_loaded": self.objects,
            "idle_rss_anon_bytes": self.idle_rss_anon,
            "cases": self.cases.iter().map(case_json).collect::<Vec<_>>(),
            "floor": {
                "cases": self.floor.iter().map(case_json).collect::<Vec<_>>(),
                "appends_per_s": self.rates.appends,
                "sha256": self.rates.sha256.map(hashing),
                "md5": self.rates.md5.map(hashing),
                "sha256_md5_crc64nvme": self.rates.hashes.map(hashing),
            },
        })
    }

    /// The README's table: what was measured beside what it must and should be, and beside the floor.
    pub(crate) fn markdown(&self) -> String {
        let mut lines = vec![
            self.machine.describe() + ".",
            format!(
                "Durability: every PUT, part and DELETE is answered after `fdatasync`. Objects loaded before: {}. A \
                 figure that misses its must is **bold**.",
                self.objects
            ),
            String::new(),
            "| S3 door | measured | must | goal | p50 / p99 | of the floor |".into(),
            "|---|---|---|---|---|---|".into(),
        ];
        for line in bounds(self.objects) {
            let Some(case) = self.find(line.case) else { continue };
            let Some(value) = line.figure.of(case) else { continue };
            let mut measured = line.figure.render(value);
            if line.must.is_some_and(|must| !line.figure.keeps(value, must)) {
                measured = format!("**{measured}**");
            }
            let bound =
                |bound: Option<f64>| bound.map_or_else(|| "-".into(), |b| line.figure.render_bound(b));
            let (mut latency, mut floor) = (String::new(), String::new());
            if line.what != "its CPU" && line.what != "its syncs" {
                latency = format!("{:.2} / {:.2} ms", case.p50_s * 1e3, case.p99_s * 1e3);
                floor = self.ratio(case).map(|(ratio, _)| format!("{ratio:.2}")).unwrap_or_default();
            }
            lines.push(format!(
                "| {} | {measured} | {} | {} | {latency} | {floor} |",
                line.what,
                bound(line.must),
                bound(line.should)
            ));
        }
        if let Some(idle) = self.idle_rss_anon {
            let idle = crate::measure::float(idle) / 1e6;
            let measured = if idle > 150.0 { format!("**{idle:.0} MB**") } else { format!("{idle:.0} MB") };
            lines.push(format!("| memory when idle (RssAnon) | {measured} | ≤ 150 MB | ≤ 100 MB | | |"));
        }
        let peak = self.cases.iter().filter_map(|case| case.peak_rss_anon).max();
        if let Some(peak) = peak {
            let peak = crate::measure::float(peak) / 1e6;
            lines.push(format!("| its peak over the run | {peak:.0} MB | - | - | | |"));
        }
        lines.extend(self.floor_markdown());
        lines.join("\n")
    }

    fn floor_markdown(&self) -> Vec<String> {
        let mut lines =
            vec![String::new(), "| The floor, same run | measured | CPU |".into(), "|---|---|---|".into()];
        for (what, name) in [
            ("hyper answers 4 KiB without a store, one at a time", "floor-get-4k-c1"),
            ("the same, 16 at once", "floor-get-4k-c16"),
            ("hyper answers 64 MiB, 4 at once", "floor-get-64m-c4"),
            ("hyper swallows 64 MiB, 4 at once", "floor-put-64m-c4"),
        ] {
            let Some(case) = self.find(name) else { continue };
            let (rate, cpu) = if case.bytes / case.requests > 1 << 20 {
                (format!("{:.0} MiB/s", case.mib_per_s()), or_dash(case.cpu_s_per_gib(), 2) + " s/GiB")
            } else {
                (format!("{:.0}/s", case.rate()), or_dash(case.cpu_us(), 0) + " µs")
            };
            lines.push(format!("| {what} | {rate} | {cpu} |"));
        }
        if let Some(appends) = self.rates.appends {
            lines.push(format!("| 4 KiB appended and `fdatasync`, one at a time | {appends:.0}/s | |"));
        }
        for (what, hashing) in [
            ("SHA-256, one thread", self.rates.sha256),
            ("MD5, one thread", self.rates.md5),
            ("SHA-256, MD5 and CRC-64/NVME, one thread", self.rates.hashes),
        ] {
            if let Some(Hashing { mib_per_s, cpu_s_per_gib }) = hashing {
                lines.push(format!("| {what} | {mib_per_s:.0} MiB/s | {cpu_s_per_gib:.2} s/GiB |"));
            }
        }
        lines
    }
}
