//! Converts the arguments of a request to a command or query, and the output to a reply.
//!
//! Error texts are Redis's own, so that clients which check them work.

mod catalog;
mod fault;
mod keyspace;
mod parse;
mod shape;

pub use catalog::{CATALOG, Entry, Keys, Kind, Local, find};
pub use fault::Fault;
pub(crate) use keyspace::wait;
pub use parse::Parsed;
pub use shape::Shape;
pub(crate) use shape::text_lines;
