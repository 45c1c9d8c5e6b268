//! One truth: what S3 changes the mount shows at once, though the kernel keeps what it was told for an hour; and the
//! other way round.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use coffre_tests::daemon::wait_for;
use coffre_tests::s3::Client;
use coffre_tests::seed;
use rand::Rng as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::rig::Rig;

#[test]
fn what_the_kernel_keeps_is_dropped_when_s3_changes_it() {
    let rig = Rig::new();
    // looked up before it is there, in a directory that is not there
    assert!(!rig.at("a/b/c").exists() && !rig.at("a").exists());
    rig.s3_put("a/b/c", b"1");
    assert_eq!(fs::read(rig.at("a/b/c")).unwrap(), b"1");
    assert_eq!(fs::read_dir(rig.at("a/b")).unwrap().count(), 1);
    rig.s3_put("a/b/d", b"2");
    assert_eq!(fs::read_dir(rig.at("a/b")).unwrap().count(), 2);
    rig.s3_put("a/b/c", b"longer");
    assert_eq!(fs::metadata(rig.at("a/b/c")).unwrap().len(), 6);
    assert_eq!(fs::read(rig.at("a/b/c")).unwrap(), b"longer");
    // small and large, so that the kernel reads some by itself
    for len in [10, 1 << 20] {
        rig.s3_put("x", &seed::bytes(len as u64, len));
        assert_eq!(fs::read(rig.at("x")).unwrap(), seed::bytes(len as u64, len));
        let old = File::open(rig.at("x")).unwrap();
        rig.s3_put("x", &seed::bytes(99, len));
        assert_eq!(fs::read(rig.at("x")).unwrap(), seed::bytes(99, len), "who opens it now reads the new");
        let mut kept = vec![0; len];
        old.read_exact_at(&mut kept, 0).unwrap();
        assert_eq!(kept, seed::bytes(len as u64, len), "who had it open reads what it opened");
    }
    rig.s3_delete("a/b/c");
    assert!(!rig.at("a/b/c").exists());
    rig.s3_delete("a/b/d");
    assert!(!rig.at("a").exists());
    rig.finish();
}

#[test]
fn the_last_close_wins_and_nothing_written_is_lost() {
    let rig = Rig::new();
    rig.s3_put("f", b"first");
    let file = File::options().read(true).write(true).open(rig.at("f")).unwrap();
    rig.s3_put("f", b"by S3");
    file.write_all_at(b"by mount", 0).unwrap();
    assert_eq!(rig.s3_get("f"), b"by S3");
    drop(file);
    assert_eq!(rig.s3_get("f"), b"by mount");
    // a large one that somebody reads through the kernel
    let (one, two) = (seed::bytes(1, 1 << 20), seed::bytes(2, 1 << 20));
    rig.s3_put("g", &one);
    let reader = File::open(rig.at("g")).unwrap();
    fs::write(rig.at("g"), &two).unwrap();
    let mut kept = vec![0; 1 << 20];
    reader.read_exact_at(&mut kept, 0).unwrap();
    assert!(kept == one || kept == two, "never a mixture");
    assert_eq!(fs::read(rig.at("g")).unwrap(), two);
    assert_eq!(rig.s3_get("g"), two);
    rig.finish();
}

#[test]
fn a_directory_that_comes_back_is_seen_although_a_program_stands_in_it() {
    let rig = Rig::new();
    rig.s3_put("a/b/x", b"1");
    let stands = File::open(rig.at("a/b")).unwrap();
    rig.s3_delete("a/b/x");
    assert!(!rig.at("a/b").exists() && !rig.at("a").exists());
    rig.s3_put("a/b/y", b"2");
    assert_eq!(fs::read(rig.at("a/b/y")).unwrap(), b"2");
    assert_eq!(fs::read_dir(rig.at("a/b")).unwrap().count(), 1);
    drop(stands);
    rig.finish();
}

#[test]
fn buckets_come_and_go_in_a_mount_of_all() {
    let rig = Rig::with(&[("COFFRE_MOUNT__ALL_BUCKETS", "true")]);
    assert!(!rig.at("made-later").exists());
    let s3 = rig.daemon().admin();
    s3.put("/made-later", b"").unwrap().expect(200);
    s3.put("/made-later/f", b"1").unwrap().expect(200);
    assert_eq!(fs::read(rig.at("made-later/f")).unwrap(), b"1");
    s3.delete("/made-later/f").unwrap().expect(204);
    s3.delete("/made-later").unwrap().expect(204);
    assert!(!rig.at("made-later").exists());
    rig.finish();
}

