//! Conditions of policies (IAM "Condition operators"): operators, keys, and what a request has for them.
//!
//! What this server cannot judge is refused when the policy is put: an operator or key it does not know, and an
//! operator on a key of another kind. A condition is never skipped.

use std::borrow::Cow;
use std::net::IpAddr;

use coffre_store::{Action, Ask};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::PolicyError;
use super::action::is_listing;
use super::json::Json;
use super::pattern::{Pattern, Syntax};

/// A fact of the request that a condition asks about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Key {
    SourceIp,
    SecureTransport,
    UserAgent,
    Referer,
    CurrentTime,
    EpochTime,
    Username,
    UserId,
    Prefix,
    Delimiter,
    MaxKeys,
    VersionId,
    /// `s3:ExistingObjectTag/<tag>`.
    ExistingTag(String),
}

impl Key {
    pub(super) fn parse(text: &str) -> Result<Self, PolicyError> {
        // Names of keys know no case; a tag's name does.
        if let Some((name, tag)) = text.split_once('/')
            && name.eq_ignore_ascii_case("s3:ExistingObjectTag")
            && !tag.is_empty()
        {
            return Ok(Self::ExistingTag(tag.to_owned()));
        }
        Ok(match text.to_ascii_lowercase().as_str() {
            "aws:sourceip" => Self::SourceIp,
            "aws:securetransport" => Self::SecureTransport,
            "aws:useragent" => Self::UserAgent,
            "aws:referer" => Self::Referer,
            "aws:currenttime" => Self::CurrentTime,
            "aws:epochtime" => Self::EpochTime,
            "aws:username" => Self::Username,
            "aws:userid" => Self::UserId,
            "s3:prefix" => Self::Prefix,
            "s3:delimiter" => Self::Delimiter,
            "s3:max-keys" => Self::MaxKeys,
            "s3:versionid" => Self::VersionId,
            _ => {
                return Err(PolicyError::malformed(format_args!(
                    "the condition key {text} is not known here"
                )));
            }
        })
    }

    /// What the request has for it; `None` when it has nothing.
    pub(super) fn value<'a>(&self, ask: &Ask<'a>) -> Option<Cow<'a, str>> {
        let facts = &ask.cx.circumstances;
        let listing = is_listing(ask.action);
        match self {
            Self::SourceIp => facts.client_address.map(|a| a.to_canonical().to_string().into()),
            Self::SecureTransport => Some(if facts.is_secure { "true" } else { "false" }.into()),
            Self::UserAgent => facts.user_agent.as_deref().map(Cow::Borrowed),
            Self::Referer => facts.referer.as_deref().map(Cow::Borrowed),
            Self::CurrentTime => now(ask).format(&Rfc3339).ok().map(Cow::Owned),
            Self::EpochTime => Some((ask.cx.now_ms / 1000).to_string().into()),
            Self::Username => ask.cx.principal.name.as_deref().map(Cow::Borrowed),
            Self::UserId => ask.cx.principal.user().map(|id| id.to_string().into()),
            Self::Prefix => ask.key.filter(|_| listing).map(Cow::Borrowed),
            Self::Delimiter => facts.delimiter.as_deref().filter(|_| listing).map(Cow::Borrowed),
            Self::MaxKeys => facts.max_keys.filter(|_| listing).map(|n| n.to_string().into()),
            Self::VersionId => version_id(ask),
            Self::ExistingTag(tag) => {
                let tags = &ask.existing?.attributes.tags;
                tags.iter().find(|(name, _)| name == tag).map(|(_, value)| value.as_str().into())
            }
        }
    }
}

fn now(ask: &Ask<'_>) -> OffsetDateTime {
    let ns = i128::from(ask.cx.now_ms) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(ns).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Only requests that name a version have one.
fn version_id<'a>(ask: &Ask<'_>) -> Option<Cow<'a, str>> {
    let names_version = matches!(
        ask.action,
        Action::GetObjectVersion
            | Action::GetObjectVersionTagging
            | Action::PutObjectVersionTagging
            | Action::DeleteObjectVersion
    );
    let version = ask.existing.filter(|_| names_version)?;
    Some(if version.is_null { "null".into() } else { version.id.to_string().into() })
}

/// How a request's value is compared with the policy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// The values of a condition, in the type of its operator.
#[derive(Clone, Debug, PartialEq)]
enum Test {
    Text { values: Vec<Pattern>, ignore_case: bool, is_negated: bool },
    Address { values: Vec<Network>, is_negated: bool },
    Bool(Vec<bool>),
    Number(Compare, Vec<f64>),
    Date(Compare, Vec<i128>),
    IsAbsent(bool),
}

/// For keys with many values: which of them have to fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quantifier {
    Single,
    Any,
    All,
}

/// One operator on one key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    key: Key,
    test: Test,
    quantifier: Quantifier,
    if_exists: bool,
}

