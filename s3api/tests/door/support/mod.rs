//! What the door's tests stand on: a signer, a client that sends exactly what it is told, a door over a real store.

pub(crate) mod form;
pub(crate) mod server;
pub(crate) mod sign;
pub(crate) mod wire;
