//! What every route stands on: the frame around requests, who calls, bodies in, stored objects out.

pub(crate) mod address;
pub(crate) mod body;
pub(crate) mod caller;
pub(crate) mod conditions;
pub(crate) mod cors;
pub(crate) mod disposition;
pub(crate) mod form;
pub(crate) mod frame;
pub(crate) mod input;
pub(crate) mod language;
pub(crate) mod rate;
pub(crate) mod request_id;
pub(crate) mod send;
