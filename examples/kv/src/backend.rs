//! The interface between the server and a replica.

use bytes::Bytes;
use plainsong::Consistency;
use service_lib::ReplicaStatus;

use crate::View;
use crate::command::{Output, Proposal, Query};
use crate::resp::Reply;

/// A replica of the store, as the server uses it. Tests of the server implement it to make a
/// replica slow, overloaded or silent.
pub trait Backend: Send + Sync + 'static {
    /// Future outcome of a proposal or a read.
    type Pending: Future<Output = Result<Output, CommandFailure>> + Send + Unpin;

    /// Proposes without blocking. Proposals take effect in the order of the calls.
    ///
    /// # Errors
    ///
    /// Returns the proposal if the queues are full; try again later.
    fn try_propose(&self, proposal: Proposal) -> Result<Self::Pending, Proposal>;

    /// Reads with the given consistency, without blocking. `unplaced` is dropped once the read has
    /// been executed or never will be: the read does not see commands that are proposed after that.
    ///
    /// # Errors
    ///
    /// Returns the query if the queues are full; try again later.
    fn try_read(
        &self,
        query: Query,
        consistency: Consistency,
        unplaced: impl Send + 'static,
    ) -> Result<Self::Pending, Query>;

    /// Answers an operator's request.
    fn operate(&self, words: Vec<Bytes>) -> impl Future<Output = Reply> + Send;

    /// Returns the current status. Cheap.
    fn replica_status(&self) -> ReplicaStatus;

    /// Returns the view of the store.
    fn view(&self) -> View;
}

/// A failed proposal or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandFailure {
    /// The cause and the remedy.
    pub message: String,
    /// True if the command may still take effect.
    pub may_still_take_effect: bool,
}