/// One of the keys that several actors change.
struct Key {
    name: String,
    /// What is there, as far as the one who holds this knows.
    content: Mutex<Option<Vec<u8>>>,
}

/// Reads by the mount, as a program does.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => {
            file.read_to_end(&mut bytes).unwrap();
            Some(bytes)
        }
        Err(e) => {
            assert_eq!(e.kind(), std::io::ErrorKind::NotFound, "{}: {e}", path.display());
            None
        }
    }
}

/// What was read, for people.
fn told(bytes: Option<&[u8]>, old: Option<&[u8]>) -> String {
    match bytes {
        None => "nothing".to_owned(),
        Some(bytes) if old == Some(bytes) => "the bytes before".to_owned(),
        Some(bytes) => format!("{} bytes", bytes.len()),
    }
}

fn read_s3(client: &Client, key: &str) -> Option<Vec<u8>> {
    let answer = client.get(&format!("/files/{key}")).unwrap();
    (answer.status == 200).then_some(answer.body)
}

#[test]
fn random_changes_at_both_doors_are_seen_at_the_other_at_once() {
    let rig = Rig::new();
    let changes = seed::rounds(1_000, 10_000);
    let keys: Vec<Key> =
        (0..40).map(|n| Key { name: format!("c/d{}/k{n}", n % 7), content: Mutex::new(None) }).collect();
    let late = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for actor in 0..4_u64 {
            let (rig, keys, late) = (&rig, &keys, &late);
            scope.spawn(move || {
                let mut rng = seed::rng(&format!("doors {actor}"));
                let client = rig.daemon().admin();
                for n in 0..changes / 4 {
                    let key = &keys[rng.random_range(0..keys.len())];
                    let mut content = key.content.lock().unwrap();
                    let len = if rng.random_range(0..8) == 0 { 200_000 } else { rng.random_range(0..2000) };
                    let new =
                        (rng.random_range(0..4) > 0).then(|| seed::bytes(actor * 1_000_000 + n as u64, len));
                    let path = rig.at(&key.name);
                    let by_mount = rng.random_range(0..2) == 0;
                    match (&new, by_mount) {
                        (Some(bytes), false) => {
                            client.put(&format!("/files/{}", key.name), bytes).unwrap().expect(200);
                        }
                        (None, false) => {
                            client.delete(&format!("/files/{}", key.name)).unwrap().expect(204);
                        }
                        (Some(bytes), true) => {
                            fs::create_dir_all(path.parent().unwrap()).unwrap();
                            fs::write(&path, bytes).unwrap();
                        }
                        (None, true) => {
                            let removed = fs::remove_file(&path);
                            assert_eq!(removed.is_ok(), content.is_some(), "{removed:?}");
                        }
                    }
                    let done = Instant::now();
                    let seen = read(&path);
                    late.lock().unwrap().push(done.elapsed());
                    let at_s3 = read_s3(&client, &key.name);
                    assert!(
                        seen == new,
                        "{}: the mount shows something stale (actor {actor}, {n}): {}, not {}, after {} {}",
                        key.name,
                        told(seen.as_deref(), content.as_deref()),
                        told(new.as_deref(), None),
                        told(content.as_deref(), None),
                        if by_mount { "by the mount" } else { "by S3" }
                    );
                    assert!(at_s3 == new, "{}: S3 shows something stale (actor {actor}, {n})", key.name);
                    *content = new;
                }
            });
        }
    });
    let mut late = late.into_inner().unwrap();
    late.sort();
    eprintln!(
        "seen at the mount, reading included: p50 {:?}, p99 {:?}",
        late[late.len() / 2],
        late[late.len() * 99 / 100]
    );
    rig.finish();
}

#[test]
fn a_stopped_program_does_not_stop_the_other_door() {
    let rig = Rig::new();
    rig.s3_put("f", &seed::bytes(1, 3 << 20));
    let mut program = Command::new("sh")
        .args(["-c", "while :; do cat \"$0\"; done"])
        .arg(rig.at("f"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&program);
    wait_for("the program to read", Duration::from_secs(10), || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", program.id())).ok()?;
        stat.contains(" S ").then_some(())
    });
    kill_process(pid, Signal::STOP).unwrap();
    for n in 2..12 {
        let began = Instant::now();
        rig.s3_put("f", &seed::bytes(n, 3 << 20));
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
    kill_process(pid, Signal::CONT).unwrap();
    program.kill().unwrap();
    program.wait().unwrap();
    rig.finish();
}
