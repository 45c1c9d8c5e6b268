//! Nothing grows: mixed S3 load on a working set of fixed size, with restarts, and at quiet points memory, descriptors,
//! threads, staging, log, index and blobs are what they were. 30 minutes with `COFFRE_LONG`, else about 40 seconds.
//!
//! A *life* of the daemon has *runs* of equal length; behind each the load stops, what may go is collected, and it is
//! measured. A restart resets memory, so it is compared within a life as well as between the ends of lives. Lives end
//! under load, by SIGTERM and by `kill -9` in turn; the first is the warm-up. The audit log grows, by contract (D23).

use std::collections::BTreeSet;
use std::ops::RangeFrom;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

use coffre_tests::daemon::{Daemon, wait_for};
use coffre_tests::s3::{Answer, Client, Request, Unanswered, elements};
use coffre_tests::seed;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// So that log and blobs are given back while the test looks, and that the cache is full soon.
const SETTINGS: &[(&str, &str)] = &[
    ("COFFRE_STORAGE__SEGMENT_BYTES", "4194304"),
    ("COFFRE_STORAGE__GRACE_SECONDS", "1"),
    ("COFFRE_STORAGE__INDEX_CACHE_BYTES", "16777216"),
];
const BUCKET: &str = "/soak";
/// Clients at work, each with so many keys of its own.
const OWNERS: u64 = 5;
const KEYS: usize = 64;
/// Up to this size bytes lie in the log (`[storage] inline_max`).
const INLINE_MAX: usize = 128 * 1024;
const SMALL: &[usize] = &[0, 1, 700, 4_096, 20_000, 60_000, INLINE_MAX];
/// One in sixteen: files, the last one past the page cache.
const LARGE: &[usize] = &[INLINE_MAX + 1, 400_000, 2 << 20, 9 << 20];
const PART: usize = 5 << 20;
/// Nothing on the disk has changed for so long: the audit log's follower, the slowest, comes once a second.
const STILL: Duration = Duration::from_millis(1_200);
/// Overwrites of [`INLINE_MAX`] bytes by each owner at the end of a run, 48 MiB in all: at each 16 MiB the daemon
/// takes a snapshot and compacts. Without them the moment would decide how much of the log is known to be dead.
const PUSHES: u64 = 384 / OWNERS + 1;

/// By how much the end of a life may exceed the end of the first one.
const MARGINS: [(&str, u64); 5] = [
    // What comes and goes with the moment: what the allocator keeps for each of up to 32 blocking threads (2 MiB or so,
    // until they end after ten idle seconds), sled's write buffers of 512 KiB (thirty to fifty). What each
    // request left behind would add up over half an hour.
    ("memory", 96 << 20),
    // Segments and blobs left out it is fixed at the start, but for connections just closing: five clients', and gc's.
    ("descriptors", 8),
    // Blocking threads stay for ten seconds, and how many jobs met differs: four for each of five clients (an upload's
    // three lanes, a read of rows), and a few of the index's own.
    ("threads", 32),
    // It is kept from the older of two snapshots: 16 to 32 MiB. The rest of what may differ: as much again for the
    // audit log, a second behind; two segments of 4 MiB, begun and prepared; segments more than half alive, which on a
    // busy machine wait for the next snapshot too. Each run logs more than 48 MiB: a log that is never given back is
    // beyond this even in the short test.
    ("log", 96 << 20),
    // A few MiB of rows. sled uses segments of 512 KiB again when they are half dead, but gives the file's length back
    // late. A run of the long test writes many times that into it.
    ("index", 24 << 20),
];
/// In the order of [`MARGINS`].
type Figures = [u64; MARGINS.len()];

