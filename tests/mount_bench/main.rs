//! How fast the mount is, beside the file system that its data lies on, in one interleaved run.
//!
//! Each case runs on both in turn, so that whoever else uses the machine disturbs both; told are the best of each and
//! their ratio (above 1: the mount is faster). Needs root, for the kernel's caches to be dropped before what is cold.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a benchmark fails by a panic, and prints figures"
)]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser;
use coffre_tests::command::run;
use coffre_tests::daemon::Daemon;
use coffre_tests::seed;
use rand::Rng as _;

/// Compares a mount with the file system below it.
#[derive(Debug, Parser)]
struct Args {
    /// Size of the large file, MiB
    #[arg(long, default_value_t = 1024)]
    large_mib: usize,
    /// How many small files are made, read and removed
    #[arg(long, default_value_t = 2000)]
    files: usize,
    /// How many are listed
    #[arg(long, default_value_t = 20_000)]
    listed: usize,
    /// Rounds; the best counts
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Where both lie [default: the folder for temporary files]
    #[arg(long)]
    folder: Option<PathBuf>,
    /// As a table for a document
    #[arg(long)]
    markdown: bool,
}

/// One case: its name, and what it does in a folder.
struct Case {
    name: &'static str,
    prepare: fn(&Path, &Args),
    work: fn(&Path, &Args),
    is_cold: bool,
}

fn nothing(_: &Path, _: &Args) {}

const CASES: &[Case] = &[
    Case { name: "write, with fsync at the end", prepare: remove_large, work: write_large, is_cold: false },
    Case { name: "read it, cold", prepare: nothing, work: read_large, is_cold: true },
    Case { name: "read it again", prepare: nothing, work: read_large, is_cold: false },
    Case { name: "100,000 random reads of 4 KiB", prepare: nothing, work: read_random, is_cold: false },
    Case { name: "create small files", prepare: remove_small, work: create_small, is_cold: false },
    Case { name: "stat them", prepare: nothing, work: stat_small, is_cold: false },
    Case { name: "read them", prepare: nothing, work: read_small, is_cold: false },
    Case { name: "delete them", prepare: nothing, work: delete_small, is_cold: false },
    Case { name: "ls -lR, cold", prepare: make_listed, work: list, is_cold: true },
    Case { name: "ls -lR again", prepare: nothing, work: list, is_cold: false },
    Case { name: "git clone", prepare: remove_clone, work: clone, is_cold: false },
    Case { name: "tar x", prepare: remove_unpacked, work: unpack, is_cold: false },
];

fn main() {
    let args = Args::parse();
    let mut builder = tempfile::Builder::new();
    builder.prefix("mount-bench");
    let folder = match &args.folder {
        Some(folder) => builder.tempdir_in(folder),
        None => builder.tempdir(),
    };
    let folder = folder.unwrap();
    let (native, mount) = (folder.path().join("native"), folder.path().join("mount"));
    fs::create_dir(&native).unwrap();
    fs::create_dir(&mount).unwrap();
    sources(folder.path());
    let daemon = Daemon::start_with(&folder.path().join("data"), &["--mount", mount.to_str().unwrap()], &[]);
    if args.markdown {
        println!(
            "| mount, {} MiB, {} files | native | mount | ratio |\n|---|---|---|---|",
            args.large_mib, args.files
        );
    }
    for case in CASES {
        let mut best = [Duration::MAX; 2];
        for _ in 0..args.rounds {
            for (place, best) in [&native, &mount].into_iter().zip(&mut best) {
                (case.prepare)(place, &args);
                run(&mut Command::new("sync"));
                if case.is_cold {
                    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
                }
                let began = Instant::now();
                (case.work)(place, &args);
                *best = (*best).min(began.elapsed());
                // what the next round needs anew
                if case.name == "delete them" {
                    create_small(place, &args);
                }
            }
        }
        let [native, mount] = best.map(|best| best.as_secs_f64());
        let ratio = native / mount;
        if args.markdown {
            println!("| {} | {native:.3} s | {mount:.3} s | {ratio:.2} |", case.name);
        } else {
            println!("{:32} native {native:8.3} s   mount {mount:8.3} s   ratio {ratio:.2}", case.name);
        }
    }
    let round_trip_us = round_trip(&mount).as_secs_f64() * 1e6;
    if args.markdown {
        println!("| *the kernel asks the daemon, and has the answer* | | *{round_trip_us:.0} µs* | |");
    } else {
        println!("the kernel asks the daemon, and has the answer: {round_trip_us:.0} µs");
    }
    daemon.stop_cleanly();
}

