//! Listeners and connections, the same for every door: binding, TLS, limits, timeouts, drain, measurement.

pub(crate) mod connection;
pub(crate) mod listen;
pub(crate) mod observe;
pub(crate) mod patience;
pub(crate) mod tls;
