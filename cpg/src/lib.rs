//! Closed process groups (CPG) for Rust.
//!
//! A *closed process group* is a set of processes that send messages to each other such
//! that all of them receive the same messages in the same order, and learn in that same
//! order who joined and who left. Only members of a group may send to it (that is what
//! *closed* means). It is the group communication of
//! [Corosync](https://corosync.github.io/corosync/); see `cpg_overview(3)`.
//!
//! | type | what it is |
//! | --- | --- |
//! | [`Transport`] | what gives the order: the embedded transport, or the host's Corosync daemon |
//! | [`Connection`] | one handle on a transport; member of at most one group |
//! | [`Event`] | a message, a change of the group, or a change of the ring below it |
//! | [`Member`] | a process in a group: node id and process id |
//! | [`Guarantee`] | what is asked of the order of a message |
//! | [`Dispatch`] | how many events one call takes, and whether it blocks |
//! | [`Error`] | every error of CPG, with what to do about it |
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
//! let mut heard = Vec::new();
//! while heard.is_empty() {
//!     connection.dispatch(Dispatch::One, |event| {
//!         if let Event::Deliver { message, .. } = event {
//!             heard.push(message);
//!         }
//!     })?;
//! }
//! assert_eq!(&heard[0][..], b"plainsong");
//! # Ok(())
//! # }
//! ```
//!
//! # What CPG does not promise
//!
//! Delivery is *agreed*, not *safe*: a message may have been delivered here and nowhere
//! else. A message may come out in a later configuration than the one it was sent in. A
//! successful [`Connection::multicast`] means that the message was taken over, not that
//! it will be delivered: when the process or the transport dies it may be lost. The only
//! proof that a message has its place in the order is to see it delivered.

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
