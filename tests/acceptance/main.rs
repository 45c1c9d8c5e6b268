//! The process from outside: what the contract promises of the daemon as a whole.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by a panic")]

mod admin;
mod billing;
mod company;
mod coverage;
mod filing;
mod gateway;
mod memory;
mod soak;
mod tenants;
