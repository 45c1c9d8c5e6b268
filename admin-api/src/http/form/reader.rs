//! The parts of a `multipart/form-data` body (RFC 7578, RFC 2046 §5.1.1), cut out of the stream without copying it.
//!
//! A piece that holds no delimiter is handed on as it came. Only bytes at a piece's end that may be the beginning of a
//! delimiter wait for the next piece, and only a part's head is gathered.

use std::task::{Context, Poll, ready};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use bytes::{Buf as _, Bytes, BytesMut};
use coffre_store::{BodyError, ByteStream};
use memchr::memmem::Finder;

use crate::error::{ApiError, Code};

/// Longest boundary (RFC 2046 §5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;
/// Longest head of a part, and most that may stand before the first part; what stands behind the last is read so far.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most headers of a part.
const HEADERS_MAX: usize = 32;
/// What ends a part's head.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// What of the body comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// What stands before the first delimiter. Nobody reads it.
    Preamble,
    /// What follows a delimiter: a part's head, or the end.
    Head,
    /// A part's bytes.
    Data,
    /// What stands behind the last delimiter. Nobody reads it, but a connection whose request was read whole lives on.
    Epilogue,
    /// Nothing.
    End,
}

/// A body being cut.
pub(super) struct Reader {
    body: ByteStream,
    /// Read and not yet given out.
    held: Bytes,
    /// `CRLF--boundary`.
    delimiter: Finder<'static>,
    next: Next,
    /// Before the first delimiter, or behind the last.
    skipped_bytes: usize,
    /// Parts whose head was read.
    parts: usize,
}

impl Reader {
    /// `None` for what is no boundary.
    pub(super) fn new(body: ByteStream, boundary: &str) -> Option<Self> {
        if boundary.is_empty() || boundary.len() > BOUNDARY_BYTES_MAX {
            return None;
        }
        let delimiter = Finder::new(format!("\r\n--{boundary}").as_bytes()).into_owned();
        // The first delimiter may be the first thing there is, without a line's end before it.
        let held = Bytes::from_static(b"\r\n");
        Some(Self { body, held, delimiter, next: Next::Preamble, skipped_bytes: 0, parts: 0 })
    }

    /// The number of the part whose bytes come next, from 1.
    pub(super) fn part(&self) -> usize {
        self.parts
    }

