//! A replicated key-value store that speaks the Redis protocol: an example of what is
//! built on Plainsong.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`KvStore`], [`command`] | the state machine, and what is proposed to it |
//! | [`View`] | what the server sees of the store without asking |
//! | [`resp`], [`request`] | from bytes to commands, and from outputs to replies |
//! | [`server`] | connections: pipelining, back-pressure, deadlines |
//! | [`backend`], [`node`] | what the server needs of a replica, and the replica |
//! | [`program`] | the command line |

pub mod backend;
pub mod command;
pub mod extended;
mod frozen;
pub mod glob;
mod keys;
pub mod limits;
mod listening;
pub mod node;
pub mod program;
pub mod request;
pub mod resp;
pub mod server;
mod store;
mod view;

pub use service_lib::number;
pub use store::KvStore;
pub use view::{Change, Changes, KeyEvent, Message, Notice, View};

/// How long an orderly stop waits for clients to take their answers.
const STOP_BOUND: std::time::Duration = std::time::Duration::from_secs(3);
