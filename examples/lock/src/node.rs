//! The replica, as used by the server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use plainsong::{
    Consistency, Event, Incarnation, Overloaded, ProposeError, Replica, Status, Timestamp, Watcher,
};
use service_lib::resp::Reply;
use service_lib::{ReplicaStatus, operator};
use tokio::time::{Instant, sleep, timeout_at};

use crate::command::{Command, LockListed, Output};
use crate::limits::LISTED_MAX;
use crate::{LockMachine, Name};

/// Pause before a proposal or read is repeated at an overloaded replica.
const BUSY_WAIT: Duration = Duration::from_millis(5);

/// A handle on the replica. Clones refer to the same replica.
#[derive(Clone, Debug)]
pub struct Node(Arc<Replica<LockMachine>>);

/// The reason why a command has no output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandFailure {
    /// The command has not taken effect, and will not.
    #[error("CLUSTERDOWN {0}; nothing has changed")]
    NotDone(String),
    /// The command may have taken effect, or may still do so.
    #[error("UNKNOWN outcome: {0}; the command may still take effect")]
    Unknown(String),
}

impl Node {
    /// Creates a handle on a running replica.
    pub fn new(replica: Replica<LockMachine>) -> Self {
        Self(Arc::new(replica))
    }

    /// Returns the replica's incarnation.
    pub fn incarnation(&self) -> Incarnation {
        self.0.status().incarnation
    }

    /// Returns the log time, by which leases and waits are counted.
    pub fn log_time(&self) -> Timestamp {
        self.0.log_time()
    }

    /// Returns the status of the replica as shown to operators.
    pub fn replica_status(&self) -> ReplicaStatus {
        ReplicaStatus::of(&self.0.status())
    }

    /// Proposes a command and waits for its output, at most for `timeout`.
    ///
    /// # Errors
    ///
    /// [`CommandFailure`] says whether the command may still take effect.
    pub async fn execute(
        &self,
        command: Command,
        timeout: Duration,
    ) -> Result<Output, CommandFailure> {
        let deadline = Instant::now() + timeout;
        let mut command = command;
        let pending = loop {
            command = match self.0.try_propose(command) {
                Ok(pending) => break pending,
                Err(Overloaded(command)) => command,
            };
            if Instant::now() >= deadline {
                return Err(CommandFailure::NotDone(self.overdue(timeout)));
            }
            sleep(BUSY_WAIT).await;
        };
        match timeout_at(deadline, pending.into_future()).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(error)) if error.may_still_take_effect() => {
                Err(CommandFailure::Unknown(error.to_string()))
            }
            Ok(Err(error)) => Err(CommandFailure::NotDone(error.to_string())),
            Err(_) => Err(CommandFailure::Unknown(self.overdue(timeout))),
        }
    }

    /// Returns the first [`LISTED_MAX`] locks after the name `after`, by a linearizable read.
    ///
    /// # Errors
    ///
    /// Returns [`CommandFailure::NotDone`] if the read fails or takes longer than `timeout`.
    pub async fn list(
        &self,
        after: Option<Name>,
        timeout: Duration,
    ) -> Result<Vec<LockListed>, CommandFailure> {
        let deadline = Instant::now() + timeout;
        let pending = loop {
            let after = after.clone();
            let look =
                move |machine: &LockMachine| machine.locks().list(after.as_ref(), LISTED_MAX);
            match self.0.try_read(Consistency::Linearizable, look) {
                Ok(pending) => break pending,
                Err(_) if Instant::now() < deadline => sleep(BUSY_WAIT).await,
                Err(_) => return Err(CommandFailure::NotDone(self.overdue(timeout))),
            }
        };
        match timeout_at(deadline, pending.into_future()).await {
            Ok(Ok(locks)) => Ok(locks),
            Ok(Err(error)) => Err(CommandFailure::NotDone(error.to_string())),
            Err(_) => Err(CommandFailure::NotDone(self.overdue(timeout))),
        }
    }

    /// Repeats an idempotent command until it has taken effect. Gives up if the replica stops; the
    /// group then ends all sessions of this server anyway.
    pub async fn insist(&self, command: Command) {
        loop {
            if let Ok(pending) = self.0.try_propose(command.clone()) {
                let outcome = pending.into_future().await;
                let unknown = matches!(outcome, Err(ProposeError::OutcomeUnknown));
                if !unknown || self.0.status().stopped.is_some() {
                    return;
                }
            }
            sleep(BUSY_WAIT).await;
        }
    }

    /// Answers an operator's request; returns `None` if `words` is not one.
    pub async fn operate(&self, words: &[Bytes]) -> Option<Reply> {
        operator::answer(Arc::clone(&self.0), words).await
    }

    /// Returns the full status of the replica.
    pub fn status(&self) -> Status {
        self.0.status()
    }

    /// Subscribes to status changes of the replica.
    pub fn subscribe(&self) -> Watcher<Event> {
        self.0.subscribe()
    }

    /// Stops the replica in order and blocks until it has left the group. Does nothing while other
    /// handles exist: the replica then runs until the last of them is dropped.
    pub fn stop(self) {
        if let Some(replica) = Arc::into_inner(self.0) {
            replica.stop();
        }
    }

    fn overdue(&self, timeout: Duration) -> String {
        let seconds = timeout.as_secs_f64();
        match self.replica_status().blocker() {
            Some(blocker) => format!("no answer within {seconds} s: {blocker}"),
            None => format!("no answer within {seconds} s: the group did not respond in time"),
        }
    }
}
