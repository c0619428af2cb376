//! The library that the example programs share.
//!
//! | items | purpose |
//! | --- | --- |
//! | [`resp`] | the Redis protocol: decodes requests and encodes replies |
//! | [`number`] | decimal numbers in the form that Redis accepts |
//! | [`ReplicaStatus`], [`Transfer`], [`watch`](watch()) | the status of a replica as text, and its changes as lines |
//! | [`operator`] | operator requests: status, voters, forcing a new cluster |
//! | [`Start`], [`arguments`] | command line options that start a replica, and other option parsers |
//! | [`Stop`] | waits for the signals that ask a service to stop |
//! | [`ListenAddress`], [`Listener`], [`answer_requests`] | the server end of connections |
//! | [`ServerConnection`], [`ask_first`], [`silence_of`] | the client end of connections |
//! | [`raise_limit`], [`connections_max`] | limits on file descriptors |
//! | [`table`](table()) | formats rows with aligned columns |
//! | [`Job`], [`guard`](guard()), [`Lifeline`], [`Signals`], [`reap_orphans`] | runs a command, guards it, and passes signals on to it |
//! | [`init_logging`], [`print_stderr`], [`metrics`] | logs on stderr, and metrics for Prometheus |

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
