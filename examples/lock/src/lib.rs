//! A replicated lock service: `flock` for several hosts, with fencing tokens.
//!
//! | item | purpose |
//! | --- | --- |
//! | [`Locks`], [`command`] | the replicated state, and the commands that change it |
//! | [`LockMachine`] | the state machine; reports events of sessions to the server |
//! | [`request`], [`server`] | the requests of clients; one connection is one session |
//! | [`node`] | the replica, as used by the server |
//! | [`program`] | the command line: the server, and its clients |

pub mod command;
pub mod limits;
mod locks;
mod machine;
mod name;
pub mod node;
pub mod program;
pub mod request;
pub mod server;

pub use locks::Locks;
pub use machine::LockMachine;
pub use name::{BadName, BadOwner, Name, Owner};
