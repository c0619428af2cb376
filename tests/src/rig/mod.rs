//! Real Corosync clusters on one machine, for tests.
//!
//! Each node of a [`Cluster`] has namespaces of its own: a network, joined to the others by
//! a virtual switch, and mounts, with its own `/run`, `/etc/corosync`, `/var/lib/corosync`
//! and `/dev/shm`. A program that is run in a node finds that node's daemon and no other.
//! A partition and a check:
//!
//! ```no_run
//! use plainsong_tests::rig::{self, Cluster};
//! use std::time::Duration;
//!
//! # fn a_minority_sees_itself_alone() -> Result<(), rig::Error> {
//! const SOON: Duration = Duration::from_secs(15);
//!
//! if !rig::usable() {
//!     return Ok(());
//! }
//! let cluster = Cluster::builder().nodes(3).token_ms(500).encrypted(true).start()?;
//! cluster.wait_for_ring(&[1, 2, 3], SOON)?;
//! let mut command = cluster.node(3).command("corosync-quorumtool");
//! command.arg("-m"); // tells each change
//! let watcher = cluster.node(3).spawn("watcher", command)?;
//!
//! cluster.partition(&[&[1, 2], &[3]])?;
//! assert!(cluster.wait_for_ring(&[1, 2], SOON)?.quorate);
//! assert!(!cluster.wait_for_ring(&[3], SOON)?.quorate);
//! watcher.wait_for_line("Activity blocked", SOON)?;
//!
//! cluster.heal_all()?;
//! cluster.wait_for_ring(&[1, 2, 3], SOON)?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is left behind
//!
//! Nothing but an empty directory, `plainsong-rig`, where temporary files are. Networks,
//! mounts and shared memory have no names outside: the kernel takes them away with the last
//! process in them. The processes carry the cluster in their environment (`PLAINSONG_RIG`);
//! when the cluster is dropped, or the test process dies in whatever way, a guard process
//! kills what carries it and removes its directory. If the guard was killed as well, the
//! next start of any cluster does that. (A program that clears its environment gets away.)
//!
//! # How a busy machine shows
//!
//! Daemons run with real-time priority, as Corosync wants it, so that rings hold while tests
//! and compilers compete. The reverse is that daemons under load keep everything else
//! waiting; `("system", "sched_rr", "no")` as a [setting](Builder::setting) changes it.
//!
//! # What is kept
//!
//! All that daemons and programs print, and all that the rig does to them, is written to
//! `tests/out/NAME/log`, merged by the time of arrival. It stays there, and its path is
//! printed, when the test panics or the rig reported an error.

mod builder;
mod cluster;
mod config;
mod error;
mod guard;
mod home;
mod host;
mod log;
mod membership;
mod namespace;
mod node;
mod output;
mod program;
mod switch;

pub use builder::Builder;
pub use cluster::Cluster;
pub use error::Error;
pub use host::{available, usable};
pub use log::Line;
pub use membership::{Membership, RingId};
pub use node::Node;
pub use program::Program;

/// What an operation of the rig gives.
pub type Result<T> = std::result::Result<T, Error>;
