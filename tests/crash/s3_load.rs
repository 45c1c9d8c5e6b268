//! kill −9 under mixed S3 load. 15 rounds; 500 by `make test-long`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use coffre_tests::daemon::Daemon;
use coffre_tests::s3::{Answer, Client, Request, Unanswered};
use coffre_tests::seed;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::oracle::{Content, Truth, content};

const WRITERS: usize = 6;
/// The last writer's bucket keeps versions.
const VERSIONED: usize = WRITERS - 1;
const KEYS: usize = 24;
/// Around each limit where bytes take another way: nothing, inline, the inline limit, a file, beyond direct I/O.
const SIZES: [usize; 9] = [0, 1, 4_096, 60_000, 128 * 1024, 128 * 1024 + 1, 400_000, 2 << 20, 9 << 20];
/// Few different contents, so that equal bytes meet each other (dedup, references, sweep).
const CONTENTS: u64 = 12;

#[test]
fn nothing_acknowledged_is_lost_when_the_daemon_is_killed_under_s3_load() {
    let mut rng = seed::rng("s3_load");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut daemon = Daemon::start_with(&data, &[], &settings(0));
    let mut truths: Vec<Truth> = (0..WRITERS).map(|w| prepare(&daemon.admin(), w)).collect();
    let rounds = seed::rounds(15, 500);
    let mut acknowledged = 0;
    for round in 0..rounds {
        let until_kill = Duration::from_millis(rng.random_range(50..1_500));
        acknowledged += run_until_killed(daemon, &mut truths, until_kill, &mut rng);
        daemon = Daemon::start_with(&data, &[], &settings(round));
        let s3 = daemon.admin();
        for truth in &mut truths {
            let wrong = truth.verify(&s3);
            assert!(wrong.is_empty(), "round {round}, {}: {wrong:#?}\n{}", truth.bucket, daemon.log());
        }
        daemon.check_finds_nothing();
    }
    eprintln!("{rounds} kills, {acknowledged} acknowledged changes, 0 lost, 0 torn");
    assert!(acknowledged > rounds * 10, "the load hardly ran: {acknowledged} changes in {rounds} rounds");
    the_oracle_sees_a_loss(&daemon, &mut truths);
    daemon.stop_cleanly();
}

/// The sweep runs while the load does, so that a kill meets it too. Every third start has the other kind of index.
fn settings(round: usize) -> [(&'static str, &'static str); 2] {
    let index = if (round / 3).is_multiple_of(2) { "sled" } else { "fjall" };
    [("COFFRE_STORAGE__GRACE_SECONDS", "1"), ("COFFRE_STORAGE__INDEX", index)]
}

/// The canary: an object lost, one torn and one that came from nowhere, made behind the oracle's back.
fn the_oracle_sees_a_loss(daemon: &Daemon, truths: &mut [Truth]) {
    let s3 = daemon.admin();
    let truth = &mut truths[0];
    let path = |key: &str| format!("/load-0/{key}");
    for key in ["lost", "torn"] {
        let answer = s3.put(&path(key), b"whole").unwrap().expect(200);
        truth.acknowledge(key, content(b"whole"), &answer);
    }
    assert_eq!(truth.verify(&s3), Vec::<String>::new());
    s3.delete(&path("lost")).unwrap().expect(204);
    s3.put(&path("torn"), b"who").unwrap().expect(200);
    s3.put(&path("nowhere"), b"").unwrap().expect(200);
    let wrong = truth.verify(&s3);
    assert_eq!(wrong.len(), 3, "{wrong:#?}");
}

fn prepare(s3: &Client, writer: usize) -> Truth {
    let bucket = format!("load-{writer}");
    s3.put(&format!("/{bucket}"), b"").unwrap().expect(200);
    if writer == VERSIONED {
        let xml = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
        let path = format!("/{bucket}");
        let on = Request {
            method: "PUT",
            path: &path,
            query: &[("versioning", "")],
            body: xml,
            ..Request::default()
        };
        s3.send(&on).unwrap().expect(200);
    }
    Truth { bucket, ..Truth::default() }
}

