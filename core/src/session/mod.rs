//! Sessions of clients that outlive a replica: a layer over any state machine.
//!
//! A client whose replica dies while a command is under way does not know whether it took
//! effect. In a session it may simply propose the command again, at whichever replica: each
//! command of a session is applied once, and its output is kept until the client has it. As in
//! §6.3 of the dissertation on Raft.
//!
//! The state machine is wrapped, [`Sessions::new`], at every replica; the client numbers its
//! commands by a [`Session`], which knows nothing of replicas and goes wherever the client is.
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
//!     panic!("whoever opens a session gets one");
//! };
//! let add = session.command(5);
//! // As if the first answer had been lost.
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
//! There are so many sessions at most, each with so many commands that the client has not
//! called [done](Session::done), and so many bytes of their outputs ([`Limits`]). A session
//! that is not used for some time of the log is over.

mod handle;
mod layer;
mod table;

use serde::{Deserialize, Serialize};

pub use self::handle::Session;
pub use self::layer::{Sessions, View};
use crate::Timestamp;

/// What is proposed to a state machine in [`Sessions`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SessionCommand<C> {
    /// Opens a session: [`Reply::Opened`]. Whoever does not hear the answer opens another; the
    /// first one is over some time later.
    Open,
    /// A command of a session, made by [`Session::command`].
    Command {
        /// Which session.
        session: u64,
        /// The client's number for it.
        sequence: u64,
        /// The client will not ask again for what has a lower number than that.
        done_below: u64,
        /// What it is.
        command: C,
    },
    /// Keeps a session from being over, made by [`Session::keep`]: [`Reply::Kept`].
    Keep {
        /// Which session.
        session: u64,
    },
    /// Ends a session, made by [`Session::close`]: [`Reply::Closed`], also if it was over.
    Close {
        /// Which session.
        session: u64,
    },
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply<O> {
    /// Here is a new session.
    Opened(Session),
    /// The command's output: of the one time that it was applied.
    Output(O),
    /// The session goes on.
    Kept,
    /// The session is over.
    Closed,
}

/// Why a command of a session has no output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// It was not applied now and never will be. Whether it was before, when it was proposed
    /// the first time, is not known any more.
    #[error(
        "the session is over: it was closed, or not used for too long; the command takes no \
         effect now, but whether it did before is not known; read the state, and open another"
    )]
    Over,
    /// The client has said before that it is done with this command. It is not applied now.
    #[error("the client is done with this command, and asks for it again: use a new number")]
    Done,
    /// It took effect, once.
    #[error(
        "the command took effect, but its output was not kept for a second answer, because it is \
         too large or cannot be decoded again; read the state"
    )]
    OutputLost,
    /// It was not applied; the same may be proposed again later.
    #[error(
        "too many commands of the session are under way: call `done` for those that are answered"
    )]
    TooManyUnderWay,
    /// No session was opened.
    #[error("there are as many sessions as there may be: try again later, or close some")]
    TooManySessions,
}

/// How much sessions may take. All replicas must have the same, or their states part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at once; by default 4096.
    pub sessions_max: usize,
    /// Commands of a session that its client is not done with; by default 64.
    pub under_way_max: usize,
    /// Bytes of their outputs, encoded, for each session; by default 64 KiB. An output that
    /// has no room is given to who asked first, and not kept: [`SessionError::OutputLost`].
    pub output_bytes_max: usize,
    /// Milliseconds of log time after which a session that was not used is over; by default
    /// ten minutes. Longer than a client may be cut off.
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
