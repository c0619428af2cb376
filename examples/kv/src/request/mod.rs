//! From the arguments of a request to what is asked of the store, and from its output to a reply.
//!
//! The words of every error are Redis's own, so that clients which look at them work.

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
