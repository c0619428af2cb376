//! Client sessions: exactly-once commands for clients that may lose the connection to their
//! replica.
//!
//! A client whose replica crashes while a command is in flight does not know whether the command
//! took effect. In a session it can propose the command again, at any replica: each command of a
//! session is applied at most once, and its output is kept until the client is done with it. The
//! scheme follows section 6.3 of the Raft dissertation.
//!
//! Wrap the state machine with [`Sessions::new`] at every replica. The client numbers its commands
//! with a [`Session`], a plain value without a connection, which can be sent to wherever the client
//! runs.
//!
//! # Example
//!
//! ```
//! use plainsong::session::{Reply, SessionCommand, Sessions};
//! use plainsong::{Context, Replica, ReplicaId, StateMachine};
//! # #[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
//! # struct Counter(u64);
//! # impl StateMachine for Counter {
//! #     type Command = u64;
//! #     type Output = u64;
//! #     fn apply(&mut self, _: &Context, add: u64) -> u64 { self.0 += add; self.0 }
//! #     plainsong::snapshot_by_clone!();
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let ring = cpg::embedded::LocalRing::new();
//! # let ids = [1, 2, 3].map(ReplicaId);
//! # let start = |id| {
//! #     Replica::builder(id, Sessions::new(Counter::default()))
//! #         .transport(ring.node()).bootstrap(ids).start()
//! # };
//! let replicas = ids.into_iter().map(start).collect::<Result<Vec<_>, _>>()?;
//! let Reply::Opened(mut session) = replicas[0].propose(SessionCommand::Open).wait()?? else {
//!     panic!("the reply to `Open` is a new session");
//! };
//! let add = session.command(5);
//! // Propose the command again, as if the first answer had been lost.
//! let first = replicas[1].propose(add.clone()).wait()??;
//! let again = replicas[2].propose(add.clone()).wait()??;
//! session.done(&add);
//! assert_eq!((first, again), (Reply::Output(5), Reply::Output(5)));
//! # Ok(())
//! # }
//! ```
//!
//! # Limits
//!
//! [`Limits`] bounds the number of sessions, the number of commands of a session that the client
//! has not marked as [done](Session::done), and the bytes of their outputs. A session that is idle
//! for too long, measured in log time, expires.

mod handle;
mod layer;
mod table;

use serde::{Deserialize, Serialize};

pub use self::handle::Session;
pub use self::layer::{Sessions, View};
use crate::Timestamp;

/// A command of the [`Sessions`] layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SessionCommand<C> {
    /// Opens a session; answered by [`Reply::Opened`]. A client that does not receive the answer
    /// opens another session; the first one expires.
    Open,
    /// A command of a session, created by [`Session::command`].
    Command {
        /// The number of the session.
        session: u64,
        /// The number of the command, assigned by the client.
        sequence: u64,
        /// The client is done with all commands that have a lower number than this.
        done_below: u64,
        /// The command for the inner state machine.
        command: C,
    },
    /// Keeps an idle session open, created by [`Session::keep`]; answered by [`Reply::Kept`].
    Keep {
        /// The number of the session.
        session: u64,
    },
    /// Closes a session, created by [`Session::close`]; answered by [`Reply::Closed`], even if the
    /// session had expired.
    Close {
        /// The number of the session.
        session: u64,
    },
}

/// The answer to a [`SessionCommand`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply<O> {
    /// A new session.
    Opened(Session),
    /// The output of the command, from the one time that it was applied.
    Output(O),
    /// The session stays open.
    Kept,
    /// The session is closed.
    Closed,
}

/// An error of a command of a session. Each variant says whether the command took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The session was closed or has expired. The command was not applied now and never will be.
    /// It is unknown whether it was applied earlier, if it was proposed before.
    #[error(
        "the session was closed or has expired; the command is not applied now, but may have been \
         applied before: read the state and open another session"
    )]
    Over,
    /// The client had marked this command as done. It was not applied now; it is unknown whether it
    /// was applied before.
    #[error("the client has marked this command as done: use a new number for a new command")]
    Done,
    /// The command took effect once, but its output is not available any more.
    #[error(
        "the command took effect, but its output was not kept for a second answer, because it is \
         too large or cannot be decoded again; read the state"
    )]
    OutputLost,
    /// The command was not applied. The same command may be proposed again later.
    #[error("too many commands of the session are in flight: call `done` for the answered ones")]
    TooManyUnderWay,
    /// No session was opened.
    #[error("the maximum number of sessions is open: try again later, or close some")]
    TooManySessions,
}

/// Limits of the sessions. They must be the same at all replicas, otherwise their states diverge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of open sessions. Default: 4,096. Beyond it, no session is opened
    /// ([`SessionError::TooManySessions`]).
    pub sessions_max: usize,
    /// Maximum number of applied commands per session that the client has not marked as done.
    /// Default: 64. Beyond it, commands are rejected ([`SessionError::TooManyUnderWay`]).
    pub under_way_max: usize,
    /// Maximum number of bytes of encoded outputs kept per session. Default: 64 KiB. An output that
    /// does not fit is returned once and not kept: if the command is proposed again, the answer is
    /// [`SessionError::OutputLost`].
    pub output_bytes_max: usize,
    /// Log time in milliseconds after which an idle session expires. Default: ten minutes. Choose a
    /// longer time than a client may be disconnected.
    pub idle_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions_max: 4096,
            under_way_max: 64,
            output_bytes_max: 64 << 10,
            idle_ms_max: 600_000,
        }
    }
}

impl Limits {
    fn idle_until(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_add(self.idle_ms_max))
    }
}
