//! Members within one process: a ring whose order is that of a lock.

mod connection;
mod node;
mod ring;
mod ring_state;

pub use node::Node;
pub use ring::LocalRing;
