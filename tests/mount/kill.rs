//! kill -9 under load in the mount: what was synced is there, and what was closed more than a second before; no file is
//! torn, and the mount works again after the restart.
#![expect(clippy::disallowed_methods, reason = "a program's rename is what is tested here")]

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use coffre_tests::seed;
use rand::Rng as _;

use crate::rig::Rig;

/// What a file was written with, so that it can be told from its content alone whether it is whole.
fn content(n: u64) -> Vec<u8> {
    let len = [30, 5_000, 150_000, 1_300_000][usize::try_from(n % 4).unwrap()];
    let mut bytes = n.to_be_bytes().to_vec();
    bytes.extend(seed::bytes(n, len));
    bytes
}

/// Which write a file's bytes are of, if they are one, whole.
fn number(bytes: &[u8]) -> Option<u64> {
    let n = u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?);
    (bytes == content(n)).then_some(n)
}

/// Writes until the daemon is gone; notes what has to be there after.
fn write_until_killed(root: &Path, writer: u64, kept: &Mutex<HashMap<String, (u64, Instant, bool)>>) {
    for n in (writer * 1_000_000..).take(100_000) {
        let name = format!("w{writer}-{}", n % 17);
        let with_sync = n % 3 == 0;
        let written = File::create(root.join(format!("{name}.new"))).and_then(|mut file| {
            file.write_all(&content(n))?;
            if with_sync { file.sync_all() } else { Ok(()) }
        });
        let moved = written.and_then(|()| fs::rename(root.join(format!("{name}.new")), root.join(&name)));
        if moved.is_err() {
            return;
        }
        kept.lock().unwrap().insert(name, (n, Instant::now(), with_sync));
    }
}

#[test]
fn what_was_synced_or_closed_a_second_ago_survives_a_kill() {
    let rounds = seed::rounds(20, 500);
    // what earlier rounds wrote is swept while later ones write, and hundreds of rounds fit on the disk
    let swept = [("COFFRE_STORAGE__GRACE_SECONDS", "1")];
    let mut rig = Rig::with(&swept);
    let mut rng = seed::rng("kill the mount");
    for round in 0..rounds {
        let kept: Mutex<HashMap<String, (u64, Instant, bool)>> = Mutex::default();
        let running = rng.random_range(50..1500);
        let killed = thread::scope(|scope| {
            for writer in 0..3 {
                let (root, kept) = (rig.root.clone(), &kept);
                scope.spawn(move || write_until_killed(&root, round as u64 * 10 + writer, kept));
            }
            thread::park_timeout(Duration::from_millis(running));
            let killed = Instant::now();
            rig.take().kill();
            killed
        });
        let began = Instant::now();
        rig.start(&swept);
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        let mut found = HashMap::new();
        for entry in fs::read_dir(&rig.root).unwrap() {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let n = number(&bytes).unwrap_or_else(|| panic!("round {round}: {} is torn", path.display()));
            found.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), n);
        }
        for (name, (n, when, _)) in kept.into_inner().unwrap() {
            if killed.saturating_duration_since(when) > Duration::from_secs(1) {
                let there = found.get(&name).copied();
                assert!(
                    there.is_some_and(|there| there >= n),
                    "round {round}: {name} has {there:?}, not {n}"
                );
            }
        }
        for name in found.keys() {
            fs::remove_file(rig.at(name)).unwrap();
        }
    }
    rig.finish();
}
