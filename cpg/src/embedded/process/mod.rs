//! Members within one process: a ring that is ordered by a lock.

mod connection;
mod node;
mod ring;
mod ring_state;

pub use node::Node;
pub use ring::LocalRing;
