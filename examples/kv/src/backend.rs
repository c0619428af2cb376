//! What the server needs of a replica.

use std::fmt;

use crate::command::{Command, Output};

/// A place to propose commands at. The server is written against this, so that its tests
/// can make a replica slow, full or silent.
pub trait Backend: Send + Sync + 'static {
    /// The outcome to come of a proposed command.
    type Pending: Future<Output = Result<Output, Failure>> + Send + Unpin;

    /// Proposes a command without blocking.
    ///
    /// # Errors
    ///
    /// Gives the command back when the queues are full. It has not been proposed; try
    /// again later.
    fn try_propose(&self, command: Command) -> Result<Self::Pending, Command>;

    /// How things are; a cheap snapshot.
    fn situation(&self) -> Situation;
}

/// Why a proposed command has no output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What happened and what to do.
    pub message: String,
    /// Whether the command may still take effect.
    pub may_still_take_effect: bool,
}

/// How a replica and its group are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Situation {
    /// The replica.
    pub id: String,
    /// What it does in the group.
    pub role: String,
    /// The period of normal operation it is in.
    pub epoch: String,
    /// Which replica gives the commands their order now.
    pub sequencer: Option<String>,
    /// Whose majority commits.
    pub voters: Vec<String>,
    /// Who is in the group now.
    pub members: Vec<String>,
    /// The last position of the log here.
    pub last: u64,
    /// The last position that a majority has.
    pub committed: u64,
    /// The last position that the store here has applied.
    pub applied: u64,
    /// What the replica waits for, if it cannot go on without: "waiting for ...".
    pub waiting: Option<String>,
    /// Why it has stopped.
    pub stopped: Option<String>,
}

impl Situation {
    /// What keeps commands from being committed here, if anything does.
    pub fn obstacle(&self) -> Option<Obstacle<'_>> {
        match (&self.stopped, &self.waiting) {
            (Some(why), _) => Some(Obstacle::Stopped(why)),
            (None, Some(what)) => Some(Obstacle::Waiting(what)),
            (None, None) => None,
        }
    }
}

/// What keeps commands from being committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle<'a> {
    /// The replica waits for something, in words that say so.
    Waiting(&'a str),
    /// The replica has stopped, for this reason.
    Stopped(&'a str),
}

impl fmt::Display for Obstacle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting(what) => f.write_str(what),
            Self::Stopped(why) => write!(f, "this replica has stopped: {why}"),
        }
    }
}
