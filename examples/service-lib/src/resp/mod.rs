//! The Redis protocol, version 2: decodes requests and encodes replies.
//!
//! The crate `redis-protocol` decodes frames. This module adds what a server needs besides: finding
//! the end of a request without rescanning it after every read, limits that apply before a request
//! is buffered, and inline commands.

mod decoder;
mod framer;
mod inline;
mod reply;

pub use decoder::Decoder;
pub use framer::{Limits, ProtocolError};
pub use reply::{Reply, encode, error};
