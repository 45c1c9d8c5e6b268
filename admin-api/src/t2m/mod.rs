//! t2m's API (contract §5.5). Its routes are to come; what is not a route of the gateway below `/api/v1` is answered in
//! its style already.

pub(crate) mod dialect;
