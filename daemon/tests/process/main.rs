//! The daemon as an operator meets it: a real process on free ports with data of its own (contract §6, D32–D35).
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by a panic, and shows the daemon's log then"
)]

mod activation;
mod command_line;
mod life;
mod process;
mod rest;
mod settings;
mod tls;
