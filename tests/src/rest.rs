//! A REST client on raw sockets: what it sends is what stands in the test, half a request as well.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::command::run;
use crate::daemon::Daemon;
use crate::s3::Answer;

/// Longest wait for an answer: longer than the daemon waits for anything.
const PATIENCE: Duration = Duration::from_secs(90);

/// A client of one daemon with one token.
#[derive(Clone, Debug)]
pub struct Rest {
    /// `127.0.0.1:port`.
    pub host: String,
    /// The bearer token; `None`: none is sent.
    pub token: Option<String>,
}

/// A request whose head was sent.
#[derive(Debug)]
pub struct Open {
    stream: TcpStream,
    method: String,
}

impl Rest {
    /// With the first ADMIN's token.
    pub fn admin(daemon: &Daemon) -> Self {
        let token = daemon.credentials()["token"].as_str().unwrap().to_owned();
        Self { host: daemon.rest_address().to_owned(), token: Some(token) }
    }

    /// With a token of its own, of a new user; further arguments of `token create`.
    pub fn user(daemon: &Daemon, name: &str, arguments: &[&str]) -> Self {
        let user = daemon.json(&["user", "create", name]);
        let id = user["id"].as_str().unwrap().to_owned();
        let token = daemon.json(&[&["token", "create", "--user", &id, "--name", name], arguments].concat());
        let token = token["token"].as_str().unwrap().to_owned();
        Self { host: daemon.rest_address().to_owned(), token: Some(token) }
    }

    /// The same without a token.
    #[must_use]
    pub fn without_token(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    /// Runs a document's `curl` in a folder, with the origin and the token it names replaced. Its answer is JSON.
    #[track_caller]
    pub fn curl(&self, folder: &Path, said: (&str, &str), arguments: &[&str]) -> serde_json::Value {
        let (origin, token) = said;
        let mut command = Command::new("curl");
        command.current_dir(folder).args(["--silent", "--show-error", "--fail-with-body"]);
        for argument in arguments {
            let argument = argument.replace(origin, &format!("http://{}", self.host));
            command.arg(argument.replace(token, &format!("Bearer {}", self.token.as_deref().unwrap())));
        }
        serde_json::from_str(&run(&mut command)).unwrap()
    }

    /// Sends the head and leaves the body to the caller.
    #[track_caller]
    pub fn open(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Open {
        self.try_open(method, path, headers).unwrap_or_else(|| panic!("{method} {path}: nobody takes it"))
    }

    /// The same, if the daemon is there.
    pub fn try_open(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Option<Open> {
        let mut stream = TcpStream::connect(&self.host).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.host);
        if let Some(token) = &self.token {
            head.push_str(&format!("authorization: Bearer {token}\r\n"));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes()).ok()?;
        Some(Open { stream, method: method.to_owned() })
    }

    /// Sends a whole request, its body announced, and waits for the answer.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let length = body.len().to_string();
        let mut all = headers.to_vec();
        let is_bare = body.is_empty() && matches!(method, "GET" | "HEAD" | "OPTIONS" | "DELETE");
        if !is_bare {
            all.push(("content-length", &length));
        }
        let mut open = self.open(method, path, &all);
        // who is refused early may close before all was sent
        let sent = open.write(body);
        let answer = open.try_answer();
        answer.unwrap_or_else(|| panic!("{method} {path}: no answer; sending said {sent:?}"))
    }

    /// `GET`.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }
}

impl Open {
    /// Sends a piece of the body.
    ///
    /// # Errors
    /// The other side has closed.
    pub fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Waits until the body is asked for (`Expect: 100-continue`): the request is being carried out.
    #[track_caller]
    pub fn wait_for_continue(&mut self) {
        let mut seen = Vec::new();
        let mut byte = [0];
        while !seen.ends_with(b"\r\n\r\n") {
            self.stream.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        assert!(seen.starts_with(b"HTTP/1.1 100 "), "{}", String::from_utf8_lossy(&seen));
    }

    /// The answer.
    #[track_caller]
    pub fn answer(self) -> Answer {
        let method = self.method.clone();
        self.try_answer().unwrap_or_else(|| panic!("{method}: no answer"))
    }

    /// The answer, if one came before the connection ended.
    pub fn try_answer(mut self) -> Option<Answer> {
        let mut bytes = Vec::new();
        // what came before a reset counts
        let _ended = self.stream.read_to_end(&mut bytes);
        parse(&bytes)
    }
}

/// Reads an answer off raw bytes: interim ones skipped, chunks joined.
fn parse(mut bytes: &[u8]) -> Option<Answer> {
    loop {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        bytes = &bytes[end + 4..];
        let mut lines = head.split("\r\n");
        let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        if status < 200 {
            continue;
        }
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let is_chunked =
            headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
        let body = if is_chunked { joined(bytes) } else { bytes.to_vec() };
        return Some(Answer { status, headers, body });
    }
}

fn joined(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = bytes.windows(2).position(|window| window == b"\r\n") {
        let size = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let Ok(size) = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16) else { break };
        let (from, to) = (end + 2, end + 2 + size);
        if size == 0 || bytes.len() < to + 2 {
            break;
        }
        body.extend_from_slice(&bytes[from..to]);
        bytes = &bytes[to + 2..];
    }
    body
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }
}
