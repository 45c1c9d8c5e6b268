//! `multipart/form-data` as a stream (RFC 7578): one part after the other, nothing buffered but small fields.
//!
//! A part's bytes go straight into the store's function; a part that is dropped unread is skipped. Names and numbers are
//! limited here, sizes by whom reads the part.

mod reader;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use bytes::Bytes;
use coffre_store::{BodyError, ByteStream};
use futures_util::{Stream, StreamExt as _};

use self::reader::Reader;
use super::{body, disposition};
use crate::error::{ApiError, Code};

/// Most parts of a form: files and fields.
const PARTS_MAX: usize = 1000;
/// Longest field that is read as text, unless the route says otherwise.
pub(crate) const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A form being read.
pub(crate) struct Form {
    reader: Shared,
}

/// One reader serves the form and the part being read; they never wait for each other.
type Shared = Arc<Mutex<Reader>>;

/// One part of it.
pub(crate) struct Part {
    /// Its name, as `tags[]`.
    pub(crate) name: String,
    /// The file's name; `None`: it is a field.
    pub(crate) file_name: Option<String>,
    /// Its declared type.
    pub(crate) content_type: Option<String>,
    pieces: Pieces,
}

impl<S: Sync> FromRequest<S> for Form {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (head, body) = request.into_parts();
        let kind = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        Self::new(kind, body::stream(body))
    }
}

impl Form {
    /// A form with this `Content-Type`.
    ///
    /// # Errors
    /// `UnsupportedMediaType` when it is none, `Malformed` without a boundary.
    pub(crate) fn new(content_type: &str, body: ByteStream) -> Result<Self, ApiError> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("multipart/form-data") {
            return Err(Code::UnsupportedMediaType.into());
        }
        let boundary = disposition::parameter(content_type, "boundary").unwrap_or_default();
        let reader = Reader::new(body, &boundary)
            .ok_or_else(|| ApiError::detailed(Code::Malformed, "The form's content type has no boundary."))?;
        Ok(Self { reader: Arc::new(Mutex::new(reader)) })
    }

    /// The next part; `None` after the last.
    ///
    /// # Errors
    /// `Malformed`, `Incomplete`, `TooLarge` for too many parts.
    pub(crate) async fn next(&mut self) -> Result<Option<Part>, ApiError> {
        let Some(head) = poll_fn(|cx| lock(&self.reader).poll_head(cx)).await? else { return Ok(None) };
        let number = lock(&self.reader).part();
        if number > PARTS_MAX {
            let words = format!("A form has at most {PARTS_MAX} parts.");
            return Err(ApiError::detailed(Code::TooLarge, words));
        }
        let header = head.get(CONTENT_DISPOSITION).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let header = header.as_deref().unwrap_or_default();
        let content_type = head.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::trim);
        Ok(Some(Part {
            name: disposition::parameter(header, "name").unwrap_or_default(),
            file_name: disposition::file_name(header),
            content_type: content_type.filter(|text| !text.is_empty()).map(str::to_owned),
            pieces: Pieces { reader: Arc::clone(&self.reader), part: number },
        }))
    }

    /// Reads what is left and forgets it: the client of an HTTP/1 connection reads no answer before it has sent all.
    pub(crate) async fn skip_rest(&mut self) -> Result<(), ApiError> {
        while self.next().await?.is_some() {}
        Ok(())
    }
}

impl Part {
    /// It as text.
    ///
    /// # Errors
    /// A field error for what is longer than `bytes_max` or not UTF-8.
    pub(crate) async fn text(mut self, bytes_max: usize) -> Result<String, ApiError> {
        let mut text = Vec::new();
        while let Some(piece) = poll_fn(|cx| self.pieces.poll(cx)).await {
            text.extend_from_slice(&piece?);
            if text.len() > bytes_max {
                return Err(ApiError::field(self.name, format!("Longer than {bytes_max} bytes.")));
            }
        }
        String::from_utf8(text).map_err(|_| ApiError::field(self.name, "Not UTF-8."))
    }

