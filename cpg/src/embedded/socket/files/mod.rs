//! The files of a ring: the socket, the lock, and the roster of connections.

pub(super) mod default_path;
pub(super) mod keeper;
pub(super) mod ring_path;
pub(super) mod roster;
