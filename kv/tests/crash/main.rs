//! Proofs that the embedded engine keeps what it acknowledged: through freezes, failures, kills, power cuts, damage of
//! its index and a full disk.
//!
//! Every proof writes the same workload ([`workload`]) and asks the same oracle ([`oracle`]), and has a canary beside
//! it: the same proof over something broken on purpose, which has to fail. `COFFRE_SEED` repeats a run,
//! `COFFRE_ROUNDS` makes it longer.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]
#![expect(clippy::print_stdout, reason = "a test tells its seed and what it met")]

mod damage;
mod freeze;
mod full;
mod image;
mod kill;
mod oracle;
mod power;
mod setup;
mod workload;