/// Lets the writers run, kills the daemon, gives the number of acknowledged changes.
fn run_until_killed(daemon: Daemon, truths: &mut [Truth], after: Duration, rng: &mut StdRng) -> usize {
    let s3 = daemon.admin();
    let dead = AtomicBool::new(false);
    let total = Mutex::new(0);
    let seeds: Vec<u64> = truths.iter().map(|_| rng.random()).collect();
    thread::scope(|scope| {
        for (truth, seed) in truths.iter_mut().zip(seeds) {
            let (s3, dead, total) = (s3.clone(), &dead, &total);
            scope.spawn(move || {
                let mut writer = Writer { s3, truth, rng: StdRng::seed_from_u64(seed), acknowledged: 0 };
                while !dead.load(Ordering::Relaxed) && writer.step().is_ok() {}
                *total.lock().unwrap_or_else(PoisonError::into_inner) += writer.acknowledged;
            });
        }
        // The moment of the kill is meant to be any; nothing is waited for.
        thread::park_timeout(after);
        daemon.kill();
        dead.store(true, Ordering::Relaxed);
    });
    total.into_inner().unwrap_or_else(PoisonError::into_inner)
}

struct Writer<'a> {
    s3: Client,
    truth: &'a mut Truth,
    rng: StdRng,
    acknowledged: usize,
}

/// The daemon is gone.
struct Gone;

impl Writer<'_> {
    fn step(&mut self) -> Result<(), Gone> {
        let key = format!("k{}", self.rng.random_range(0..KEYS));
        match self.rng.random_range(0..100) {
            0..55 => self.put(&key),
            55..72 => self.delete(&key),
            72..80 => self.multipart(&key),
            80..92 => self.copy(&key),
            _ => self.delete_many(),
        }
    }

    fn body(&mut self) -> Vec<u8> {
        // Mostly small, as real loads are.
        let last = if self.rng.random_ratio(1, 4) { SIZES.len() } else { 5 };
        let size = SIZES[self.rng.random_range(0..last)];
        seed::bytes(self.rng.random_range(0..CONTENTS), size)
    }

    /// Sends something that leaves `after` at `key` if it succeeds.
    fn change(
        &mut self,
        key: &str,
        after: Content,
        send: impl FnOnce(&Client, &str) -> Result<Answer, Unanswered>,
    ) -> Result<(), Gone> {
        self.truth.attempt(key, after);
        let path = format!("/{}/{key}", self.truth.bucket);
        let answer = send(&self.s3, &path).map_err(|_| Gone)?;
        match answer.status {
            200 | 204 => {
                self.truth.acknowledge(key, after, &answer);
                self.acknowledged += 1;
                Ok(())
            }
            // A daemon that is killed between two parts answers the rest not at all; anything else is wrong.
            status => panic!("{path}: {status} {}", answer.text()),
        }
    }

    fn put(&mut self, key: &str) -> Result<(), Gone> {
        let body = self.body();
        self.change(key, content(&body), |s3, path| s3.put(path, &body))
    }

    fn delete(&mut self, key: &str) -> Result<(), Gone> {
        self.change(key, None, Client::delete)
    }

    fn multipart(&mut self, key: &str) -> Result<(), Gone> {
        let first = seed::bytes(self.rng.random_range(0..CONTENTS), 5 << 20);
        let last = self.body();
        let whole = [first.as_slice(), last.as_slice()].concat();
        self.change(key, content(&whole), |s3, path| s3.put_multipart(path, &[&first, &last]))
    }

    fn copy(&mut self, key: &str) -> Result<(), Gone> {
        let from = format!("k{}", self.rng.random_range(0..KEYS));
        let Some(Some(known)) = self.truth.known(&from) else { return Ok(()) };
        if from == key {
            return Ok(());
        }
        let source = format!("/{}/{from}", self.truth.bucket);
        self.change(key, Some(known), |s3, path| {
            let headers = [("x-amz-copy-source", source.as_str())];
            s3.send(&Request { method: "PUT", path, headers: &headers, ..Request::default() })
        })
    }

    fn delete_many(&mut self) -> Result<(), Gone> {
        let keys: Vec<String> = (0..8).map(|_| format!("k{}", self.rng.random_range(0..KEYS))).collect();
        let mut xml = String::from("<Delete>");
        for key in &keys {
            self.truth.attempt(key, None);
            xml.push_str("<Object><Key>");
            xml.push_str(key);
            xml.push_str("</Key></Object>");
        }
        xml.push_str("</Delete>");
        let path = format!("/{}", self.truth.bucket);
        let answer = self.s3.post(&path, &[("delete", "")], xml.as_bytes()).map_err(|_| Gone)?;
        let answer = answer.expect(200);
        assert!(!answer.text().contains("<Error>"), "{}", answer.text());
        for key in &keys {
            self.truth.acknowledge(key, None, &answer);
        }
        self.acknowledged += 1;
        Ok(())
    }
}