    /// Its bytes, as they come. Errors inside are [`ApiError`]s, which come back out of the store's function.
    pub(crate) fn bytes(self) -> ByteStream {
        Box::pin(self.pieces)
    }

    /// Its bytes, failing with `TooLarge` beyond a limit.
    pub(crate) fn bytes_within(self, bytes_max: u64) -> ByteStream {
        within(self.bytes(), bytes_max)
    }
}

/// A stream that fails with `TooLarge` beyond a limit.
pub(crate) fn within(stream: ByteStream, bytes_max: u64) -> ByteStream {
    let mut left = bytes_max;
    Box::pin(stream.map(move |piece| {
        let piece = piece?;
        if let Some(rest) = left.checked_sub(piece.len() as u64) {
            left = rest;
            Ok(piece)
        } else {
            let words = format!("It is larger than {bytes_max} bytes.");
            Err(BodyError::from(ApiError::detailed(Code::TooLarge, words)))
        }
    }))
}

/// A part's bytes in pieces.
struct Pieces {
    reader: Shared,
    /// Its number: once the form went on there are no more.
    part: usize,
}

impl Pieces {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ApiError>>> {
        let mut reader = lock(&self.reader);
        if reader.part() == self.part { reader.poll_data(cx) } else { Poll::Ready(None) }
    }
}

impl Stream for Pieces {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll(cx).map(|piece| piece.map(|piece| piece.map_err(BodyError::from)))
    }
}

