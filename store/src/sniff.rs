//! A MIME type by the first bytes (contract D17).
//!
//! Content decides; the name's extension only tells apart what content cannot: kinds of text, of zip and of OLE
//! containers. Promises: never panics, whatever the bytes. Zip and OLE are read here and not by `infer`, which would
//! interpret offsets inside them.

/// How many leading bytes [`sniff`] looks at.
pub const SNIFF_BYTES: usize = 4096;

/// The MIME type of content that begins with `head` and is called `name`; `None` when neither says anything.
pub fn sniff(head: &[u8], name: &str) -> Option<&'static str> {
    let head = head.get(..SNIFF_BYTES).unwrap_or(head);
    let extension = extension(name);
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Some(zip_type(head, &extension));
    }
    if head.starts_with(&[0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1]) {
        return Some(ole_type(&extension));
    }
    if is_text(head) {
        return text_type(head, &extension);
    }
    infer::get(head).map(|found| found.mime_type())
}

fn extension(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or_default();
    name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default()
}

/// Text has no control characters but white space and escape. Bytes beyond ASCII are UTF-8 or an old 8-bit encoding;
/// UTF-16 says so by its mark. An empty file is text, its name says of which kind.
fn is_text(head: &[u8]) -> bool {
    let is_utf16 = head.starts_with(&[0xFF, 0xFE]) || head.starts_with(&[0xFE, 0xFF]);
    let is_control = |b: u8| b < 0x20 && !matches!(b, b'\t' | b'\n' | 0x0B | 0x0C | b'\r' | 0x1B);
    if is_utf16 {
        // an MP3 frame can begin with FF FE; text of Western scripts has a zero in every second byte
        let odd_zeros = head.chunks_exact(2).filter(|pair| pair.contains(&0)).count();
        return odd_zeros * 2 > head.len() / 2;
    }
    if head.iter().any(|b| is_control(*b) || *b == 0x7F) {
        return false;
    }
    match std::str::from_utf8(head) {
        Ok(_) => true,
        // cut inside a character at the end of the 4 KiB
        Err(error) if error.error_len().is_none() => true,
        // 8-bit: mostly letters of ASCII, and none of the bytes that these encodings leave empty
        Err(_) => {
            let high = head.iter().filter(|b| **b >= 0x80).count();
            !head.iter().any(|b| (0x80..0xA0).contains(b)) && high * 3 < head.len()
        }
    }
}

/// Kinds of text. What content shows (HTML, XML, SVG, JSON, a script, a rich text) wins over the extension, an
/// extension of the text family over `text/plain`.
fn text_type(head: &[u8], extension: &str) -> Option<&'static str> {
    let body = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
    let by_name = text_by_extension(extension);
    if body.is_empty() {
        return if head.is_empty() { by_name } else { by_name.or(Some("text/plain")) };
    }
    if body.starts_with(b"%PDF-") {
        return Some("application/pdf");
    }
    if body.starts_with(b"%!PS") {
        return Some("application/postscript");
    }
    if body.starts_with(b"{\\rtf") {
        return Some("application/rtf");
    }
    if body.starts_with(b"<")
        && let Some(kind) = markup_type(body, by_name)
    {
        return Some(kind);
    }
    if body.starts_with(b"#!") && by_name.is_none() {
        return Some("text/x-shellscript");
    }
    if body.starts_with(b"BEGIN:VCARD") {
        return Some("text/vcard");
    }
    if body.starts_with(b"BEGIN:VCALENDAR") {
        return Some("text/calendar");
    }
    Some(by_name.unwrap_or("text/plain"))
}

