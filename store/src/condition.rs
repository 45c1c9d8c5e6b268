//! `If-Match` and its family, and byte ranges: values and pure decisions (RFC 9110 §13, §14; S3 conditional writes).
//!
//! Promises: the precedence of RFC 9110 §13.2.2, dates compared in whole seconds as they stand on the wire, ranges
//! half open inside. Leaves out: headers (but for the one grammar of `Range`), which doors read.

use std::ops::Range;

use crate::digest::ETag;
use crate::error::{Error, Result};
use crate::name::{ObjectKey, PartNumber};
use crate::object::{PartSizes, Version};

/// Conditions on what is there already. Empty: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// `If-Match`.
    pub if_match: Option<ETagCondition>,
    /// `If-None-Match`.
    pub if_none_match: Option<ETagCondition>,
    /// `If-Modified-Since`, ms since 1970 (whole seconds on the wire).
    pub if_modified_since_ms: Option<u64>,
    /// `If-Unmodified-Since`, ms since 1970.
    pub if_unmodified_since_ms: Option<u64>,
}

/// `*` or a list of entity tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ETagCondition {
    /// `*`: whatever is there.
    Any,
    /// One of these. Our tags are all strong, and [`ETag::parse`] drops a client's weak mark, so strong and weak
    /// comparison are one: a proxy that weakened a tag when it compressed must not make a client's writes fail.
    OneOf(Vec<ETag>),
}

impl ETagCondition {
    fn names(&self, etag: &ETag) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(tags) => tags.contains(etag),
        }
    }
}

/// Which bytes are wanted, as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeRequest {
    /// `bytes=first-last`, last included as on the wire.
    FromTo(u64, u64),
    /// `bytes=first-`.
    From(u64),
    /// `bytes=-n`: the last n.
    Last(u64),
    /// `partNumber=n`.
    Part(PartNumber),
}

/// What became of the conditions of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Holds,
    /// 412, and the header that says so.
    Fails(&'static str),
    /// 304.
    Unchanged,
}

/// The order of RFC 9110 §13.2.2: `If-Match` silences `If-Unmodified-Since`, `If-None-Match` silences
/// `If-Modified-Since`; those that ask for a change come second.
fn outcome(conditions: &Conditions, version: &Version) -> Outcome {
    let modified_s = version.modified_ms / 1000;
    if let Some(wanted) = &conditions.if_match {
        if !wanted.names(&version.etag) {
            return Outcome::Fails("If-Match");
        }
    } else if conditions.if_unmodified_since_ms.is_some_and(|since_ms| modified_s > since_ms / 1000) {
        return Outcome::Fails("If-Unmodified-Since");
    }
    if let Some(known) = &conditions.if_none_match {
        if known.names(&version.etag) {
            return Outcome::Unchanged;
        }
    } else if conditions.if_modified_since_ms.is_some_and(|since_ms| modified_s <= since_ms / 1000) {
        return Outcome::Unchanged;
    }
    Outcome::Holds
}

/// May a read of this version be answered with its bytes?
///
/// # Errors
/// `Precondition`, or `NotModified` when the caller's copy is current.
pub fn decide_read(conditions: &Conditions, version: &Version) -> Result<()> {
    match outcome(conditions, version) {
        Outcome::Holds => Ok(()),
        Outcome::Fails(condition) => Err(Error::Precondition { condition }),
        Outcome::Unchanged => Err(Error::NotModified(Box::new(version.clone()))),
    }
}

/// May this version be the source of a copy (`x-amz-copy-source-if-*`)? Decided like a read; what a read answers
/// with 304 is a failed precondition here.
///
/// # Errors
/// `Precondition`.
pub fn decide_source(conditions: &Conditions, version: &Version) -> Result<()> {
    match outcome(conditions, version) {
        Outcome::Holds => Ok(()),
        Outcome::Fails(condition) => Err(Error::Precondition { condition }),
        Outcome::Unchanged => Err(Error::Precondition {
            condition: if conditions.if_none_match.is_some() { "If-None-Match" } else { "If-Modified-Since" },
        }),
    }
}

