//! How object keys are shown as paths: one escape, reversible, pure.
//!
//! A key is cut at each `/` into segments; each segment is a name, and a directory where another segment follows.
//! Almost every name is shown as it is. What a file system cannot show begins with `coffre%` and one more character:
//!
//! | shown | is |
//! |---|---|
//! | `coffre%=BODY` | the segment BODY: empty, `.`, `..`, with a NUL in it, or one that itself begins with `coffre%` |
//! | `coffre%@BODY` | the object BODY, beside a directory of that name: key `a` where there is a key `a/b` |
//! | `coffre%+BODY/REST` | a segment longer than 255 bytes: BODY and REST without anything between, REST again by these rules |
//!
//! In BODY, `%` is `%25`, NUL is `%00`, and the dots of `.` and `..` are `%2E`. Nothing else is escaped, every key has
//! exactly one path, and a name that begins with `coffre%` without being the escape of anything names nothing.

use std::borrow::Cow;

/// What every escaped name begins with.
const LEAD: &str = "coffre%";
/// Longest name in bytes (`NAME_MAX`).
pub(crate) const NAME_BYTES_MAX: usize = 255;

/// What a shown name is the escape of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// A whole segment.
    Segment,
    /// The object beside a directory of the same name.
    Beside,
    /// The beginning of a segment that is too long; a directory.
    Begin,
}

/// A shown name, read: which text of the key it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decoded<'a> {
    pub(crate) form: Form,
    pub(crate) text: Cow<'a, str>,
}

/// The names that show a segment, from the outermost in: one, unless it is too long. `is_beside`: it is an object, and
/// a directory has its name.
pub(crate) fn encode(segment: &str, is_beside: bool) -> Vec<String> {
    let mut names = Vec::with_capacity(1);
    let mut rest = segment;
    loop {
        let whole = encode_whole(rest, is_beside);
        if whole.len() <= NAME_BYTES_MAX {
            names.push(whole.into_owned());
            return names;
        }
        let (begin, after) = rest.split_at(begin_len(rest));
        names.push(format!("{LEAD}+{}", body(begin)));
        rest = after;
    }
}

/// The text of each name but the last by which a segment is shown: none, unless it is too long.
pub(crate) fn begins(segment: &str) -> Vec<&str> {
    let mut begins = Vec::new();
    let mut rest = segment;
    while encode_whole(rest, false).len() > NAME_BYTES_MAX {
        let (begin, after) = rest.split_at(begin_len(rest));
        begins.push(begin);
        rest = after;
    }
    begins
}

/// Reads a shown name. `None`: it begins like an escape and is none. Whether it is *the* escape of what it stands for
/// is told by [`encode`] of the whole segment.
pub(crate) fn decode(name: &str) -> Option<Decoded<'_>> {
    let Some(escaped) = name.strip_prefix(LEAD) else {
        return Some(Decoded { form: Form::Segment, text: Cow::Borrowed(name) });
    };
    let mut rest = escaped.chars();
    let form = match rest.next()? {
        '=' => Form::Segment,
        '@' => Form::Beside,
        '+' => Form::Begin,
        _ => return None,
    };
    Some(Decoded { form, text: unescape(rest.as_str())?.into() })
}

fn needs_escape(segment: &str) -> bool {
    matches!(segment, "" | "." | "..") || segment.contains('\0') || segment.starts_with(LEAD)
}

fn encode_whole(segment: &str, is_beside: bool) -> Cow<'_, str> {
    if is_beside {
        format!("{LEAD}@{}", body(segment)).into()
    } else if needs_escape(segment) {
        format!("{LEAD}={}", body(segment)).into()
    } else {
        segment.into()
    }
}

fn body(text: &str) -> String {
    if matches!(text, "." | "..") {
        return text.replace('.', "%2E");
    }
    text.replace('%', "%25").replace('\0', "%00")
}

fn unescape(body: &str) -> Option<String> {
    let mut text = String::with_capacity(body.len());
    let mut rest = body;
    while let Some(at) = rest.find('%') {
        let (before, after) = rest.split_at_checked(at)?;
        text.push_str(before);
        text.push(match after.get(1..3)? {
            "25" => '%',
            "00" => '\0',
            "2E" => '.',
            _ => return None,
        });
        rest = after.get(3..)?;
    }
    text.push_str(rest);
    Some(text)
}

