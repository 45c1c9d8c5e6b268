//! The command line's end of the control socket.

use std::io::{self, Write};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Response;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::{Command, socket_path};
use crate::error::{Error, Result};

/// Longest path the kernel takes for a unix socket (`sun_path` less its NUL).
const SOCKET_PATH_MAX: usize = 107;

/// Asks the daemon that runs on `data`. No time limit: a scrub takes hours, and ending the command ends it.
///
/// # Errors
/// `NotRunning`; `Refused` with the daemon's words.
pub(crate) async fn ask(data: &Path, command: &Command) -> Result<Value> {
    let (response, driver) = send(data, command).await?;
    let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
    driver.abort();
    serde_json::from_slice(&body).map_err(|e| unreadable(e.into()))
}

/// The same for an answer that is a stream: hands it to `to` as it comes.
pub(crate) async fn receive(data: &Path, command: &Command, to: &mut dyn Write) -> Result<()> {
    let (response, driver) = send(data, command).await?;
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame.map_err(broken)?.into_data() {
            to.write_all(&bytes).map_err(Error::io("writing what the daemon sent"))?;
        }
    }
    driver.abort();
    Ok(())
}

fn broken(error: hyper::Error) -> Error {
    Error::Io { doing: "talking to the daemon", source: io::Error::other(error) }
}

fn unreadable(source: io::Error) -> Error {
    Error::Io { doing: "reading the daemon's answer", source }
}

/// Sends a command and waits for the head of the answer, which is a good one.
async fn send(data: &Path, command: &Command) -> Result<(Response<Incoming>, Driver)> {
    let stream = connect(data).await.map_err(|e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Error::NotRunning { data: data.to_owned() }
        }
        _ => Error::Io { doing: "connecting to the daemon's control socket", source: e },
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let driver = tokio::spawn(connection);
    let body = serde_json::to_vec(command).expect("a command is JSON");
    let request = hyper::Request::post("/")
        .header("host", "coffre")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .expect("a constant head");
    let response = sender.send_request(request).await.map_err(broken)?;
    if response.status().is_success() {
        return Ok((response, driver));
    }
    let body = response.into_body().collect().await.map_err(broken)?.to_bytes();
    driver.abort();
    let value: Value = serde_json::from_slice(&body).map_err(|e| unreadable(e.into()))?;
    let words = value.get("error").and_then(Value::as_str).unwrap_or("the daemon refused");
    Err(Error::Refused(words.to_owned()))
}

/// What moves the bytes of a connection.
type Driver = JoinHandle<hyper::Result<()>>;

async fn connect(data: &Path) -> io::Result<UnixStream> {
    let (path, _directory) = reachable(data)?;
    UnixStream::connect(path).await
}

/// The socket's path, by way of an open directory when it is longer than the kernel takes. The directory has to stay
/// open as long as the path is used.
pub(super) fn reachable(data: &Path) -> io::Result<(PathBuf, Option<std::fs::File>)> {
    let path = socket_path(data);
    if path.as_os_str().len() <= SOCKET_PATH_MAX {
        return Ok((path, None));
    }
    let directory = std::fs::File::open(data)?;
    let short = PathBuf::from(format!("/proc/self/fd/{}/coffre.sock", directory.as_raw_fd()));
    Ok((short, Some(directory)))
}
