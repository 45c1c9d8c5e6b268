//! What a filled store takes besides requests: a start after each kind of end, and the operator's commands.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use coffre_tests::daemon::{Daemon, peak_while};

use crate::Outcome;
use crate::measure::float;

/// Longest start: some millions of rows sorted and written again.
const START_LIMIT: Duration = Duration::from_mins(5);
/// Whose bytes are told, under the data folder.
const FOLDERS: [&str; 3] = ["kv", "index", "blobs"];

/// Takes a daemon through all of it and stops it. A line each: seconds, the most memory the daemon held meanwhile, what
/// lies on disk afterwards.
pub(crate) fn measure(daemon: Daemon, environment: &[(&str, &str)]) -> Outcome<()> {
    let data = daemon.data().to_owned();
    let start = || Daemon::start_within(START_LIMIT, &data, &[], environment);
    println!(
        "{:<24} {:>9} {:>9} {}",
        "life",
        "seconds",
        "RSS MB",
        FOLDERS.map(|f| format!("{f:>9}")).join(" ")
    );
    daemon.kill();
    let daemon = timed(&data, "start after kill -9", start)?;
    timed(&data, "… then the first write", || first_write(&daemon))?;
    daemon.kill();
    let daemon = timed(&data, "start after a short life", start)?;
    timed(&data, "… then the first write", || first_write(&daemon))?;
    daemon.stop_cleanly();
    let daemon = timed(&data, "start after SIGTERM", start)?;
    daemon.kill();
    fs::remove_dir_all(data.join("index"))?;
    let daemon = timed(&data, "start without its index", start)?;
    timed(&data, "gc", || daemon.json(&["gc"]))?;
    timed(&data, "check", || daemon.check_finds_nothing())?;
    let unlimited = u64::MAX.to_string();
    timed(&data, "scrub", || daemon.json(&["scrub", "--bytes-per-second", &unlimited]))?;
    let file = data.with_extension("export").display().to_string();
    timed(&data, "export", || daemon.json(&["export", &file]))?;
    let log = daemon.log();
    daemon.stop_cleanly();
    for snapshot in log.lines().filter(|line| line.contains("snapshot written")) {
        println!("{snapshot}");
    }
    Ok(())
}

/// What is stored waits until the index is verified, what is read does not.
fn first_write(daemon: &Daemon) {
    let answer = daemon.admin().put("/gateway/first", b"1");
    assert_eq!(answer.map(|answer| answer.status).ok(), Some(200), "a write after the start");
}

fn timed<T>(data: &Path, name: &str, run: impl FnOnce() -> T) -> Outcome<T> {
    let begun = Instant::now();
    let (done, peak) = peak_while(|| running(data), run);
    let seconds = begun.elapsed().as_secs_f64();
    let mut disk = String::new();
    for folder in FOLDERS {
        write!(disk, " {:>6.0} MB", float(bytes(&data.join(folder))?) / 1e6)?;
    }
    println!("{name:<24} {seconds:>9.2} {:>9.0}{disk}", float(peak) / 1e6);
    Ok(done)
}

/// The daemon's process, while it starts too.
fn running(data: &Path) -> Option<u32> {
    fs::read_to_string(data.join("lock")).ok()?.trim().parse().ok()
}

/// What the files under a folder take on disk.
fn bytes(folder: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // a running daemon renames and removes
        let Ok(metadata) = entry.metadata() else { continue };
        sum += if metadata.is_dir() { bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(sum)
}
