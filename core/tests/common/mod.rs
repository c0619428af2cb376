//! Code shared by several tests of replicas.

#[allow(dead_code, reason = "not every test needs it")]
pub(crate) mod disk;
#[allow(dead_code, reason = "not every test needs it")]
pub(crate) mod failing;
#[allow(dead_code, reason = "not every test needs it")]
pub(crate) mod gate;
#[allow(dead_code, reason = "not every test needs it")]
pub(crate) mod held;
#[allow(dead_code, reason = "not every test needs all of it")]
pub(crate) mod ledger;
