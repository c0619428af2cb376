use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{self, Poll};
use std::time::Duration;

use crate::engine::StopReason;

/// The largest command in bytes, encoded: what one CPG message carries, with room for
/// what goes along.
pub const COMMAND_BYTES_MAX: usize = 1_000_000;

/// Why a proposal was not answered with an output.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// The encoded command is larger than [`COMMAND_BYTES_MAX`]. It was not proposed.
    #[error("the command is larger than {COMMAND_BYTES_MAX} bytes: split it up")]
    TooLarge,
    /// The command could not be encoded. It was not proposed.
    #[error("the command cannot be encoded: {0}")]
    Encode(String),
    /// The command can be encoded, but not decoded again. It was not proposed.
    #[error(
        "a command of type {command} can be encoded but not decoded again ({reason}), so it was \
         not proposed: use types whose serialized form does not depend on the format or on the \
         value, without `serde_json::Value`, untagged or internally tagged enums, and \
         `skip_serializing_if`"
    )]
    Unreadable {
        /// The name of its type.
        command: &'static str,
        /// Why it cannot be decoded.
        reason: String,
    },
    /// The replica has stopped, and the command was not sent.
    #[error("the replica has stopped: {0}")]
    Stopped(StopReason),
    /// The command was not sent in the time that commands have at this replica
    /// ([`Builder::proposal_timeout`](crate::Builder::proposal_timeout)), and never will be.
    #[error("the command was withdrawn, because it could not be sent in time: {0}")]
    Withdrawn(String),
    /// The command was sent, and then its outcome could no longer be known here, or not in the
    /// time that commands have.
    #[error("outcome unknown: the command may or may not take effect; read the state to find out")]
    OutcomeUnknown,
    /// The command took effect, and this replica learnt of it from a snapshot, without its
    /// output.
    #[error("the command took effect, but its output is not known here; read the state")]
    OutputLost,
    /// No answer came in time. The command goes on.
    #[error("no answer in time: the command may still take effect")]
    Timeout,
}

impl ProposeError {
    /// Whether the command may take effect, or has, in spite of the error. If not, it never
    /// will.
    pub fn may_still_take_effect(&self) -> bool {
        matches!(self, Self::OutcomeUnknown | Self::OutputLost | Self::Timeout)
    }
}

/// How a caller is answered.
pub(crate) type Caller<O, E = ProposeError> = oneshot::Sender<Result<O, E>>;

/// An error that can say why there is no answer at all.
pub trait Unanswered {
    /// The caller's time is over.
    fn timeout() -> Self;

    /// A thread of the replica is gone.
    fn lost() -> Self;
}

impl Unanswered for ProposeError {
    fn timeout() -> Self {
        Self::Timeout
    }

    fn lost() -> Self {
        Self::OutcomeUnknown
    }
}

/// An answer to come: wait for it, or `.await` it with any executor. Dropping it gives up
/// the answer and not the command.
#[must_use = "the command goes on, but its outcome is known only from this"]
pub struct Pending<O, E = ProposeError>(State<O, E>);

enum State<O, E> {
    Waiting(oneshot::Receiver<Result<O, E>>),
    Failed(E),
}

impl<O, E: Unanswered> Pending<O, E> {
    /// How a proposal is answered, and the answer to come.
    pub(crate) fn new() -> (Caller<O, E>, Self) {
        let (caller, answer) = oneshot::channel();
        (caller, Self(State::Waiting(answer)))
    }

    pub(crate) fn failed(error: E) -> Self {
        Self(State::Failed(error))
    }

    /// Waits for the answer, however long it takes.
    ///
    /// # Errors
    ///
    /// See [`ProposeError`] and [`ReadError`](crate::ReadError).
    pub fn wait(self) -> Result<O, E> {
        match self.0 {
            // The sender is dropped without a word only when a thread of the replica died.
            State::Waiting(answer) => answer.recv().unwrap_or_else(|_| Err(E::lost())),
            State::Failed(error) => Err(error),
        }
    }

    /// Waits for the answer for so long at most.
    ///
    /// # Errors
    ///
    /// `Timeout` when the time is over: a command may still take effect.
    pub fn wait_timeout(self, timeout: Duration) -> Result<O, E> {
        match self.0 {
            State::Waiting(answer) => match answer.recv_timeout(timeout) {
                Ok(answer) => answer,
                Err(oneshot::RecvTimeoutError::Timeout) => Err(E::timeout()),
                Err(oneshot::RecvTimeoutError::Disconnected) => Err(E::lost()),
            },
            State::Failed(error) => Err(error),
        }
    }
}

impl<O, E> fmt::Debug for Pending<O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending(..)")
    }
}

impl<O, E: Unanswered + Unpin> IntoFuture for Pending<O, E> {
    type Output = Result<O, E>;
    type IntoFuture = Answer<O, E>;

    fn into_future(self) -> Answer<O, E> {
        Answer(match self.0 {
            State::Waiting(answer) => Ok(answer.into_future()),
            State::Failed(error) => Err(Some(error)),
        })
    }
}

/// The future of a [`Pending`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Answer<O, E = ProposeError>(Result<oneshot::AsyncReceiver<Result<O, E>>, Option<E>>);

impl<O, E> fmt::Debug for Answer<O, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer(..)")
    }
}

impl<O, E: Unanswered + Unpin> Future for Answer<O, E> {
    type Output = Result<O, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Ok(answer) => Pin::new(answer)
                .poll(context)
                .map(|answer| answer.unwrap_or_else(|_| Err(E::lost()))),
            Err(error) => Poll::Ready(Err(error.take().unwrap_or_else(E::lost))),
        }
    }
}
