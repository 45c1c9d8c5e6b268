//! The daemon killed under load, again and again on the same data, with the oracle outside its process: what was
//! acknowledged is there, whole (contract §3, design §9 row 1).
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by a panic")]

mod billing;
mod full_disk;
mod indexes;
mod oracle;
mod s3_load;
mod uploads;