#[test]
fn nothing_grows_under_mixed_load_and_restarts() {
    let (lives, runs, run_length) =
        if seed::is_long() { (4, 6, Duration::from_secs(75)) } else { (3, 2, Duration::from_secs(3)) };
    let mut rng = seed::rng("soak");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().canonicalize().unwrap().join("data");
    let mut owners: Vec<Owner> = (0..OWNERS).map(|number| Owner::new(number, rng.random())).collect();
    let mut daemon = Daemon::start_with(&data, &[], SETTINGS);
    daemon.admin().put(BUCKET, b"").unwrap().expect(200);
    let mut warm: Option<Figures> = None;
    eprintln!("life run      memory  descriptors    threads          log        index;  blobs (bytes)");
    for life in 0..lives {
        if life > 0 {
            let after = Duration::from_millis(rng.random_range(50..1_000));
            end_under_load(daemon, &mut owners, life % 2 == 0, after);
            daemon = Daemon::start_with(&data, &[], SETTINGS);
            abort_uploads(&daemon.admin());
            together(&daemon, &mut owners, Owner::verify);
        }
        let mut measured: Vec<Figures> = Vec::new();
        for run in 1..=runs {
            let begin = Instant::now();
            together(&daemon, &mut owners, |owner, s3| {
                while begin.elapsed() < run_length {
                    owner.step(s3).unwrap();
                }
            });
            quiet(&daemon, &owners);
            together(&daemon, &mut owners, |owner, s3| {
                for _ in 0..PUSHES {
                    owner.put(s3, 0, INLINE_MAX).unwrap();
                }
            });
            measured.push(quiet(&daemon, &owners));
            eprintln!("{life:>4} {run:>3} {:>11?}; {:>11}", measured[run - 1], file_bytes(&owners));
        }
        let end = measured[runs - 1];
        let warm = *warm.get_or_insert(end);
        // Memory comes first. Seconds are not enough to fill what is bounded.
        let judged = if seed::is_long() { 0.. } else { 1.. };
        assert_eq!(grown(judged, &warm, &end), Vec::<String>::new(), "from life 0 to life {life}");
        if seed::is_long() && life > 0 {
            assert_eq!(grown(0.., &measured[runs / 3], &end), Vec::<String>::new(), "within life {life}");
        }
    }
    together(&daemon, &mut owners, Owner::verify);
    daemon.check_finds_nothing();
    daemon.stop_cleanly();
}

/// What is beyond its margin, in words.
fn grown(judged: RangeFrom<usize>, before: &Figures, now: &Figures) -> Vec<String> {
    let all = MARGINS.iter().zip(before.iter().zip(now)).skip(judged.start);
    let grown = all.filter(|((_, margin), (before, now))| **now > **before + margin);
    grown.map(|((name, _), (before, now))| format!("{name}: {before}, then {now}")).collect()
}

/// Each owner on a thread of its own, with connections of its own that end with it.
fn together(daemon: &Daemon, owners: &mut [Owner], work: impl Fn(&mut Owner, &Client) + Sync) {
    thread::scope(|scope| {
        for owner in owners {
            let (s3, work) = (daemon.admin(), &work);
            scope.spawn(move || work(owner, &s3));
        }
    });
}

/// The daemon ends while everybody works; what had no answer may have happened or not.
fn end_under_load(daemon: Daemon, owners: &mut [Owner], is_killed: bool, after: Duration) {
    thread::scope(|scope| {
        for owner in owners {
            let s3 = daemon.admin();
            scope.spawn(move || while owner.step(&s3).is_ok() {});
        }
        // The moment is meant to be any; nothing is waited for.
        thread::park_timeout(after);
        if is_killed { daemon.kill() } else { daemon.stop_cleanly() }
    });
}

/// Uploads that were cut off: who began one may not have got its id.
fn abort_uploads(s3: &Client) {
    let listed = s3.query(BUCKET, &[("uploads", "")]).unwrap().expect(200).text();
    for (key, id) in elements(&listed, "Key").iter().zip(elements(&listed, "UploadId")) {
        let (path, query) = (format!("{BUCKET}/{key}"), [("uploadId", id.as_str())]);
        let abort = Request { method: "DELETE", path: &path, query: &query, ..Request::default() };
        s3.send(&abort).unwrap().expect(204);
    }
}

/// Bytes of the files that the owners' objects need: equal bytes lie there once.
fn file_bytes(owners: &[Owner]) -> u64 {
    let held = owners.iter().flat_map(|owner| &owner.keys).filter_map(|may| may[0]);
    let files: BTreeSet<Body> = held.filter(|body| body.size > INLINE_MAX).collect();
    files.iter().map(|body| body.size as u64).sum()
}