/// An address range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u8,
}

impl Condition {
    /// Parses one `"Operator": {"key": values}` pair.
    pub(super) fn parse(
        operator: &str,
        key: &str,
        values: &Json,
        variables: bool,
    ) -> Result<Self, PolicyError> {
        let (quantifier, rest) = match operator.split_once(':') {
            Some(("ForAnyValue", rest)) => (Quantifier::Any, rest),
            Some(("ForAllValues", rest)) => (Quantifier::All, rest),
            Some(_) => return Err(unknown_operator(operator)),
            None => (Quantifier::Single, operator),
        };
        let (name, if_exists) = match rest.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        let key = Key::parse(key)?;
        let texts = texts(values)?;
        let test = Test::parse(name, &texts, variables)?.ok_or_else(|| unknown_operator(operator))?;
        if matches!(test, Test::IsAbsent(_)) && (if_exists || quantifier != Quantifier::Single) {
            return Err(unknown_operator(operator));
        }
        if !test.suits(&key) {
            return Err(PolicyError::malformed(format_args!("{operator} does not apply to {key:?}")));
        }
        Ok(Self { key, test, quantifier, if_exists })
    }

    /// Whether the request meets it.
    pub(super) fn holds(&self, ask: &Ask<'_>) -> bool {
        let value = self.key.value(ask);
        if let Test::IsAbsent(expected) = self.test {
            return value.is_none() == expected;
        }
        match (value, self.quantifier) {
            (Some(value), _) => self.test.holds(&value, ask),
            (None, Quantifier::All) => true,
            (None, Quantifier::Any) => self.if_exists,
            (None, Quantifier::Single) => self.if_exists || self.test.is_negated(),
        }
    }

    /// Whether it lets only certain callers through (S3 "The meaning of public"): certain addresses, or certain users.
    pub(super) fn narrows(&self) -> bool {
        // An absent value would pass these.
        if self.if_exists || self.quantifier == Quantifier::All {
            return false;
        }
        match (&self.key, &self.test) {
            (Key::SourceIp, Test::Address { values, is_negated: false }) => {
                values.iter().all(Network::is_narrow)
            }
            (Key::Username | Key::UserId, Test::Text { values, is_negated: false, .. }) => {
                values.iter().all(Pattern::is_fixed)
            }
            _ => false,
        }
    }
}

impl Test {
    /// `None` for a name that is no operator.
    fn parse(name: &str, texts: &[String], variables: bool) -> Result<Option<Self>, PolicyError> {
        if let Some(kind) = name.strip_prefix("String") {
            let (kind, is_negated) = kind.strip_prefix("Not").map_or((kind, false), |kind| (kind, true));
            let (wildcards, ignore_case) = match kind {
                "Equals" => (false, false),
                "EqualsIgnoreCase" => (false, true),
                "Like" => (true, false),
                _ => return Ok(None),
            };
            let syntax = Syntax { wildcards, variables };
            let values = texts.iter().map(|text| Pattern::parse(text, syntax)).collect::<Result<_, _>>()?;
            return Ok(Some(Self::Text { values, ignore_case, is_negated }));
        }
        if let Some(compare) = name.strip_prefix("Numeric") {
            let Some(compare) = Compare::parse(compare) else { return Ok(None) };
            return all(texts, "a number", number).map(|values| Some(Self::Number(compare, values)));
        }
        if let Some(compare) = name.strip_prefix("Date") {
            let Some(compare) = Compare::parse(compare) else { return Ok(None) };
            return all(texts, "a date", date_ms).map(|values| Some(Self::Date(compare, values)));
        }
        match name {
            "IpAddress" | "NotIpAddress" => {
                let values = all(texts, "an address or range", Network::parse)?;
                Ok(Some(Self::Address { values, is_negated: name == "NotIpAddress" }))
            }
            "Bool" => all(texts, "true or false", boolean).map(|values| Some(Self::Bool(values))),
            "Null" => match all(texts, "true or false", boolean)?[..] {
                [expected] => Ok(Some(Self::IsAbsent(expected))),
                _ => Err(PolicyError::malformed("Null takes one value")),
            },
            _ => Ok(None),
        }
    }

    fn suits(&self, key: &Key) -> bool {
        match self {
            Self::IsAbsent(_) => true,
            Self::Text { .. } => {
                !matches!(key, Key::SourceIp | Key::CurrentTime | Key::EpochTime | Key::MaxKeys)
            }
            Self::Address { .. } => *key == Key::SourceIp,
            Self::Bool(_) => *key == Key::SecureTransport,
            Self::Number(..) => matches!(key, Key::MaxKeys | Key::EpochTime),
            Self::Date(..) => matches!(key, Key::CurrentTime | Key::EpochTime),
        }
    }

