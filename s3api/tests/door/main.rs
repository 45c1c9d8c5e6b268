//! The S3 door from outside: a real store behind it, requests written and signed by hand in front.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
#![expect(clippy::format_collect, clippy::format_push_string, reason = "short lists, read more easily so")]

mod buckets;
mod lists;
mod matrix;
mod multipart;
mod objects;
mod support;
mod tenants;