/// Waits until one moment is like another (no load, all collected that may go, the disk unchanged), and measures. Only
/// what is live has a file then, and nothing is on its way.
fn quiet(daemon: &Daemon, owners: &[Owner]) -> Figures {
    let (data, process) = (daemon.data(), Path::new("/proc").join(daemon.pid().to_string()));
    let mut last = ([0; 4], Instant::now());
    wait_for("the end of the work behind the load", Duration::from_mins(2), || {
        let freed = daemon.json(&["gc"]);
        let bytes = |name: &str| tree(&data.join(name)).1;
        let disk = [tree(&data.join("staging")).0, bytes("kv/log"), bytes("index"), bytes("blobs")];
        if freed["blobs"] != 0 || disk != last.0 {
            last = (disk, Instant::now());
        }
        (last.1.elapsed() >= STILL).then_some(())
    });
    let [staged, log, index, blobs] = last.0;
    assert_eq!(staged, 0, "files in staging");
    assert_eq!(blobs, file_bytes(owners), "bytes of files, and what is live of them");
    let threads = fs::read_dir(process.join("task")).unwrap().count() as u64;
    // Segments and blobs kept for the next reader are bounded by what lies there. What is gone and still open counts.
    let kept = [data.join("kv/log"), data.join("blobs")];
    let open = fs::read_dir(process.join("fd")).unwrap();
    let open = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    let open = open.filter(|name| !name.exists() || !kept.iter().any(|dir| name.starts_with(dir)));
    [daemon.rss_anon(), open.count() as u64, threads, log, index]
}

/// Files below a folder and their bytes; what goes away meanwhile does not count.
fn tree(dir: &Path) -> (u64, u64) {
    let sizes = fs::read_dir(dir).unwrap().map(Result::unwrap).filter_map(|entry| {
        let meta = entry.metadata().ok()?;
        Some(if meta.is_dir() { tree(&entry.path()) } else { (1, meta.len()) })
    });
    sizes.fold((0, 0), |sum, size| (sum.0 + size.0, sum.1 + size.1))
}

/// Bytes that follow from two numbers; the tag is drawn for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Body {
    tag: u64,
    size: usize,
}

impl Body {
    fn bytes(self) -> Vec<u8> {
        seed::bytes(self.tag, self.size)
    }

    /// Whether an answer to GET says that a key holds this, or nothing.
    fn is_told(held: Option<Self>, told: &Answer) -> bool {
        held.map_or(told.status == 404, |body| told.status == 200 && told.body == body.bytes())
    }
}

/// An error when the daemon is gone.
type Sent<T> = Result<T, Unanswered>;

/// A client and the keys that nobody else touches.
struct Owner {
    number: u64,
    rng: StdRng,
    /// What each key holds; more than one possibility only after a change without an answer.
    keys: Vec<Vec<Option<Body>>>,
}

impl Owner {
    fn new(number: u64, seed: u64) -> Self {
        Self { number, rng: StdRng::seed_from_u64(seed), keys: vec![vec![None]; KEYS] }
    }

    /// Every fourth lies beside three folders, not in one.
    fn path(&self, key: usize) -> String {
        match key % 4 {
            0 => format!("{BUCKET}/{}/{key:03}", self.number),
            folder => format!("{BUCKET}/{}/{folder}/{key:03}", self.number),
        }
    }

    /// Reads every key, and learns what became of a change without an answer.
    fn verify(&mut self, s3: &Client) {
        for key in 0..KEYS {
            let (path, may) = (self.path(key), &self.keys[key]);
            let answer = s3.get(&path).unwrap();
            let held = may.iter().copied().find(|held| Body::is_told(*held, &answer));
            let held = held.unwrap_or_else(|| panic!("{path}: {}, none of {may:?}", answer.status));
            self.keys[key] = vec![held];
        }
    }

    /// One request, or a few that belong together.
    fn step(&mut self, s3: &Client) -> Sent<()> {
        let key = self.rng.random_range(0..KEYS);
        match self.rng.random_range(0..200) {
            0..50 => {
                let sizes = if self.rng.random_ratio(1, 16) { LARGE } else { SMALL };
                let size = sizes[self.rng.random_range(0..sizes.len())];
                self.put(s3, key, size)
            }
            50..70 => self.change(key, None, |path| s3.delete(path)),
            70..84 => self.copy(s3, key),
            84..86 => self.multipart(s3, key),
            86 => self.abandon(s3, key),
            87..185 => self.read(s3, key),
            _ => self.list(s3),
        }
    }

