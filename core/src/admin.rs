use std::fmt;
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::engine::{AdminError, StopReason, VoterChange};
use crate::runtime::{AdminChange, AdminCommand, Shared};
use crate::wire::types::ReplicaId;

/// The operator's side of a replica: who votes, and what to do when a majority is lost for
/// good. Got by [`Replica::admin`](crate::Replica::admin), of any replica of the group.
///
/// The voters follow a request once the replicas that it names are there and in step: one
/// that is to vote is best started first, and has caught up before it is added. Until then
/// the request waits, across changes of the sequencer and restarts; giving up a [`Request`]
/// does not take it back, the opposite request does.
pub struct Admin<'a> {
    commands: &'a Sender<AdminCommand>,
    shared: &'a Shared,
}

impl<'a> Admin<'a> {
    pub(crate) fn new(commands: &'a Sender<AdminCommand>, shared: &'a Shared) -> Self {
        Self { commands, shared }
    }

    /// Has that replica vote. Done at once if it does already.
    pub fn add_voter(&self, replica: ReplicaId) -> Request<'a> {
        self.ask(AdminChange::Voters(VoterChange::Add(replica)))
    }

    /// Has that replica vote no more. It may go on as a learner, or be stopped once the
    /// request is answered.
    pub fn remove_voter(&self, replica: ReplicaId) -> Request<'a> {
        self.ask(AdminChange::Voters(VoterChange::Remove(replica)))
    }

    /// Has `new` vote in the place of `old`, in one step. A replica that comes back with an
    /// empty store under its own id needs no request: it takes its own place (rule V2).
    pub fn replace_voter(&self, old: ReplicaId, new: ReplicaId) -> Request<'a> {
        self.ask(AdminChange::Voters(VoterChange::Replace(old, new)))
    }

    /// Goes on alone, as a new cluster, from what this replica has, when a majority of the
    /// voters is lost *for good*. What only the lost ones had is lost, although it may have
    /// been acknowledged. Other replicas of the old cluster are ignored from then on, and
    /// join the new one with emptied stores. Refused while a majority is here.
    ///
    /// Never do this at two replicas, and not while the others may come back: there would be
    /// two groups that know nothing of each other.
    pub fn force_new_cluster(&self) -> Request<'a> {
        self.ask(AdminChange::NewCluster)
    }

    fn ask(&self, change: AdminChange) -> Request<'a> {
        let (caller, answer) = oneshot::channel();
        // A replica that has stopped drops it, which tells as much.
        if self.commands.send(AdminCommand { change, caller }).is_ok() {
            self.shared.wake();
        }
        Request { answer, shared: self.shared }
    }
}

impl fmt::Debug for Admin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Admin(..)")
    }
}

/// An operator's request on its way.
#[must_use = "the request goes on, but its outcome is known only from this"]
pub struct Request<'a> {
    answer: oneshot::Receiver<Result<(), AdminError>>,
    shared: &'a Shared,
}

impl Request<'_> {
    /// Waits until the request is in force, or refused, for so long at most.
    ///
    /// # Errors
    ///
    /// See [`AdminError`]. After [`AdminError::Timeout`], which says what the replica waits
    /// for, and [`AdminError::Stopped`] the request may still take effect.
    pub fn wait_timeout(self, timeout: Duration) -> Result<(), AdminError> {
        match self.answer.recv_timeout(timeout) {
            Ok(result) => result,
            Err(oneshot::RecvTimeoutError::Timeout) => Err(AdminError::Timeout(self.obstacle())),
            Err(oneshot::RecvTimeoutError::Disconnected) => {
                let stopped = self.shared.status().stopped.clone();
                Err(AdminError::Stopped(stopped.unwrap_or(StopReason::Asked)))
            }
        }
    }

    fn obstacle(&self) -> String {
        let status = self.shared.status();
        let pending = status.waiting.clone().or_else(|| status.pending_change());
        pending.unwrap_or_else(|| "the group did not respond".into())
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Request(..)")
    }
}
