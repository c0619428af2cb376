//! What the tests of whole groups share.
//!
//! | module | what |
//! | --- | --- |
//! | [`rig`] | real Corosync clusters on one machine |
//! | [`scenario`] | single stories on a simulated group |
//! | [`simulation`] | thousands of them, drawn from seeds |

pub mod rig;
pub mod scenario;
pub mod simulation;
