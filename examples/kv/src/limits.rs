//! Every limit of the server, in one place.

/// The longest request on the wire in bytes, with all its lengths and line ends. A longer
/// one is a protocol error, found before it is buffered.
pub const REQUEST_BYTES_MAX: usize = 2 << 20;

/// The most arguments of a request.
pub const ARGUMENTS_MAX: usize = 1 << 20;

/// The longest line of a request that is written by hand (an *inline* command), and of a
/// length in front of what follows.
pub const LINE_BYTES_MAX: usize = 64 << 10;

/// The same for the decoder.
pub(crate) const REQUESTS: service_lib::resp::Limits = service_lib::resp::Limits {
    arguments_max: ARGUMENTS_MAX,
    line_bytes_max: LINE_BYTES_MAX,
    request_bytes_max: REQUEST_BYTES_MAX,
};

/// The same for a client that has not said the password yet: enough to say it.
pub(crate) const UNAUTHENTICATED_REQUESTS: service_lib::resp::Limits = service_lib::resp::Limits {
    arguments_max: UNAUTHENTICATED_ARGUMENTS_MAX,
    line_bytes_max: UNAUTHENTICATED_BYTES_MAX,
    request_bytes_max: UNAUTHENTICATED_BYTES_MAX,
};

/// The most arguments of a request before the password was said.
pub const UNAUTHENTICATED_ARGUMENTS_MAX: usize = 10;

/// The longest request on the wire in bytes before the password was said.
pub const UNAUTHENTICATED_BYTES_MAX: usize = 16 << 10;

/// How long a client may take to say the password.
pub const AUTHENTICATION_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// A client that listens and takes no message for so long is disconnected.
pub const LISTENER_STALL_MAX: std::time::Duration = std::time::Duration::from_secs(60);

/// The most that the arguments of a command may have together, in bytes, with 16 more for
/// each: what the group carries as one command.
pub const COMMAND_BYTES_MAX: usize = plainsong::COMMAND_BYTES_MAX;

/// The longest value in bytes, so that each can also be written by one command.
pub const VALUE_BYTES_MAX: usize = 1_000_000;

/// The most that the values of one reply have together, in bytes.
pub const REPLY_BYTES_MAX: usize = 16 << 20;

/// The most requests of a connection that are not answered yet. At the limit its socket
/// is not read, so the client feels it.
pub const IN_FLIGHT_MAX: usize = 1024;

/// The most keys that one `SCAN` looks at, whatever its `COUNT`.
pub const SCAN_COUNT_MAX: u32 = 10_000;

/// The most expired keys that are taken out before an entry of the log. More than the
/// commands of one entry can set, so the backlog shrinks with every entry.
pub const EXPIRED_PER_ENTRY_MAX: usize = 4096;

/// What a key costs besides its bytes and those of its value, about.
pub const ENTRY_BYTES: usize = 160;

/// So many changes of keys are kept for clients that listen to them. One that lags further
/// has missed some, and is disconnected.
pub const CHANGES_MAX: usize = 1 << 16;

/// Changes of longer keys are not told.
pub const CHANGED_KEY_BYTES_MAX: usize = 4096;

/// The most notices that a client is told and are not written yet. At the limit its next ones
/// wait where they are kept for all clients.
pub const NOTICES_QUEUED_MAX: usize = 32;

/// The most channels and patterns that a client listens to.
pub const SUBSCRIPTIONS_MAX: usize = 1024;

/// The most connections at once; the next is told so and closed.
pub const CONNECTIONS_MAX: usize = 10_000;

/// The most that the keys which one `SCAN` looks at have together, in bytes. Keys with the
/// same hash are never divided.
pub const SCAN_KEY_BYTES_MAX: usize = 256 << 10;

/// The longest pattern in bytes: it is tried on every key that `SCAN` looks at.
pub const PATTERN_BYTES_MAX: usize = 1024;

/// The most that published messages which are kept for slow clients have together, in bytes,
/// with about as much more for each as for a key. A client that lags further has missed some, and
/// is disconnected.
pub const MESSAGES_BYTES_MAX: usize = 32 << 20;
