//! What the tests of whole groups share: a [`rig`] for real Corosync clusters on one machine.

pub mod rig;
