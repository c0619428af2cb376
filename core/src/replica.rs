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

/// A handle on a running replica of a state machine. Created by [`Replica::builder`].
///
/// Share it among threads by reference or in an `Arc`; all methods take `&self` except
/// [`stop`](Self::stop). Dropping the handle stops the replica in the same orderly way.
pub struct Replica<M: StateMachine> {
    pub(crate) runtime: Runtime<M>,
    pub(crate) proposal_timeout: Option<Duration>,
}

impl<M: StateMachine> Replica<M> {
    /// Starts the configuration of a replica.
    ///
    /// `id` identifies the replica across restarts: no two live processes of a group may use the
    /// same one, and it must not change. `machine` is the state machine in its initial state, which
    /// must be the same at all replicas. If there is a snapshot, the replica replaces this state
    /// with it.
    pub fn builder(id: ReplicaId, machine: M) -> Builder<M> {
        Builder::new(id, machine)
    }

    /// Proposes a command. The returned [`Pending`] resolves to the output of
    /// [`StateMachine::apply`].
    ///
    /// Blocks while the queue of this replica is full, which happens when the group cannot keep up
    /// or has no majority. The queue holds 4,096 commands or 16 MiB. Use
    /// [`try_propose`](Self::try_propose) where blocking is not acceptable, as in async code.
    ///
    /// A command may have up to [`COMMAND_BYTES_MAX`] encoded bytes.
    ///
    /// # Order
    ///
    /// Commands proposed by one thread are applied in the order of the calls. The replica does not
    /// wait for one command before it sends the next, so throughput comes from proposing many
    /// before waiting for the first.
    ///
    /// # Durability
    ///
    /// The output arrives once the command is committed, that is stored by a majority of the voters
    /// (on disk or in memory, see [`Builder::folder`]), *and* applied at this replica.
    ///
    /// # Errors
    ///
    /// All errors are returned by [`Pending`]. [`ProposeError::may_still_take_effect`] says whether
    /// the command may still be applied. The group applies a command at most once, but an
    /// application that proposes it again after such an error may cause a second effect; see
    /// [`session`](crate::session).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use plainsong::{ProposeError, Replica, StateMachine};
    /// # fn add<M: StateMachine<Command = u64, Output = u64>>(replica: &Replica<M>) {
    /// match replica.propose(5).wait() {
    ///     Ok(total) => println!("the total is {total}"),
    ///     Err(error) if error.may_still_take_effect() => println!("outcome unknown: {error}"),
    ///     Err(error) => println!("the command has no effect: {error}"),
    /// }
    /// # }
    /// ```
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

    /// Proposes a command, like [`propose`](Self::propose), if the queue has room for it now. Never
    /// blocks.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] if the queue is full. It returns the command, which was not proposed.
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

    /// Reads the state with the requested [`Consistency`]. The returned [`Pending`] resolves to the
    /// result of `look`. Reads are not logged.
    ///
    /// Blocks while the queue of reads is full, which holds 4,096 of them. Use
    /// [`try_read`](Self::try_read) where blocking is not acceptable.
    ///
    /// # Threads
    ///
    /// `look` runs between two log entries, on the thread that applies commands. A
    /// [`Consistency::Local`] read runs on the calling thread instead, before `read` returns, if no
    /// entry is being applied and no other local read waits; such reads of several threads run in
    /// parallel. This replica applies nothing while `look` runs, so copy what is needed and return.
    ///
    /// # Order
    ///
    /// Reads of one consistency that are requested by one thread see the state in that order.
    ///
    /// A read does not hold back commands: until it is answered it may see commands that are
    /// proposed after it, at every consistency. To place a read exactly between two commands,
    /// either wait for its answer before proposing the second one, or make it a command that
    /// changes nothing, so that it has a position in the log. The example `kv` does both to keep
    /// the order of each client's pipeline.
    ///
    /// # Errors
    ///
    /// All errors are returned by [`Pending`]. A read has no effect and can always be repeated. A
    /// linearizable read without a majority waits for one for up to ten seconds and then fails with
    /// [`ReadError::NoMajority`]. If `look` panics, the read fails and the replica continues.
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

    /// Reads the state, like [`read`](Self::read), if the queue has room for the read now. Never
    /// waits for room; a local read may still run `look` on the calling thread.
    ///
    /// # Errors
    ///
    /// [`Overloaded`] if the queue is full. Then `look` is never called.
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

    /// Returns the status of this replica: its role, log indices, the members and voters of the
    /// group, and what it waits for. Up to 50 ms old. Available after the replica has stopped, too.
    pub fn status(&self) -> Status {
        self.runtime.shared.status().clone()
    }

    /// Returns this replica's estimate of the [`Context::time`](crate::Context::time) that a
    /// command would have if it were ordered now. Use it rather than the wall clock, which may be
    /// wrong or be set, to answer questions such as how long a lease still lasts.
    ///
    /// Replicas may return different estimates, so the value must not influence the state other
    /// than as part of a command.
    pub fn log_time(&self) -> crate::Timestamp {
        self.runtime.shared.log_time()
    }

    /// Subscribes to status changes, delivered within 50 ms. Each event carries the commit index at
    /// that moment.
    ///
    /// A slow subscriber never blocks the replica: the newest 1,024 events are kept, and a
    /// subscriber that lost older ones receives their number
    /// ([`News::Lagged`](crate::News::Lagged)) and should call [`status`](Self::status).
    pub fn subscribe(&self) -> Watcher<Event> {
        self.runtime.shared.events.watch()
    }

    /// Returns the operations for administrators: changing the voters, and recovering from the loss
    /// of a majority.
    pub fn admin(&self) -> Admin<'_> {
        Admin::new(&self.runtime.admin_commands, &self.runtime.shared)
    }

    /// Stops the replica: leaves the group, so that the others need not wait for a timeout, and
    /// joins the threads. Blocks for up to two seconds while it leaves, and until the application
    /// returns from a running `apply`, read or snapshot.
    ///
    /// Callers that still wait receive an error that says whether their command may still take
    /// effect.
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

/// Encodes a command and checks that it decodes. Once committed, a command that does not decode
/// would stop every replica, and again after each restart.
///
/// Does not encode the decoded command again to compare the bytes, because a value may have several
/// encodings (for example, because of the order of a `HashMap`).
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

/// The queue of the replica is full. Returns the command that was not proposed, or `()` for a read.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the replica is overloaded: try again later, or wait for room with `propose` or `read`")]
pub struct Overloaded<C>(pub C);

impl<C> fmt::Debug for Overloaded<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Overloaded(..)")
    }
}
