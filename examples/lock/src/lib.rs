//! A replicated lock service: `flock` for several hosts, with fencing tokens.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`Locks`], [`command`] | the state, and what is proposed to it |
//! | [`LockMachine`] | the state machine: the state, and what happens to sessions, told to the server |
//! | [`request`], [`server`] | what clients ask; their connections, which are their sessions |
//! | [`node`] | the replica, as the server sees it |
//! | [`program`] | the command line, and the other side |

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
