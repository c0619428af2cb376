//! The embedded transport for the processes of one host, which meet at a Unix socket.
//!
//! One of the processes is the *hub*: it holds a lock on a file beside the socket, listens
//! on the socket and puts everything in order. Every connection, of the hub's process as
//! well, is a client of the hub. When the hub's process dies or closes its last connection,
//! the kernel frees the lock; another client's process takes it and is the hub from then
//! on. What had been ordered is not lost with the hub, as every client keeps what it
//! received of late: the new hub asks all for what they have, makes everybody hear what
//! anybody has heard, and only then shows who died.
//!
//! | module | purpose |
//! | --- | --- |
//! | `client` | a connection, its thread, and the entries that it keeps for a new hub |
//! | `hub_discovery` | finding the hub, or becoming it |
//! | `hub` | the hub's thread, the order of the groups, and taking over from a dead hub |
//! | `files` | the files of a ring, their owners, and their restoration |
//! | `wire` | frames, and sockets that do not block |
//!
//! A client sends its operations again to a new hub unless it has seen them in the order,
//! and a hub never gets one twice from the same connection: so nothing is lost and nothing
//! comes twice. Every entry of a group has a sequence, and a client that misses one ends
//! its connection.

mod client;
mod files;
mod hub;
mod hub_discovery;
mod wire;

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::Timespec;

use files::ring_path::RingPath;

pub(crate) use client::connect;
pub(crate) use files::default_path::default_path;
pub use files::default_path::private_directory;
pub use files::ring_path::SocketError;
#[cfg(fuzzing)]
pub use wire::fuzz;

/// How many bytes the hub keeps for a client that does not read.
const OUTPUT_BYTES_MAX: usize = 64 << 20;

/// From how many bytes on, waiting for a client that does read, the hub takes no more from
/// anybody: so that nobody who can keep up falls behind what is kept.
const OUTPUT_BYTES_HIGH: usize = 8 << 20;

/// How long the hub waits like that for a client that reads nothing at all,
const PATIENCE: Duration = Duration::from_millis(300);

/// and how fast a client has to read, lest that is used up. The ring is never slower than this
/// for long because of one client.
const READING_BYTES_PER_SECOND_MIN: u64 = 16 << 20;

/// How many bytes of entries each client keeps for a new hub.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// The most connections of a ring.
const PEERS_MAX: usize = 1024;

/// How long a new hub waits for the reports of processes that live.
const REPORT_TIME_MAX: Duration = Duration::from_secs(1);

/// How long a new connection may take to say hello, and one that is to be closed to read
/// the reason.
const GREETING_TIME_MAX: Duration = Duration::from_secs(2);

/// How long a client looks for a hub before it gives up.
const MEETING_TIME_MAX: Duration = Duration::from_secs(10);

/// How long closing waits until all that was sent is taken over.
const CLOSING_TIME_MAX: Duration = Duration::from_secs(1);

/// A client's random name. Pids may come again, this does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ClientId(u64);

/// Checks what can keep processes from meeting at a path, without changing anything.
pub(crate) fn check(path: &Path) -> Result<(), SocketError> {
    if default_path().as_deref() == Some(path) && path.parent().is_some_and(|path| !path.exists()) {
        // Made when it is used.
        return Ok(());
    }
    RingPath::open(path)?.check()
}

/// How long a poll may take that is to end at `deadline`: a little more, lest it comes up
/// short.
fn until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    }
}
