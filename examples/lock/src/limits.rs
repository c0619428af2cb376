//! Every limit of the service, in one place.

use service_lib::resp::Limits;

/// The longest name of a lock in bytes.
pub const NAME_BYTES_MAX: usize = 200;

/// The longest text that says who an owner is, in bytes.
pub const OWNER_BYTES_MAX: usize = 200;

/// The most locks that are held or waited for. A lock that is neither takes no room.
pub const LOCKS_MAX: usize = 100_000;

/// The most holders and waiters of all locks together.
pub const CLAIMS_MAX: usize = 200_000;

/// The most holders and waiters of one lock.
pub const CLAIMS_PER_LOCK_MAX: usize = 10_000;

/// The most locks that one session holds and waits for.
pub const CLAIMS_PER_SESSION_MAX: usize = 1_000;

/// The longest wait in milliseconds that is not for ever: 30 days.
pub const WAIT_MS_MAX: u64 = 30 * 24 * 3600 * 1000;

/// The longest lease in milliseconds: a day.
pub const LEASE_MS_MAX: u64 = 24 * 3600 * 1000;

/// The longest time in milliseconds that a lost lock lingers: an hour.
pub const LINGER_MS_MAX: u64 = 3600 * 1000;

/// The most locks that one `LIST` tells.
pub const LISTED_MAX: usize = 100;

/// The most holders of a lock that `LIST` tells one by one.
pub const LISTED_HOLDERS_MAX: usize = 16;

/// The most connections at once; the next is told so and closed.
pub const CONNECTIONS_MAX: usize = 10_000;

/// The most of a request.
pub(crate) const REQUESTS: Limits =
    Limits { arguments_max: 32, line_bytes_max: 4096, request_bytes_max: 4096 };

/// The most that is read ahead of a connection while its request is carried out.
pub(crate) const READ_AHEAD_BYTES_MAX: usize = 64 << 10;

/// The events that the replica may be ahead of the server.
pub(crate) const EVENTS_MAX: usize = 1024;

/// The most that is read and discarded after a request that is none.
pub(crate) const DISCARDED_BYTES_MAX: usize = 1 << 20;
