//! The mount from outside: what programs do in it, what the other doors see of it, and what is left after a kill.
//! Needs root, `/dev/fuse`, and the programs that `make setup` installs.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by a panic, and tells its figures, and what it could not end, on stderr"
)]

mod doors;
mod files;
mod kill;
mod life;
mod limits;
mod names;
mod namespace;
mod posix;
mod programs;
mod quota;
mod rig;