/// May a write replace (or delete) what is at the key now? `If-Modified-Since` means nothing for writes
/// (RFC 9110 §13.1.3).
///
/// # Errors
/// `Precondition`; `NotFound(Key)` for `If-Match` where nothing is, as S3 answers.
pub fn decide_write(conditions: &Conditions, key: &ObjectKey, current: Option<&Version>) -> Result<()> {
    let fails = |condition| Err(Error::Precondition { condition });
    let Some(version) = current else {
        return if conditions.if_match.is_some() { Err(Error::no_key(key)) } else { Ok(()) };
    };
    if let Some(wanted) = &conditions.if_match {
        if !wanted.names(&version.etag) {
            return fails("If-Match");
        }
    } else if conditions.if_unmodified_since_ms.is_some_and(|ms| version.modified_ms / 1000 > ms / 1000) {
        return fails("If-Unmodified-Since");
    }
    if conditions.if_none_match.as_ref().is_some_and(|known| known.names(&version.etag)) {
        return fails("If-None-Match");
    }
    Ok(())
}

/// The bytes asked for of a version of `size_bytes`, completed from `parts`. `None`: all of them, though a range was
/// asked for (an empty object has no range to name, RFC 9110 §14.1.2).
///
/// # Errors
/// `InvalidRange` when none of the bytes asked for exists, or no such part.
pub fn resolve_range(
    request: RangeRequest,
    size_bytes: u64,
    parts: Option<&PartSizes>,
) -> Result<Option<Range<u64>>> {
    let outside = Err(Error::InvalidRange { size_bytes });
    match request {
        RangeRequest::FromTo(first, last) if first < size_bytes && first <= last => {
            Ok(Some(first..last.saturating_add(1).min(size_bytes)))
        }
        RangeRequest::From(first) if first < size_bytes => Ok(Some(first..size_bytes)),
        RangeRequest::Last(n) if n > 0 && size_bytes == 0 => Ok(None),
        RangeRequest::Last(n) if n > 0 => Ok(Some(size_bytes.saturating_sub(n)..size_bytes)),
        RangeRequest::FromTo(..) | RangeRequest::From(_) | RangeRequest::Last(_) => outside,
        RangeRequest::Part(number) => match part_range(number, size_bytes, parts) {
            None => outside,
            Some(range) if range.is_empty() => Ok(None),
            Some(range) => Ok(Some(range)),
        },
    }
}

/// Where a part lies in its version. A version of one piece has one part, number 1.
fn part_range(number: PartNumber, size_bytes: u64, parts: Option<&PartSizes>) -> Option<Range<u64>> {
    let wanted = u64::from(number.get());
    match parts {
        None => (wanted == 1).then_some(0..size_bytes),
        Some(PartSizes::Uniform { count, each }) => {
            let start = each.checked_mul(wanted - 1)?;
            let is_there = wanted <= u64::from(*count);
            is_there.then(|| start.min(size_bytes)..start.saturating_add(*each).min(size_bytes))
        }
        Some(PartSizes::Listed(listed)) => {
            let mut start = 0_u64;
            for (at, len) in listed {
                if *at == number {
                    return Some(start..start.checked_add(*len)?);
                }
                start = start.checked_add(*len)?;
            }
            None
        }
    }
}

impl RangeRequest {
    /// Reads a `Range` header. `None`: another unit, several ranges or bad grammar, all of which a server ignores
    /// (RFC 9110 §14.2). Numbers beyond u64 count as its end.
    pub fn parse(header: &str) -> Option<Self> {
        let (unit, set) = header.trim().split_once('=')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (first, last) = set.trim().split_once('-')?;
        match (first, last) {
            ("", last) => Some(Self::Last(position(last)?)),
            (first, "") => Some(Self::From(position(first)?)),
            (first, last) => {
                let (first, last) = (position(first)?, position(last)?);
                (first <= last).then_some(Self::FromTo(first, last))
            }
        }
    }
}

