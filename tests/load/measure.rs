//! Measuring a case: latencies from the client, and from the kernel what the server spent on it.
//!
//! CPU comes from `/proc/PID/stat` (ticks of 10 ms), memory from `/proc/PID/status` every 20 ms, syncs of the log from the
//! daemon's own `/metrics`, flushes from `/proc/diskstats`: those are the whole device's, whoever caused them.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use coffre_tests::daemon::rss_anon;
use coffre_tests::s3::Client;

use crate::Outcome;

/// Between two looks at the server's memory.
const SAMPLE: Duration = Duration::from_millis(20);
/// Between two looks at whether the server has come to rest, and how many in a row have to find it so.
const REST: (Duration, u32) = (Duration::from_millis(100), 3);
/// Longest wait for rest: what is busy for longer is measured as it is.
const REST_MAX: Duration = Duration::from_mins(1);

/// The process that is measured.
pub(crate) struct Server {
    pid: Option<u32>,
    /// Where its `/metrics` is.
    rest: Option<String>,
    /// Its disk's name in `/proc/diskstats`.
    disk: Option<String>,
    sampler: Option<Sampler>,
}

struct Sampler {
    peak: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sampler {
    fn start(pid: u32) -> Self {
        let (peak, end) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (sampled, ended) = (Arc::clone(&peak), Arc::clone(&end));
        let thread = thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                sampled.fetch_max(rss_anon(pid).unwrap_or_default(), Ordering::Relaxed);
                thread::park_timeout(SAMPLE);
            }
        });
        Self { peak, end, thread: Some(thread) }
    }
}

impl Drop for Sampler {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                eprintln!("the thread that samples memory panicked");
            }
        }
    }
}

/// Counters at one moment.
#[derive(Clone, Copy)]
struct Reading {
    cpu_s: Option<f64>,
    client_cpu_s: f64,
    syncs: Option<f64>,
    flushes: Option<f64>,
}

/// How a case is driven.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) concurrency: usize,
    pub(crate) seconds: f64,
    pub(crate) requests_max: u64,
}

/// What came out. Times in seconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) name: String,
    pub(crate) concurrency: usize,
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) bytes: u64,
    pub(crate) p50_s: f64,
    pub(crate) p95_s: f64,
    pub(crate) p99_s: f64,
    /// The server's, while requests ran; `None` where its process is not known.
    pub(crate) cpu_s: Option<f64>,
    /// The server's, from the last answer until it came to rest.
    pub(crate) later_cpu_s: Option<f64>,
    pub(crate) client_cpu_s: f64,
    pub(crate) log_syncs: Option<f64>,
    pub(crate) device_flushes: Option<f64>,
    pub(crate) peak_rss_anon: Option<u64>,
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn float(n: u64) -> f64 {
    n as f64
}

impl Measured {
    pub(crate) fn rate(&self) -> f64 {
        float(self.requests) / self.seconds
    }

    pub(crate) fn mib_per_s(&self) -> f64 {
        float(self.bytes) / f64::from(1 << 20) / self.seconds
    }

    pub(crate) fn cpu_us(&self) -> Option<f64> {
        Some(self.cpu_s? * 1e6 / float(self.requests))
    }

    pub(crate) fn cpu_s_per_gib(&self) -> Option<f64> {
        (self.bytes > 0).then_some(())?;
        Some(self.cpu_s? * f64::from(1 << 30) / float(self.bytes))
    }

    pub(crate) fn syncs(&self) -> Option<f64> {
        Some(self.log_syncs? / float(self.requests))
    }

    pub(crate) fn flushes(&self) -> Option<f64> {
        Some(self.device_flushes? / float(self.requests))
    }
}

impl Server {
    pub(crate) fn new(pid: Option<u32>, rest: Option<String>, disk: Option<String>) -> Self {
        Self { pid, rest, disk, sampler: pid.map(Sampler::start) }
    }

    fn read(&self) -> Reading {
        Reading {
            cpu_s: self.pid.and_then(cpu_s),
            client_cpu_s: cpu_s(std::process::id()).unwrap_or_default(),
            syncs: self.rest.as_deref().and_then(|rest| metric(rest, "coffre_kv_syncs_total")),
            flushes: self.disk.as_deref().and_then(flushes),
        }
    }

    /// Waits until the server does nothing any more.
    pub(crate) fn settle(&self) {
        let Some(pid) = self.pid else { return };
        let begin = Instant::now();
        let (mut before, mut still) = (cpu_s(pid), 0);
        while still < REST.1 && begin.elapsed() < REST_MAX {
            let look = Instant::now();
            while look.elapsed() < REST.0 {
                thread::park_timeout(REST.0);
            }
            let now = cpu_s(pid);
            let spent = now.unwrap_or_default() - before.unwrap_or_default();
            still = if spent < 0.015 { still + 1 } else { 0 };
            before = now;
        }
    }

    /// Memory now, bytes.
    pub(crate) fn rss_anon(&self) -> Option<u64> {
        self.pid.and_then(rss_anon)
    }

