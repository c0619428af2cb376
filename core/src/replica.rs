use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::TrySendError;

use crate::engine::{Status, StopReason};
use crate::pending::{COMMAND_BYTES_MAX, Pending, ProposeError};
use crate::read::{Consistency, ReadError, read};
use crate::runtime::{Proposal, Runtime};
use crate::wire::codec;
use crate::wire::types::ReplicaId;
use crate::{Admin, Builder, Event, StateMachine, Watcher};

/// One replica of a state machine: the handle by which an application uses it.
///
/// May be shared among threads. Dropping it stops the replica in order, as
/// [`stop`](Self::stop) does.
pub struct Replica<M: StateMachine> {
    pub(crate) runtime: Runtime<M>,
    pub(crate) proposal_timeout: Option<Duration>,
}

impl<M: StateMachine> Replica<M> {
    /// Begins to describe a replica: its id, stable and unique in the group, and the state
    /// machine in its initial state.
    pub fn builder(id: ReplicaId, machine: M) -> Builder<M> {
        Builder::new(id, machine)
    }

    /// Proposes a command. Waits while the queues are full, which is how a group that
    /// cannot keep up, or has no majority, slows its callers down.
    ///
    /// # Order
    ///
    /// Commands proposed by one thread are applied in that order.
    ///
    /// # Durability
    ///
    /// The answer comes when the command is committed, that is durable at a majority of
    /// the voters as their durability says, *and* applied here.
    ///
    /// # Errors
    ///
    /// Come with the answer; [`ProposeError::may_still_take_effect`] tells what is known.
    pub fn propose(&self, command: M::Command) -> Pending<M::Output> {
        let (proposal, pending) = match encode_command(&command) {
            Ok(bytes) => self.proposal(bytes),
            Err(error) => return Pending::failed(error),
        };
        match self.runtime.propose(proposal, true) {
            Ok(()) => pending,
            Err(_) => Pending::failed(ProposeError::Stopped(self.stop_reason())),
        }
    }

    /// Proposes a command if the queues have room for it now.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] returns the command: nothing was proposed.
    pub fn try_propose(
        &self,
        command: M::Command,
    ) -> Result<Pending<M::Output>, Overloaded<M::Command>> {
        let (proposal, pending) = match encode_command(&command) {
            Ok(bytes) => self.proposal(bytes),
            Err(error) => return Ok(Pending::failed(error)),
        };
        match self.runtime.propose(proposal, false) {
            Ok(()) => Ok(pending),
            Err(TrySendError::Full(_)) => Err(Overloaded(command)),
            Err(TrySendError::Disconnected(_)) => {
                Ok(Pending::failed(ProposeError::Stopped(self.stop_reason())))
            }
        }
    }

    /// Looks at the state, as fresh as `consistency` says. Waits while the queues are full.
    ///
    /// # Threads
    ///
    /// `look` is called between two entries of the log, by the thread that applies commands or,
    /// for [`Consistency::Local`] while nothing is being applied, by this one before `read`
    /// returns: local reads of several threads run beside each other. While it runs nothing is
    /// applied here, so it should take what it needs and be done.
    ///
    /// # Order
    ///
    /// Reads of one [`Consistency`] that are asked for by one thread see the state in that order.
    ///
    /// No read holds back commands: a read that is not answered yet may see commands that are
    /// proposed after it, at every consistency. To place a read exactly between two commands,
    /// either wait for its answer before proposing the second one, or make it a command of the
    /// state machine that changes nothing, so that it has its own place in the log. The example
    /// `kv` does both, to keep the order of each client's pipeline.
    ///
    /// # Errors
    ///
    /// Come with the answer. A read that finds no majority waits for one, a few seconds at
    /// most, and then says what was missing.
    pub fn read<R: Send + 'static>(
        &self,
        consistency: Consistency,
        look: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Pending<R, ReadError> {
        let (read, pending) = read(look);
        match self.runtime.read(read, consistency, true) {
            Ok(()) => pending,
            Err(_) => Pending::failed(ReadError::Stopped(self.stop_reason())),
        }
    }

