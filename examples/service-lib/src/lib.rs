//! The library that the example programs share.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`resp`] | the Redis protocol, from bytes to requests and from replies to bytes |
//! | [`number`] | decimal numbers as Redis reads them |
//! | [`ReplicaStatus`], [`Transfer`], [`watch`](watch()) | the status of a replica as text, and its changes |
//! | [`operator`] | requests of operators: the status, the voters, and a forced new cluster |
//! | [`Start`], [`arguments`] | how a replica is started, and other parts of command lines |
//! | [`Stop`] | the signals that end a service |
//! | [`ListenAddress`], [`Listener`], [`answer_requests`], [`ServerConnection`], [`ask_first`], [`silence_of`] | both ends of its connections |
//! | [`raise_limit`], [`connections_max`] | file descriptors, and how many are left for clients |
//! | [`table`](table()) | rows for people |
//! | [`Job`], [`guard`](guard()), [`Lifeline`], [`Signals`], [`reap_orphans`] | a command that it runs, the process that stops it if need be, and what is passed on to it |
//! | [`init_logging`], [`print_stderr`], [`metrics`] | what it says on stderr, and to Prometheus |

pub mod arguments;
mod descriptors;
mod discard;
mod guard;
mod job;
mod lifeline;
mod listen_address;
mod listener;
mod logging;
pub mod metrics;
pub mod number;
pub mod operator;
mod orphans;
mod replica_status;
mod requests;
pub mod resp;
mod rights;
mod server_connection;
mod signals;
mod socket;
mod start;
mod stop;
mod table;
mod terminal;
#[cfg(feature = "testing")]
pub mod testing;
mod tether;
mod transfer;
mod watch;

pub use descriptors::{connections_max, raise_limit};
pub use discard::{DISCARDED_BYTES_MAX, discard};
pub use guard::{GuardArguments, guard};
pub use job::{Ended, Guarding, Job, exit_code};
pub use lifeline::Lifeline;
pub use listen_address::ListenAddress;
pub use listener::{Halves, ListenError, Listener, Stream, keep_alive};
pub use logging::{LogFormat, init_logging, print_stderr};
pub use orphans::reap_orphans;
pub use replica_status::{Blocker, ReplicaStatus};
pub use requests::answer_requests;
pub use rights::Rights;
pub use server_connection::{Address, ServerConnection, Unanswered, ask_first, silence_of};
pub use signals::Signals;
pub use start::{Durability, Start};
pub use stop::Stop;
pub use table::table;
pub use transfer::Transfer;
pub use watch::{Line, watch};
