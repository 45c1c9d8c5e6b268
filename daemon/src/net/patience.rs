//! A connection's byte stream with a limit to its silence, counting what passes.
//!
//! The limit is on silence, not on a request's length: a slow upload of any size goes on as long as bytes move.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use metrics::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// How long a connection may be silent between requests. Clients keep connections for reuse about this long.
const IDLE: Duration = Duration::from_secs(75);
/// How long it may be silent while a request is being answered: completing a large upload hashes it first.
const BUSY: Duration = Duration::from_mins(5);

/// How long a silence is borne.
#[derive(Clone, Copy, Debug)]
struct Limits {
    idle: Duration,
    busy: Duration,
}

/// How many requests of a connection are being answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight(Arc<AtomicU32>);

impl InFlight {
    pub(crate) fn begin(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    fn limit(&self, limits: Limits) -> Duration {
        if self.0.load(Ordering::Relaxed) == 0 { limits.idle } else { limits.busy }
    }
}

/// A byte stream that fails with `TimedOut` after too long a silence.
pub(crate) struct Patient<T> {
    io: T,
    in_flight: InFlight,
    limits: Limits,
    received: Counter,
    sent: Counter,
    last: Instant,
    alarm: Pin<Box<Sleep>>,
}

impl<T> Patient<T> {
    pub(crate) fn new(io: T, in_flight: InFlight, received: Counter, sent: Counter) -> Self {
        Self::with(io, in_flight, Limits { idle: IDLE, busy: BUSY }, received, sent)
    }

    fn with(io: T, in_flight: InFlight, limits: Limits, received: Counter, sent: Counter) -> Self {
        let last = Instant::now();
        let alarm = Box::pin(tokio::time::sleep_until(last + limits.idle));
        Self { io, in_flight, limits, received, sent, last, alarm }
    }

    /// Nothing moved: is it time to give up?
    fn silent<R>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<R>> {
        // The alarm is moved only when it rings, so that moving bytes costs no timer.
        while self.alarm.as_mut().poll(cx).is_ready() {
            let end = self.last + self.in_flight.limit(self.limits);
            if Instant::now() >= end {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            // Looked at again at the shorter limit: a request may have ended meanwhile.
            self.alarm.as_mut().reset(end.min(Instant::now() + self.limits.idle));
        }
        Poll::Pending
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match Pin::new(&mut this.io).poll_read(cx, buf) {
            Poll::Ready(done) => {
                this.received.increment((buf.filled().len() - before) as u64);
                this.last = Instant::now();
                Poll::Ready(done)
            }
            Poll::Pending => this.silent(cx),
        }
    }
}

impl<T: AsyncWrite + Unpin> Patient<T> {
    fn wrote(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match done {
            Poll::Ready(Ok(n)) => {
                self.sent.increment(n as u64);
                self.last = Instant::now();
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(e)) => Poll::Ready(Err(e)),
            Poll::Pending => self.silent(cx),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.io).poll_write(cx, buf);
        this.wrote(cx, done)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let done = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.wrote(cx, done)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LIMITS: Limits = Limits { idle: Duration::from_millis(20), busy: Duration::from_millis(80) };

    /// How long a silent stream is borne.
    async fn silence(in_flight: InFlight) -> Duration {
        let (ours, _theirs) = tokio::io::duplex(16);
        let mut stream = Patient::with(ours, in_flight, LIMITS, Counter::noop(), Counter::noop());
        let start = Instant::now();
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        start.elapsed()
    }

    #[tokio::test]
    async fn silence_ends_it_sooner_between_requests() {
        let in_flight = InFlight::default();
        assert!(silence(in_flight.clone()).await >= LIMITS.idle);
        in_flight.begin();
        assert!(silence(in_flight.clone()).await >= LIMITS.busy);
        in_flight.end();
        assert_eq!(in_flight.limit(LIMITS), LIMITS.idle);
    }

    #[tokio::test]
    async fn moving_bytes_keep_it_open() {
        let (ours, mut theirs) = tokio::io::duplex(1);
        let mut stream = Patient::with(ours, InFlight::default(), LIMITS, Counter::noop(), Counter::noop());
        // Longer in all than a silence may be, by a pipe that holds one byte at a time.
        let end = Instant::now() + 3 * LIMITS.idle;
        let sender = tokio::spawn(async move {
            while Instant::now() < end {
                theirs.write_all(b"x").await.unwrap();
            }
        });
        while stream.read_u8().await.is_ok() {}
        sender.await.unwrap();
        assert!(Instant::now() >= end);
    }
}
