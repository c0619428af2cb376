//! A replicated key-value store that speaks the Redis protocol, as an example of a service built on
//! Plainsong.
//!
//! | items | purpose |
//! | --- | --- |
//! | [`KvStore`], [`command`] | the state machine, its commands and queries |
//! | [`View`] | counters and changes of the store that the server reads directly |
//! | [`resp`], [`request`] | converts requests to commands, and outputs to replies |
//! | [`server`] | connections: pipelining, back-pressure, deadlines |
//! | [`backend`], [`node`] | the server's interface to a replica, and its implementation |
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

/// Maximum time that an orderly stop waits for clients to read their replies.
const STOP_BOUND: std::time::Duration = std::time::Duration::from_secs(3);
