//! The guard in front of s3s: what is refused before a request is parsed as S3 at all (contract D37, design §3).
//!
//! Promises that "signed means signed" whatever the library below does: every `x-amz-*` header and the host are among
//! the signed ones, nobody authenticates twice or half, SigV2 is off, presigned URLs live at most seven days, and a
//! form is not read without knowing how long it is. Pure: a function of the request's head. Leaves out: whether a
//! signature is right (s3s), who the key belongs to (`auth`), and whether they may (`store` asks identity).
//! SigV4 as in "Authenticating Requests (AWS Signature Version 4)" of the S3 API reference.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, RANGE};
use http::request::Parts;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use s3s::region::Region;
use s3s::{S3Error, S3ErrorCode};

/// Longest life of a presigned URL, seconds: 7 days (S3, contract D37).
const PRESIGNED_SECONDS_MAX: u64 = 7 * 24 * 60 * 60;

/// Query parameters that only make sense beside a signature.
const PRESIGN_PARAMETERS: [&str; 5] =
    ["X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders"];

/// Why the guard refused. Each has a row in the matrix of `tests/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A header outside the signed ones could change what the request does.
    UnsignedHeader,
    /// The host names the bucket in virtual-host style: an unsigned one would let a request be aimed elsewhere.
    UnsignedHost,
    /// SigV2, in the header or the query.
    SigV2,
    /// Header and query both authenticate, or the header does twice.
    TwoSignatures,
    /// A header that cannot be read would otherwise count as none: anonymous.
    UnreadableAuthorization,
    /// Some, not all, of a presigned URL's parameters.
    HalfPresigned,
    /// Lives longer than seven days, or its life is no number.
    LongPresigned,
    /// A form that does not say its length would be held in memory.
    FormWithoutLength,
    /// Signed for what is no region's name. AWS names the region it expects and clients sign again, as s3cmd does, which
    /// begins with `US`.
    NoRegion,
    /// A chunk-framed body that nothing would unframe: only header-signed requests have their frames checked.
    FramedUnsigned,
}

impl Refusal {
    /// As S3 says it.
    pub(crate) fn answer(self, region: &str) -> S3Error {
        let (code, message) = match self {
            Self::NoRegion => {
                let message = format!(
                    "The authorization header is malformed; the region is wrong; expecting '{region}'"
                );
                return S3Error::with_message(S3ErrorCode::AuthorizationHeaderMalformed, message);
            }
            Self::UnsignedHeader => {
                (S3ErrorCode::AccessDenied, "There were headers present in the request which were not signed")
            }
            Self::UnsignedHost => (S3ErrorCode::AccessDenied, "The host header must be signed"),
            Self::SigV2 => (S3ErrorCode::AccessDenied, "Signature Version 2 is not accepted; use Version 4"),
            Self::TwoSignatures => (S3ErrorCode::InvalidArgument, "Only one auth mechanism allowed"),
            Self::UnreadableAuthorization => {
                (S3ErrorCode::InvalidArgument, "The Authorization header is unreadable")
            }
            Self::HalfPresigned => (
                S3ErrorCode::AuthorizationQueryParametersError,
                "Query-string authentication needs X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, \
                 X-Amz-SignedHeaders and X-Amz-Expires",
            ),
            Self::LongPresigned => (
                S3ErrorCode::AuthorizationQueryParametersError,
                "X-Amz-Expires must be a number of seconds from 1 to 604800",
            ),
            Self::FormWithoutLength => {
                (S3ErrorCode::MissingContentLength, "You must provide the Content-Length HTTP header.")
            }
            Self::FramedUnsigned => (
                S3ErrorCode::NotImplemented,
                "Chunked uploads need a signature in the Authorization header and a STREAMING- payload",
            ),
        };
        S3Error::with_message(code, message)
    }
}

