//! `multipart/form-data` as a stream (RFC 7578): one part after the other, nothing buffered but small fields.
//!
//! A part's bytes go straight into the store's function; a part that is dropped unread is skipped. Names and numbers are
//! limited here, sizes by whom reads the part.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use bytes::Bytes;
use coffre_store::{BodyError, ByteStream};
use futures_util::{Stream, StreamExt as _};
use multer::Field;

use super::{body, disposition};
use crate::error::{ApiError, Code};

/// Most parts of a form: files and fields.
const PARTS_MAX: usize = 1000;
/// Longest field that is read as text, unless the route says otherwise.
pub(crate) const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A form being read.
pub(crate) struct Form {
    multipart: multer::Multipart<'static>,
    parts: usize,
}

/// One part of it.
pub(crate) struct Part {
    /// Its name, as `tags[]`.
    pub(crate) name: String,
    /// The file's name; `None`: it is a field.
    pub(crate) file_name: Option<String>,
    /// Its declared type.
    pub(crate) content_type: Option<String>,
    field: Field<'static>,
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
        let boundary = multer::parse_boundary(content_type)
            .map_err(|_| ApiError::detailed(Code::Malformed, "The form's content type has no boundary."))?;
        Ok(Self { multipart: multer::Multipart::new(body, boundary), parts: 0 })
    }

    /// The next part; `None` after the last.
    ///
    /// # Errors
    /// `Malformed`, `Incomplete`, `TooLarge` for too many parts.
    pub(crate) async fn next(&mut self) -> Result<Option<Part>, ApiError> {
        let Some(field) = self.multipart.next_field().await.map_err(told)? else { return Ok(None) };
        self.parts += 1;
        if self.parts > PARTS_MAX {
            let words = format!("A form has at most {PARTS_MAX} parts.");
            return Err(ApiError::detailed(Code::TooLarge, words));
        }
        let header = field.headers().get(CONTENT_DISPOSITION);
        let header = header.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let content_type = field.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        Ok(Some(Part {
            name: field.name().unwrap_or_default().to_owned(),
            file_name: header.as_deref().and_then(disposition::file_name),
            content_type: content_type.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()),
            field,
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
        while let Some(piece) = self.field.next().await {
            text.extend_from_slice(&piece.map_err(told)?);
            if text.len() > bytes_max {
                return Err(ApiError::field(self.name, format!("Longer than {bytes_max} bytes.")));
            }
        }
        String::from_utf8(text).map_err(|_| ApiError::field(self.name, "Not UTF-8."))
    }

    /// Its bytes, as they come. Errors inside are [`ApiError`]s, which come back out of the store's function.
    pub(crate) fn bytes(self) -> ByteStream {
        Box::pin(Pieces(self.field))
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

/// A part's pieces with our errors.
struct Pieces(Field<'static>);

impl Stream for Pieces {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let piece = Pin::new(&mut self.get_mut().0).poll_next(cx);
        piece.map(|piece| piece.map(|piece| piece.map_err(|error| told(error).into())))
    }
}

/// What a reader's error means.
fn told(error: multer::Error) -> ApiError {
    match error {
        // The body's own: `body::Paced`, or the connection's.
        multer::Error::StreamReadFailed(source) => match source.downcast::<ApiError>() {
            Ok(own) => *own,
            Err(source) => ApiError { cause: Some(source.to_string().into()), ..Code::Incomplete.into() },
        },
        multer::Error::IncompleteFieldData { .. }
        | multer::Error::IncompleteHeaders
        | multer::Error::IncompleteStream => Code::Incomplete.into(),
        other => ApiError::detailed(Code::Malformed, format!("The form cannot be read: {other}.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Form {
        let pieces: Vec<Result<Bytes, BodyError>> =
            text.as_bytes().chunks(7).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
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
        assert!(form("no form at all").next().await.is_err());

        let empty = || -> ByteStream { Box::pin(futures_util::stream::empty()) };
        let refused = |kind: &str| Form::new(kind, empty()).err().map(|e| e.code);
        assert_eq!(refused("application/json"), Some(Code::UnsupportedMediaType));
        assert_eq!(refused(""), Some(Code::UnsupportedMediaType));
        assert_eq!(refused("multipart/form-data"), Some(Code::Malformed));
    }
}