/// `1*DIGIT`.
fn position(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[expect(clippy::unnecessary_wraps, reason = "stands where conditions have an option")]
    fn tags(tags: &[&str]) -> Option<ETagCondition> {
        Some(ETagCondition::OneOf(tags.iter().map(|t| ETag::parse(t)).collect()))
    }

    const ANY: Option<ETagCondition> = Some(ETagCondition::Any);

    fn conditions(
        if_match: Option<ETagCondition>,
        if_none_match: Option<ETagCondition>,
        modified: Option<u64>,
        unmodified: Option<u64>,
    ) -> Conditions {
        Conditions {
            if_match,
            if_none_match,
            if_modified_since_ms: modified,
            if_unmodified_since_ms: unmodified,
        }
    }

    /// `aaaa`, modified at 10.5 s.
    fn version() -> Version {
        Version { etag: ETag::parse("aaaa"), modified_ms: 10_500, ..sample::version() }
    }

    fn say(result: &Result<()>) -> &'static str {
        match result {
            Ok(()) => "ok",
            Err(Error::Precondition { condition }) => condition,
            Err(Error::NotModified(_)) => "304",
            Err(Error::NotFound(_)) => "404",
            Err(_) => "?",
        }
    }

    #[test]
    fn reads_and_sources_follow_the_precedence() {
        let (hit, miss) = (|| tags(&["\"bbbb\"", "W/\"aaaa\""]), || tags(&["bbbb"]));
        let table = [
            // if-match, if-none-match, if-modified, if-unmodified: read, copy source
            ((None, None, None, None), "ok", "ok"),
            ((hit(), None, None, None), "ok", "ok"),
            ((ANY, None, None, None), "ok", "ok"),
            ((miss(), None, None, None), "If-Match", "If-Match"),
            ((Some(ETagCondition::OneOf(vec![])), None, None, None), "If-Match", "If-Match"),
            ((None, hit(), None, None), "304", "If-None-Match"),
            ((None, ANY, None, None), "304", "If-None-Match"),
            ((None, miss(), None, None), "ok", "ok"),
            // whole seconds: modified at 10.5 s counts as 10 s
            ((None, None, Some(10_000), None), "304", "If-Modified-Since"),
            ((None, None, Some(9_999), None), "ok", "ok"),
            ((None, None, None, Some(10_000)), "ok", "ok"),
            ((None, None, None, Some(9_999)), "If-Unmodified-Since", "If-Unmodified-Since"),
            // the tag silences the date
            ((hit(), None, None, Some(1)), "ok", "ok"),
            ((None, miss(), Some(99_000), None), "ok", "ok"),
            ((None, hit(), Some(1), None), "304", "If-None-Match"),
            // the first pair comes first
            ((miss(), hit(), None, None), "If-Match", "If-Match"),
            ((hit(), hit(), None, None), "304", "If-None-Match"),
            ((None, None, Some(99_000), Some(1)), "If-Unmodified-Since", "If-Unmodified-Since"),
        ];
        for ((a, b, c, d), read, source) in table {
            let conditions = conditions(a, b, c, d);
            assert_eq!(say(&decide_read(&conditions, &version())), read, "{conditions:?}");
            assert_eq!(say(&decide_source(&conditions, &version())), source, "{conditions:?}");
        }
    }

    #[test]
    fn writes() {
        let (hit, miss) = (|| tags(&["aaaa"]), || tags(&["bbbb"]));
        let table = [
            // conditions: onto a version, onto nothing
            ((None, None, None, None), "ok", "ok"),
            ((None, ANY, None, None), "If-None-Match", "ok"),
            ((None, hit(), None, None), "If-None-Match", "ok"),
            ((None, miss(), None, None), "ok", "ok"),
            ((hit(), None, None, None), "ok", "404"),
            ((miss(), None, None, None), "If-Match", "404"),
            ((ANY, None, None, None), "ok", "404"),
            ((hit(), ANY, None, None), "If-None-Match", "404"),
            ((None, None, None, Some(1)), "If-Unmodified-Since", "ok"),
            ((None, None, None, Some(10_000)), "ok", "ok"),
            ((None, None, Some(99_000), None), "ok", "ok"),
        ];
        let key = "k".parse().unwrap();
        for ((a, b, c, d), there, absent) in table {
            let conditions = conditions(a, b, c, d);
            assert_eq!(say(&decide_write(&conditions, &key, Some(&version()))), there, "{conditions:?}");
            assert_eq!(say(&decide_write(&conditions, &key, None)), absent, "{conditions:?}");
        }
    }

    #[test]
    fn range_headers() {
        let table = [
            ("bytes=0-0", Some(RangeRequest::FromTo(0, 0))),
            ("Bytes=5-9", Some(RangeRequest::FromTo(5, 9))),
            (" bytes= 5-9 ", Some(RangeRequest::FromTo(5, 9))),
            ("bytes=7-", Some(RangeRequest::From(7))),
            ("bytes=-7", Some(RangeRequest::Last(7))),
            ("bytes=0-99999999999999999999999", Some(RangeRequest::FromTo(0, u64::MAX))),
            ("bytes=9-5", None),
            ("bytes=", None),
            ("bytes=-", None),
            ("bytes", None),
            ("items=0-1", None),
            ("bytes=0-1,3-4", None),
            ("bytes=+1-2", None),
            ("bytes=1--2", None),
            ("bytes=0x1-2", None),
            ("", None),
        ];
        for (header, expected) in table {
            assert_eq!(RangeRequest::parse(header), expected, "{header:?}");
        }
    }

    #[test]
    fn ranges() {
        use RangeRequest::{From, FromTo, Last, Part};
        let part = |n: i64| Part(PartNumber::try_from(n).unwrap());
        let uniform = PartSizes::Uniform { count: 3, each: 4 };
        let number = |n: i64| PartNumber::try_from(n).unwrap();
        let listed = PartSizes::Listed(vec![(number(2), 3), (number(5), 6), (number(9), 1)]);
        let table = [
            (FromTo(0, 0), 10, None, Some(Some(0..1))),
            (FromTo(3, 5), 10, None, Some(Some(3..6))),
            (FromTo(3, u64::MAX), 10, None, Some(Some(3..10))),
            (FromTo(9, 9), 10, None, Some(Some(9..10))),
            (FromTo(10, 12), 10, None, None),
            (FromTo(5, 3), 10, None, None),
            (FromTo(0, 0), 0, None, None),
            (From(9), 10, None, Some(Some(9..10))),
            (From(10), 10, None, None),
            (From(0), 0, None, None),
            (Last(3), 10, None, Some(Some(7..10))),
            (Last(30), 10, None, Some(Some(0..10))),
            (Last(0), 10, None, None),
            (Last(5), 0, None, Some(None)),
            (part(1), 10, None, Some(Some(0..10))),
            (part(1), 0, None, Some(None)),
            (part(2), 10, None, None),
            (part(1), 10, Some(&uniform), Some(Some(0..4))),
            (part(3), 10, Some(&uniform), Some(Some(8..10))),
            (part(4), 10, Some(&uniform), None),
            (part(2), 10, Some(&listed), Some(Some(0..3))),
            (part(5), 10, Some(&listed), Some(Some(3..9))),
            (part(9), 10, Some(&listed), Some(Some(9..10))),
            (part(1), 10, Some(&listed), None),
        ];
        for (request, size, parts, expected) in table {
            assert_eq!(resolve_range(request, size, parts).ok(), expected, "{request:?} of {size} {parts:?}");
        }
    }
}
