//! Patterns of policies: `*` any characters, `?` one, `${aws:username}` and kin the request's values.
//! Matching takes at most pattern × text steps, whatever the pattern.

use std::borrow::Cow;

use super::PolicyError;
use super::condition::Key;

/// A piece of a pattern.
#[derive(Clone, Debug, PartialEq)]
enum Token {
    Char(char),
    One,
    Many,
    Value(Key),
}

/// A parsed pattern.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

/// How the text of a pattern is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Syntax {
    /// `*` and `?` are wildcards.
    pub(super) wildcards: bool,
    /// `${…}` stands for a value: policies of version 2012-10-17.
    pub(super) variables: bool,
}

impl Pattern {
    /// # Errors
    /// A `${…}` that names nothing we know.
    pub(super) fn parse(text: &str, syntax: Syntax) -> Result<Self, PolicyError> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if syntax.variables && rest.starts_with("${") {
                let end = rest.find('}').ok_or_else(|| PolicyError::malformed("a ${ without its }"))?;
                let (inside, after) = rest.split_at_checked(end).unwrap_or_default();
                tokens.push(variable(inside.trim_start_matches("${"))?);
                rest = after.strip_prefix('}').unwrap_or_default();
                continue;
            }
            tokens.push(match c {
                '*' if syntax.wildcards => Token::Many,
                '?' if syntax.wildcards => Token::One,
                c => Token::Char(c),
            });
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
        Ok(Self { tokens })
    }

    /// Whether no wildcard and no variable stands in it.
    pub(super) fn is_fixed(&self) -> bool {
        self.tokens.iter().all(|token| matches!(token, Token::Char(_)))
    }

    /// Whether the text matches. A value that the request does not have matches nothing.
    pub(super) fn matches<'v>(
        &self,
        text: &str,
        ignore_case: bool,
        value: impl Fn(&Key) -> Option<Cow<'v, str>>,
    ) -> bool {
        let has_values = self.tokens.iter().any(|token| matches!(token, Token::Value(_)));
        let expanded;
        let tokens = if has_values {
            let Some(with_values) = self.expand(value) else { return false };
            expanded = with_values;
            &expanded
        } else {
            &self.tokens
        };
        matches(tokens, text, ignore_case)
    }

    fn expand<'v>(&self, value: impl Fn(&Key) -> Option<Cow<'v, str>>) -> Option<Vec<Token>> {
        let mut tokens = Vec::with_capacity(self.tokens.len());
        for token in &self.tokens {
            match token {
                Token::Value(key) => tokens.extend(value(key)?.chars().map(Token::Char)),
                other => tokens.push(other.clone()),
            }
        }
        Some(tokens)
    }
}

fn variable(name: &str) -> Result<Token, PolicyError> {
    match name {
        "*" => Ok(Token::Char('*')),
        "?" => Ok(Token::Char('?')),
        "$" => Ok(Token::Char('$')),
        name => Key::parse(name).map(Token::Value),
    }
}

/// The usual two pointers: on a mismatch go back to the last `*` and let it take one character more.
fn matches(tokens: &[Token], text: &str, ignore_case: bool) -> bool {
    let (mut t, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let next = text.get(at..).and_then(|rest| rest.chars().next());
        let fits = match (tokens.get(t), next) {
            (None, None) => return true,
            (Some(Token::Many), _) => {
                t += 1;
                retry = Some((t, at));
                continue;
            }
            (Some(Token::One), Some(_)) => true,
            (Some(Token::Char(want)), Some(have)) => same(*want, have, ignore_case),
            _ => false,
        };
        if let (true, Some(c)) = (fits, next) {
            t += 1;
            at += c.len_utf8();
            continue;
        }
        let Some((after_star, taken)) = retry else { return false };
        let Some(c) = text.get(taken..).and_then(|rest| rest.chars().next()) else { return false };
        t = after_star;
        at = taken + c.len_utf8();
        retry = Some((after_star, at));
    }
}

fn same(a: char, b: char, ignore_case: bool) -> bool {
    a == b || (ignore_case && a.to_lowercase().eq(b.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WILD: Syntax = Syntax { wildcards: true, variables: true };

    fn check(pattern: &str, text: &str) -> bool {
        let value = |key: &Key| (*key == Key::Username).then_some(Cow::Borrowed("an*a"));
        Pattern::parse(pattern, WILD).unwrap().matches(text, false, value)
    }

    #[test]
    fn wildcards() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*", "a", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbd", false),
            ("a?c", "aéc", true),
            ("a?c", "ac", false),
            ("*a*b*c*", "xxaxxbxxcxx", true),
            ("*a*b*c*", "xxaxxcxxbxx", false),
            ("A", "a", false),
            ("${aws:username}/x", "an*a/x", true),
            ("${aws:username}/x", "anna/x", false),
            ("${aws:userid}/x", "/x", false),
            ("${*}${?}${$}", "*?$", true),
            ("${*}", "a", false),
        ] {
            assert_eq!(check(pattern, text), expected, "{pattern} {text}");
        }
        assert!(Pattern::parse("${nothing}", WILD).is_err());
        assert!(Pattern::parse("${aws:username", WILD).is_err());
        let plain = Pattern::parse("${nothing}*", Syntax { wildcards: false, variables: false }).unwrap();
        assert!(plain.is_fixed() && plain.matches("${nothing}*", false, |_| None));
    }

    /// The obvious definition, exponential.
    fn naive(pattern: &[char], text: &[char]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), _) => (0..=text.len()).any(|n| naive(rest, &text[n..])),
            (Some(('?', rest)), Some((_, text))) => naive(rest, text),
            (Some((c, rest)), Some((d, text))) if c == d => naive(rest, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_obvious_definition(pattern in "[abé*?]{0,8}", text in "[abé]{0,10}") {
            let chars = |s: &str| s.chars().collect::<Vec<_>>();
            prop_assert_eq!(check(&pattern, &text), naive(&chars(&pattern), &chars(&text)));
        }
    }

    #[test]
    fn a_hostile_pattern_is_quick() {
        // Naive backtracking would take longer than the universe.
        assert!(!check(&format!("{}c", "a*".repeat(500)), &format!("{}b", "a".repeat(1023))));
    }
}
