//! How fast the store is without a door: `cargo bench --bench store -- [--quick] [--markdown] [--fjall]
//! [NAME…]`.
//!
//! A closed loop of so many callers for some seconds, on the embedded engine and a real disk; every put and delete is
//! durable before it counts. Latencies are of single calls, so the loop is written out here: a sampler of means would
//! hide what the slow ones wait for. `COFFRE_BENCH_OBJECTS` is how many objects are listed (100,000); from a million on they
//! are stored first, and everything else is measured with them there.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the figures are the point")]

mod filing;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coffre_kv::embedded::IndexKind;
use world::World;

/// The daemon's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// Folders of the objects that are listed: a page of common prefixes.
const FOLDERS: u64 = 1000;
/// Callers at once while a store is filled.
const FILLERS: usize = 64;
/// Keys of one delete.
const MANY: u64 = 1000;

/// What the command line says.
struct Wants {
    names: Vec<String>,
    seconds: f64,
    is_markdown: bool,
    objects: u64,
    index: IndexKind,
}

/// One figure's measurement. Latencies ascend.
struct Run {
    latencies: Vec<Duration>,
    seconds: f64,
    syncs: u64,
}

/// Bounds of a rate: what it must reach and what it should.
type Bounds = Option<(f64, f64)>;

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn float(n: u64) -> f64 {
    n as f64
}

impl Run {
    fn at(&self, percent: usize) -> f64 {
        let rank = (self.latencies.len() * percent).div_ceil(100).max(1);
        self.latencies.get(rank - 1).map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    }

    fn rate(&self) -> f64 {
        float(self.latencies.len() as u64) / self.seconds
    }
}

impl Wants {
    fn read() -> Self {
        // `cargo bench` adds `--bench`
        let (flags, names): (Vec<_>, Vec<_>) =
            std::env::args().skip(1).partition(|argument| argument.starts_with("--"));
        let has = |flag: &str| flags.iter().any(|given| given == flag);
        let objects = std::env::var("COFFRE_BENCH_OBJECTS").ok();
        Self {
            names,
            seconds: if has("--quick") { 1.5 } else { 5.0 },
            is_markdown: has("--markdown"),
            objects: objects.map_or(100_000, |n| n.parse().expect("COFFRE_BENCH_OBJECTS is a number")),
            index: if has("--fjall") { IndexKind::Fjall } else { IndexKind::Sled },
        }
    }

    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|part| name.contains(part.as_str()))
    }

    fn is_large(&self) -> bool {
        self.objects >= 1_000_000
    }

    fn head(&self) {
        let index = self.index.name();
        if self.is_markdown {
            println!("| Store, index {index} | measured | must | goal | p50 / p99 | syncs of the log each |");
            println!("|---|---|---|---|---|---|");
        } else {
            println!(
                "{:<34} {:>10} {:>9} {:>9} {:>9} {:>7}",
                index, "per s", "MiB/s", "p50 ms", "p99 ms", "syncs"
            );
        }
    }

    /// Prints a figure; `bytes` moved by each call.
    fn print(&self, name: &str, bytes: usize, run: &Run, bounds: Bounds) {
        let throughput = run.rate() * float(bytes as u64) / float(MIB as u64);
        let (p50, p99) = (run.at(50), run.at(99));
        let syncs = float(run.syncs) / float(run.latencies.len() as u64);
        if !self.is_markdown {
            println!("{name:<34} {:>10.1} {throughput:>9.1} {p50:>9.3} {p99:>9.3} {syncs:>7.2}", run.rate());
            return;
        }
        let mut measured =
            if bytes >= MIB { format!("{throughput:.0} MiB/s") } else { format!("{:.0}/s", run.rate()) };
        let (must, goal) = bounds.map_or_else(
            || ("-".to_owned(), "-".to_owned()),
            |(must, goal)| (format!("≥ {must:.0}/s"), format!("≥ {goal:.0}/s")),
        );
        if bounds.is_some_and(|(must, _)| run.rate() < must) {
            measured = format!("**{measured}**");
        }
        println!("| {name} | {measured} | {must} | {goal} | {p50:.2} / {p99:.2} ms | {syncs:.2} |");
    }
}

/// Has `callers` call `step` with ever new numbers until time or `count` is used up.
fn drive<F: Future<Output = ()>>(
    world: &World,
    callers: usize,
    seconds: f64,
    count: u64,
    step: impl Fn(u64) -> F + Sync,
) -> Run {
    let (next, begin, before) = (AtomicU64::new(0), Instant::now(), world.syncs());
    let caller = || async {
        let mut latencies = Vec::new();
        while begin.elapsed().as_secs_f64() < seconds {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                break;
            }
            let called = Instant::now();
            step(number).await;
            latencies.push(called.elapsed());
        }
        latencies
    };
    let half = |callers: usize| {
        world.runtime.block_on(futures_util::future::join_all((0..callers).map(|_| caller())))
    };
    // two threads carry all callers, as the daemon's do on two cores
    let both = std::thread::scope(|scope| {
        let other = scope.spawn(|| half(callers / 2));
        let mut both = half(callers.div_ceil(2));
        both.extend(other.join().expect("a caller does not panic"));
        both
    });
    let mut latencies: Vec<_> = both.into_iter().flatten().collect();
    latencies.sort_unstable();
    Run { latencies, seconds: begin.elapsed().as_secs_f64(), syncs: world.syncs() - before }
}

