//! Bodies between hyper, s3s and the store: no bytes are copied on the way.
//!
//! Promises that a body that stands still is given up: a client that sends nothing for [`BODY_IDLE`] loses its
//! request, so that staging space and connections are not held by the dead. Leaves out the time a request's head may
//! take and clients that do not read (the listener's timeouts).

use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use coffre_store::{BodyError, ByteStream};
use futures_util::Stream;
use http::{HeaderMap, Method};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use s3s::S3Request;
use s3s::dto::StreamingBlob;
use tokio::time::{Instant, Sleep};

use crate::access::Arrival;

/// Longest wait for the next piece of a body. S3 gives up after 20 s; slow uplinks and clients that pause to read
/// their disk deserve more.
pub(crate) const BODY_IDLE: Duration = Duration::from_mins(1);

/// No piece of the body came within [`BODY_IDLE`].
#[derive(Debug, thiserror::Error)]
#[error("no byte of the body came in time")]
pub(crate) struct Idle;

/// Why a body broke off, for who sees only the answer: to whatever breaks while s3s gathers an XML document it says
/// `InternalError`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Nothing came in time.
    Idle,
    /// The connection ended, or what it brought was no HTTP.
    Connection,
}

/// A request's body that does not wait forever for its next frame.
pub(crate) struct Timed<B> {
    body: B,
    idle: Duration,
    broken: Arc<OnceLock<Broken>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<B> Timed<B> {
    pub(crate) fn new(body: B, idle: Duration) -> Self {
        Self { body, idle, broken: Arc::default(), timer: None }
    }

    /// Where it will say why it broke off.
    pub(crate) fn broken(&self) -> Arc<OnceLock<Broken>> {
        Arc::clone(&self.broken)
    }
}

impl<B> Body for Timed<B>
where
    B: Body<Data = Bytes> + Unpin,
    BodyError: From<B::Error>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.timer = None;
            if let Some(Err(_)) = &frame {
                this.broken.get_or_init(|| Broken::Connection);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)));
        }
        // the timer exists only while something is waited for: most bodies of small objects never make one
        let timer =
            this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + this.idle)));
        ready!(timer.as_mut().poll(cx));
        this.broken.get_or_init(|| Broken::Idle);
        Poll::Ready(Some(Err(Box::new(Idle))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request's body in two hands: s3s reads it through its own checks, or the operation takes it away and reads it
/// straight from the connection.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Option<Timed<Incoming>>>>);

impl Shared {
    pub(crate) fn new(body: Timed<Incoming>) -> Self {
        Self(Arc::new(Mutex::new(Some(body))))
    }

    fn with<R>(&self, look: impl FnOnce(&mut Option<Timed<Incoming>>) -> R) -> R {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Body for Shared {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.with(|body| body.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(cx)))
    }

    fn is_end_stream(&self) -> bool {
        self.with(|body| body.as_ref().is_none_or(Body::is_end_stream))
    }

    fn size_hint(&self) -> SizeHint {
        self.with(|body| body.as_ref().map(Body::size_hint).unwrap_or_default())
    }
}

/// What is uploaded, and the hash it was signed with.
///
/// A PUT whose signature covers one hash of the whole body is read straight from the connection: the store computes
/// SHA-256 anyway and compares; s3s on the way would compute it a second time, a fifth of a large upload's cost. A
/// form's file is only a part of what was hashed, and frames (`STREAMING-…`) are s3s's to check.
pub(crate) fn upload<T>(
    request: &mut S3Request<T>,
    checked: impl FnOnce(&mut T) -> Option<StreamingBlob>,
) -> (ByteStream, Option<[u8; 32]>) {
    let is_put = request.method == Method::PUT;
    if let Some(sha256) = signed_hash(&request.headers).filter(|_| is_put)
        && let Some(arrival) = request.extensions.get::<Arrival>()
        && let Some(body) = arrival.body.with(Option::take)
    {
        return (Box::pin(body.into_data_stream()), Some(sha256));
    }
    (incoming(checked(&mut request.input)), None)
}

fn signed_hash(headers: &HeaderMap) -> Option<[u8; 32]> {
    hex::decode(headers.get("x-amz-content-sha256")?).ok()?.try_into().ok()
}

/// s3s's body as the store takes it.
fn incoming(blob: Option<StreamingBlob>) -> ByteStream {
    match blob {
        Some(blob) => Box::pin(blob),
        None => Box::pin(futures_util::stream::empty()),
    }
}

/// The store's bytes as s3s sends them.
pub(crate) fn outgoing(stream: ByteStream, size_bytes: u64) -> StreamingBlob {
    StreamingBlob::from(s3s::Body::http_body_unsync(Outgoing { stream, left_bytes: size_bytes }))
}

/// A store stream as an HTTP body of known length.
struct Outgoing {
    stream: ByteStream,
    left_bytes: u64,
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let piece = ready!(Pin::new(&mut self.stream).poll_next(cx));
        if let Some(Ok(bytes)) = &piece {
            self.left_bytes = self.left_bytes.saturating_sub(bytes.len() as u64);
        }
        Poll::Ready(piece.map(|piece| piece.map(Frame::data)))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left_bytes)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test]
    async fn a_body_that_stands_still_is_given_up() {
        let frames = futures_util::stream::iter([Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"a")))])
            .chain(futures_util::stream::pending());
        let mut body = Timed::new(StreamBody::new(Box::pin(frames)), Duration::from_millis(20));
        assert!(body.frame().await.unwrap().is_ok());
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(error.is::<Idle>());
        assert_eq!(body.broken().get(), Some(&Broken::Idle));
    }

    #[tokio::test]
    async fn an_outgoing_body_says_its_length() {
        let pieces = [Ok(Bytes::from_static(b"ab")), Ok(Bytes::from_static(b"c"))];
        let blob = outgoing(Box::pin(futures_util::stream::iter(pieces)), 3);
        let body = s3s::Body::from(blob);
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(3));
        assert_eq!(http_body_util::BodyExt::collect(body).await.unwrap().to_bytes(), "abc");
    }
}
