//! Replicated state machines over closed process groups.
//!
//! An application implements a deterministic [`StateMachine`]. Several processes each run a
//! [`Replica`] of it. A command may be proposed at any replica. Plainsong puts all commands into
//! one order, commits each once a majority of the voters has it, and applies it at every replica.
//!
//! Replicas communicate through a *closed process group* (CPG), whose transport is either embedded
//! in the processes of one host or provided by the Corosync daemons of several hosts. The safety of
//! the log does not depend on the delivery guarantees of the transport.
//!
//! # Example
//!
//! ```
//! use plainsong::{Consistency, Context, Replica, ReplicaId, StateMachine};
//!
//! #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
//! struct Counter(u64);
//!
//! impl StateMachine for Counter {
//!     type Command = u64;
//!     type Output = u64;
//!
//!     fn apply(&mut self, _: &Context, add: u64) -> u64 {
//!         self.0 += add;
//!         self.0
//!     }
//!
//!     plainsong::snapshot_by_clone!();
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Three replicas in this process. For replicas in several processes of one host, pass
//! // `"embedded:/run/counter.sock".parse::<cpg::Transport>()?` to `transport` in each of them.
//! let ring = cpg::embedded::LocalRing::new();
//! let ids = [1, 2, 3].map(ReplicaId);
//! let replicas = ids
//!     .into_iter()
//!     .map(|id| {
//!         Replica::builder(id, Counter::default())
//!             .transport(ring.node())
//!             .group("counter")
//!             .bootstrap(ids)
//!             .start()
//!     })
//!     .collect::<Result<Vec<_>, _>>()?;
//! assert_eq!(replicas[0].propose(5).wait()?, 5);
//! assert_eq!(replicas[1].propose(2).wait()?, 7);
//! assert_eq!(replicas[2].read(Consistency::Linearizable, |counter| counter.0).wait()?, 7);
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! - An acknowledged command is not lost while a majority of the voters keeps its stores. Stores
//!   are in memory by default, so a restarted replica begins with an empty one; use
//!   [`Builder::folder`] to keep them on disk.
//! - A command is applied at most once. Each call of [`Replica::propose`] is a command of its own;
//!   a client that may have to propose a command again uses a [`session`].
//! - All replicas apply the same commands in the same order, with the same [`Context::time`].
//! - A linearizable [`Replica::read`] sees every command that was answered before the read was
//!   requested, at any replica.
//! - Every error says whether the command may still take effect:
//!   [`ProposeError::may_still_take_effect`].
//!
//! A minority of the voters cannot commit anything. Its replicas serve only
//! [local reads](Consistency::Local), hold proposals until their deadlines, and report what they
//! wait for in [`Status::waiting`].
//!
//! # Modules
//!
//! | module | contents |
//! | --- | --- |
//! | this one | the API for applications |
//! | [`guide`] | how to build a service, in short chapters with code |
//! | [`session`] | exactly-once commands for clients that may lose the connection to their replica |
//! | [`snapshot`] | snapshots of the state, for lagging replicas and for restarts |
//! | [`engine`] | the protocol without I/O; rule labels such as N2 refer to `docs/protocol.md` |
//! | [`message`] | the messages between replicas |
//! | [`codec`] | the wire format of messages |
//! | `testing` | groups of replicas in a simulated world, for tests (feature `testing`) |
//!
//! # Features
//!
//! No feature is enabled by default.
//!
//! - `corosync`: the Corosync transport, for replicas on several hosts. Needs `libcpg` and
//!   `libquorum` 3.1.6 or newer to build, and a Corosync daemon on each host to run.
//! - `testing`: the module `testing`.

mod admin;
mod builder;
pub mod engine;
mod event;
mod feed;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
pub mod guide;
mod machine;
mod panics;
mod pending;
mod read;
mod record;
mod replica;
mod runtime;
pub mod session;
pub mod snapshot;
#[cfg(feature = "testing")]
pub mod testing;
mod wire;

pub use admin::{Admin, Request};
pub use builder::{Builder, StartError};
pub use engine::{AdminError, MemberStatus, Role, Status, StopReason, TransferStatus};
pub use event::Event;
pub use feed::{Compacted, Feed, News, TimedOut, Watcher};
pub use machine::{Context, StateMachine};
pub use pending::{Answer, COMMAND_BYTES_MAX, Pending, ProposeError};
pub use read::{Consistency, ReadError};
pub use replica::{Overloaded, Replica};
pub use snapshot::Snapshot;
pub use wire::entry::MembersChanged;
pub use wire::types::*;
pub use wire::{codec, message};

/// Runs the code in the README of this crate as a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct CrateReadme;

/// Compiles and runs the code of the README.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
