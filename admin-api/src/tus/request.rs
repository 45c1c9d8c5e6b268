//! The headers that say how long an upload is, where a request's bytes begin, and how uploads are composed.

use axum::http::{HeaderMap, HeaderName, header};
use coffre_store::UploadId;

use super::{BYTES, UPLOAD_CONCAT, UPLOAD_DEFER_LENGTH, UPLOAD_LENGTH, UPLOAD_OFFSET, invalid, text};
use crate::error::{ApiError, Code};

/// How long an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// So many bytes.
    Is(u64),
    /// To be said later.
    Deferred,
}

/// What an upload is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Concat {
    /// It stands for itself.
    None,
    /// A piece.
    Partial,
    /// Composed of these.
    Final(Vec<UploadId>),
}

/// A header that is a number of bytes.
///
/// # Errors
/// `Validation`: something else than decimal digits, or a number beyond what there is.
pub(crate) fn number(headers: &HeaderMap, name: &HeaderName) -> Result<Option<u64>, ApiError> {
    let Some(text) = text(headers, name)? else { return Ok(None) };
    let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = if is_plain { text.parse::<u64>().ok() } else { None };
    // what the rows count in is signed
    let number = number.filter(|number| i64::try_from(*number).is_ok());
    number.map(Some).ok_or_else(|| invalid(name, "is not a number of bytes"))
}

/// Where a request's bytes begin.
///
/// # Errors
/// `Validation`.
pub(crate) fn offset(headers: &HeaderMap) -> Result<u64, ApiError> {
    number(headers, &UPLOAD_OFFSET)?.ok_or_else(|| invalid(&UPLOAD_OFFSET, "is missing"))
}

/// How long a new upload will be: said, or put off, and not both (creation, creation-defer-length).
///
/// # Errors
/// `Validation`; `TooLarge` beyond `max`.
pub(crate) fn creation_length(headers: &HeaderMap, max: u64) -> Result<Length, ApiError> {
    let deferred = text(headers, &UPLOAD_DEFER_LENGTH)?;
    match (number(headers, &UPLOAD_LENGTH)?, deferred.as_deref()) {
        (Some(length), None) if length > max => {
            Err(ApiError::detailed(Code::TooLarge, format!("An upload has at most {max} bytes.")))
        }
        (Some(length), None) => Ok(Length::Is(length)),
        (None, Some("1")) => Ok(Length::Deferred),
        (None, Some(_)) => Err(invalid(&UPLOAD_DEFER_LENGTH, "has to be 1")),
        (None, None) => Err(invalid(&UPLOAD_LENGTH, "or Upload-Defer-Length is missing")),
        (Some(_), Some(_)) => Err(invalid(&UPLOAD_LENGTH, "and Upload-Defer-Length exclude each other")),
    }
}

/// What a new upload is for. The pieces of a final one are named by their addresses; only what follows `prefix` in
/// an address counts, so that they may be absolute, and nothing else of them is ever used.
///
/// # Errors
/// `Validation`.
pub(crate) fn concat(headers: &HeaderMap, prefix: &str) -> Result<Concat, ApiError> {
    let Some(said) = text(headers, &UPLOAD_CONCAT)? else { return Ok(Concat::None) };
    if said == "partial" {
        return Ok(Concat::Partial);
    }
    let unknown =
        || invalid(&UPLOAD_CONCAT, "has to be partial or final;… with the addresses of partial uploads");
    let addresses = said.strip_prefix("final;").ok_or_else(unknown)?;
    let id = |address: &str| {
        let (_, after) = address.rsplit_once(prefix)?;
        after.trim_start_matches('/').parse::<UploadId>().ok()
    };
    let ids: Option<Vec<UploadId>> = addresses.split_ascii_whitespace().map(id).collect();
    ids.filter(|ids| !ids.is_empty()).map(Concat::Final).ok_or_else(unknown)
}

/// Whether the request's body is an upload's bytes.
pub(crate) fn is_bytes(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.trim().eq_ignore_ascii_case(BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn numbers() {
        let of = |value: &str| offset(&headers(&[("upload-offset", value)])).ok();
        let largest = "9223372036854775807";
        for (value, expected) in [
            ("0", Some(0)),
            ("007", Some(7)),
            (largest, largest.parse().ok()),
            ("9223372036854775808", None),
            ("18446744073709551616", None),
            ("-1", None),
            ("+1", None),
            ("1.0", None),
            ("1 ", Some(1)),
            ("", None),
            ("0x10", None),
        ] {
            // surrounding blanks are HTTP's, not the value's
            let value = value.trim();
            assert_eq!(of(value), expected, "{value:?}");
        }
        assert_eq!(offset(&HeaderMap::new()).unwrap_err().code, Code::Validation);
    }

    #[test]
    fn lengths() {
        let of = |pairs| creation_length(&headers(pairs), 100).map_err(|error| error.code);
        assert_eq!(of(&[("upload-length", "100")]), Ok(Length::Is(100)));
        assert_eq!(of(&[("upload-length", "0")]), Ok(Length::Is(0)));
        assert_eq!(of(&[("upload-length", "101")]), Err(Code::TooLarge));
        assert_eq!(of(&[("upload-defer-length", "1")]), Ok(Length::Deferred));
        for wrong in [
            &[][..],
            &[("upload-length", "x")],
            &[("upload-defer-length", "2")],
            &[("upload-length", "1"), ("upload-defer-length", "1")],
        ] {
            assert_eq!(of(wrong), Err(Code::Validation), "{wrong:?}");
        }
    }

    #[test]
    fn compositions() {
        let of = |value: &str| concat(&headers(&[("upload-concat", value)]), "/up/multipart/").ok();
        let (a, b) = (UploadId([0x11; 16]), UploadId([0xab; 16]));
        assert_eq!(concat(&HeaderMap::new(), "/up/").ok(), Some(Concat::None));
        assert_eq!(of("partial"), Some(Concat::Partial));
        assert_eq!(
            of(&format!("final;/up/multipart/{a} /up/multipart/{b}")),
            Some(Concat::Final(vec![a, b]))
        );
        assert_eq!(of(&format!("final;https://h:1/p/up/multipart/{a}")), Some(Concat::Final(vec![a])));
        for wrong in ["", "final", "final;", "Partial", "final;/etc/passwd", "final;/up/multipart/../x"] {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
        assert_eq!(of(&format!("final;/up/multipart/{a} /other/{b}")), None);
        assert_eq!(of(&format!("final;/up/multipart/{a}/{b}")), None);
    }

    #[test]
    fn types() {
        for (kind, expected) in [
            ("application/offset+octet-stream", true),
            ("Application/Offset+Octet-Stream", true),
            ("application/octet-stream", false),
            ("", false),
        ] {
            assert_eq!(is_bytes(&headers(&[("content-type", kind)])), expected, "{kind}");
        }
        assert!(!is_bytes(&HeaderMap::new()));
    }
}
