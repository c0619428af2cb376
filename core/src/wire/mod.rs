//! The data that replicas exchange and store: identifiers, log entries, messages and their
//! encoding.
//!
//! This module depends on no other module of the crate.

pub mod codec;
pub(crate) mod entry;
pub mod message;
pub(crate) mod snapshot_name;
pub(crate) mod types;
