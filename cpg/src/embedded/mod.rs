//! The transport without a daemon: members within one process, or processes of one host.
//!
//! | form | members | order |
//! | --- | --- | --- |
//! | [`LocalRing`] | In one process, on any number of virtual nodes. | A lock. |
//! | [`Transport::Socket`](crate::Transport::Socket) | Processes of one host that meet at a Unix socket. | One of the processes. If it dies, another takes over. |
//!
//! Both keep the same contract as Corosync, with these limits:
//!
//! | limit | value | at the limit |
//! | --- | --- | --- |
//! | size of a message | [`MESSAGE_BYTES_MAX`] | [`Error::TooBig`](crate::Error::TooBig) |
//! | members of a group | [`MEMBERS_MAX`] | [`Error::TooManyGroups`](crate::Error::TooManyGroups) |
//! | own messages sent and not yet dispatched | [`OWN_BYTES_MAX`] | [`Error::TryAgain`](crate::Error::TryAgain); nothing is sent |
//! | events received and not yet dispatched | [`BACKLOG_BYTES_MAX`] | The connection is closed: it gets [`Error::Library`](crate::Error::Library) after the events that it had received, and the group sees [`Reason::ProcessDown`](crate::Reason::ProcessDown). |
//!
//! So a slow member never blocks the others, a fast sender is limited by its own dispatching, and
//! every queue is bounded. Each event counts [`EVENT_BYTES`] in addition to its content.
//!
//! # Processes that meet at a Unix socket
//!
//! One of the processes is the *hub*: a thread in it orders all messages. If the hub dies or closes
//! its last connection, another process takes over within milliseconds. The takeover shows as
//! [`Reason::ProcessDown`](crate::Reason::ProcessDown) and a new
//! [`Event::Ring`](crate::Event::Ring). Before these events, all surviving members have received
//! the same messages, and messages that the old hub had not ordered are sent to the new one, each
//! exactly once. During the takeover, sending returns [`Error::TryAgain`](crate::Error::TryAgain).
//!
//! | file | purpose |
//! | --- | --- |
//! | `PATH` | The socket, mode 01600: only its user may connect. |
//! | `PATH.lock` | Locked by the hub. The kernel releases the lock when the hub dies. |
//! | `PATH.ring` | The ring's sequence, and the clients for which a new hub has to wait. |
//!
//! A ring belongs to one user. Both ends of a connection ask the kernel for the user of the other
//! end, and reject every other user, including root. Files of other users and symbolic links are
//! rejected and never changed. So is a directory that belongs to another user, or that every user
//! may write to without a sticky bit ([`Error::Security`](crate::Error::Security)). Use a private
//! directory, such as `/run/user/UID`: in a shared one, another user can take the name first.
//! [`Transport::check`](crate::Transport::check) reports what is wrong with a path.
//!
//! The hub restores removed files within a second. Their sticky bits keep systemd-tmpfiles from
//! removing them. A process that starts while they are missing forms a ring of its own; the older
//! ring then ends, so that its members join the new one. A path may have any length. If it is
//! longer than 107 bytes, its last component has at most 82.
//!
//! All members are on node 1 and have their real process ids, so they must share a pid namespace. A
//! member is trusted with the content of its group, but cannot harm other members by what it sends:
//! the hub checks every request, and also the entries that a member passes to a new hub.
//!
//! | situation | behavior |
//! | --- | --- |
//! | A process is stopped (`SIGSTOP`). | The others wait at most 300 ms. When it continues, it receives everything, unless it was disconnected because 64 MiB were waiting for it or because the hub had to be replaced meanwhile. |
//! | A process reads slowly. | The ring waits for it while it reads at least 16 MiB per second; below that rate it is treated like a stopped process. |
//! | The hub's process is stopped. | The ring stands still until the process continues or is killed, as with a stopped daemon. Connecting returns [`Error::Timeout`](crate::Error::Timeout). |
//! | A process is more than 16 MiB behind when the hub dies. | It is disconnected. The hub waits for processes that keep reading, to avoid this. |
//! | More than 1024 connections are opened. | [`Error::NoResources`](crate::Error::NoResources) |

mod membership;
mod process;
mod socket;

#[cfg(fuzzing)]
#[doc(hidden)]
pub use socket::fuzz;

pub use crate::limits::{
    BACKLOG_BYTES_MAX, EVENT_BYTES, MEMBERS_MAX, MESSAGE_BYTES_MAX, OWN_BYTES_MAX,
};
pub use process::{LocalRing, Node};
pub use socket::{SocketError, private_directory};
pub(crate) use socket::{check, connect, default_path};
