//! Shared code of the tests of whole groups.
//!
//! | module | content |
//! | --- | --- |
//! | [`rig`] | real Corosync clusters on one machine |
//! | [`scenario`] | scripted scenarios on a simulated group |
//! | [`simulation`] | random worlds, one per seed |
//! | `torture` | real groups on real daemons, with random faults (feature `corosync`) |
//! | [`mutation`] | patches that break one rule each |
//! | [`rules`] | the code and tests that name each rule of the protocol |
//! | [`prose`] | a check of comments and documents against common faults of style |
//! | `client` | a client of kv for these tests |

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
