//! What the suites share: the daemon as a process ([`daemon`]), an S3 client that signs ([`s3`]), a REST client on raw sockets ([`rest`]), seeds ([`seed`]) and
//! commands ([`command`]). Knows the product only from outside: no crate of it is imported.
//!
//! A harness may panic: that is how a test fails.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::format_push_string,
    clippy::format_collect,
    clippy::return_self_not_must_use,
    reason = "a harness fails its test by a panic, tells its seed on stderr, and need not be quick"
)]

pub mod command;
pub mod daemon;
pub mod loop_disk;
pub mod rest;
pub mod s3;
pub mod seed;
pub mod sign;
pub mod stripe;
