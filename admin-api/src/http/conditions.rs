//! Conditions and ranges as HTTP headers say them (RFC 9110 §13, §14): pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use coffre_store::condition::{Conditions, ETagCondition, RangeRequest};
use coffre_store::digest::ETag;
use coffre_store::object::Version;

/// `If-Match` and its family.
pub(crate) fn conditions(headers: &HeaderMap) -> Conditions {
    Conditions {
        if_match: tags(headers, &header::IF_MATCH),
        if_none_match: tags(headers, &header::IF_NONE_MATCH),
        if_modified_since_ms: date(headers, &header::IF_MODIFIED_SINCE),
        if_unmodified_since_ms: date(headers, &header::IF_UNMODIFIED_SINCE),
    }
}

/// `Range`, if it is one range of bytes; of several the first, as RFC 9110 §14.2 lets a server choose.
pub(crate) fn range(headers: &HeaderMap) -> Option<RangeRequest> {
    let text = headers.get(header::RANGE)?.to_str().ok()?;
    RangeRequest::parse(text.split(',').next().unwrap_or(text))
}

/// Whether `If-Range` lets the range count: it names this version, or is not there.
pub(crate) fn range_counts(headers: &HeaderMap, version: &Version) -> bool {
    let Some(value) = headers.get(header::IF_RANGE) else { return true };
    let Ok(text) = value.to_str() else { return false };
    let text = text.trim();
    if text.starts_with("W/") {
        // A weak tag says nothing of bytes (RFC 9110 §13.1.5).
        return false;
    }
    if text.starts_with('"') {
        return ETag::parse(text) == version.etag;
    }
    httpdate::parse_http_date(text).is_ok_and(|date| seconds(date) == Some(version.modified_ms / 1000))
}

/// An entity tag as it stands on the wire.
pub(crate) fn etag(etag: &ETag) -> HeaderValue {
    HeaderValue::try_from(format!("\"{}\"", etag.as_str())).unwrap_or(HeaderValue::from_static("\"\""))
}

/// A time as it stands on the wire.
pub(crate) fn http_date(ms: u64) -> HeaderValue {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(ms / 1000)).unwrap_or(UNIX_EPOCH);
    HeaderValue::try_from(httpdate::fmt_http_date(time))
        .unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

fn tags(headers: &HeaderMap, name: &HeaderName) -> Option<ETagCondition> {
    let mut tags = Vec::new();
    for value in headers.get_all(name) {
        let text = value.to_str().ok()?;
        if text.trim() == "*" {
            return Some(ETagCondition::Any);
        }
        tags.extend(text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(ETag::parse));
    }
    (!tags.is_empty()).then_some(ETagCondition::OneOf(tags))
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let date = httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()?;
    seconds(date)?.checked_mul(1000)
}

fn seconds(time: SystemTime) -> Option<u64> {
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn entity_tags_and_dates() {
        let read = conditions(&headers(&[
            (&header::IF_NONE_MATCH, "\"a\", W/\"b\""),
            (&header::IF_NONE_MATCH, "\"c\""),
            (&header::IF_MATCH, " * "),
            (&header::IF_MODIFIED_SINCE, "Thu, 01 Jan 1970 00:00:07 GMT"),
            (&header::IF_UNMODIFIED_SINCE, "yesterday"),
        ]));
        assert_eq!(read.if_match, Some(ETagCondition::Any));
        let known = ["a", "b", "c"].map(ETag::parse).to_vec();
        assert_eq!(read.if_none_match, Some(ETagCondition::OneOf(known)));
        assert_eq!((read.if_modified_since_ms, read.if_unmodified_since_ms), (Some(7000), None));
        assert_eq!(conditions(&HeaderMap::new()), Conditions::default());
        assert_eq!(http_date(7999), "Thu, 01 Jan 1970 00:00:07 GMT");
    }

    #[test]
    fn of_several_ranges_the_first() {
        for (text, expected) in [
            ("bytes=0-1", Some(RangeRequest::FromTo(0, 1))),
            ("bytes=0-1, 5-6", Some(RangeRequest::FromTo(0, 1))),
            ("bytes=-5", Some(RangeRequest::Last(5))),
            ("items=0-1", None),
            ("bytes=x", None),
        ] {
            assert_eq!(range(&headers(&[(&header::RANGE, text)])), expected, "{text}");
        }
    }
}
