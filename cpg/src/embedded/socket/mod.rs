//! The embedded transport for processes of one host, which meet at a Unix socket.
//!
//! One of the processes is the *hub*. It holds a lock on a file beside the socket, listens on the
//! socket, and orders all messages. Every connection, including those of the hub's own process, is
//! a client of the hub. When the hub's process dies or closes its last connection, the kernel
//! releases the lock, and the process of another client takes it and becomes the hub.
//!
//! The ordered messages survive the hub, because every client keeps the entries that it received
//! last. The new hub collects reports from all clients, sends each client the entries that it lacks
//! and another one has, and only then announces the departures.
//!
//! | module | purpose |
//! | --- | --- |
//! | `client` | A connection, its thread, and the entries that it keeps for a new hub. |
//! | `hub_discovery` | Finds the hub, or becomes it. |
//! | `hub` | The hub's thread, the order of the groups, and the takeover from a dead hub. |
//! | `files` | The files of a ring, their owners, and their restoration. |
//! | `wire` | Frames, and nonblocking sockets. |
//!
//! A client sends each operation again to a new hub unless it has seen the operation in the order,
//! and a hub never receives an operation twice from the same connection. So no operation is lost or
//! duplicated. The entries of a group are numbered, and a client that misses one closes its
//! connection.

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

/// Maximum number of bytes that the hub queues for a client. Beyond it, the client is disconnected.
const OUTPUT_BYTES_MAX: usize = 64 << 20;

/// Number of queued bytes for a client that still reads above which the hub stops reading from all
/// clients. This keeps a client that can keep up from falling behind the entries that others keep.
const OUTPUT_BYTES_HIGH: usize = 8 << 20;

/// Time for which the hub waits like that for a client that reads nothing.
const PATIENCE: Duration = Duration::from_millis(300);

/// Rate at which a client has to read so that this time is not used up. One client never slows the
/// ring below this rate for long.
const READING_BYTES_PER_SECOND_MIN: u64 = 16 << 20;

/// Maximum number of bytes of entries that each client keeps for a new hub.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// Maximum number of connections of a ring.
const PEERS_MAX: usize = 1024;

/// Time for which a new hub waits for the reports of living processes.
const REPORT_TIME_MAX: Duration = Duration::from_secs(1);

/// Time limit for the hello of a new connection, and for a rejected client to read the reason.
const GREETING_TIME_MAX: Duration = Duration::from_secs(2);

/// Time after which a client gives up looking for a hub.
const MEETING_TIME_MAX: Duration = Duration::from_secs(10);

/// Time for which closing waits until the hub has read everything that was sent.
const CLOSING_TIME_MAX: Duration = Duration::from_secs(1);

/// Random id of a client. Unlike a pid, it is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ClientId(u64);

/// Looks for reasons why processes cannot meet at a path. Changes nothing.
pub(crate) fn check(path: &Path) -> Result<(), SocketError> {
    if default_path().as_deref() == Some(path) && path.parent().is_some_and(|path| !path.exists()) {
        // The directory is created when it is used.
        return Ok(());
    }
    RingPath::open(path)?.check()
}

/// Returns the timeout for a poll that is to end at `deadline`: a little more than the remaining
/// time, so that the poll does not end too early.
fn until(deadline: Instant) -> Timespec {
    let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    }
}
