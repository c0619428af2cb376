//! What replicas exchange and keep: identifiers, log entries, messages and their encoding.
//!
//! A leaf of the crate: nothing in here uses the engine, the runtime or the state machine.

pub mod codec;
pub(crate) mod entry;
pub mod message;
pub(crate) mod snapshot_name;
pub(crate) mod types;
