//! What the tests of whole groups share.
//!
//! | module | what |
//! | --- | --- |
//! | [`rig`] | real Corosync clusters on one machine |
//! | [`scenario`] | single stories on a simulated group |
//! | [`simulation`] | thousands of them, drawn from seeds |
//! | `torture` | real groups on real daemons, while everything fails (feature `corosync`) |
//! | [`mutation`] | patches that break one rule each |
//! | [`rules`] | which code and tests name each rule of the protocol |
//! | [`prose`] | a check of comments and documents against common faults of style |
//! | `client` | a client of kv, for these |

#[cfg(feature = "corosync")]
pub mod client;
pub mod mutation;
pub mod prose;
mod repository;
pub mod rig;
pub mod rules;
pub mod scenario;
pub mod simulation;
#[cfg(feature = "corosync")]
pub mod torture;
