//! The language a caller asks for (RFC 9110 §12.5.4), of the two there are.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

/// What messages are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Language {
    /// The default where an API is in French.
    #[default]
    French,
    /// With `Accept-Language: en`.
    English,
}

impl Language {
    /// English when it is wanted more than French; French when nothing is said.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let asked = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok());
        asked.map_or(Self::French, Self::parse)
    }

    fn parse(text: &str) -> Self {
        let (mut english, mut french) = (0, 0);
        for range in text.split(',') {
            let (tag, parameters) = range.split_once(';').unwrap_or((range, ""));
            let weight = parameters.trim().strip_prefix("q=").map_or(1000, thousandths);
            let primary = tag.trim().split('-').next().unwrap_or_default();
            if primary.eq_ignore_ascii_case("en") {
                english = english.max(weight);
            } else if primary.eq_ignore_ascii_case("fr") || primary == "*" {
                french = french.max(weight);
            }
        }
        if english > french { Self::English } else { Self::French }
    }
}

/// A weight `0` to `1` with at most three digits, in thousandths; 0 for what is none.
fn thousandths(text: &str) -> u16 {
    let weight: f32 = text.trim().parse().unwrap_or_default();
    if (0.0..=1.0).contains(&weight) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000")]
        return (weight * 1000.0).round() as u16;
    }
    0
}

impl<S: Sync> FromRequestParts<S> for Language {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn english_has_to_be_wanted_more() {
        for (header, english) in [
            ("en", true),
            ("EN-gb", true),
            ("fr-CA,en;q=0.8", false),
            ("en;q=0.9, fr;q=0.3", true),
            ("en;q=0", false),
            ("en;q=x", false),
            ("de, *;q=0.1", false),
            ("de, en;q=0.5", true),
            ("*", false),
            ("", false),
        ] {
            assert_eq!(Language::parse(header) == Language::English, english, "{header}");
        }
    }
}