/// Looks at a request's head.
pub(crate) fn inspect(head: &Parts) -> Result<(), Refusal> {
    let query = Query::parse(head.uri.query().unwrap_or_default());
    if is_form(head) && !head.headers.contains_key(CONTENT_LENGTH) {
        return Err(Refusal::FormWithoutLength);
    }
    let header = authorization(&head.headers)?;
    if header.is_some_and(|h| h.starts_with("AWS ")) || query.has("Signature") || query.has("AWSAccessKeyId")
    {
        return Err(Refusal::SigV2);
    }
    let is_presigned = query.has("X-Amz-Signature");
    if !is_presigned && PRESIGN_PARAMETERS.iter().any(|name| query.has(name)) {
        return Err(Refusal::HalfPresigned);
    }
    if is_framed(&head.headers) && (header.is_none() || !is_streaming(&head.headers)) {
        return Err(Refusal::FramedUnsigned);
    }
    let credential = match header {
        Some(header) => field(header, "Credential="),
        None => query.get("X-Amz-Credential"),
    };
    if credential.and_then(region).is_some_and(|name| !name.is_empty() && Region::new(name.into()).is_err()) {
        return Err(Refusal::NoRegion);
    }
    match (header, is_presigned) {
        (Some(_), true) => Err(Refusal::TwoSignatures),
        (Some(header), false) => all_signed(head, signed_headers(header).unwrap_or_default()),
        (None, true) => {
            let seconds = query.get("X-Amz-Expires").and_then(|v| v.parse::<u64>().ok());
            if !seconds.is_some_and(|s| (1..=PRESIGNED_SECONDS_MAX).contains(&s)) {
                return Err(Refusal::LongPresigned);
            }
            all_signed(head, query.get("X-Amz-SignedHeaders").unwrap_or_default())
        }
        (None, false) => Ok(()),
    }
}

/// Takes away a `Range` that HTTP says to ignore (RFC 9110 §14.2: another unit, several ranges, malformed), which s3s
/// would answer with 400. A signed one stays: without it the signature would be wrong.
pub(crate) fn drop_foreign_range(head: &mut Parts) {
    let Some(value) = head.headers.get(RANGE) else { return };
    let is_ours = value.to_str().is_ok_and(|v| s3s::dto::Range::parse(v).is_ok());
    if is_ours {
        return;
    }
    let query = Query::parse(head.uri.query().unwrap_or_default());
    let signed = match authorization(&head.headers) {
        Ok(Some(header)) => signed_headers(header).unwrap_or_default(),
        _ => query.get("X-Amz-SignedHeaders").unwrap_or_default(),
    };
    if !names(signed).any(|name| name.eq_ignore_ascii_case("range")) {
        head.headers.remove(RANGE);
    }
}

/// A POST form, read as s3s reads it.
fn is_form(head: &Parts) -> bool {
    head.method == Method::POST
        && head.headers.get_all(CONTENT_TYPE).iter().any(|value| {
            value.as_bytes().trim_ascii_start().to_ascii_lowercase().starts_with(b"multipart/form-data")
        })
}

/// The payload is announced as `aws-chunked` frames.
fn is_streaming(headers: &HeaderMap) -> bool {
    headers.get_all("x-amz-content-sha256").iter().any(|value| value.as_bytes().starts_with(b"STREAMING-"))
}

/// Frames are in the body, by any of the three headers that say so.
fn is_framed(headers: &HeaderMap) -> bool {
    is_streaming(headers)
        || headers.contains_key("x-amz-decoded-content-length")
        || headers.get_all(CONTENT_ENCODING).iter().any(|value| {
            let value = value.as_bytes().to_ascii_lowercase();
            value.split(|&b| b == b',').any(|coding| coding.trim_ascii() == b"aws-chunked")
        })
}

/// The one `Authorization` header.
fn authorization(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let Some(first) = all.next() else { return Ok(None) };
    if all.next().is_some() {
        return Err(Refusal::TwoSignatures);
    }
    first.to_str().map(Some).map_err(|_| Refusal::UnreadableAuthorization)
}

