use std::fmt;
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::engine::{AdminError, StopReason, VoterChange};
use crate::runtime::{AdminChange, AdminCommand, Shared};
use crate::wire::types::ReplicaId;

/// Operations for administrators: changing the voters, and recovering from the loss of a majority.
/// Returned by [`Replica::admin`](crate::Replica::admin); use it at any replica of the group.
///
/// # Changes of the voters
///
/// A requested change is a command in the log. It takes effect once the replicas that it adds are
/// in the group and have caught up, so start a new voter before adding it. Until then the request
/// stays pending, across changes of the sequencer and restarts. Dropping the [`Request`], or a
/// timeout of it, does not cancel the change; the opposite request does.
///
/// A voter being removed keeps its vote until its replacement is ready, so fault tolerance does not
/// drop during the change.
///
/// # Examples
///
/// ```no_run
/// # use std::time::Duration;
/// # use plainsong::{Replica, ReplicaId, StateMachine};
/// # fn add<M: StateMachine>(replica: &Replica<M>) -> Result<(), plainsong::AdminError> {
/// // Replica 4 has been started and is a learner.
/// replica.admin().add_voter(ReplicaId(4)).wait_timeout(Duration::from_secs(60))?;
/// # Ok(())
/// # }
/// ```
pub struct Admin<'a> {
    commands: &'a Sender<AdminCommand>,
    shared: &'a Shared,
}

impl<'a> Admin<'a> {
    pub(crate) fn new(commands: &'a Sender<AdminCommand>, shared: &'a Shared) -> Self {
        Self { commands, shared }
    }

    /// Adds a voter. Succeeds without a change if the replica already votes.
    pub fn add_voter(&self, replica: ReplicaId) -> Request<'a> {
        self.ask(AdminChange::Voters(VoterChange::Add(replica)))
    }

    /// Removes a voter. The replica continues as a learner; stop it, if that is intended, after the
    /// request has succeeded. The last voter cannot be removed.
    pub fn remove_voter(&self, replica: ReplicaId) -> Request<'a> {
        self.ask(AdminChange::Voters(VoterChange::Remove(replica)))
    }

    /// Replaces the voter `old` with the replica `new` in one step. A replica that returns with an
    /// empty store under its own id needs no request: it replaces itself (rule V2).
    pub fn replace_voter(&self, old: ReplicaId, new: ReplicaId) -> Request<'a> {
        self.ask(AdminChange::Voters(VoterChange::Replace(old, new)))
    }

    /// Turns this replica into a new cluster with a single voter. Use it only when a majority of
    /// the voters is lost *for good*.
    ///
    /// **Acknowledged commands may be lost**: those that only the lost voters had. The new cluster
    /// continues from the log of this replica, so choose the one whose log is longest. It ignores
    /// the other replicas of the old cluster from then on; empty their stores and start them again
    /// to have them join.
    ///
    /// Never force two replicas, and never force one while the others may return: there would be
    /// two clusters that diverge. The request is rejected while a majority of the voters is in the
    /// group, or if the log of this replica is empty.
    pub fn force_new_cluster(&self) -> Request<'a> {
        self.ask(AdminChange::NewCluster)
    }

    fn ask(&self, change: AdminChange) -> Request<'a> {
        let (caller, answer) = oneshot::channel();
        // A stopped replica drops `caller`, and the request reports that the replica has stopped.
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

/// A request of an [`Admin`], in progress. Dropping it does not cancel the request.
#[must_use = "the request proceeds, but only this value reports its outcome"]
pub struct Request<'a> {
    answer: oneshot::Receiver<Result<(), AdminError>>,
    shared: &'a Shared,
}

impl Request<'_> {
    /// Waits until the request has taken effect or has been rejected, for up to `timeout`. Success
    /// means that the change is in force and known to be committed.
    ///
    /// # Errors
    ///
    /// See [`AdminError`]. After [`AdminError::Timeout`], which says what the replica waits for,
    /// and after [`AdminError::Stopped`] the request may still take effect. After all other errors
    /// it does not.
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