fn lock(reader: &Shared) -> std::sync::MutexGuard<'_, Reader> {
    reader.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Form {
        cut(text.as_bytes(), 7)
    }

    /// A form that comes in pieces of a size.
    fn cut(bytes: &[u8], piece_bytes: usize) -> Form {
        let pieces: Vec<Result<Bytes, BodyError>> =
            bytes.chunks(piece_bytes).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let body: ByteStream = Box::pin(futures_util::stream::iter(pieces));
        Form::new("multipart/form-data; boundary=\"x\"", body).unwrap_or_else(|e| panic!("{e:?}"))
    }

    async fn collect(mut stream: ByteStream) -> Result<Vec<u8>, ApiError> {
        let mut all = Vec::new();
        while let Some(piece) = stream.next().await {
            all.extend_from_slice(&piece.map_err(|e| *e.downcast::<ApiError>().unwrap())?);
        }
        Ok(all)
    }

    const WHOLE: &str = "--x\r\nContent-Disposition: form-data; name=\"path\"\r\n\r\nup/\r\n\
        --x\r\nContent-Disposition: form-data; name=\"files\"; filename=\"é.txt\"\r\nContent-Type: text/plain\r\n\r\n\
        one\r\n--y\r\n--x\r\nContent-Disposition: form-data; name=\"files\"; filename=\"b\"\r\n\r\n\r\n--x--\r\n";

    #[tokio::test]
    async fn parts_come_in_order() {
        let mut form = form(WHOLE);
        let path = form.next().await.unwrap().unwrap();
        assert_eq!((path.name.as_str(), &path.file_name), ("path", &None));
        assert_eq!(path.text(10).await.unwrap(), "up/");
        let first = form.next().await.unwrap().unwrap();
        assert_eq!(first.file_name.as_deref(), Some("é.txt"));
        assert_eq!(first.content_type.as_deref(), Some("text/plain"));
        assert_eq!(collect(first.bytes()).await.unwrap(), b"one\r\n--y");
        let second = form.next().await.unwrap().unwrap();
        assert_eq!((second.content_type.clone(), collect(second.bytes()).await.unwrap()), (None, vec![]));
        assert!(form.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn parts_not_read_are_skipped() {
        let mut form = form(WHOLE);
        for name in ["path", "files", "files"] {
            assert_eq!(form.next().await.unwrap().unwrap().name, name);
        }
        assert!(form.next().await.unwrap().is_none());
    }

    /// However a body is cut, its parts are the same: with what looks like a delimiter, a preamble, blanks behind the
    /// boundary, a part without a head and one without bytes.
    #[tokio::test]
    async fn a_form_may_be_cut_anywhere() {
        let bytes = b"hello\r\n--x \t\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\r\n\r\n-\r\n--\r\r\n--x\r\n\r\n\
            headless\r\n--x\r\nContent-Disposition: form-data; name=\"b\"\r\n\r\n\r\n--x--bye";
        for piece_bytes in 1..=bytes.len() {
            let mut form = cut(bytes, piece_bytes);
            let mut parts = Vec::new();
            while let Some(part) = form.next().await.unwrap() {
                let name = part.name.clone();
                parts.push((name, String::from_utf8(collect(part.bytes()).await.unwrap()).unwrap()));
            }
            let expected = [("a", "\r\r\n\r\n-\r\n--\r"), ("", "headless"), ("b", "")];
            assert_eq!(
                parts,
                expected.map(|(name, text)| (name.to_owned(), text.to_owned())),
                "{piece_bytes}"
            );
        }
    }

    /// What a piece holds is handed on as it came, and a part whose form went on has ended.
    #[tokio::test]
    async fn pieces_are_not_copied_and_end_with_their_part() {
        let head: &[u8] = b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n";
        let whole = Bytes::from(vec![7; 4096]);
        let pieces = [Bytes::from_static(head), whole.clone(), Bytes::from_static(b"\r\n--x--\r\n")];
        let body: ByteStream = Box::pin(futures_util::stream::iter(pieces.map(Ok)));
        let mut form = Form::new("multipart/form-data; boundary=x", body).unwrap_or_else(|e| panic!("{e:?}"));
        let mut bytes = form.next().await.unwrap().unwrap().bytes();
        assert_eq!(bytes.next().await.unwrap().unwrap().as_ptr(), whole.as_ptr());
        assert!(form.next().await.unwrap().is_none());
        assert!(bytes.next().await.is_none());
    }

    #[tokio::test]
    async fn limits_and_broken_forms() {
        let long = form(WHOLE).next().await.unwrap().unwrap().text(2).await.unwrap_err();
        assert_eq!((long.code, long.fields[0].0.as_str()), (Code::Validation, "path"));
        let mut whole = form(WHOLE);
        whole.next().await.unwrap();
        let file = whole.next().await.unwrap().unwrap();
        assert_eq!(collect(file.bytes_within(4)).await.unwrap_err().code, Code::TooLarge);

        let mut cut = form(WHOLE.split_at(WHOLE.find("ne\r\n").unwrap()).0);
        cut.next().await.unwrap();
        let file = cut.next().await.unwrap().unwrap();
        assert_eq!(collect(file.bytes()).await.unwrap_err().code, Code::Incomplete);
        let long = "h".repeat(20_000);
        for (text, expected) in [
            ("no form at all", Code::Incomplete),
            ("--x\r\nContent-Disposition: form-data; name=a\r\n", Code::Incomplete),
            ("--xy\r\n\r\n\r\n--x--", Code::Malformed),
            ("--x\r\nno header\r\n\r\n\r\n--x--", Code::Malformed),
            (&format!("{long}\r\n--x--"), Code::Malformed),
            (&format!("--x\r\nname: {long}\r\n\r\n\r\n--x--"), Code::Malformed),
        ] {
            assert_eq!(form(text).next().await.err().map(|error| error.code), Some(expected), "{text}");
        }
        let mut many = form(&"--x\r\n\r\n\r\n".repeat(PARTS_MAX + 1));
        for _ in 0..PARTS_MAX {
            assert!(many.next().await.unwrap().is_some());
        }
        assert_eq!(many.next().await.err().map(|error| error.code), Some(Code::TooLarge));

        let empty = || -> ByteStream { Box::pin(futures_util::stream::empty()) };
        let refused = |kind: &str| Form::new(kind, empty()).err().map(|e| e.code);
        assert_eq!(refused("application/json"), Some(Code::UnsupportedMediaType));
        assert_eq!(refused(""), Some(Code::UnsupportedMediaType));
        assert_eq!(refused("multipart/form-data"), Some(Code::Malformed));
        let long = format!("multipart/form-data; boundary={}", "b".repeat(71));
        assert_eq!(refused(&long), Some(Code::Malformed));
    }
}
