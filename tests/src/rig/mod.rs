//! Real Corosync clusters on one machine, for tests.
//!
//! Each node of a [`Cluster`] has namespaces of its own: a network, connected to the others by a
//! virtual switch, and mounts, with its own `/run`, `/etc/corosync`, `/var/lib/corosync` and
//! `/dev/shm`. A program in a node finds only that node's daemon. For example, a partition:
//!
//! ```no_run
//! use plainsong_tests::rig::{self, Cluster};
//! use std::time::Duration;
//!
//! # fn a_minority_is_not_quorate() -> Result<(), rig::Error> {
//! const SOON: Duration = Duration::from_secs(15);
//!
//! if !rig::usable() {
//!     return Ok(());
//! }
//! let cluster = Cluster::builder().nodes(3).token_ms(500).encrypted(true).start()?;
//! cluster.wait_for_ring(&[1, 2, 3], SOON)?;
//! let mut command = cluster.node(3).command("corosync-quorumtool");
//! command.arg("-m"); // prints each change
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
//! # Cleanup
//!
//! A cluster leaves nothing behind but an empty directory, `plainsong-rig`, in the directory for
//! temporary files. Networks, mounts and shared memory have no names outside: the kernel removes
//! them with the last process in them. All processes have the cluster in their environment
//! (`PLAINSONG_RIG`). When the cluster is dropped, or the test process dies for any reason, a guard
//! process kills all processes with this variable and removes the cluster's directory. If the guard
//! was killed as well, the next start of any cluster does this. A program that clears its
//! environment escapes.
//!
//! # Busy machines
//!
//! Daemons run with real-time priority, which is Corosync's default, so that rings survive while
//! tests and compilers compete. On the other hand, daemons under load starve everything else; the
//! [setting](Builder::setting) `("system", "sched_rr", "no")` changes that.
//!
//! # Logs
//!
//! The output of all daemons and programs, and all actions of the rig, are written to
//! `tests/out/NAME/log` in the order of arrival. If the test panics or the rig reports an error,
//! the log is kept and its path is printed.

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

/// The result of an operation of the rig.
pub type Result<T> = std::result::Result<T, Error>;