fn markup_type(body: &[u8], by_name: Option<&'static str>) -> Option<&'static str> {
    let has = |needle: &[u8]| body.windows(needle.len()).any(|w| w.eq_ignore_ascii_case(needle));
    let begins = |start: &[u8]| body.get(..start.len()).is_some_and(|b| b.eq_ignore_ascii_case(start));
    let is_markdown = by_name == Some("text/markdown");
    if begins(b"<?xml") || begins(b"<!--") || begins(b"<svg") || begins(b"<!doctype") {
        if has(b"<svg") && !has(b"<html") {
            return Some("image/svg+xml");
        }
        if has(b"<html") || begins(b"<!doctype html") {
            return Some(if begins(b"<?xml") { "application/xhtml+xml" } else { "text/html" });
        }
        if begins(b"<?xml") {
            return Some(if by_name == Some("text/html") { "text/html" } else { "application/xml" });
        }
    }
    let is_html = [
        &b"<html"[..],
        b"<head",
        b"<body",
        b"<script",
        b"<table",
        b"<div",
        b"<title",
        b"<style",
        b"<h1",
        b"<p",
    ]
    .iter()
    .any(|tag| begins(tag) && matches!(body.get(tag.len()), Some(b' ' | b'>' | b'\n' | b'\r' | b'\t')));
    (is_html && !is_markdown).then_some("text/html")
}

fn text_by_extension(extension: &str) -> Option<&'static str> {
    Some(match extension {
        "txt" | "text" | "log" | "conf" | "cfg" | "ini" => "text/plain",
        "csv" => "text/csv",
        "tsv" => "text/tab-separated-values",
        "md" | "markdown" => "text/markdown",
        "html" | "htm" => "text/html",
        "css" => "text/css",
        "js" | "mjs" => "text/javascript",
        "json" | "map" => "application/json",
        "geojson" => "application/geo+json",
        "ndjson" | "jsonl" => "application/x-ndjson",
        "xml" | "xsd" | "xsl" => "application/xml",
        "svg" => "image/svg+xml",
        "yaml" | "yml" => "application/yaml",
        "toml" => "application/toml",
        "sql" => "application/sql",
        "tex" => "application/x-tex",
        "ics" => "text/calendar",
        "vcf" => "text/vcard",
        "vtt" => "text/vtt",
        "srt" => "application/x-subrip",
        "eml" => "message/rfc822",
        "m3u8" => "application/vnd.apple.mpegurl",
        "sh" | "bash" => "text/x-shellscript",
        "py" => "text/x-python",
        "rs" => "text/x-rust",
        "c" | "h" => "text/x-c",
        "java" => "text/x-java",
        "php" => "application/x-httpd-php",
        _ => return None,
    })
}

const DOCX: &str = "application/vnd.openxmlformats-officedocument.wordprocessingml.document";
const XLSX: &str = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet";
const PPTX: &str = "application/vnd.openxmlformats-officedocument.presentationml.presentation";

/// Types that an archive's first entry, `mimetype`, may name (OpenDocument, EPUB), with their extensions.
const DECLARED: [(&str, &str); 8] = [
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("odp", "application/vnd.oasis.opendocument.presentation"),
    ("odg", "application/vnd.oasis.opendocument.graphics"),
    ("odf", "application/vnd.oasis.opendocument.formula"),
    ("ott", "application/vnd.oasis.opendocument.text-template"),
    ("ots", "application/vnd.oasis.opendocument.spreadsheet-template"),
    ("epub", "application/epub+zip"),
];

/// Kinds of zip, by the names of the entries that begin in `head`, then by the extension.
fn zip_type(head: &[u8], extension: &str) -> &'static str {
    let names = zip_names(head);
    let any = |prefix: &str| names.iter().any(|name| name.starts_with(prefix.as_bytes()));
    if names.first().is_some_and(|name| *name == b"mimetype") {
        // stored, not deflated, right behind the header of 30 bytes and the name of 8 (and no extra field)
        let body = head.get(38..).unwrap_or_default();
        let mut found = DECLARED.iter().filter(|(_, mime)| body.starts_with(mime.as_bytes()));
        // the longest match: a template's type begins with the document's
        if let Some((_, mime)) = found.by_ref().max_by_key(|(_, mime)| mime.len()) {
            return mime;
        }
    }
    if any("word/") {
        return DOCX;
    }
    if any("xl/") {
        return XLSX;
    }
    if any("ppt/") {
        return PPTX;
    }
    if any("AndroidManifest.xml") {
        return "application/vnd.android.package-archive";
    }
    let declared = DECLARED.iter().find(|(end, _)| *end == extension).map(|(_, mime)| *mime);
    match extension {
        "docx" => DOCX,
        "xlsx" => XLSX,
        "pptx" => PPTX,
        "apk" => "application/vnd.android.package-archive",
        "jar" => "application/java-archive",
        "kmz" => "application/vnd.google-earth.kmz",
        _ if any("META-INF/MANIFEST.MF") => "application/java-archive",
        _ => declared.unwrap_or("application/zip"),
    }
}

/// Names of the local headers in `head`. Found by their signature, not by sizes, which may lie or be missing.
fn zip_names(head: &[u8]) -> Vec<&[u8]> {
    let mut names = Vec::new();
    for (at, window) in head.windows(4).enumerate() {
        if window != b"PK\x03\x04" {
            continue;
        }
        let Some([low, high]) = head.get(at + 26..at + 28) else { break };
        let len = usize::from(u16::from_le_bytes([*low, *high]));
        let Some(name) = head.get(at + 30..at + 30 + len) else { break };
        names.push(name);
    }
    names
}

