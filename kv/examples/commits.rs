//! Measures durable commits per second with 1, 16 and 64 writers, memory, and restarts, with each kind of index.
//!
//! `cargo run --workspace --example commits -- [--index sled|fjall|both] [--seconds 3] [--preload 0] [--cache-mib 64]
//! [--dir DIR]`. One commit is what a small PUT costs the store: a head row of 500 bytes, a value of 4 KiB, two counters,
//! and a check that the head is absent. `--preload` puts so many of them in first. For the memory of one kind alone, run
//! it alone.

#![expect(clippy::print_stdout, reason = "the figures are the point")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use coffre_disk::RealDisk;
use coffre_kv::embedded::{Embedded, IndexKind, Options};
use coffre_kv::{Check, Commit, Kv, Wait, Write};

/// Names that are spread over the index like names of real objects.
fn name(n: u64) -> Bytes {
    let spread = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Bytes::from(format!("h/bucket/folder-{:02}/{spread:016x}.bin", spread % 50))
}

fn object(n: u64, wait: Wait) -> Commit {
    let key = name(n);
    let mut value_key = b"v/".to_vec();
    value_key.extend_from_slice(&n.wrapping_mul(0xd1b5_4a32_d192_ed03).to_be_bytes());
    Commit {
        checks: vec![Check::Absent(key.clone())],
        writes: vec![
            Write::Put(key, Bytes::from(vec![n.to_le_bytes()[0]; 500])),
            Write::Put(value_key.into(), Bytes::from(vec![n.to_le_bytes()[1]; 4096])),
            Write::Add(Bytes::from_static(b"usage/objects"), 1),
            Write::Add(Bytes::from_static(b"usage/bytes"), 4096),
        ],
        wait,
        ..Commit::default()
    }
}

/// Runs `writers` tasks until the time is over or `until` is reached; gives the latencies in microseconds.
async fn run(
    kv: &Arc<Embedded>,
    next: &Arc<AtomicU64>,
    writers: usize,
    until: u64,
    wait: Wait,
    end: Instant,
) -> Vec<u64> {
    let mut tasks = Vec::new();
    for _ in 0..writers {
        let (kv, next) = (Arc::clone(kv), Arc::clone(next));
        tasks.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            while Instant::now() < end {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= until {
                    break;
                }
                let begin = Instant::now();
                kv.commit(object(n, wait)).await.expect("the store takes the commit");
                latencies.push(u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX));
            }
            latencies
        }));
    }
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("a writer does not panic"));
    }
    latencies.sort_unstable();
    latencies
}

fn at(latencies: &[u64], percent: usize) -> u64 {
    latencies
        .get((latencies.len() * percent / 100).min(latencies.len().saturating_sub(1)))
        .copied()
        .unwrap_or(0)
}

/// What is measured.
struct Arguments {
    kinds: Vec<IndexKind>,
    seconds: u64,
    preload: u64,
    cache_bytes: u64,
    dir: PathBuf,
}

impl Arguments {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut this = Self {
            kinds: IndexKind::ALL.to_vec(),
            seconds: 3,
            preload: 0,
            cache_bytes: 64 << 20,
            dir: std::env::temp_dir(),
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            match word.as_str() {
                "--index" if value == "both" => this.kinds = IndexKind::ALL.to_vec(),
                "--index" => {
                    let kind = IndexKind::ALL.into_iter().find(|kind| kind.name() == value);
                    this.kinds = vec![kind.ok_or("--index is sled, fjall or both")?];
                }
                "--seconds" => this.seconds = value.parse()?,
                "--preload" => this.preload = value.parse()?,
                "--cache-mib" => this.cache_bytes = value.parse::<u64>()? << 20,
                "--dir" => this.dir = value.into(),
                _ => return Err(format!("{word} is not known").into()),
            }
        }
        Ok(this)
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse()?;
    for kind in &arguments.kinds {
        measure(*kind, &arguments).await?;
    }
    Ok(())
}

/// One kind of index, from an empty store to a restart.
async fn measure(index: IndexKind, arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let options = || Options {
        index,
        index_cache_bytes: arguments.cache_bytes,
        ..Options::new(Arc::new(RealDisk), dir.path().join("kv"), dir.path().join("index"))
    };
    let kv = Arc::new(Embedded::open(options())?);
    let next = Arc::new(AtomicU64::new(0));
    println!("{}:", index.name());
    if arguments.preload > 0 {
        let cpu_before = cpu_us()?;
        let begin = Instant::now();
        let hours = begin + Duration::from_hours(4);
        run(&kv, &next, 64, arguments.preload, Wait::Ordered, hours).await;
        next.store(arguments.preload, Ordering::Relaxed);
        println!(
            "  loaded {} objects in {:.1} s, {} us CPU each",
            arguments.preload,
            begin.elapsed().as_secs_f64(),
            (cpu_us()? - cpu_before) / arguments.preload
        );
    }
    for writers in [1, 16, 64] {
        let before = kv.stats();
        let cpu_before = cpu_us()?;
        let begin = Instant::now();
        let end = begin + Duration::from_secs(arguments.seconds);
        let latencies = run(&kv, &next, writers, u64::MAX, Wait::Durable, end).await;
        let (took, after) = (begin.elapsed().as_secs_f64(), kv.stats());
        let commits = u32::try_from(latencies.len())?;
        println!(
            "  {writers:>2} writers: {:>6.0} commits/s, {:>3} us CPU and {:.3} syncs a commit, p50 {} us, p99 {} us, \
             worst {} us",
            f64::from(commits) / took,
            (cpu_us()? - cpu_before) / u64::from(commits.max(1)),
            f64::from(u32::try_from(after.syncs - before.syncs)?) / f64::from(commits.max(1)),
            at(&latencies, 50),
            at(&latencies, 99),
            at(&latencies, 100),
        );
    }
    let stats = kv.stats();
    println!(
        "  {} commits: memory {}, log {} MiB, index {} MiB",
        stats.applied.0,
        memory()?,
        stats.log_bytes.unwrap_or(0) >> 20,
        stats.index_bytes.unwrap_or(0) >> 20
    );
    drop(kv);
    for (what, rebuild_index) in [("like after kill -9", false), ("with the index built again", true)] {
        let begin = Instant::now();
        let kv = Embedded::open(Options { rebuild_index, ..options() })?;
        println!("  open {what}: {:.2} s ({:?})", begin.elapsed().as_secs_f64(), kv.stats().opened);
        assert_eq!(kv.stats().applied, stats.applied, "nothing is lost");
        if rebuild_index {
            kv.close().await?;
        }
    }
    Ok(())
}

/// CPU time of the process so far.
fn cpu_us() -> Result<u64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(") ").ok_or("no stat")?;
    let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    // Ticks of a hundredth of a second.
    Ok(ticks * 10_000)
}

/// Resident memory that is no file's, now and at its peak with files.
fn memory() -> Result<String, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let mib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? >> 10)
    };
    let (now, peak) = (mib("RssAnon:").ok_or("no RssAnon")?, mib("VmHWM:").ok_or("no VmHWM")?);
    Ok(format!("{now} MiB (peak with mapped files {peak} MiB)"))
}
