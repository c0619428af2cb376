//! What the server needs of a replica.

use bytes::Bytes;
use plainsong::Consistency;
use service_lib::ReplicaStatus;

use crate::View;
use crate::command::{Output, Proposal, Query};
use crate::resp::Reply;

/// A place to ask the store at. The server is written against this, so that its tests
/// can make a replica slow, full or silent.
pub trait Backend: Send + Sync + 'static {
    /// The outcome to come.
    type Pending: Future<Output = Result<Output, CommandFailure>> + Send + Unpin;

    /// Proposes without blocking. Proposals take effect in the order of the calls.
    ///
    /// # Errors
    ///
    /// Gives back the proposal when the queues are full; try again later.
    fn try_propose(&self, proposal: Proposal) -> Result<Self::Pending, Proposal>;

    /// Reads without blocking, as fresh as `consistency` says. `unplaced` is dropped when the
    /// read has looked at the state or never will: what is proposed after that is not seen by it.
    ///
    /// # Errors
    ///
    /// Gives back the query when the queues are full; try again later.
    fn try_read(
        &self,
        query: Query,
        consistency: Consistency,
        unplaced: impl Send + 'static,
    ) -> Result<Self::Pending, Query>;

    /// Answers what operators ask.
    fn operate(&self, words: Vec<Bytes>) -> impl Future<Output = Reply> + Send;

    /// How things are; a cheap snapshot.
    fn replica_status(&self) -> ReplicaStatus;

    /// What is seen of the store without asking.
    fn view(&self) -> View;
}

/// Why there is no output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandFailure {
    /// What happened and what to do.
    pub message: String,
    /// Whether the command may still take effect.
    pub may_still_take_effect: bool,
}
