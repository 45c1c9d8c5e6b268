//! The index is a setting: each kind survives the daemon's death, one follows the other on the same data, and an export
//! goes from one to the other.

use std::fs;
use std::path::Path;
use std::process::Command;

use coffre_tests::command;
use coffre_tests::daemon::{self, Daemon};
use coffre_tests::s3::Client;

const BUCKET: &str = "/indexed";
const SLED: &[(&str, &str)] = &[("COFFRE_STORAGE__INDEX", "sled")];
const FJALL: &[(&str, &str)] = &[("COFFRE_STORAGE__INDEX", "fjall")];

/// Objects whose bytes lie in rows, in the log and in files, in an order that is not that of their keys.
fn objects() -> Vec<(String, Vec<u8>)> {
    let sizes = [0, 300, 4_096, 100_000, 128 * 1024, 400_000, 2 << 20];
    let objects = (0..200_usize).map(|n| {
        let size = if n < 190 { sizes[n % 3] } else { sizes[n % sizes.len()] };
        let bytes = (0..size).map(|at| (at * 31 + n).to_le_bytes()[0]).collect();
        (format!("{BUCKET}/folder-{}/{n:04}", n * 7 % 10), bytes)
    });
    objects.collect()
}

fn put(s3: &Client, objects: &[(String, Vec<u8>)]) {
    for (path, bytes) in objects {
        s3.put(path, bytes).unwrap().expect(200);
    }
}

/// Everything is there and nothing else, and derived data agrees.
#[track_caller]
fn verify(daemon: &Daemon, objects: &[(String, Vec<u8>)]) {
    let s3 = daemon.admin();
    for (path, bytes) in objects {
        assert!(s3.get(path).unwrap().expect(200).body == *bytes, "{path}\n{}", daemon.log());
    }
    assert_eq!(s3.list(&BUCKET[1..]).unwrap().len(), objects.len());
    daemon.check_finds_nothing();
}

/// Which index lies in a data directory (docs/format.md).
fn index_of(data: &Path) -> &'static str {
    let has = |name: &str| data.join("index/current").join(name).exists();
    match (has("db"), has("version")) {
        (true, false) => "sled",
        (false, true) => "fjall",
        other => panic!("the index directory is of both or none: {other:?}"),
    }
}

#[test]
fn fjall_survives_kills_and_an_export_goes_to_sled_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let daemon = Daemon::start_with(&data, &[], FJALL);
    let mut objects = objects();
    daemon.admin().put(BUCKET, b"").unwrap().expect(200);
    put(&daemon.admin(), &objects[..150]);
    daemon.kill();

    let daemon = Daemon::start_with(&data, &[], FJALL);
    assert_eq!(index_of(&data), "fjall");
    verify(&daemon, &objects[..150]);
    put(&daemon.admin(), &objects[150..]);
    for (path, _) in objects.drain(..40) {
        daemon.admin().delete(&path).unwrap().expect(204);
    }
    daemon.kill();
    let daemon = Daemon::start_with(&data, &[], FJALL);
    verify(&daemon, &objects);

    // While it runs, and when it does not: the same rows.
    let (online, offline) = (folder.path().join("online"), folder.path().join("offline"));
    daemon.json(&["export", online.to_str().unwrap()]);
    let refused = command::fails(&mut daemon.cli(&["export", online.to_str().unwrap()]));
    assert!(refused.contains("exists"), "nothing is overwritten: {refused}");
    let refused = command::fails(&mut daemon.cli(&["import", online.to_str().unwrap()]));
    assert!(refused.contains("in use"), "{refused}");
    daemon.stop_cleanly();
    coffre(&data, FJALL, &["export", offline.to_str().unwrap()]);
    assert!(fs::metadata(&offline).unwrap().len() > 40_000, "rows and inline objects are in it");
    assert!(!folder.path().join("offline.new").exists());

    for (name, export, environment) in [("moved-1", &online, SLED), ("moved-2", &offline, FJALL)] {
        let moved = folder.path().join(name);
        bring(&data, &moved);
        coffre(&moved, environment, &["import", export.to_str().unwrap()]);
        let again =
            Command::new(daemon::binary()).args(["import"]).arg(export).arg("--data").arg(&moved).output();
        let again = String::from_utf8(again.unwrap().stderr).unwrap();
        assert!(again.contains("has rows already"), "{again}");
        let daemon = Daemon::start_with(&moved, &[], environment);
        assert_eq!(index_of(&moved), environment[0].1);
        verify(&daemon, &objects);
        daemon.kill();
        verify(&Daemon::start_with(&moved, &[], environment), &objects);
    }
}

/// What an export leaves out: the files of large objects, and the key that opens the secrets.
fn bring(data: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for name in ["master.key", "credentials.json"] {
        fs::copy(data.join(name), to.join(name)).unwrap();
    }
    command::run(Command::new("cp").arg("-a").arg(data.join("blobs")).arg(to));
}

/// `coffre ARGS --data DATA` without a daemon.
#[track_caller]
fn coffre(data: &Path, environment: &[(&str, &str)], args: &[&str]) {
    let mut command = Command::new(daemon::binary());
    command.args(args).arg("--data").arg(data).envs(environment.iter().copied());
    command::run(&mut command);
}

#[test]
fn the_setting_may_change_between_two_starts() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let objects = objects();
    let daemon = Daemon::start_with(&data, &[], &[]);
    assert_eq!(index_of(&data), "sled", "by itself");
    daemon.admin().put(BUCKET, b"").unwrap().expect(200);
    put(&daemon.admin(), &objects[..50]);
    daemon.stop_cleanly();
    let ends = [50, 100, 150, 200];
    for ((environment, is_killed), end) in
        [(FJALL, true), (SLED, true), (FJALL, false), (SLED, false)].into_iter().zip(ends)
    {
        let daemon = Daemon::start_with(&data, &[], environment);
        assert_eq!(index_of(&data), environment[0].1);
        verify(&daemon, &objects[..end]);
        assert!(daemon.log().contains("the index is of another kind"), "the operator is told");
        let next = objects.len().min(end + 50);
        put(&daemon.admin(), &objects[end..next]);
        if is_killed { daemon.kill() } else { daemon.stop_cleanly() }
    }
}

#[test]
fn an_import_that_was_cut_off_keeps_the_daemon_from_starting() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let daemon = Daemon::start_with(&data, &[], SLED);
    daemon.admin().put(BUCKET, b"").unwrap().expect(200);
    let objects = objects();
    put(&daemon.admin(), &objects);
    let export = folder.path().join("export");
    daemon.json(&["export", export.to_str().unwrap()]);
    daemon.stop_cleanly();
    let moved = folder.path().join("moved");
    bring(&data, &moved);

    // An export that lacks its end, as after a disk that ran full.
    let bytes = fs::read(&export).unwrap();
    let half = folder.path().join("half");
    fs::write(&half, &bytes[..bytes.len() / 2]).unwrap();
    let mut import = Command::new(daemon::binary());
    command::fails(import.arg("import").arg(&half).arg("--data").arg(&moved));
    assert!(!moved.join("kv").exists());
    let mut serve = Command::new(daemon::binary());
    serve.args(["serve", "--s3-listen", "127.0.0.1:0", "--rest-listen", "127.0.0.1:0", "--data"]).arg(&moved);
    let refused = command::fails(&mut serve);
    assert!(refused.contains("was not finished"), "{refused}");

    coffre(&moved, SLED, &["import", export.to_str().unwrap()]);
    verify(&Daemon::start_with(&moved, &[], SLED), &objects);
}