    /// The next part's head; what is left of the part before is skipped. `None` after the last.
    ///
    /// # Errors
    /// `Malformed`, `Incomplete`, and the body's own.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, ApiError>> {
        loop {
            match self.next {
                Next::Preamble => {
                    let skipped = ready!(self.poll_until_delimiter(cx))?;
                    self.skipped_bytes += skipped.map_or(0, |piece| piece.len());
                    if self.skipped_bytes > HEAD_BYTES_MAX {
                        return Poll::Ready(Err(malformed("it does not begin with its boundary")));
                    }
                }
                Next::Data => {
                    ready!(self.poll_until_delimiter(cx))?;
                }
                Next::Head => match ready!(self.poll_after_delimiter(cx))? {
                    Some(head) => return Poll::Ready(Ok(Some(head))),
                    None => self.next = Next::Epilogue,
                },
                Next::Epilogue => {
                    let piece = ready!(self.body.as_mut().poll_next(cx)).transpose().map_err(of_body)?;
                    self.skipped_bytes += piece.as_ref().map_or(0, Bytes::len);
                    if piece.is_none() || self.skipped_bytes > HEAD_BYTES_MAX {
                        self.next = Next::End;
                    }
                }
                Next::End => return Poll::Ready(Ok(None)),
            }
        }
    }

    /// More of the part's bytes; `None` at its end.
    ///
    /// # Errors
    /// As [`Reader::poll_head`].
    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ApiError>>> {
        if self.next != Next::Data {
            return Poll::Ready(None);
        }
        Poll::Ready(ready!(self.poll_until_delimiter(cx)).transpose())
    }

    /// What comes before the next delimiter, in pieces of at least a byte. `None`: the delimiter was there, and is gone.
    fn poll_until_delimiter(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ApiError>> {
        loop {
            if let Some(at) = self.delimiter.find(&self.held) {
                if at > 0 {
                    return Poll::Ready(Ok(Some(self.held.split_to(at))));
                }
                self.held.advance(self.delimiter.needle().len());
                self.next = Next::Head;
                return Poll::Ready(Ok(None));
            }
            let sure = self.held.len() - begun(&self.held, self.delimiter.needle());
            if sure > 0 {
                return Poll::Ready(Ok(Some(self.held.split_to(sure))));
            }
            ready!(self.poll_more(cx))?;
        }
    }

    /// A part's head; `None` behind the last.
    fn poll_after_delimiter(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>, ApiError>> {
        loop {
            if self.held.starts_with(b"--") {
                return Poll::Ready(Ok(None));
            }
            let within = self.held.get(..HEAD_BYTES_MAX).unwrap_or(&self.held);
            if let Some(at) = memchr::memmem::find(within, HEAD_END) {
                let head = self.held.split_to(at + HEAD_END.len());
                self.next = Next::Data;
                self.parts += 1;
                return Poll::Ready(headers(&head).map(Some));
            }
            if self.held.len() >= HEAD_BYTES_MAX {
                return Poll::Ready(Err(malformed("a part's head is too long")));
            }
            ready!(self.poll_more(cx))?;
        }
    }

    /// Reads another piece behind what is held.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ApiError>> {
        let piece = match ready!(self.body.as_mut().poll_next(cx)) {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Poll::Ready(Err(of_body(error))),
            None => return Poll::Ready(Err(Code::Incomplete.into())),
        };
        if self.held.is_empty() {
            self.held = piece;
        } else {
            let mut joined = BytesMut::with_capacity(self.held.len() + piece.len());
            joined.extend_from_slice(&self.held);
            joined.extend_from_slice(&piece);
            self.held = joined.freeze();
        }
        Poll::Ready(Ok(()))
    }
}

/// How many bytes at the end may be a delimiter's beginning.
fn begun(held: &[u8], delimiter: &[u8]) -> usize {
    let from = held.len().saturating_sub(delimiter.len() - 1);
    let tail = held.get(from..).unwrap_or_default();
    let starts = memchr::memchr_iter(b'\r', tail);
    let mut tails = starts.filter_map(|at| tail.get(at..));
    tails.find(|tail| delimiter.starts_with(tail)).map_or(0, <[u8]>::len)
}

/// The headers of a head, which begins behind the delimiter: blanks, the end of its line, the headers.
fn headers(head: &[u8]) -> Result<HeaderMap, ApiError> {
    let blanks = head.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let lines = head.get(blanks..).and_then(|rest| rest.strip_prefix(b"\r\n"));
    let lines = lines.ok_or_else(|| malformed("a boundary is followed by something else"))?;
    let mut parsed = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let (_, parsed) = match httparse::parse_headers(lines, &mut parsed) {
        Ok(httparse::Status::Complete(found)) => found,
        Ok(httparse::Status::Partial) | Err(_) => return Err(malformed("a part's head is none")),
    };
    let pairs = parsed.iter().map(|header| {
        let name = HeaderName::from_bytes(header.name.as_bytes()).ok()?;
        Some((name, HeaderValue::from_bytes(header.value).ok()?))
    });
    pairs.collect::<Option<HeaderMap>>().ok_or_else(|| malformed("a part's head is none"))
}

fn malformed(what: &str) -> ApiError {
    ApiError::detailed(Code::Malformed, format!("The form cannot be read: {what}."))
}

/// The body's own error: `body::Paced`'s, or the connection's.
fn of_body(error: BodyError) -> ApiError {
    match error.downcast::<ApiError>() {
        Ok(own) => *own,
        Err(source) => ApiError { cause: Some(source.to_string().into()), ..Code::Incomplete.into() },
    }
}
