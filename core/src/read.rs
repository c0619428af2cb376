use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::engine::StopReason;
use crate::panics::panic_text;
use crate::pending::{Pending, Unanswered};

/// The required freshness of a [read](crate::Replica::read).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Sees every command that was answered, at any replica, before the read was requested. A
    /// majority of the voters must confirm this, which takes two message delays and no disk access;
    /// all waiting reads share one round.
    #[default]
    Linearizable,
    /// The strongest level: a [`Linearizable`](Self::Linearizable) read that also sees every
    /// command that was proposed at this replica before it, *answered or not*, unless the
    /// command never takes effect. The read waits until those commands are applied here, so a
    /// pipeline of writes and reads need not wait for the answers of its writes.
    ///
    /// This is a lower bound only. The read may also see commands that were proposed *after*
    /// it, at this replica or elsewhere, because it does not hold them back. See
    /// [`Replica::read`](crate::Replica::read) for reads that must not see them.
    ReadYourWrites,
    /// The current state of this replica, which may lag behind the others by any amount.
    /// Needs no other replica and works without a majority.
    ///
    /// Sees every command that this replica answered before the read was requested. It may also see
    /// commands that were proposed here and are not answered yet.
    Local,
}

/// An error of a read. Reads have no effect, so they can always be repeated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No majority of the voters confirmed the read within ten seconds. The text says what the
    /// replica waits for.
    #[error("no majority answered the read in time: {0}")]
    NoMajority(String),
    /// The timeout given to [`Pending::wait_timeout`](crate::Pending::wait_timeout) has passed.
    #[error("no answer in time")]
    Timeout,
    /// The caller's closure panicked. The replica continues.
    #[error("the read panicked: {0}")]
    Panicked(String),
    /// The replica has stopped.
    #[error("the replica has stopped: {0}")]
    Stopped(StopReason),
    /// The replica stopped while the read was waiting.
    #[error("the replica stopped before the read ran")]
    Lost,
}

impl Unanswered for ReadError {
    fn timeout() -> Self {
        Self::Timeout
    }

    fn lost() -> Self {
        Self::Lost
    }
}

/// A queued read. Called once, with the state machine or with the reason why the read fails.
pub(crate) type Read<M> = Box<dyn FnOnce(Result<&M, ReadError>) + Send>;

/// Creates a read that calls `look`, and the answer that it will send.
pub(crate) fn read<M, R: Send + 'static>(
    look: impl FnOnce(&M) -> R + Send + 'static,
) -> (Read<M>, Pending<R, ReadError>) {
    let (caller, pending) = Pending::new();
    let read = move |machine: Result<&M, ReadError>| {
        let answer = machine.and_then(|machine| {
            catch_unwind(AssertUnwindSafe(|| look(machine)))
                .map_err(|panic| ReadError::Panicked(panic_text(&*panic)))
        });
        // Fails if the caller has dropped its `Pending`.
        let _ = caller.send(answer);
    };
    (Box::new(read), pending)
}
