//! Every limit of the service, in one place.

use service_lib::resp::Limits;

/// Maximum length of the name of a lock, in bytes.
pub const NAME_BYTES_MAX: usize = 200;

/// Maximum length of the description of an owner, in bytes.
pub const OWNER_BYTES_MAX: usize = 200;

/// Maximum number of locks that are held or waited for. Other locks take no memory.
pub const LOCKS_MAX: usize = 100_000;

/// Maximum number of holders and waiters of all locks together.
pub const CLAIMS_MAX: usize = 200_000;

/// Maximum number of holders and waiters of one lock.
pub const CLAIMS_PER_LOCK_MAX: usize = 10_000;

/// Maximum number of locks that one session holds or waits for.
pub const CLAIMS_PER_SESSION_MAX: usize = 1_000;

/// Maximum timeout of a wait, in milliseconds: 30 days.
pub const WAIT_MS_MAX: u64 = 30 * 24 * 3600 * 1000;

/// Maximum lease, in milliseconds: one day.
pub const LEASE_MS_MAX: u64 = 24 * 3600 * 1000;

/// Maximum time that a lost lock lingers, in milliseconds: one hour.
pub const LINGER_MS_MAX: u64 = 3600 * 1000;

/// Maximum number of locks in one reply to `LIST`.
pub const LISTED_MAX: usize = 100;

/// Maximum number of holders per lock that `LIST` describes.
pub const LISTED_HOLDERS_MAX: usize = 16;

/// Maximum number of connections. Further ones get an error and are closed.
pub const CONNECTIONS_MAX: usize = 10_000;

/// Limits of one request.
pub(crate) const REQUESTS: Limits =
    Limits { arguments_max: 32, line_bytes_max: 4096, request_bytes_max: 4096 };

/// Maximum number of bytes read ahead from a connection while its request is executed.
pub(crate) const READ_AHEAD_BYTES_MAX: usize = 64 << 10;

/// Capacity of the queue of events from the replica to the server.
pub(crate) const EVENTS_MAX: usize = 1024;

/// Maximum number of bytes read and discarded after a protocol error.
pub(crate) const DISCARDED_BYTES_MAX: usize = 1 << 20;