    /// Runs `step` on `concurrency` threads, each with a state from `start`, until time or requests are used up.
    /// A step gets the request's number and gives the payload's bytes.
    pub(crate) fn drive<S: Send>(
        &self,
        plan: Plan,
        mut start: impl FnMut() -> Outcome<S>,
        step: impl Fn(&mut S, u64) -> Outcome<u64> + Sync,
    ) -> Outcome<Measured> {
        let mut states = Vec::new();
        for _ in 0..plan.concurrency {
            states.push(start()?);
        }
        self.settle();
        if let Some(sampler) = &self.sampler {
            sampler.peak.store(0, Ordering::Relaxed);
        }
        let before = self.read();
        let (next, begin) = (AtomicU64::new(0), Instant::now());
        let work = |state: &mut S| -> Outcome<(Vec<Duration>, u64)> {
            let (mut latencies, mut bytes) = (Vec::new(), 0);
            while begin.elapsed().as_secs_f64() < plan.seconds {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= plan.requests_max {
                    break;
                }
                let sent = Instant::now();
                bytes += step(state, number)?;
                latencies.push(sent.elapsed());
            }
            Ok((latencies, bytes))
        };
        let finished: Vec<_> = thread::scope(|scope| {
            let workers: Vec<_> = states.iter_mut().map(|state| scope.spawn(|| work(state))).collect();
            workers.into_iter().map(|worker| worker.join().map_err(|_| "a worker panicked")).collect()
        });
        let seconds = begin.elapsed().as_secs_f64();
        let after = self.read();
        let (mut latencies, mut bytes) = (Vec::new(), 0);
        for worker in finished {
            let (its, moved) = worker??;
            latencies.extend(its);
            bytes += moved;
        }
        if latencies.is_empty() {
            return Err(format!("{}: not one request", plan.name).into());
        }
        latencies.sort_unstable();
        self.settle();
        let later = self.read();
        let spent = |now: Option<f64>, before: Option<f64>| Some(now? - before?);
        Ok(Measured {
            name: plan.name.to_owned(),
            concurrency: plan.concurrency,
            requests: latencies.len() as u64,
            seconds,
            bytes,
            p50_s: percentile(&latencies, 50),
            p95_s: percentile(&latencies, 95),
            p99_s: percentile(&latencies, 99),
            cpu_s: spent(after.cpu_s, before.cpu_s),
            later_cpu_s: spent(later.cpu_s, after.cpu_s),
            client_cpu_s: after.client_cpu_s - before.client_cpu_s,
            log_syncs: spent(after.syncs, before.syncs),
            device_flushes: spent(after.flushes, before.flushes),
            peak_rss_anon: self.sampler.as_ref().map(|sampler| sampler.peak.load(Ordering::Relaxed)),
        })
    }
}

/// The value that `percent` of the sorted values do not exceed (nearest rank).
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(0.0, Duration::as_secs_f64)
}

/// User and system time a process has used, all threads, those that ended included.
fn cpu_s(pid: u32) -> Option<f64> {
    ticks(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
        .map(|ticks| float(ticks) / float(rustix::param::clock_ticks_per_second()))
}

/// Fields 14 and 15 of `/proc/PID/stat` (proc(5)); the name in field 2 may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    Some(user + fields.next()?.parse::<u64>().ok()?)
}

fn metric(rest: &str, name: &str) -> Option<f64> {
    let answer = Client::new(rest, None).exchange("GET", &format!("http://{rest}/metrics"), &[], b"").ok()?;
    value_of(&answer.text(), name)
}

/// A metric without labels in Prometheus' text format.
fn value_of(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Flush requests completed: field 19 of the disk's line (the kernel's `iostats.rst`).
fn flushes(disk: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/diskstats").ok()?;
    let fields: Vec<&str> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .find(|fields: &Vec<&str>| fields.get(2).is_some_and(|name| *name == disk))?;
    fields.get(18)?.parse().ok()
}

/// The disk below a folder: its name, and what is known of it. `None` where the file system has no device.
pub(crate) fn disk_of(folder: &Path) -> Option<(String, String)> {
    let device = rustix::fs::stat(folder).ok()?.st_dev;
    let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find(|line| line.split_whitespace().nth(2) == Some(&number))?;
    let kind = mount.split_once(" - ")?.1.split_whitespace().next()?.to_owned();
    let block = fs::canonicalize(format!("/sys/dev/block/{number}")).ok();
    // a partition's counters are its own; what it is made of stands with the whole disk
    let name = block.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let about = |file: &str| {
        let block = block.as_deref()?;
        let near = [block.join(file), block.parent()?.join(file)];
        near.iter().find_map(|path| fs::read_to_string(path).ok()).map(|text| text.trim().to_owned())
    };
    let model = about("device/model").unwrap_or_else(|| match name.as_deref() {
        Some(name) if name.starts_with("vd") => "virtio disk".into(),
        Some(name) => name.to_owned(),
        None => "no disk".into(),
    });
    let cache = about("queue/write_cache").unwrap_or_default();
    Some((name.unwrap_or_default(), format!("{kind} on {model}, cache {cache}").trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted: Vec<Duration> = (1..=200).map(Duration::from_secs).collect();
        for (percent, expected) in [(50, 100.0), (95, 190.0), (99, 198.0)] {
            assert!((percentile(&sorted, percent) - expected).abs() < 1e-9, "{percent}");
        }
        let one = [Duration::from_secs(7)];
        assert!((percentile(&one, 99) - 7.0).abs() < 1e-9);
    }

    #[test]
    fn the_kernels_and_the_daemons_words_are_understood() {
        let stat = "12 (a b) c) S 1 2 3 4 5 6 7 8 9 10 700 30 0 0 20 0";
        assert_eq!(ticks(stat), Some(730));
        assert_eq!(ticks("nonsense"), None);
        let text = "# TYPE a_total counter\na_total_more 3\na_total 42\nb 1\n";
        assert_eq!(value_of(text, "a_total"), Some(42.0));
        assert_eq!(value_of(text, "c"), None);
    }
}