/// The `SignedHeaders` of an `Authorization: AWS4-HMAC-SHA256 …` header; `None`: it is not one, s3s refuses it.
fn signed_headers(authorization: &str) -> Option<&str> {
    field(authorization, "SignedHeaders=")
}

fn field<'a>(authorization: &'a str, name: &str) -> Option<&'a str> {
    let fields = authorization.split_once(' ').map(|(_, fields)| fields)?;
    fields.split(',').find_map(|field| field.trim().strip_prefix(name))
}

/// The region of `KEY/DATE/REGION/SERVICE/aws4_request`.
fn region(credential: &str) -> Option<&str> {
    credential.rsplit('/').nth(2)
}

fn names(signed: &str) -> impl Iterator<Item = &str> {
    signed.split(';').map(str::trim)
}

/// Every `x-amz-*` header and the host are signed. `x-amz-content-sha256` may be outside: in a header signature it is
/// the payload line of what is signed, in a presigned request it can only add a check of the body.
fn all_signed(head: &Parts, signed: &str) -> Result<(), Refusal> {
    let is_signed = |wanted: &str| names(signed).any(|name| name.eq_ignore_ascii_case(wanted));
    for name in head.headers.keys() {
        let name = name.as_str();
        if name.starts_with("x-amz-") && name != "x-amz-content-sha256" && !is_signed(name) {
            return Err(Refusal::UnsignedHeader);
        }
    }
    if is_signed(HOST.as_str()) { Ok(()) } else { Err(Refusal::UnsignedHost) }
}

