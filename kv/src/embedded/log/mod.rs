//! The log: what every promise of the engine stands on.
//!
//! Owns `log/*.seg`: how frames look ([`frame`]), files and reading ([`segment`]), writing and rolling ([`write`]),
//! segments made ahead ([`prepare`]), finding the end after a crash ([`recover`]), and moving live values out of nearly
//! dead segments ([`compaction`]).
//!
//! **The chain.** Every segment's first frame says where the log before it ends. After a crash the log is cut at its end
//! and goes on in a new segment; numbers are never used twice. So where one segment ends and the next begins is never
//! guessed.

pub(crate) mod compaction;
pub(crate) mod frame;
pub(crate) mod prepare;
pub(crate) mod recover;
pub(crate) mod segment;
pub(crate) mod write;

#[cfg(test)]
mod tests;
