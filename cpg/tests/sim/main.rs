//! The simulated group: what a faultless one keeps, and what an adversary can do. The labels
//! S1 to S17 are those of the table in `cpg::sim`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod adversary;
mod contract;
mod faultless;
mod listed;
mod ring_changes;
mod sending;
mod test_group;