/// The query, decoded as s3s decodes it: a name may hide behind percent signs.
struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    fn parse(query: &'a str) -> Self {
        let decode = |text: &'a str| -> Cow<'a, str> {
            if text.contains('+') {
                Cow::Owned(percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned())
            } else {
                percent_decode_str(text).decode_utf8_lossy()
            }
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(n, v)| (decode(n), decode(v)))
                .collect(),
        )
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTH: &str = "AWS4-HMAC-SHA256 Credential=K/20260101/us-east-1/s3/aws4_request, \
                        SignedHeaders=host;x-amz-date, Signature=00";

    fn check(method: &str, uri: &str, headers: &[(&str, &str)], expected: Result<(), Refusal>) {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        assert_eq!(inspect(&head), expected, "{method} {uri} {headers:?}");
    }

    #[test]
    fn header_signatures() {
        let ok = Ok(());
        check("GET", "/b/k", &[], ok);
        check("GET", "/b/k", &[("authorization", AUTH), ("x-amz-date", "d")], ok);
        check(
            "GET",
            "/b/k",
            &[("authorization", AUTH), ("X-Amz-Date", "d"), ("x-amz-content-sha256", "e")],
            ok,
        );
        let unsigned = Err(Refusal::UnsignedHeader);
        check("PUT", "/b/k", &[("authorization", AUTH), ("x-amz-copy-source", "/b/secret")], unsigned);
        check("PUT", "/b/k", &[("authorization", AUTH), ("X-AMZ-Meta-a", "1")], unsigned);
        check("PUT", "/b/k", &[("authorization", AUTH), ("x-amz-anything-new", "1")], unsigned);
        let no_host = AUTH.replace("host;", "");
        check("GET", "/b/k", &[("authorization", &no_host)], Err(Refusal::UnsignedHost));
        check(
            "GET",
            "/b/k",
            &[("authorization", AUTH), ("authorization", AUTH)],
            Err(Refusal::TwoSignatures),
        );
        check("GET", "/b/k", &[("authorization", "é")], Err(Refusal::UnreadableAuthorization));
        check("GET", "/b/k", &[("authorization", "AWS K:sig=")], Err(Refusal::SigV2));
        for region in ["US", "eu west"] {
            let auth = AUTH.replace("us-east-1", region);
            check("GET", "/b/k", &[("authorization", &auth)], Err(Refusal::NoRegion));
        }
        check("GET", "/b/k", &[("authorization", &AUTH.replace("us-east-1", "elsewhere-9"))], ok);
        // not SigV4 at all: nothing counts as signed
        check("GET", "/b/k", &[("authorization", "Bearer x")], Err(Refusal::UnsignedHost));
    }

    #[test]
    fn presigned() {
        let url = |rest: &str| {
            format!(
                "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=c&X-Amz-Date=d&X-Amz-Signature=0{rest}"
            )
        };
        check("GET", &url("&X-Amz-Expires=604800&X-Amz-SignedHeaders=host"), &[], Ok(()));
        check(
            "GET",
            &url("&X-Amz-Expires=604801&X-Amz-SignedHeaders=host"),
            &[],
            Err(Refusal::LongPresigned),
        );
        check("GET", &url("&X-Amz-Expires=-1&X-Amz-SignedHeaders=host"), &[], Err(Refusal::LongPresigned));
        check("GET", &url("&X-Amz-Expires=0&X-Amz-SignedHeaders=host"), &[], Err(Refusal::LongPresigned));
        check("GET", &url("&X-Amz-SignedHeaders=host"), &[], Err(Refusal::LongPresigned));
        check("GET", &url("&X-Amz-Expires=9&X-Amz-SignedHeaders=x-amz-a"), &[], Err(Refusal::UnsignedHost));
        let one = url("&X-Amz-Expires=9&X-Amz-SignedHeaders=host%3Bx-amz-acl");
        check("PUT", &one, &[("x-amz-acl", "private")], Ok(()));
        check("PUT", &one, &[("x-amz-copy-source", "/b/s")], Err(Refusal::UnsignedHeader));
        check("PUT", &one, &[("authorization", AUTH)], Err(Refusal::TwoSignatures));
        check("GET", "/b/k?X-Amz-Credential=c", &[], Err(Refusal::HalfPresigned));
        check("GET", "/b/k?X-Amz-Expires=9", &[], Err(Refusal::HalfPresigned));
        check("GET", "/b/k?AWSAccessKeyId=K&Expires=9&Signature=s", &[], Err(Refusal::SigV2));
        check("GET", "/b/k?Signatur%65=s", &[], Err(Refusal::SigV2));
    }

    #[test]
    fn forms() {
        let form = ("content-type", "multipart/form-data; boundary=x");
        check("POST", "/b", &[form], Err(Refusal::FormWithoutLength));
        check("POST", "/b", &[("content-type", " Multipart/Form-Data")], Err(Refusal::FormWithoutLength));
        check("POST", "/b", &[form, ("content-length", "9")], Ok(()));
        check("PUT", "/b", &[form], Ok(()));
    }

    #[test]
    fn framed_bodies() {
        let framed = Err(Refusal::FramedUnsigned);
        let streaming = ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
        check("PUT", "/b/k", &[streaming], framed);
        check("PUT", "/b/k", &[("authorization", AUTH), streaming], Ok(()));
        check("PUT", "/b/k", &[("content-encoding", "gzip, AWS-Chunked")], framed);
        check("PUT", "/b/k", &[("authorization", AUTH), ("content-encoding", "aws-chunked")], framed);
        check("PUT", "/b/k", &[("x-amz-decoded-content-length", "1")], framed);
        check("PUT", "/b/k", &[("content-encoding", "gzip")], Ok(()));
    }

    #[test]
    fn ranges_of_others_are_dropped() {
        let dropped = |range: &str, auth: Option<&str>| {
            let mut request = http::Request::builder().uri("/b/k").header("range", range);
            if let Some(auth) = auth {
                request = request.header("authorization", auth);
            }
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            drop_foreign_range(&mut head);
            !head.headers.contains_key(RANGE)
        };
        assert!(!dropped("bytes=0-4", None));
        assert!(!dropped("bytes=-4", None));
        assert!(dropped("bytes=0-4,6-8", None));
        assert!(dropped("lines=1-2", None));
        assert!(dropped("bytes=4-1", Some(AUTH)));
        assert!(!dropped("bytes=4-1", Some(&AUTH.replace("host;", "host;range;"))));
    }
}