    /// Sends what leaves `to` at a key.
    fn change(&mut self, key: usize, to: Option<Body>, send: impl FnOnce(&str) -> Sent<Answer>) -> Sent<()> {
        self.keys[key].push(to);
        send(&self.path(key))?.expect(if to.is_some() { 200 } else { 204 });
        self.keys[key] = vec![to];
        Ok(())
    }

    fn put(&mut self, s3: &Client, key: usize, size: usize) -> Sent<()> {
        let body = Body { tag: self.rng.random(), size };
        self.change(key, Some(body), |path| s3.put(path, &body.bytes()))
    }

    fn copy(&mut self, s3: &Client, key: usize) -> Sent<()> {
        let from = self.rng.random_range(0..KEYS);
        let (source, held) = (self.path(from), self.keys[from][0]);
        if from == key || held.is_none() {
            return Ok(());
        }
        let headers = [("x-amz-copy-source", source.as_str())];
        self.change(key, held, |path| {
            s3.send(&Request { method: "PUT", path, headers: &headers, ..Request::default() })
        })
    }

    fn multipart(&mut self, s3: &Client, key: usize) -> Sent<()> {
        let size = PART + self.rng.random_range(1..1 << 20);
        let body = Body { tag: self.rng.random(), size };
        let bytes = body.bytes();
        let (first, last) = bytes.split_at(PART);
        self.change(key, Some(body), |path| s3.put_multipart(path, &[first, last]))
    }

    /// An upload that comes to nothing: its key stays as it is.
    fn abandon(&mut self, s3: &Client, key: usize) -> Sent<()> {
        let (path, bytes) = (self.path(key), seed::bytes(self.rng.random(), PART));
        let begun = s3.post(&path, &[("uploads", "")], b"")?.expect(200);
        let id = begun.element("UploadId").unwrap();
        let query = [("partNumber", "1"), ("uploadId", id.as_str())];
        let part = Request { method: "PUT", path: &path, query: &query, headers: &[], body: &bytes };
        s3.send(&part)?.expect(200);
        let abort = Request { method: "DELETE", path: &path, query: &query[1..], ..Request::default() };
        s3.send(&abort)?.expect(204);
        Ok(())
    }

    /// All of it, a range, or its head.
    fn read(&mut self, s3: &Client, key: usize) -> Sent<()> {
        let (path, held) = (self.path(key), self.keys[key][0]);
        match (self.rng.random_range(0..5), held) {
            (0, _) => {
                let head = s3.send(&Request { method: "HEAD", path: &path, ..Request::default() })?;
                let len = head.header("content-length").filter(|_| head.status != 404);
                assert_eq!(len.map(str::to_owned), held.map(|body| body.size.to_string()), "HEAD {path}");
            }
            (1 | 2, Some(body)) if body.size > 0 => {
                let from = self.rng.random_range(0..body.size);
                let to = self.rng.random_range(from..body.size);
                let range = format!("bytes={from}-{to}");
                let headers = [("range", range.as_str())];
                let get = Request { method: "GET", path: &path, headers: &headers, ..Request::default() };
                let answer = s3.send(&get)?.expect(206);
                assert!(answer.body == body.bytes()[from..=to], "{path}: {range}");
            }
            _ => assert!(Body::is_told(held, &s3.get(&path)?), "{path} does not hold {held:?}"),
        }
        Ok(())
    }

    /// The keys beside the folders, and the folders.
    fn list(&self, s3: &Client) -> Sent<()> {
        let prefix = format!("{}/", self.number);
        let query = [("list-type", "2"), ("prefix", prefix.as_str()), ("delimiter", "/")];
        let listed = s3.query(BUCKET, &query)?.expect(200).text();
        let live: Vec<_> = (0..KEYS).filter(|key| self.keys[*key][0].is_some()).collect();
        let beside = live.iter().filter(|key| key.is_multiple_of(4)).map(|key| format!("{prefix}{key:03}"));
        let folders: BTreeSet<_> = live.iter().map(|key| key % 4).filter(|folder| *folder > 0).collect();
        let folders = folders.into_iter().map(|folder| format!("<Prefix>{prefix}{folder}/</Prefix>"));
        assert_eq!(elements(&listed, "Key"), beside.collect::<Vec<_>>());
        assert_eq!(elements(&listed, "CommonPrefixes"), folders.collect::<Vec<_>>());
        Ok(())
    }
}
