//! The daemon's end of the control socket.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulShutdown;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::watch;

use super::client::reachable;
use super::perform::{Refusal, perform};
use super::{Command, export, socket_path};
use crate::error::{Error, Result};
use crate::net::connection;
use crate::status::Host;
use crate::wire::Daemon;

/// Of an answer.
pub(super) type Body = BoxBody<Bytes, io::Error>;

/// Largest command, bytes.
const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// The socket; its file is removed when dropped.
#[derive(Debug)]
pub(crate) struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Makes the socket with mode 0600. One left by a crash is replaced: the data directory's lock is held.
    pub(crate) fn bind(data: &Path) -> Result<Self> {
        let path = socket_path(data);
        let bound = match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => reachable(data).and_then(|(short, _directory)| UnixListener::bind(short)),
        };
        // Between bind and chmod the data directory's own mode (0700) keeps others out.
        let listener = bound
            .and_then(|listener| {
                std::fs::set_permissions(&path, Permissions::from_mode(0o600)).map(|()| listener)
            })
            .map_err(Error::io("making the control socket"))?;
        Ok(Self { listener, path })
    }

    /// Answers until `stop` turns true, then waits for the commands being carried out.
    pub(crate) async fn serve(self, daemon: Arc<Daemon>, host: Arc<Host>, mut stop: watch::Receiver<bool>) {
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    tracing::warn!(error = %e, "cannot accept on the control socket");
                    connection::pause().await;
                    continue;
                }
            };
            let (daemon, host) = (Arc::clone(&daemon), Arc::clone(&host));
            let service = service_fn(move |request| {
                let (daemon, host) = (Arc::clone(&daemon), Arc::clone(&host));
                async move { Ok::<_, std::convert::Infallible>(answer(&daemon, &host, request).await) }
            });
            let served =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let watched = graceful.watch(served);
            tokio::spawn(async move {
                if let Err(e) = watched.await {
                    tracing::debug!(error = %e, "a control connection ended early");
                }
            });
        }
        graceful.shutdown().await;
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Best effort: one that stays is replaced at the next start.
        if std::fs::remove_file(&self.path).is_err() {
            tracing::debug!("the control socket's file was gone already");
        }
    }
}

async fn answer(daemon: &Daemon, host: &Host, request: Request<Incoming>) -> Response<Body> {
    let (status, body) = match carry_out(daemon, host, request).await {
        Ok(body) => (StatusCode::OK, body),
        Err(Refusal { status, words }) => (status, json(&json!({"error": words}))),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn json(value: &Value) -> Body {
    Full::new(Bytes::from(value.to_string())).map_err(|never| match never {}).boxed()
}

async fn carry_out(daemon: &Daemon, host: &Host, request: Request<Incoming>) -> Result<Body, Refusal> {
    if request.method() != Method::POST || request.uri().path() != "/" {
        return Err(Refusal::bad("the control socket takes POST / with a command"));
    }
    let body = Limited::new(request.into_body(), COMMAND_BYTES_MAX).collect().await;
    let body = body.map_err(|_| Refusal::bad("the command was not received whole"))?.to_bytes();
    let command: Command = serde_json::from_slice(&body).map_err(|e| {
        Refusal::bad(format!("not a command of this version ({}): {e}", env!("CARGO_PKG_VERSION")))
    })?;
    if command == Command::Export {
        return Ok(export::body(daemon));
    }
    perform(daemon, host, command).await.map(|value| json(&value))
}
