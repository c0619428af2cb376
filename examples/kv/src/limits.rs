//! All limits of the server.

/// Maximum size of a request on the wire in bytes, including lengths and line ends. A larger one is
/// a protocol error, detected before it is buffered.
pub const REQUEST_BYTES_MAX: usize = 2 << 20;

/// Maximum number of arguments of a request.
pub const ARGUMENTS_MAX: usize = 1 << 20;

/// Maximum length of a line in bytes: of an inline command, and of the lines that hold the length
/// of an array or string.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// The three limits above, for the decoder.
pub(crate) const REQUESTS: service_lib::resp::Limits = service_lib::resp::Limits {
    arguments_max: ARGUMENTS_MAX,
    line_bytes_max: LINE_BYTES_MAX,
    request_bytes_max: REQUEST_BYTES_MAX,
};

/// Limits for the decoder before the client has authenticated: enough to send the password.
pub(crate) const UNAUTHENTICATED_REQUESTS: service_lib::resp::Limits = service_lib::resp::Limits {
    arguments_max: UNAUTHENTICATED_ARGUMENTS_MAX,
    line_bytes_max: UNAUTHENTICATED_BYTES_MAX,
    request_bytes_max: UNAUTHENTICATED_BYTES_MAX,
};

/// Maximum number of arguments of a request before the client has authenticated.
pub const UNAUTHENTICATED_ARGUMENTS_MAX: usize = 10;

/// Maximum size of a request on the wire in bytes before the client has authenticated.
pub const UNAUTHENTICATED_BYTES_MAX: usize = 16 << 10;

/// Maximum time for a client to authenticate before it is disconnected.
pub const AUTHENTICATION_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// Maximum time for a subscriber to accept a message before it is disconnected.
pub const LISTENER_STALL_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// Maximum total size of the arguments of a command in bytes, each counted with 16 bytes more. This
/// is the largest command that the group carries.
pub const COMMAND_BYTES_MAX: usize = plainsong::COMMAND_BYTES_MAX;

/// Maximum size of a value in bytes. Low enough that one command can write any value.
pub const VALUE_BYTES_MAX: usize = 1_000_000;

/// Maximum total size of the values in one reply, in bytes.
pub const REPLY_BYTES_MAX: usize = 16 << 20;

/// Maximum number of unanswered requests of a connection. At the limit its socket is not read, so
/// the client's writes block.
pub const IN_FLIGHT_MAX: usize = 1024;

/// Maximum number of keys that one `SCAN` looks at, whatever its `COUNT`.
pub const SCAN_COUNT_MAX: u32 = 10_000;

/// Maximum number of expired keys removed per wake-up. More than the commands of one log entry can
/// set, so the backlog always shrinks.
pub const EXPIRED_PER_ENTRY_MAX: usize = 4096;

/// Approximate memory overhead of a key and its value, in bytes.
pub const ENTRY_BYTES: usize = 160;

/// Number of key changes and messages buffered for subscribers. A subscriber that lags further has
/// missed some, and is disconnected.
pub const CHANGES_MAX: usize = 1 << 16;

/// Maximum length in bytes of a key whose changes are reported.
pub const CHANGED_KEY_BYTES_MAX: usize = 4096;

/// Maximum number of notices queued for one client. At the limit, further ones stay in the buffer
/// that all subscribers share.
pub const NOTICES_QUEUED_MAX: usize = 32;

/// Maximum number of channels and patterns that a client subscribes to.
pub const SUBSCRIPTIONS_MAX: usize = 1024;

/// Maximum number of connections. Further ones get an error reply and are closed.
pub const CONNECTIONS_MAX: usize = 10_000;

/// Maximum total size in bytes of the keys that one `SCAN` looks at. Keys with the same hash are
/// always returned together, even above the limit.
pub const SCAN_KEY_BYTES_MAX: usize = 256 << 10;

/// Maximum length of a pattern in bytes. `SCAN` matches it against every key that it looks at.
pub const PATTERN_BYTES_MAX: usize = 1024;

/// Maximum total size in bytes of the published messages buffered for slow subscribers, each
/// counted with [`ENTRY_BYTES`] more. A subscriber that lags further has missed some, and is
/// disconnected.
pub const MESSAGES_BYTES_MAX: usize = 32 << 20;
