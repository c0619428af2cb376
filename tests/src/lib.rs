//! What the tests of whole groups share: a [`rig`] for real Corosync clusters on one machine,
//! and [`scenario`]s on a simulated one.

pub mod rig;
pub mod scenario;