/// What no call that reaches the daemon can be faster than: attributes that the kernel is not allowed to tell by itself.
/// Making a file takes five (look up, create, write, flush, release), opening and reading a small one three.
fn round_trip(place: &Path) -> Duration {
    const CALLS: u32 = 20_000;
    let began = Instant::now();
    for _ in 0..CALLS {
        let flags = rustix::fs::AtFlags::STATX_FORCE_SYNC;
        rustix::fs::statx(rustix::fs::CWD, place, flags, rustix::fs::StatxFlags::ALL).unwrap();
    }
    began.elapsed() / CALLS
}

/// A repository and an archive to make trees of.
fn sources(folder: &Path) {
    let tree = folder.join("tree");
    for n in 0..1200_u64 {
        let inside = tree.join(format!("d{}", n % 40));
        fs::create_dir_all(&inside).unwrap();
        fs::write(inside.join(format!("f{n}")), seed::bytes(n, usize::try_from(n * 31 % 9000).unwrap()))
            .unwrap();
    }
    let git = |arguments: &[&str]| {
        run(Command::new("git")
            .args(["-c", "user.name=n", "-c", "user.email=a@b"])
            .args(arguments)
            .current_dir(&tree));
    };
    run(Command::new("tar").arg("-cf").arg(folder.join("tree.tar")).arg("-C").arg(&tree).arg("."));
    git(&["init", "-q"]);
    git(&["add", "-A"]);
    git(&["commit", "-qm", "one"]);
}

fn large(place: &Path) -> PathBuf {
    place.join("large")
}

fn remove(path: &Path) {
    let gone = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    assert!(gone.is_ok() || !path.exists(), "{gone:?}");
}

fn remove_large(place: &Path, _: &Args) {
    remove(&large(place));
}

fn write_large(place: &Path, args: &Args) {
    let mut file = File::create(large(place)).unwrap();
    let mut bytes = seed::bytes(1, 1 << 20);
    for n in 0..args.large_mib {
        // no two pieces alike
        bytes[..8].copy_from_slice(&(n as u64).to_le_bytes());
        file.write_all(&bytes).unwrap();
    }
    file.sync_all().unwrap();
}

fn read_large(place: &Path, _: &Args) {
    let mut file = File::open(large(place)).unwrap();
    let mut buffer = vec![0; 1 << 20];
    while file.read(&mut buffer).unwrap() > 0 {}
}

fn read_random(place: &Path, args: &Args) {
    let file = File::open(large(place)).unwrap();
    let (mut rng, mut buffer) = (seed::rng("random reads"), [0; 4096]);
    let pages = args.large_mib as u64 * 256;
    for _ in 0..100_000 {
        file.read_exact_at(&mut buffer, rng.random_range(0..pages) * 4096).unwrap();
    }
}

fn small(place: &Path, n: usize) -> PathBuf {
    place.join("small").join(format!("f{n}"))
}

fn remove_small(place: &Path, _: &Args) {
    remove(&place.join("small"));
}

fn create_small(place: &Path, args: &Args) {
    fs::create_dir_all(place.join("small")).unwrap();
    let bytes = seed::bytes(2, 4096);
    for n in 0..args.files {
        fs::write(small(place, n), &bytes).unwrap();
    }
}

fn stat_small(place: &Path, args: &Args) {
    for n in 0..args.files {
        assert_eq!(fs::metadata(small(place, n)).unwrap().len(), 4096);
    }
}

fn read_small(place: &Path, args: &Args) {
    for n in 0..args.files {
        assert_eq!(fs::read(small(place, n)).unwrap().len(), 4096);
    }
}

fn delete_small(place: &Path, args: &Args) {
    for n in 0..args.files {
        fs::remove_file(small(place, n)).unwrap();
    }
}

fn make_listed(place: &Path, args: &Args) {
    let listed = place.join("listed");
    if listed.exists() {
        return;
    }
    for n in 0..args.listed {
        let folder = listed.join(format!("d{}", n % 100));
        if n < 100 {
            fs::create_dir_all(&folder).unwrap();
        }
        fs::write(folder.join(format!("f{n}")), b"x").unwrap();
    }
}

fn list(place: &Path, args: &Args) {
    let out = run(Command::new("ls").arg("-lR").arg(place.join("listed")));
    assert!(out.lines().count() > args.listed);
}

fn remove_clone(place: &Path, _: &Args) {
    remove(&place.join("clone"));
}

fn clone(place: &Path, _: &Args) {
    let from = place.parent().unwrap().join("tree");
    run(Command::new("git").args(["clone", "-q", "--no-local"]).arg(from).arg(place.join("clone")));
    run(Command::new("git").args(["status", "--porcelain"]).current_dir(place.join("clone")));
}

fn remove_unpacked(place: &Path, _: &Args) {
    remove(&place.join("unpacked"));
}

fn unpack(place: &Path, _: &Args) {
    let to = place.join("unpacked");
    fs::create_dir(&to).unwrap();
    run(Command::new("tar").arg("-xf").arg(place.parent().unwrap().join("tree.tar")).arg("-C").arg(&to));
}
