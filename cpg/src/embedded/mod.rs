//! The transport without a daemon: members within one process, or the processes of one host.
//!
//! | form | where the members are | what gives the order |
//! | --- | --- | --- |
//! | [`LocalRing`] | in one process, on as many make-believe nodes as wanted | a lock |
//! | [`Transport::Socket`](crate::Transport::Socket) | processes of one host that meet at a Unix socket | one of them, and another when it dies |
//!
//! Both keep the contract that Corosync keeps, and its limits:
//!
//! | limit | value | what happens there |
//! | --- | --- | --- |
//! | message | [`MESSAGE_BYTES_MAX`] | [`Error::TooBig`](crate::Error::TooBig) |
//! | members of a group | [`MEMBERS_MAX`] | [`Error::TooManyGroups`](crate::Error::TooManyGroups) |
//! | own messages sent and not yet dispatched | [`OWN_BYTES_MAX`] | [`Error::TryAgain`](crate::Error::TryAgain), nothing is sent |
//! | events received and not yet dispatched | [`BACKLOG_BYTES_MAX`] | the connection is cut off: [`Error::Library`](crate::Error::Library) after what it had received; the group sees [`Reason::ProcessDown`](crate::Reason::ProcessDown) |
//!
//! So a slow member never holds up the others, a fast sender is held back by its own
//! dispatching, and nothing grows without end. Each event counts [`EVENT_BYTES`] on top of
//! its content.
//!
//! # Processes that meet at a Unix socket
//!
//! One of the processes is the *hub*, in a thread: it puts everything in order. When it
//! dies or closes its last connection, another process takes over, in some milliseconds.
//! Before that shows, by [`Reason::ProcessDown`](crate::Reason::ProcessDown) and a new
//! [`Event::Ring`](crate::Event::Ring), all who live have heard the same; and what they had
//! sent is sent, once. Meanwhile sending gives [`Error::TryAgain`](crate::Error::TryAgain).
//!
//! | file | what it is |
//! | --- | --- |
//! | `PATH` | the socket, mode 0600 |
//! | `PATH.lock` | locked by the hub; the kernel frees it when the hub dies |
//! | `PATH.ring` | the ring's sequence, and for whom a new hub has to wait |
//!
//! A ring belongs to one user. Both ends of a connection ask the kernel for the user of the other
//! end and refuse every other, root included. Files of other users and symbolic links are refused
//! and never changed, and so is a directory that belongs to another user, or that everybody may
//! write to without a sticky bit ([`Error::Security`](crate::Error::Security)). Use a private
//! directory, such as `/run/user/UID`: in a shared one, another user can take the name first.
//! [`Transport::check`](crate::Transport::check) says what is wrong with a path.
//!
//! The hub puts removed files back within a second. Their sticky bits keep systemd-tmpfiles from
//! removing them. A process that starts while they are missing makes a ring of its own; then the
//! older ring ends, so that its members join the new one. Paths may be of any length; the last part
//! of a path longer than 107 bytes has at most 82.
//!
//! All members are on node 1, under their real process ids; they must see each other's (one pid
//! namespace). A member is trusted with the group's content, but cannot harm others by what it
//! sends to the hub: what it says is checked, and so is what it hands to a new hub.
//!
//! | what | then |
//! | --- | --- |
//! | a process is stopped (`SIGSTOP`) | nobody is held up for more than 300 ms. When it goes on it receives everything, or was cut off when 64 MiB waited for it or a hub had to be replaced without it |
//! | a process reads slowly | the ring waits for it as long as it reads 16 MiB a second; beyond that as for one that is stopped |
//! | the hub's process is stopped | the ring stands still, as with a stopped daemon, until it goes on or is killed; connecting gives [`Error::Timeout`](crate::Error::Timeout) |
//! | a process is more than 16 MiB behind when the hub dies | it is cut off. The hub waits for those who read, lest that happens |
//! | more than 1024 connections | [`Error::NoResources`](crate::Error::NoResources) |

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
