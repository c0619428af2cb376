//! Closed process groups (CPG) for Rust: totally ordered multicast with membership.
//!
//! A *closed process group* is a set of processes that exchange messages. Every member receives the
//! same messages in the same order, and learns at the same position in that order which members
//! joined and which left. *Closed* means that only members can send to the group. CPG is the group
//! communication service of [Corosync](https://corosync.github.io/corosync/), described in
//! `cpg_overview(3)`. This crate offers it on three transports: members within one process,
//! processes of one host that meet at a Unix socket, and Corosync daemons on several hosts.
//!
//! | type | purpose |
//! | --- | --- |
//! | [`Transport`] | Orders the messages: the embedded transport, or the Corosync daemon of this host. |
//! | [`Connection`] | A handle on a transport. A member of at most one group. |
//! | [`Event`] | A message, a change of the group's members, or a new ring below the group. |
//! | [`Member`] | A process in a group, identified by its node id and process id. |
//! | [`Guarantee`] | The delivery order requested for a message. |
//! | [`Dispatch`] | Number of events that one call delivers, and whether it blocks. |
//! | [`Error`] | Every error of CPG, each with a remedy. |
//!
//! ```
//! use std::io::IoSlice;
//! use cpg::{Dispatch, Event, GroupName, Guarantee, Options, embedded::LocalRing};
//!
//! # fn main() -> Result<(), cpg::Error> {
//! let ring = LocalRing::new();
//! let connection = ring.node().connect(Options::default())?;
//! connection.join(&GroupName::new("group")?)?;
//! connection.multicast(Guarantee::Agreed, &[IoSlice::new(b"plain"), IoSlice::new(b"song")])?;
//! let mut received = Vec::new();
//! while received.is_empty() {
//!     connection.dispatch(Dispatch::One, |event| {
//!         if let Event::Deliver { message, .. } = event {
//!             received.push(message);
//!         }
//!     })?;
//! }
//! assert_eq!(&received[0][..], b"plainsong");
//! # Ok(())
//! # }
//! ```
//!
//! # What CPG does not guarantee
//!
//! - Delivery is *agreed*, not *safe*. A message that was delivered here may have been delivered to
//!   no other member. It is replicated only once other members have acknowledged it.
//! - There is no sending-view delivery. A message may be delivered in a later configuration than
//!   the one in which it was sent, even after a network partition has healed.
//! - A successful [`Connection::multicast`] means that the transport accepted the message. The
//!   message may be lost if this process or the transport dies. Only its delivery to the sender
//!   proves that it has a position in the order.
//! - Views are not synchronized perfectly. On Corosync, a member that was cut off may miss messages
//!   without any configuration event that says so. Number your messages and check the numbers.
//!
//! # Cargo features
//!
//! | feature | effect |
//! | --- | --- |
//! | `corosync` | `Transport::Corosync`. Needs libcpg and libquorum 3.1.6 or newer to build. |
//! | `sim` | A simulated group with the faults that Corosync can have, for tests. |
//! | `conformance` | The CPG contract as tests that any transport must pass. |
//! | `cli` | The command-line program `cpg`. |

mod connection;
#[cfg(feature = "corosync")]
pub mod corosync;
pub mod embedded;
mod error;
mod event;
mod limits;
mod mailbox;
mod member;
mod name;
mod transport;

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "sim")]
pub mod sim;

pub use connection::{Connection, Dispatch, GroupEntry, Guarantee, Iteration, Options, Quorum};
pub use error::{Error, Result};
pub use event::{Change, Configuration, Event, Reason, Ring, RingId};
pub use member::{Member, NodeId, Pid};
pub use name::GroupName;
pub use transport::{ParseTransportError, Transport};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
