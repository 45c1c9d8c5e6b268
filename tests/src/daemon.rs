//! The daemon as a process: started on free ports with data of its own, ended by its id.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::s3::Client;
use crate::sign::Key;

/// Longest start: opening after a kill replays the log.
const START_LIMIT: Duration = Duration::from_mins(1);
/// Longest stop: the daemon drains for up to 30 s (contract D34).
const STOP_LIMIT: Duration = Duration::from_secs(45);
/// Pause between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A running daemon. Dropped, it is killed.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    data: PathBuf,
    s3: String,
    rest: String,
}

/// Where the binary is: `COFFRE_BIN`, or beside this program; tests lie a folder below it.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("COFFRE_BIN") {
        return path.into();
    }
    let program = std::env::current_exe().unwrap();
    let mut beside = program.ancestors().skip(1).take(2).map(|folder| folder.join("coffre"));
    beside
        .find(|path| path.is_file())
        .expect("no daemon beside this program: `cargo build -p coffre-daemon` (or `make build`) first")
}

/// Resident memory of a process that is not file-backed, bytes; `None` when there is no such process.
pub fn rss_anon(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Between two looks at a process's memory.
const SAMPLE: Duration = Duration::from_millis(20);

/// Runs something; with it the most memory ([`rss_anon`]) that a process was seen to hold meanwhile. It may be another
/// process each time it is asked for.
pub fn peak_while<T>(pid: impl Fn() -> Option<u32> + Sync, run: impl FnOnce() -> T) -> (T, u64) {
    let (ended, peak) = (AtomicBool::new(false), AtomicU64::new(0));
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                peak.fetch_max(pid().and_then(rss_anon).unwrap_or_default(), Ordering::Relaxed);
                thread::park_timeout(SAMPLE);
            }
        });
        // by a panic too: the scope waits for the sampler
        let _ends = Ends(&ended);
        run()
    });
    (done, peak.into_inner())
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until `look` finds something.
#[track_caller]
#[expect(clippy::disallowed_methods, reason = "the one place of the suites that looks again after a pause")]
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

impl Daemon {
    /// Starts it on `data` and waits until it is ready.
    #[track_caller]
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &[], &[])
    }

    /// The same with further flags and environment.
    #[track_caller]
    pub fn start_with(data: &Path, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_within(START_LIMIT, data, flags, environment)
    }

    /// The same where a start may take longer: a large index that is built again.
    #[track_caller]
    pub fn start_within(limit: Duration, data: &Path, flags: &[&str], environment: &[(&str, &str)]) -> Self {
        fs::create_dir_all(data).unwrap();
        let listen = data.join("listen.json");
        let old = fs::remove_file(&listen);
        assert!(old.is_ok() || !listen.exists(), "{old:?}");
        let log = fs::File::options().create(true).append(true).open(data.with_extension("log")).unwrap();
        let child = Command::new(binary())
            .args(["serve", "--s3-listen", "127.0.0.1:0", "--rest-listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(flags)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut daemon = Self { child, data: data.to_owned(), s3: String::new(), rest: String::new() };
        let addresses = wait_for("the daemon's addresses", limit, || {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended: {ended:?}\n{}", daemon.log());
            serde_json::from_slice::<serde_json::Value>(&fs::read(&listen).ok()?).ok()
        });
        let address =
            |door: &str| addresses[door].as_str().unwrap_or_else(|| panic!("{addresses}")).to_owned();
        (daemon.s3, daemon.rest) = (address("s3"), address("rest"));
        let ready = format!("http://{}/readyz", daemon.rest);
        wait_for("/readyz", limit, || {
            let ended = daemon.child.try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended: {ended:?}\n{}", daemon.log());
            let answer = Client::new(&daemon.rest, None).exchange("GET", &ready, &[], b"").ok()?;
            (answer.status == 200).then_some(())
        });
        daemon
    }

    /// Where its data lies.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Address and port of the S3 listener.
    pub fn s3_address(&self) -> &str {
        &self.s3
    }

    /// Address and port of the REST listener.
    pub fn rest_address(&self) -> &str {
        &self.rest
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All it has written to its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.data.with_extension("log")).unwrap_or_default()
    }

    /// What `credentials.json` says.
    pub fn credentials(&self) -> serde_json::Value {
        serde_json::from_slice(&fs::read(self.data.join("credentials.json")).unwrap()).unwrap()
    }

    /// The first ADMIN's S3 key.
    pub fn admin_key(&self) -> Key {
        let credentials = self.credentials();
        let field = |name: &str| credentials[name].as_str().unwrap().to_owned();
        Key { id: field("access_key_id"), secret: field("secret_access_key"), region: "us-east-1".into() }
    }

    /// An S3 client with the first ADMIN's key.
    pub fn admin(&self) -> Client {
        Client::new(&self.s3, Some(self.admin_key()))
    }

    /// An S3 client without a key.
    pub fn anonymous(&self) -> Client {
        Client::new(&self.s3, None)
    }

    /// `coffre ARGS --data DIR`, ready to run.
    pub fn cli(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).arg("--data").arg(&self.data);
        command
    }

    /// Runs `coffre ARGS --json` and gives what it says.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> serde_json::Value {
        let out = crate::command::run(self.cli(args).arg("--json"));
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?} --json: {e}\n{out}"))
    }

    /// Runs `coffre check` and fails the test on any finding.
    #[track_caller]
    pub fn check_finds_nothing(&self) {
        let found = self.json(&["check"]);
        assert_eq!(found["findings"], serde_json::json!([]), "{found:#}");
    }

    /// Resident memory that is not file-backed, and its peak is the caller's to keep (contract D38), bytes.
    pub fn rss_anon(&self) -> u64 {
        rss_anon(self.pid()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// SIGTERM; gives the exit status.
    #[track_caller]
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        wait_for("the end after SIGTERM", STOP_LIMIT, || self.child.try_wait().unwrap())
    }

    /// Waits until it ends by itself; gives the exit status.
    #[track_caller]
    pub fn ended(mut self) -> ExitStatus {
        wait_for("the daemon to end by itself", STOP_LIMIT, || self.child.try_wait().unwrap())
    }

    /// Stops it and expects exit 0.
    #[track_caller]
    pub fn stop_cleanly(self) {
        let log = self.data.with_extension("log");
        let status = self.stop();
        assert!(status.success(), "{status}\n{}", fs::read_to_string(log).unwrap_or_default());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        if self.child.kill().is_err() || self.child.wait().is_err() {
            eprintln!("the daemon {} could not be ended", self.child.id());
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.lines().rev().take(40).collect::<Vec<_>>();
            eprintln!("--- the daemon's last lines");
            for line in tail.into_iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}
