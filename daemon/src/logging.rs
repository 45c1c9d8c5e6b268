//! Logs: `tracing` events on stderr, as text or JSON lines.
//!
//! Promises: no secrets (types that hold one print nothing; requests are logged without their queries' values). A line
//! that cannot be written, as to a file on a full disk, is lost, and nothing else.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{LogFormat, LogLevel};

/// Starts logging for the whole process.
pub(crate) fn start(level: LogLevel, format: LogFormat) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter(level)))
        .with_writer(std::io::stderr)
        // it would be told on the same stderr, by a print that panics when nothing can be written there
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// Our own crates at the level asked for; libraries one step quieter. s3s logs every error answer, a plain 404 too,
/// as an error: what matters of them is in our own access log.
fn filter(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error,s3s=off",
        LogLevel::Warn => "warn,s3s=off",
        LogLevel::Info => "info,s3s=off,sled=warn,fjall=warn,lsm_tree=warn,h2=warn,hyper=warn,rustls=warn",
        LogLevel::Debug => "debug,s3s=off,sled=info,fjall=info,lsm_tree=info,h2=info,hyper=info,rustls=info",
        LogLevel::Trace => "trace,s3s=debug,h2=debug,hyper=debug,rustls=debug",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_is_one() {
        for level in [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace] {
            assert!(EnvFilter::try_new(filter(level)).is_ok(), "{level:?}");
        }
    }
}
