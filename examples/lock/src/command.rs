//! What is proposed to the group, what it answers, and what happens besides.

use plainsong::{Incarnation, Timestamp};
use serde::{Deserialize, Serialize};

use crate::limits::{CLAIMS_MAX, CLAIMS_PER_LOCK_MAX, CLAIMS_PER_SESSION_MAX, LOCKS_MAX};
use crate::{Name, Owner};

/// A command in the log. Sessions are those of the server that proposes it, which never
/// uses a number twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A session wants a lock.
    Acquire {
        /// Which session.
        session: u64,
        /// Which lock.
        name: Name,
        /// How, and for how long.
        terms: Terms,
    },
    /// Begins the lease of a held lock anew.
    Renew {
        /// Which session.
        session: u64,
        /// Which lock.
        name: Name,
    },
    /// Gives a lock back, or up.
    Release {
        /// Which session.
        session: u64,
        /// Which lock.
        name: Name,
    },
    /// A session is over, and who used its locks has stopped: they are free at once.
    End {
        /// Which session.
        session: u64,
    },
    /// A session is taken from its client, which may not know yet: what it holds lingers.
    Abandon {
        /// Which session.
        session: u64,
    },
    /// An operator takes a lock from whoever holds it.
    Break {
        /// Which lock.
        name: Name,
        /// Not to let it linger.
        at_once: bool,
    },
    /// A client whose server is gone goes on, at another one, with a lock that it still has:
    /// moves the claim of this grant to a session, with the same token.
    Resume {
        /// Which session it moves to.
        session: u64,
        /// Which lock.
        name: Name,
        /// Of the grant.
        token: Token,
    },
}

/// How a lock is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Alone, or with others.
    pub mode: Mode,
    /// How long to wait for it.
    pub patience: Patience,
    /// How long it is held, in milliseconds of log time, unless it is renewed.
    pub lease_ms: Option<u64>,
    /// For how long, in milliseconds of log time, nobody else gets the lock after it was
    /// taken from its holder, who needs time to notice and to stop.
    pub linger_ms: u64,
    /// Who wants it.
    pub owner: Owner,
}

/// Whether a lock is held alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// By one.
    Exclusive,
    /// By any number that want it so.
    Shared,
}

/// How long to wait for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Patience {
    /// Not at all.
    None,
    /// So many milliseconds of log time.
    Ms(u64),
    /// For ever.
    Endless,
}

/// A fencing token: every grant has a higher one than all grants before it, of whatever
/// lock.
pub type Token = u64;

/// A session: one connection of a client to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId {
    /// The run of the replica whose server has it.
    pub server: Incarnation,
    /// Its number there.
    pub number: u64,
}

/// What a command answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// The lock is held.
    Granted(Token),
    /// The lock has moved to the session, with the token of its grant.
    Resumed(Token),
    /// The session waits in the lock's queue; a [`SessionEvent`] reports the end of the wait.
    Queued,
    /// Others have the lock, and the session does not wait.
    Taken,
    /// How many claims it was done to.
    Done(u64),
    /// It was refused, and nothing has changed.
    Refused(Refusal),
}

/// A lock in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockListed {
    /// Its name.
    pub name: Name,
    /// How many hold it.
    pub holders: u64,
    /// How many wait for it.
    pub waiters: u64,
    /// The first holders.
    pub first: Vec<HolderListed>,
}

/// A holder in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderListed {
    /// The token of the grant.
    pub token: Token,
    /// Alone, or with others.
    pub mode: Mode,
    /// Since when.
    pub since: Timestamp,
    /// Until when at most, if it has a lease or was lost.
    pub until: Option<Timestamp>,
    /// It was taken from its holder, and lingers.
    pub lost: bool,
    /// By which session.
    pub session: SessionId,
    /// Who that is.
    pub owner: Owner,
}

/// Why a command is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The session holds the lock, or had it until just now.
    #[error("HELD this connection has the lock already: UNLOCK it first")]
    Held,
    /// The session has too many claims.
    #[error(
        "LIMIT this connection has {CLAIMS_PER_SESSION_MAX} locks, which is the limit: use another"
    )]
    SessionFull,
    /// The lock has too many claims.
    #[error(
        "LIMIT the lock has {CLAIMS_PER_LOCK_MAX} holders and waiters, which is the limit: try \
         again later"
    )]
    LockFull,
    /// All locks have too many claims.
    #[error(
        "LIMIT the service has {LOCKS_MAX} locks or {CLAIMS_MAX} holders and waiters, which is \
         the limit: try again later"
    )]
    Full,
    /// No server proposed it.
    #[error("ERR a command without a server")]
    NoServer,
}

/// What happens to a session without its doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// It got the lock that it waited for.
    Granted {
        /// Which session.
        session: SessionId,
        /// Which lock.
        name: Name,
        /// Its fencing token.
        token: Token,
    },
    /// It has waited long enough.
    TimedOut {
        /// Which session.
        session: SessionId,
        /// Which lock.
        name: Name,
    },
    /// A lock was taken from it.
    Lost {
        /// Which session.
        session: SessionId,
        /// Which lock.
        name: Name,
        /// Why.
        why: Loss,
    },
    /// A server is gone from the group, and its sessions with it.
    Dismissed(Incarnation),
    /// The replica has taken over a state from others: what happened to its sessions on the
    /// way to there is not known.
    Restored,
}

/// Why a lock was taken from its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// An operator did.
    #[error("an operator has broken the lock")]
    Broken,
    /// It was not renewed in time.
    #[error("the lease has run out")]
    LeaseOver,
    /// Its client has moved it to another session.
    #[error("the lock has moved to another connection")]
    Moved,
}