/// Kinds of OLE container: what is inside lies beyond the first 4 KiB as a rule, so the name says.
fn ole_type(extension: &str) -> &'static str {
    match extension {
        "doc" | "dot" => "application/msword",
        "xls" | "xlt" => "application/vnd.ms-excel",
        "ppt" | "pps" | "pot" => "application/vnd.ms-powerpoint",
        "msg" => "application/vnd.ms-outlook",
        "msi" => "application/x-msi",
        "pub" => "application/vnd.ms-publisher",
        "vsd" => "application/vnd.visio",
        _ => "application/x-ole-storage",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (name, content) in entries {
            bytes.extend_from_slice(b"PK\x03\x04");
            bytes.extend_from_slice(&[0; 22]);
            bytes.extend_from_slice(&u16::try_from(name.len()).unwrap().to_le_bytes());
            bytes.extend_from_slice(&[0; 2]);
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(content);
        }
        bytes
    }

    #[test]
    fn content_decides_and_the_extension_breaks_ties() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
        let latin1 = b"Le caf\xe9 est ferm\xe9 aujourd'hui, revenez demain.";
        let docx = zip(&[("[Content_Types].xml", b"x"), ("_rels/.rels", b"x"), ("word/document.xml", b"x")]);
        let plain_zip = zip(&[("a.txt", b"hello")]);
        let odt = zip(&[("mimetype", b"application/vnd.oasis.opendocument.textPK")]);
        let ott = zip(&[("mimetype", b"application/vnd.oasis.opendocument.text-templatePK")]);
        let ole = [0xD0, 0xCF, 0x11, 0xE0, 0xA1, 0xB1, 0x1A, 0xE1, 0, 0, 0, 0];
        let cut = "é".repeat(3000);
        let table: Vec<(&[u8], &str, Option<&str>)> = vec![
            (b"%PDF-1.7\n", "a.txt", Some("application/pdf")),
            (b"%PDF-1.7\n\xe2\xe3\xcf\xd3\n\0", "a", Some("application/pdf")),
            (png, "a.pdf", Some("image/png")),
            (b"\xff\xd8\xff\xe0\0\x10JFIF", "a", Some("image/jpeg")),
            (b"hello", "a", Some("text/plain")),
            (b"hello", "a.pdf", Some("text/plain")),
            (b"a,b\n1,2\n", "a.csv", Some("text/csv")),
            (b"# title", "dir.x/a.MD", Some("text/markdown")),
            (b"{\"a\":1}", "a.json", Some("application/json")),
            (latin1, "a", Some("text/plain")),
            (cut.as_bytes().get(1..).unwrap(), "a", None),
            (cut.as_bytes(), "a", Some("text/plain")),
            (b"", "a.txt", Some("text/plain")),
            (b"", "a.png", None),
            (b"\n\n", "a", Some("text/plain")),
            (b"<!DOCTYPE html><html>", "a.txt", Some("text/html")),
            (b"<?xml version=\"1.0\"?><svg xmlns=\"\">", "a", Some("image/svg+xml")),
            (b"<?xml version=\"1.0\"?><a/>", "a.txt", Some("application/xml")),
            (b"<svg width=\"1\">", "a", Some("image/svg+xml")),
            (b"<p>x", "a.md", Some("text/markdown")),
            (b"#!/bin/sh\n", "a", Some("text/x-shellscript")),
            (b"#!/usr/bin/env python3\n", "a.py", Some("text/x-python")),
            (b"\xff\xfeh\0i\0", "a.txt", Some("text/plain")),
            (&docx, "a.zip", Some(DOCX)),
            (&plain_zip, "a", Some("application/zip")),
            (&plain_zip, "a.xlsx", Some(XLSX)),
            (&plain_zip, "a.pdf", Some("application/zip")),
            (&odt, "a.docx", Some("application/vnd.oasis.opendocument.text")),
            (&ott, "a", Some("application/vnd.oasis.opendocument.text-template")),
            (&ole, "a.doc", Some("application/msword")),
            (&ole, "a", Some("application/x-ole-storage")),
            (b"\0\x01\x02\x03", "a.pdf", None),
        ];
        for (head, name, expected) in table {
            assert_eq!(sniff(head, name), expected, "{:?} {name}", &head[..head.len().min(40)]);
        }
    }

    proptest! {
        #[test]
        fn never_panics(
            magic in 0..12_usize,
            rest in proptest::collection::vec(any::<u8>(), 0..200),
            name in "[a-z.]{0,8}",
        ) {
            let magics: [&[u8]; 12] = [
                b"", b"PK\x03\x04", b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", b"RIFF", b"\x1aE\xdf\xa3", b"\0\0\0\x20ftyp",
                b"ID3", b"MZ", b"\x7fELF", b"II*\0", b"\xca\xfe\xba\xbe", b"<?xml",
            ];
            let mut head = magics[magic].to_vec();
            head.extend_from_slice(&rest);
            for end in [head.len(), head.len() / 2, 4.min(head.len())] {
                let _: Option<&str> = sniff(&head[..end], &name);
            }
        }
    }
}
