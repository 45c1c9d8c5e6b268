//! The daemon as a process: started on free ports, waited for by the supervisor's own protocol (`NOTIFY_SOCKET`), asked by
//! plain sockets, ended by its id.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

/// Longest start and stop that a test waits for.
const LIMIT: Duration = Duration::from_mins(1);

/// A command of the binary under test, with nothing of this process's environment that it would read.
pub(crate) fn coffre() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coffre"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("COFFRE_") || name.ends_with("_DIRECTORY") || name.starts_with("LISTEN_") {
            command.env_remove(&*name);
        }
    }
    command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    coffre().args(args).output().unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The supervisor's end of `sd_notify`.
pub(crate) struct Supervisor {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Supervisor {
    pub(crate) fn new(folder: &Path) -> Self {
        let path = folder.join(format!("notify-{}", std::fs::read_dir(folder).unwrap().count()));
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        Self { socket, path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for a state that begins so.
    #[track_caller]
    pub(crate) fn expect(&self, state: &str, child: &mut Child) {
        let end = Instant::now() + LIMIT;
        let mut buffer = [0; 4096];
        while Instant::now() < end {
            match self.socket.recv(&mut buffer) {
                Ok(n) => {
                    let text = String::from_utf8_lossy(&buffer[..n]).into_owned();
                    if text.lines().any(|line| line.starts_with(state)) {
                        return;
                    }
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    let ended = child.try_wait().unwrap();
                    assert!(ended.is_none(), "ended ({ended:?}) before it said {state}");
                }
                Err(e) => panic!("{e}"),
            }
        }
        panic!("no {state} within {LIMIT:?}");
    }
}

/// A daemon that is ready. Dropped, it is killed.
pub(crate) struct Daemon {
    pub(crate) child: Child,
    pub(crate) data: PathBuf,
    pub(crate) supervisor: Supervisor,
    log: PathBuf,
}

impl Daemon {
    #[track_caller]
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[], &[])
    }

    /// Its data is `folder/data`, its log `folder/log`.
    #[track_caller]
    pub(crate) fn start_with(folder: &Path, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let data = folder.join("data");
        let mut command = coffre();
        command
            .args(["serve", "--s3-listen", "127.0.0.1:0", "--rest-listen", "127.0.0.1:0", "--data"])
            .arg(&data);
        command.args(args).envs(environment.iter().copied());
        Self::spawn(folder, command)
    }

    #[track_caller]
    pub(crate) fn spawn(folder: &Path, mut command: Command) -> Self {
        let supervisor = Supervisor::new(folder);
        let log = folder.join("log");
        let file = std::fs::File::options().create(true).append(true).open(&log).unwrap();
        command.env("NOTIFY_SOCKET", supervisor.path()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap();
        let mut daemon = Self { child, data: folder.join("data"), supervisor, log };
        daemon.supervisor.expect("READY=1", &mut daemon.child);
        daemon
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn listen(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.data.join("listen.json")).unwrap()).unwrap()
    }

    pub(crate) fn address(&self, door: &str) -> String {
        self.listen()[door].as_str().unwrap().to_owned()
    }

    pub(crate) fn rest(&self, method: &str, path: &str, headers: &str) -> Answer {
        ask(TcpStream::connect(self.address("rest")).unwrap(), method, path, headers)
    }

    /// `coffre ARGS --data DIR`.
    pub(crate) fn cli(&self, args: &[&str]) -> Output {
        coffre().args(args).arg("--data").arg(&self.data).output().unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let output = self.cli(&[args, &["--json"]].concat());
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn ended(mut self) -> ExitStatus {
        // The supervisor's socket closes nothing; the end itself is what is waited for, on a thread, so that a daemon
        // that does not end fails the test.
        let pid = Pid::from_child(&self.child);
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let mut child = std::mem::replace(&mut self.child, Command::new("true").spawn().unwrap());
        let waiter = std::thread::spawn(move || tell.send(child.wait()));
        let status = told.recv_timeout(LIMIT);
        if status.is_err() {
            rustix::process::kill_process(pid, Signal::KILL).unwrap();
        }
        waiter.join().unwrap().unwrap();
        status.expect("the daemon ends").unwrap()
    }

    #[track_caller]
    pub(crate) fn stop(self) {
        let log = self.log.clone();
        self.signal(Signal::TERM);
        let status = self.ended();
        assert_eq!(status.code(), Some(0), "{}", std::fs::read_to_string(log).unwrap());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.child.kill().unwrap();
        }
        self.child.wait().unwrap();
        if std::thread::panicking() {
            let log = self.log();
            eprintln!("--- the daemon's log\n{log}");
        }
    }
}

/// An HTTP answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (n, value) = line.split_once(": ")?;
            n.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.head);
        serde_json::from_str(&self.body).unwrap()
    }
}

/// One request on a connection that ends with it. `headers` are whole lines, each ended by CRLF.
pub(crate) fn ask(
    mut stream: impl std::io::Read + std::io::Write,
    method: &str,
    path: &str,
    headers: &str,
) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunked(body) } else { body.to_owned() };
    Answer { status, head: head.to_owned(), body }
}

fn unchunked(mut text: &str) -> String {
    let mut body = String::new();
    loop {
        let (length, rest) = text.split_once("\r\n").unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return body;
        }
        body.push_str(&rest[..length]);
        text = &rest[length + 2..];
    }
}
