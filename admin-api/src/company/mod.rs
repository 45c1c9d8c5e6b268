//! The company's API (contract §5.6): files of a company, whole or in chunks, with previews.
//!
//! A file is the object `companies/{company_id}/{file_id}/{filename}`. One that was announced and is not whole yet is an
//! upload under that key; its chunks are parts, and the last to come makes the object. Who is no member of the company is
//! told that nothing is there, for every verb.

pub(crate) mod dialect;
mod files;
mod query;
mod routes;
mod view;

pub(crate) use files::Beginnings;
pub(crate) use routes::routes;

/// What all its addresses begin with.
pub(crate) const PREFIX: &str = "/internal/services/files/v1";
