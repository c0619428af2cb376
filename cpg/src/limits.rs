//! Limits that all transports share.

/// The largest message in bytes, as for Corosync (`IPC_REQUEST_SIZE` less 1 KiB).
pub const MESSAGE_BYTES_MAX: usize = 1_047_552;

/// The most members of one group (`CPG_MEMBERS_MAX`). Corosync does not check it and
/// writes beyond its arrays; here the next one is refused.
pub const MEMBERS_MAX: usize = 128;

/// What an event counts on top of its content, in bytes.
pub const EVENT_BYTES: usize = 64;

/// How many bytes of its own messages a connection may have sent and not yet dispatched.
/// With [`EVENT_BYTES`] each, that is at most 64 Ki messages.
pub const OWN_BYTES_MAX: usize = 4 << 20;

/// How many bytes of events a connection may have received and not yet dispatched.
pub const BACKLOG_BYTES_MAX: usize = 256 << 20;

/// Increment of a ring's sequence from one ring to the next, as in Totem.
pub(crate) const RING_STEP: u64 = 4;
