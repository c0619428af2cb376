//! Limits that all transports share.

/// Maximum size of a message in bytes, as on Corosync (`IPC_REQUEST_SIZE` less 1 KiB).
pub const MESSAGE_BYTES_MAX: usize = 1_047_552;

/// Maximum number of members of a group (`CPG_MEMBERS_MAX`). Corosync does not check it and writes
/// past the end of its arrays; this crate rejects the next member.
pub const MEMBERS_MAX: usize = 128;

/// Number of bytes that each event counts in addition to its content.
pub const EVENT_BYTES: usize = 64;

/// Maximum number of bytes of its own messages that a connection may have sent and not yet
/// dispatched. With [`EVENT_BYTES`] for each message, that is at most 64 Ki messages.
pub const OWN_BYTES_MAX: usize = 4 << 20;

/// Maximum number of bytes of events that a connection may have received and not yet dispatched.
pub const BACKLOG_BYTES_MAX: usize = 256 << 20;

/// Difference between the sequences of two successive rings, as in Totem.
pub(crate) const RING_STEP: u64 = 4;
