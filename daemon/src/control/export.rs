//! An export over the control socket: every row of one moment, as a stream that is written while it is read.

use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use bytes::Bytes;
use coffre_kv::Kv as _;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

use super::server::Body;
use crate::wire::Daemon;

/// Bytes gathered before they are sent.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that wait for the reader.
const CHUNKS_MAX: usize = 4;

/// The export. Ends early, without its last block, when the rows cannot be read; a reader that goes away ends it.
pub(super) fn body(daemon: &Daemon) -> Body {
    tracing::info!(command = "export", "command");
    let (to, mut chunks) = mpsc::channel(CHUNKS_MAX);
    let kv = Arc::clone(&daemon.kv);
    tokio::spawn(async move {
        let writer = BufWriter::with_capacity(CHUNK_BYTES, Chunks { to: to.clone() });
        if let Err(error) = kv.export(Box::new(writer)).await {
            tracing::error!(error = &error as &dyn std::error::Error, "the export ended early");
            // A reader that is gone asks for nothing.
            drop(to.send(Err(io::Error::other(error))).await);
        }
    });
    let frames =
        stream::poll_fn(move |cx| chunks.poll_recv(cx).map(|next| next.map(|next| next.map(Frame::data))));
    StreamBody::new(frames).boxed()
}

/// Hands what is written on one thread to a stream.
struct Chunks {
    to: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.to.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
