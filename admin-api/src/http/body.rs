//! A request's body as the store takes it: a stream that does not wait forever for its next piece.
//!
//! Nothing is read before the handler asks for the first piece, and that is when hyper answers
//! `Expect: 100-continue`: after the caller is known and admitted.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use coffre_store::{BodyError, ByteStream};
use futures_util::Stream;

use tokio::time::{Instant, Sleep};

use crate::error::{ApiError, Code};

/// Longest wait for the next piece of a body: as long as the S3 door's.
pub(crate) const BODY_IDLE: Duration = Duration::from_mins(1);

/// The body as a stream of pieces.
pub(crate) fn stream(body: Body) -> ByteStream {
    Box::pin(Paced::new(body.into_data_stream(), BODY_IDLE))
}

/// A stream whose pieces have to come within a time.
pub(crate) struct Paced<S> {
    pieces: S,
    idle: Duration,
    /// There only while something is waited for.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub(crate) fn new(pieces: S, idle: Duration) -> Self {
        Self { pieces, idle, timer: None }
    }
}

impl Stream for Paced<BodyDataStream> {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Poll::Ready(piece) = Pin::new(&mut this.pieces).poll_next(cx) {
            this.timer = None;
            return Poll::Ready(piece.map(|piece| piece.map_err(BodyError::from)));
        }
        let end = || Box::pin(tokio::time::sleep_until(Instant::now() + this.idle));
        ready!(this.timer.get_or_insert_with(end).as_mut().poll(cx));
        let told = ApiError::detailed(Code::Incomplete, "No byte of the body came in time.");
        Poll::Ready(Some(Err(told.into())))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_body_that_stands_still_is_given_up() {
        let pieces = futures_util::stream::iter([Ok::<_, BodyError>(Bytes::from_static(b"a"))])
            .chain(futures_util::stream::pending());
        let body = Body::from_stream(pieces);
        let mut body = Paced::new(body.into_data_stream(), Duration::from_millis(20));
        assert_eq!(body.next().await.unwrap().unwrap(), "a");
        let error = body.next().await.unwrap().unwrap_err();
        assert_eq!(error.downcast_ref::<ApiError>().unwrap().code, Code::Incomplete);
    }
}