/// Names spread over the index like those of real objects.
fn spread(folder: &str, number: u64) -> String {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{folder}/{:02}/{spread:016x}.bin", spread % 50)
}

fn fill(world: &World, count: u64, key: impl Fn(u64) -> String + Sync) {
    drive(world, FILLERS, f64::INFINITY, count, |number| {
        let key = key(number);
        async move { world.put(&key, KIB).await }
    });
}

fn commits(wants: &Wants, world: &World) {
    let bounds = if wants.is_large() {
        [(1000.0, 1500.0), (3500.0, 7000.0), (5000.0, 10_000.0)]
    } else {
        [(2000.0, 2500.0), (8000.0, 12_000.0), (12_000.0, 18_000.0)]
    };
    for (writers, bounds) in [1, 16, 64].into_iter().zip(bounds) {
        let name = format!("durable puts of 1 KiB, {writers} at once");
        if wants.wants(&name) {
            let empty = (!wants.is_large()).then(|| World::open(wants.index));
            let world = empty.as_ref().unwrap_or(world);
            let run = drive(world, writers, wants.seconds, u64::MAX, |number| {
                let key = spread(&format!("commits-{writers}"), number);
                async move { world.put(&key, KIB).await }
            });
            wants.print(&name, KIB, &run, Some(bounds));
        }
    }
}

fn sizes(wants: &Wants, world: &World) {
    for (text, bytes) in [("4 KiB", 4 * KIB), ("128 KiB", 128 * KIB), ("1 MiB", MIB), ("64 MiB", 64 * MIB)] {
        let key = |number: u64| spread(&format!("size-{bytes}"), number);
        let (put, get) = (format!("put {text}"), format!("get {text}"));
        if wants.wants(&put) {
            // at most 2 GiB of a size: the disk is not endless
            let count = (2048 * MIB / bytes) as u64;
            let run = drive(world, 1, wants.seconds, count, |number| {
                let key = key(number);
                async move { world.put(&key, bytes).await }
            });
            wants.print(&put, bytes, &run, None);
        }
        if wants.wants(&get) {
            world.runtime.block_on(world.put(&key(0), bytes));
            let run = drive(world, 1, wants.seconds, u64::MAX, |_| {
                let key = key(0);
                async move { assert_eq!(world.get(&key).await, bytes, "the size of {key}") }
            });
            wants.print(&get, bytes, &run, None);
        }
    }
}

fn lists(wants: &Wants, world: &World) {
    let folders = FOLDERS - FOLDERS * MANY / wants.objects.max(2 * MANY) - 1;
    for (name, delimiter) in [("list a page of 1,000", ""), ("list 1,000 common prefixes", "/")] {
        if wants.wants(name) {
            let run = drive(world, 1, wants.seconds, u64::MAX, |number| {
                let folder = if delimiter.is_empty() { number * 37 % folders } else { 0 };
                let after = format!("listed/{folder:04}");
                async move { assert_eq!(world.list(&after, delimiter).await, 1000, "a whole page") }
            });
            wants.print(name, 0, &run, None);
        }
    }
}

fn deletes(wants: &Wants, world: &World) {
    let name = "delete of 1,000 keys";
    if !wants.wants(name) {
        return;
    }
    let calls = if wants.seconds < 2.0 { 4 } else { 16 };
    let key = |number: u64| format!("many/{:04}/{:04}", number / MANY, number % MANY);
    fill(world, calls * MANY, key);
    let run = drive(world, 1, f64::INFINITY, calls, |number| {
        world.delete((number * MANY..(number + 1) * MANY).map(key))
    });
    wants.print(name, 0, &run, None);
}

fn main() {
    let wants = Wants::read();
    let world = World::open(wants.index);
    wants.head();
    let lists_first = wants.is_large();
    let fill_listed = || {
        let begin = Instant::now();
        fill(&world, wants.objects, |n| format!("listed/{:04}/{:06}", n % FOLDERS, n / FOLDERS));
        eprintln!("{} objects stored in {:.1} s", wants.objects, begin.elapsed().as_secs_f64());
    };
    if lists_first {
        fill_listed();
    }
    commits(&wants, &world);
    sizes(&wants, &world);
    if wants.wants("list") && !lists_first {
        fill_listed();
    }
    lists(&wants, &world);
    deletes(&wants, &world);
    filing::run(&wants);
}
