//! The Redis protocol, version 2, between bytes on a connection and requests.
//!
//! What a frame is, the crate `redis-protocol` knows. This module adds what a server
//! needs around it: where a request ends without starting again at every read, limits
//! before anything is buffered, and requests that are typed by hand.

mod decoder;
mod framer;
mod inline;
mod reply;

pub use decoder::Decoder;
pub use framer::{Limits, ProtocolError};
pub use reply::{Reply, encode, error};
