//! `Content-Disposition`: what a file is called on its way out (RFC 6266, RFC 8187) and in (RFC 7578): pure.

use axum::http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Whether a browser shows the bytes or saves them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// Shows.
    Inline,
    /// Saves.
    Attachment,
}

/// All but RFC 8187's `attr-char`.
const NOT_ATTR: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// The header's value: always with `filename` in ASCII; with `filename*` where that says less than the name.
pub(crate) fn header(disposition: Disposition, name: &str) -> HeaderValue {
    let kind = match disposition {
        Disposition::Inline => "inline",
        Disposition::Attachment => "attachment",
    };
    let ascii: String = name.chars().map(fallback).collect();
    let mut text = format!("{kind}; filename=\"{ascii}\"");
    if ascii != name {
        text.push_str("; filename*=UTF-8''");
        text.extend(utf8_percent_encode(name, NOT_ATTR));
    }
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("attachment"))
}

/// What stands for a character where only plain ASCII is understood by all. `%`, quotes and backslashes are read in
/// different ways by different clients.
fn fallback(c: char) -> char {
    if (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '\\' | '%' | '/') { c } else { '_' }
}

/// The `filename` of a form's part: `filename*` first, else `filename`, whose quotes and percent-escapes are those
/// of browsers (WHATWG: `%22`, `%0D`, `%0A`).
pub(crate) fn file_name(header: &str) -> Option<String> {
    let (mut plain, mut extended) = (None, None);
    for (name, value) in parameters(header) {
        if name.eq_ignore_ascii_case("filename*") {
            extended = decode_extended(&value);
        } else if name.eq_ignore_ascii_case("filename") {
            plain = Some(value.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n"));
        }
    }
    extended.or(plain)
}

/// A header's parameter by its name, in any case of letters.
pub(crate) fn parameter(header: &str, name: &str) -> Option<String> {
    parameters(header).into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Names and values behind the first `;`, quotes undone.
fn parameters(header: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = header.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((name, after)) = rest.split_once('=') {
        let (value, left) = value(after.trim_start());
        found.push((name.trim().to_owned(), value));
        rest = left.split_once(';').map_or("", |(_, rest)| rest);
    }
    found
}

/// A token or a quoted string, and what follows it.
fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let (value, left) = text.split_at(end);
        return (value.trim().to_owned(), left);
    };
    let (mut value, mut chars) = (String::new(), quoted.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            // Only quotes and backslashes are escaped: browsers on Windows sent whole paths with bare backslashes.
            '\\' => match quoted.get(at + 1..).and_then(|rest| rest.chars().next()) {
                Some(escaped @ ('"' | '\\')) => {
                    value.push(escaped);
                    chars.next();
                }
                _ => value.push('\\'),
            },
            c => value.push(c),
        }
    }
    (value, "")
}

fn decode_extended(value: &str) -> Option<String> {
    let mut fields = value.splitn(3, '\'');
    let (charset, _language, text) = (fields.next()?, fields.next()?, fields.next()?);
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_their_way_out() {
        for (name, expected) in [
            ("a b.pdf", "attachment; filename=\"a b.pdf\""),
            ("été.pdf", "attachment; filename=\"_t_.pdf\"; filename*=UTF-8''%C3%A9t%C3%A9.pdf"),
            ("a\"b\\c.txt", "attachment; filename=\"a_b_c.txt\"; filename*=UTF-8''a%22b%5Cc.txt"),
            ("a\r\nb: c", "attachment; filename=\"a__b: c\"; filename*=UTF-8''a%0D%0Ab%3A%20c"),
            ("100%.txt", "attachment; filename=\"100_.txt\"; filename*=UTF-8''100%25.txt"),
            ("🎉", "attachment; filename=\"_\"; filename*=UTF-8''%F0%9F%8E%89"),
        ] {
            assert_eq!(header(Disposition::Attachment, name), expected, "{name}");
        }
        assert_eq!(header(Disposition::Inline, "x"), "inline; filename=\"x\"");
    }

    #[test]
    fn names_on_their_way_in() {
        for (header, expected) in [
            ("form-data; name=\"files\"; filename=\"a.txt\"", Some("a.txt")),
            ("form-data; name=\"f\"; filename=\"été (1).md\"", Some("été (1).md")),
            ("form-data; name=f; filename=a.txt", Some("a.txt")),
            ("form-data; name=\"f\"; filename=\"a%22b;c.txt\"", Some("a\"b;c.txt")),
            ("form-data; name=\"f\"; filename=\"a\\\"b.txt\"", Some("a\"b.txt")),
            ("form-data; name=\"f\"; filename=\"C:\\dir\\a.txt\"", Some("C:\\dir\\a.txt")),
            ("form-data; name=\"f\"; filename=\"x\"; filename*=UTF-8''%C3%A9", Some("é")),
            ("form-data; name=\"f\"; filename*=latin1''%E9; filename=\"y\"", Some("y")),
            ("form-data; name=\"filename=no\"", None),
            ("form-data; name=\"f\"", None),
            ("form-data; filename=\"", Some("")),
            ("", None),
        ] {
            assert_eq!(file_name(header).as_deref(), expected, "{header}");
        }
    }
}