    /// Reads the state, like [`read`](Self::read), if the queues have room for the read now.
    ///
    /// # Errors
    ///
    /// [`Overloaded`]: the read was not queued, and `look` is never called.
    pub fn try_read<R: Send + 'static>(
        &self,
        consistency: Consistency,
        look: impl FnOnce(&M) -> R + Send + 'static,
    ) -> Result<Pending<R, ReadError>, Overloaded<()>> {
        let (read, pending) = read(look);
        match self.runtime.read(read, consistency, false) {
            Ok(()) => Ok(pending),
            Err(TrySendError::Full(())) => Err(Overloaded(())),
            Err(TrySendError::Disconnected(())) => {
                Ok(Pending::failed(ReadError::Stopped(self.stop_reason())))
            }
        }
    }

    /// How things are at this replica: its role, its indices, who is there, and what it
    /// waits for. At most a twentieth of a second old.
    pub fn status(&self) -> Status {
        self.runtime.shared.status().clone()
    }

    /// Returns what [`Context::time`](crate::Context::time) would be of a command that is
    /// ordered now, as far as this replica can tell: for answers such as how long a lease still
    /// lasts. Read it instead of the wall clock, which may be wrong or be set meanwhile.
    ///
    /// It is an estimate. What must be the same at all replicas uses the stamps in the log alone.
    pub fn log_time(&self) -> crate::Timestamp {
        self.runtime.shared.log_time()
    }

    /// Subscribes to status changes, delivered within 50 ms. Each has the commit index of that
    /// moment. A slow subscriber never blocks the replica: the newest 1024 events are kept, and a
    /// subscriber that lost older ones receives their number
    /// ([`News::Lagged`](crate::News::Lagged)) and should look at [`status`](Self::status).
    pub fn subscribe(&self) -> Watcher<Event> {
        self.runtime.shared.events.watch()
    }

    /// The operator's side: who votes, and a majority lost for good.
    pub fn admin(&self) -> Admin<'_> {
        Admin::new(&self.runtime.admin_commands, &self.runtime.shared)
    }

    /// Stops in order: leaves the group, so that the others go on without waiting for a
    /// timeout, and joins the threads. Callers that still wait get an error that tells
    /// whether their command may still take effect.
    pub fn stop(self) {
        drop(self.runtime);
    }

    fn proposal(&self, command: Bytes) -> (Proposal<M::Output>, Pending<M::Output>) {
        let (caller, pending) = Pending::new();
        let deadline =
            self.proposal_timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        (Proposal { caller, command, deadline }, pending)
    }

    fn stop_reason(&self) -> StopReason {
        self.status().stopped.unwrap_or(StopReason::Asked)
    }
}

impl<M: StateMachine> fmt::Debug for Replica<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// Encodes a command, and decodes it again: what cannot be decoded would stop every replica once
/// it is committed, and again at each start.
///
/// The decoded command is not encoded once more to compare the bytes, because the same value may
/// have several encodings (the order of a `HashMap`).
pub(crate) fn encode_command<C>(command: &C) -> Result<Bytes, ProposeError>
where
    C: serde::Serialize + serde::de::DeserializeOwned,
{
    let bytes = codec::encode(command).map_err(|error| match *error {
        bincode::ErrorKind::SizeLimit => ProposeError::TooLarge,
        error => ProposeError::Encode(error.to_string()),
    })?;
    if bytes.len() > COMMAND_BYTES_MAX {
        return Err(ProposeError::TooLarge);
    }
    if let Err(error) = codec::decode::<C>(&bytes) {
        let (command, reason) = (std::any::type_name::<C>(), error.to_string());
        return Err(ProposeError::Unreadable { command, reason });
    }
    Ok(bytes.into())
}

/// The queues of the replica are full. Returns the command that was not proposed.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the replica is overloaded: try again later, or wait with `propose`")]
pub struct Overloaded<C>(pub C);

impl<C> fmt::Debug for Overloaded<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Overloaded(..)")
    }
}