    fn is_negated(&self) -> bool {
        match self {
            Self::Text { is_negated, .. } | Self::Address { is_negated, .. } => *is_negated,
            Self::Number(compare, _) | Self::Date(compare, _) => *compare == Compare::NotEqual,
            Self::Bool(_) | Self::IsAbsent(_) => false,
        }
    }

    fn holds(&self, value: &str, ask: &Ask<'_>) -> bool {
        match self {
            Self::Text { values, ignore_case, is_negated } => {
                let fits = values.iter().any(|p| p.matches(value, *ignore_case, |key| key.value(ask)));
                fits != *is_negated
            }
            Self::Address { values, is_negated } => {
                let address = value.parse().ok();
                address.is_some_and(|a| values.iter().any(|network| network.contains(a))) != *is_negated
            }
            Self::Bool(values) => boolean(value).is_some_and(|value| values.contains(&value)),
            Self::Number(compare, values) => number(value).is_some_and(|value| compare.holds(&value, values)),
            Self::Date(compare, values) => date_ms(value).is_some_and(|value| compare.holds(&value, values)),
            Self::IsAbsent(expected) => !expected,
        }
    }
}

impl Compare {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "Equals" => Self::Equal,
            "NotEquals" => Self::NotEqual,
            "LessThan" => Self::Less,
            "LessThanEquals" => Self::LessOrEqual,
            "GreaterThan" => Self::Greater,
            "GreaterThanEquals" => Self::GreaterOrEqual,
            _ => return None,
        })
    }

    /// One of the policy's values has to fit; for "not equal", none may be equal.
    fn holds<T: PartialOrd>(self, value: &T, values: &[T]) -> bool {
        let any = |fits: fn(&T, &T) -> bool| values.iter().any(|v| fits(value, v));
        match self {
            Self::Equal => any(T::eq),
            Self::NotEqual => !any(T::eq),
            Self::Less => any(T::lt),
            Self::LessOrEqual => any(T::le),
            Self::Greater => any(T::gt),
            Self::GreaterOrEqual => any(T::ge),
        }
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) if bits.bytes().all(|b| b.is_ascii_digit()) => {
                (address, Some(bits.parse().ok()?))
            }
            Some(_) => return None,
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        (bits <= width).then_some(Self { address, bits })
    }

    fn contains(&self, address: IpAddr) -> bool {
        let shift = |width: u8| u32::from(width - self.bits);
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (a.to_bits() ^ b.to_bits()).checked_shr(shift(32)).unwrap_or(0) == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                (a.to_bits() ^ b.to_bits()).checked_shr(shift(128)).unwrap_or(0) == 0
            }
            // A request's address is canonical: IPv4 inside IPv6 is IPv4. A policy's may be written either way.
            (IpAddr::V6(a), IpAddr::V4(b)) => {
                let b = IpAddr::V6(b.to_ipv6_mapped());
                a.to_ipv4_mapped().is_some()
                    && self.bits >= 96
                    && Self { address: a.into(), ..*self }.contains(b)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) => false,
        }
    }

    /// Not half the world (S3 calls wider ranges public).
    fn is_narrow(&self) -> bool {
        self.bits >= if self.address.is_ipv4() { 8 } else { 32 }
    }
}

fn unknown_operator(operator: &str) -> PolicyError {
    PolicyError::malformed(format_args!("the condition operator {operator} is not known here"))
}

/// One value or a list of them.
fn texts(values: &Json) -> Result<Vec<String>, PolicyError> {
    let one = |value: &Json| match value {
        Json::Text(text) | Json::Number(text) => Ok(text.clone()),
        Json::Bool(value) => Ok(value.to_string()),
        Json::Null | Json::List(_) | Json::Map(_) => {
            Err(PolicyError::malformed("a condition's value is neither text, number nor true or false"))
        }
    };
    let texts = match values {
        Json::List(list) => list.iter().map(one).collect::<Result<Vec<_>, _>>()?,
        value => vec![one(value)?],
    };
    if texts.is_empty() { Err(PolicyError::malformed("a condition without values")) } else { Ok(texts) }
}

fn all<T>(texts: &[String], what: &str, parse: fn(&str) -> Option<T>) -> Result<Vec<T>, PolicyError> {
    let one = |text: &String| {
        parse(text).ok_or_else(|| PolicyError::malformed(format_args!("{text} is not {what}")))
    };
    texts.iter().map(one).collect()
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

fn number(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|n: &f64| n.is_finite())
}

/// A W3C date-time, a date alone (its midnight, UTC), or seconds since 1970.
fn date_ms(text: &str) -> Option<i128> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Some(i128::from(seconds) * 1000);
    }
    let full = if text.len() == 10 { Cow::Owned(format!("{text}T00:00:00Z")) } else { Cow::Borrowed(text) };
    OffsetDateTime::parse(&full, &Rfc3339).ok().map(|at| at.unix_timestamp_nanos() / 1_000_000)
}
