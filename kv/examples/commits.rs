//! Measures durable commits per second with 1, 16 and 64 writers.
//!
//! `cargo run -p coffre-kv --example commits -- [seconds] [objects loaded first] [directory]`. One commit is what a small
//! PUT costs the store: a head row of 500 bytes, a value of 4 KiB, two counters, and a check that the head is absent.

#![expect(clippy::print_stdout, reason = "the figures are the point")]

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use coffre_disk::RealDisk;
use coffre_kv::embedded::{Embedded, Options};
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

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let seconds: u64 = args.next().map_or(Ok(3), |arg| arg.parse())?;
    let load: u64 = args.next().map_or(Ok(0), |arg| arg.parse())?;
    let dir = tempfile::tempdir_in(args.next().map_or_else(std::env::temp_dir, PathBuf::from))?;
    let options = || Options::new(Arc::new(RealDisk), dir.path().join("kv"), dir.path().join("index"));
    let kv = Arc::new(Embedded::open(options())?);
    let next = Arc::new(AtomicU64::new(0));
    if load > 0 {
        let begin = Instant::now();
        run(&kv, &next, 64, load, Wait::Ordered, begin + Duration::from_hours(1)).await;
        next.store(load, Ordering::Relaxed);
        println!("loaded {load} in {:.1} s", begin.elapsed().as_secs_f64());
    }
    for writers in [1, 16, 64] {
        let before = kv.stats();
        let begin = Instant::now();
        let latencies =
            run(&kv, &next, writers, u64::MAX, Wait::Durable, begin + Duration::from_secs(seconds)).await;
        let (took, after) = (begin.elapsed().as_secs_f64(), kv.stats());
        let commits = u32::try_from(latencies.len())?;
        println!(
            "{writers:>3} writers: {:>7.0} commits/s, {:.3} syncs a commit, p50 {} us, p99 {} us",
            f64::from(commits) / took,
            f64::from(u32::try_from(after.syncs - before.syncs)?) / f64::from(commits.max(1)),
            at(&latencies, 50),
            at(&latencies, 99),
        );
    }
    let applied = kv.stats().applied;
    drop(kv);
    let begin = Instant::now();
    let kv = Embedded::open(options())?;
    println!("open like after kill -9: {:.2} s ({:?})", begin.elapsed().as_secs_f64(), kv.stats().opened);
    assert_eq!(kv.stats().applied, applied);
    drop(kv);
    let begin = Instant::now();
    let kv = Embedded::open(Options { rebuild_index: true, ..options() })?;
    println!("open with the index built again: {:.2} s", begin.elapsed().as_secs_f64());
    let stats = kv.stats();
    println!(
        "log {:?} bytes, index {:?} bytes, {} commits",
        stats.log_bytes, stats.index_bytes, stats.applied.0
    );
    kv.close().await?;
    Ok(())
}
