//! Checks that what clients of registers read and wrote is linearizable.
//!
//! A workload records each [`Access`] of a register in a [`History`] when a client calls and when
//! it is answered, and asks at the end for a register whose history is wrong. The simulation, the
//! torture tests and the tests of `kv` use it.

mod access;
mod history;

pub use access::Access;
pub use history::History;
