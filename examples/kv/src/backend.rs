//! What the server needs of a replica.

use service::Situation;

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
