//! Replicated state machines over closed process groups.
//!
//! An application writes a deterministic [`StateMachine`]. A [`Replica`] of it runs in each
//! of several processes; commands that are proposed at any of them are put into one order,
//! committed by a majority, and applied by all.
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
//! // Three replicas within this process. For several processes of one host it is
//! // `.transport("embedded:/run/counter.sock".parse::<cpg::Transport>()?)` in each.
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
//! # What is promised
//!
//! - What was acknowledged is not lost while a majority of the voters keeps its store
//!   ([`Builder::folder`]; by default it is memory, and a replica that is started again has a
//!   new one).
//! - No command is applied twice.
//! - Every replica applies the same commands in the same order, at the same
//!   [`Context::time`].
//! - A linearizable [`Replica::read`] sees everything that was answered before, anywhere.
//! - A command answered with an error says whether it may still take effect:
//!   [`ProposeError::may_still_take_effect`].
//!
//! # What is in here
//!
//! | module | what |
//! | --- | --- |
//! | this one | what applications use |
//! | [`engine`] | the protocol, sans I/O; rules are cited as in `docs/protocol.md` |
//! | [`session`] | for clients that outlive their replica: what they propose again takes effect once |
//! | [`snapshot`] | the state at one moment, for replicas that lag and for restarts |
//! | [`message`] | what replicas say to each other |
//! | [`codec`] | how it stands on the wire |
//! | `testing` | groups in a simulated world, for tests (feature `testing`) |

mod admin;
mod builder;
pub mod engine;
mod event;
mod feed;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzz;
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