/// How much of a segment that is too long stands in the first name: as many characters as fit, and never all of it.
fn begin_len(segment: &str) -> usize {
    let room = NAME_BYTES_MAX - LEAD.len() - 1;
    let (mut used, mut len) = (0, 0);
    for c in segment.chars() {
        used += if matches!(c, '%' | '\0') { 3 } else { c.len_utf8() };
        if used > room || len + c.len_utf8() == segment.len() {
            break;
        }
        len += c.len_utf8();
    }
    len
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Reads the names of one segment back, as a lookup of each in turn would.
    fn read(names: &[String]) -> Option<(String, bool)> {
        let mut segment = String::new();
        let (last, begins) = names.split_last()?;
        for begin in begins {
            let decoded = decode(begin)?;
            assert_eq!(decoded.form, Form::Begin);
            segment.push_str(&decoded.text);
        }
        let decoded = decode(last)?;
        segment.push_str(&decoded.text);
        (decoded.form != Form::Begin).then_some((segment, decoded.form == Form::Beside))
    }

    fn check(segment: &str, is_beside: bool) -> Vec<String> {
        let names = encode(segment, is_beside);
        for name in &names {
            assert!((1..=NAME_BYTES_MAX).contains(&name.len()), "{segment:?}: {name:?}");
            assert!(name != "." && name != ".." && !name.contains(['/', '\0']), "{segment:?}: {name:?}");
        }
        assert_eq!(read(&names), Some((segment.to_owned(), is_beside)), "{names:?}");
        let begins = begins(segment);
        assert!(segment.starts_with(&begins.concat()) && begins.len() < names.len(), "{begins:?}");
        names
    }

    #[test]
    fn ordinary_names_are_shown_as_they_are() {
        for name in
            ["a", "100%.txt", "été 🎉", ".hidden", "...", "a~", "coffre", "%=x", "back\\slash", "new\nline"]
        {
            assert_eq!(check(name, false), [name]);
        }
    }

    #[test]
    fn what_cannot_be_shown_has_one_escape() {
        for (segment, is_beside, shown) in [
            ("", false, "coffre%="),
            (".", false, "coffre%=%2E"),
            ("..", false, "coffre%=%2E%2E"),
            ("a\0b", false, "coffre%=a%00b"),
            ("coffre%=", false, "coffre%=coffre%25="),
            ("a", true, "coffre%@a"),
            ("", true, "coffre%@"),
            ("..", true, "coffre%@%2E%2E"),
            ("50%", true, "coffre%@50%25"),
        ] {
            assert_eq!(check(segment, is_beside), [shown]);
        }
        let long = "x".repeat(600);
        let names = check(&long, false);
        assert_eq!(names.len(), 3);
        assert_eq!(names[0], format!("coffre%+{}", "x".repeat(247)));
        assert_eq!(check(&"y".repeat(255), false).len(), 1);
        assert_eq!(check(&"y".repeat(256), false).len(), 2);
        assert_eq!(check(&"y".repeat(250), true).len(), 2);
    }

    #[test]
    fn what_is_no_escape_is_refused() {
        for name in ["coffre%", "coffre%x", "coffre%=%", "coffre%=%2", "coffre%=%41", "coffre%@%é"] {
            assert_eq!(decode(name), None, "{name}");
        }
    }

    /// Text that meets the escape's own characters often, of every length a key can have.
    fn segments() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            4 => "[a-z%.]{0,6}",
            1 => Just("coffre%".to_owned()),
            1 => Just("coffre%+".to_owned()),
            1 => Just("\0".to_owned()),
            1 => "[^/]{0,300}",
        ];
        proptest::collection::vec(piece, 0..5).prop_map(|pieces| {
            let mut text = pieces.concat();
            while text.len() > 1024 {
                text.pop();
            }
            text
        })
    }

    proptest! {
        #[test]
        fn every_segment_comes_back(segment in segments(), is_beside: bool) {
            check(&segment, is_beside);
        }

        #[test]
        fn no_two_are_shown_alike(all in proptest::collection::vec((segments(), any::<bool>()), 2..40)) {
            let mut seen = HashMap::new();
            for (segment, is_beside) in all {
                let other = seen.insert(encode(&segment, is_beside), (segment.clone(), is_beside));
                prop_assert!(other.is_none_or(|other| other == (segment, is_beside)));
            }
        }

        #[test]
        fn no_name_is_read_with_a_panic(name in "(coffre%)?[=@+]?[^/\0]{0,40}") {
            if let Some(decoded) = decode(&name) {
                let shown = encode(&decoded.text, decoded.form == Form::Beside);
                prop_assert!(!shown.is_empty());
            }
        }
    }
}
