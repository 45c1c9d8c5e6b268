//! `coffre status`: what the daemon does, where its doors are, what is stored.

use std::process::ExitCode;

use serde_json::Value;

use super::output::{columns, size};
use super::{Context, list, number, text};
use crate::control::Command;
use crate::error::Result;

pub(super) fn run(context: &Context) -> Result<ExitCode> {
    let status = context.ask(&Command::Status)?;
    context.output.result(&status, human);
    Ok(ExitCode::SUCCESS)
}

fn human(status: &Value) -> String {
    let none = Value::Null;
    let part = |name: &str| status.get(name).unwrap_or(&none);
    let (listen, kv, memory, disk) = (part("listen"), part("kv"), part("memory"), part("disk"));
    let mut rows: Vec<(&str, String)> = vec![
        ("state", text(status, "state").to_owned()),
        ("version", text(status, "version").to_owned()),
        ("process", format!("{}, up {}", number(status, "pid"), duration(number(status, "uptime_seconds")))),
        ("data", text(status, "data").to_owned()),
        ("S3", text(listen, "s3_url").to_owned()),
        ("REST", text(listen, "rest_url").to_owned()),
        ("index", format!("{}, {}", text(kv, "opened"), size(number(kv, "index_bytes")))),
        ("log", size(number(kv, "log_bytes"))),
        ("commits", format!("{} in {} syncs since the start", number(kv, "commits"), number(kv, "syncs"))),
        ("memory", size(number(memory, "rss_bytes"))),
        (
            "disk",
            format!("{} free of {}", size(number(disk, "free_bytes")), size(number(disk, "total_bytes"))),
        ),
    ];
    if let Some(error) = status.get("error").and_then(Value::as_str) {
        rows.push(("error", error.to_owned()));
    }
    let mut lines =
        rows.iter().map(|(name, value)| format!("{name:9} {value}\n")).collect::<Vec<_>>().concat();
    let buckets = list(status, "buckets");
    if !buckets.is_empty() {
        let row = |bucket: &Value| {
            vec![
                text(bucket, "name").to_owned(),
                number(bucket, "objects").to_string(),
                size(number(bucket, "bytes")),
            ]
        };
        lines.push('\n');
        lines.push_str(&columns(
            &["BUCKET", "OBJECTS", "BYTES"],
            &buckets.iter().map(row).collect::<Vec<_>>(),
        ));
    }
    lines
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (seconds, text) in [(5, "5 s"), (60, "1 min"), (3_700, "1 h 1 min"), (90_000, "1 d 1 h")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
