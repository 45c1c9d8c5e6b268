//! What every route stands on: request ids and the panic guard.

pub(crate) mod panic;
pub(crate) mod request_id;
