//! What commands print: JSON, or lines and columns for people.

use std::io::{self, Write as _};

use serde_json::Value;

/// Where and how results go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    is_json: bool,
}

impl Output {
    pub(super) fn new(is_json: bool) -> Self {
        Self { is_json }
    }

    /// The value with `--json`, else what `human` makes of it.
    pub(super) fn result(self, value: &Value, human: impl FnOnce(&Value) -> String) {
        let text = if self.is_json { value.to_string() } else { human(value) };
        self.lines(&text);
    }

    /// Text on stdout. A reader that went away (`| head`) is no error of ours.
    #[expect(clippy::unused_self, reason = "whoever prints was given the right to")]
    pub(crate) fn lines(self, text: &str) {
        let written = writeln!(io::stdout(), "{}", text.trim_end_matches('\n'));
        if written.is_err() {
            tracing::debug!("stdout is closed");
        }
    }

    /// Why the command did not do what was asked, on stderr.
    pub(super) fn error(self, text: &str) {
        let line = if self.is_json {
            serde_json::json!({"error": text}).to_string()
        } else {
            format!("coffre: {text}")
        };
        if writeln!(io::stderr(), "{line}").is_err() {
            tracing::debug!("stderr is closed");
        }
    }
}

/// Rows under headings, in columns as wide as their widest cell.
pub(super) fn columns(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |i: usize| {
        let cells = rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count());
        cells.chain(headings.get(i).map(|heading| heading.chars().count())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let mut lines = vec![line(&mut headings.iter().copied())];
    lines.extend(rows.iter().map(|row| line(&mut row.iter().map(String::as_str))));
    lines.concat()
}

/// A size for people: three digits and a binary unit.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

/// `1 blob`, `2 blobs`.
pub(super) fn count(n: u64, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["ann".into(), "USER".into()], vec!["é".into(), String::new()]];
        assert_eq!(columns(&["NAME", "ROLE"], &rows), "NAME  ROLE\nann   USER\né\n");
    }

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 30, "5.0 GiB")] {
            assert_eq!(size(bytes), text);
        }
    }
}
