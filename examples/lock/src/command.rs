//! The commands of the log, their outputs, and the events of sessions.

use plainsong::{Incarnation, Timestamp};
use serde::{Deserialize, Serialize};

use crate::limits::{CLAIMS_MAX, CLAIMS_PER_LOCK_MAX, CLAIMS_PER_SESSION_MAX, LOCKS_MAX};
use crate::{Name, Owner};

/// A command of the log. A session number belongs to the server that proposes the command; a server
/// never uses a number twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A session requests a lock.
    Acquire {
        /// Number of the session.
        session: u64,
        /// Name of the lock.
        name: Name,
        /// Mode, wait and lease of the request.
        terms: Terms,
    },
    /// Renews the lease of a lock that is held.
    Renew {
        /// Number of the session.
        session: u64,
        /// Name of the lock.
        name: Name,
    },
    /// Releases a lock, or leaves its queue.
    Release {
        /// Number of the session.
        session: u64,
        /// Name of the lock.
        name: Name,
    },
    /// A session has ended, and its client no longer uses the locks: they are released at once.
    End {
        /// Number of the session.
        session: u64,
    },
    /// The server ends a session, and its client may not know yet: the locks that it holds linger.
    Abandon {
        /// Number of the session.
        session: u64,
    },
    /// An operator takes a lock from its holders.
    Break {
        /// Name of the lock.
        name: Name,
        /// True to release the lock at once, without letting it linger.
        at_once: bool,
    },
    /// Moves the claim of a grant to another session and keeps its token. A client that has lost
    /// its server uses this to keep its lock at another server.
    Resume {
        /// Number of the session that the claim moves to.
        session: u64,
        /// Name of the lock.
        name: Name,
        /// Token of the grant.
        token: Token,
    },
}

/// The conditions of a request for a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Exclusive or shared.
    pub mode: Mode,
    /// Longest wait for the lock.
    pub patience: Patience,
    /// Lease in milliseconds of log time: the lock is lost after it unless it is renewed. `None`:
    /// no lease.
    pub lease_ms: Option<u64>,
    /// Time, in milliseconds of log time, for which the lock is not granted to others after it was
    /// taken from its holder. The holder needs it to notice the loss and to stop.
    pub linger_ms: u64,
    /// Description of the client.
    pub owner: Owner,
}

/// Mode of a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Held by one session.
    Exclusive,
    /// Held by any number of sessions, all in this mode.
    Shared,
}

/// Longest wait for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Patience {
    /// Do not wait.
    None,
    /// Wait for this many milliseconds of log time.
    Ms(u64),
    /// Wait without limit.
    Endless,
}

/// A fencing token. Each grant gets a higher token than all grants before it, of any lock.
pub type Token = u64;

/// A session: one connection of a client to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId {
    /// Incarnation of the replica whose server has the session.
    pub server: Incarnation,
    /// Number of the session at that server.
    pub number: u64,
}

/// The output of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The session holds the lock.
    Granted(Token),
    /// The lock has moved to the session, with the token of its grant.
    Resumed(Token),
    /// The session waits in the lock's queue; a [`SessionEvent`] reports the end of the wait.
    Queued,
    /// Others hold the lock, and the session does not wait; or the lock to resume is lost.
    Taken,
    /// Number of claims that the command changed.
    Done(u64),
    /// The command was refused and changed nothing.
    Refused(Refusal),
}

/// A lock in the output of `LIST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockListed {
    /// Name of the lock.
    pub name: Name,
    /// Number of holders.
    pub holders: u64,
    /// Number of waiters.
    pub waiters: u64,
    /// The first holders, at most [`LISTED_HOLDERS_MAX`](crate::limits::LISTED_HOLDERS_MAX).
    pub first: Vec<HolderListed>,
}

/// A holder of a lock in the output of `LIST`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderListed {
    /// Token of the grant.
    pub token: Token,
    /// Exclusive or shared.
    pub mode: Mode,
    /// Log time of the grant.
    pub since: Timestamp,
    /// Log time at which the lease or the lingering ends, if there is one.
    pub until: Option<Timestamp>,
    /// True if the lock was taken from its holder and lingers.
    pub lost: bool,
    /// Session that holds it.
    pub session: SessionId,
    /// Description of the client.
    pub owner: Owner,
}

/// The reason why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The session already holds the lock or waits for it, or has lost it and it still lingers.
    #[error("HELD this connection already has the lock or waits for it: UNLOCK it first")]
    Held,
    /// The session has too many claims.
    #[error(
        "LIMIT this connection has {CLAIMS_PER_SESSION_MAX} locks, the maximum: open another one"
    )]
    SessionFull,
    /// The lock has too many claims.
    #[error(
        "LIMIT the lock has {CLAIMS_PER_LOCK_MAX} holders and waiters, the maximum: try again \
         later"
    )]
    LockFull,
    /// There are too many locks or too many claims in all.
    #[error(
        "LIMIT the service has {LOCKS_MAX} locks or {CLAIMS_MAX} holders and waiters, the \
         maximum: try again later"
    )]
    Full,
    /// The command has no proposer.
    #[error("ERR the command was proposed by no server")]
    NoServer,
}

/// An event of a session that is not the output of one of its own commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The session was granted the lock it waited for.
    Granted {
        /// Number of the session.
        session: SessionId,
        /// Name of the lock.
        name: Name,
        /// Fencing token of the grant.
        token: Token,
    },
    /// The session's wait for a lock has timed out.
    TimedOut {
        /// Number of the session.
        session: SessionId,
        /// Name of the lock.
        name: Name,
    },
    /// A lock was taken from the session.
    Lost {
        /// Number of the session.
        session: SessionId,
        /// Name of the lock.
        name: Name,
        /// Reason of the loss.
        why: Loss,
    },
    /// A server has left the group, which ended its sessions.
    Dismissed(Incarnation),
    /// The replica has restored a snapshot, so it does not know what happened to its sessions in
    /// between.
    Restored,
}

/// The reason why a lock was taken from its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// An operator broke the lock.
    #[error("an operator has broken the lock")]
    Broken,
    /// The lease was not renewed in time.
    #[error("the lease has expired")]
    LeaseOver,
    /// The client has moved the lock to another session.
    #[error("the lock has moved to another connection")]
    Moved,
}
