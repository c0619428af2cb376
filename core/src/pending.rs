use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{self, Poll};
use std::time::Duration;

use crate::engine::StopReason;

/// Maximum size of an encoded command, in bytes. A command and its headers must fit into one CPG
/// message.
pub const COMMAND_BYTES_MAX: usize = 1_000_000;

/// An error of a proposal: there is no output.
///
/// [`may_still_take_effect`](Self::may_still_take_effect) says whether the command may have been
/// applied or may be applied later. If it returns false, the same command can be proposed again
/// without the risk of a second effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// The encoded command is larger than [`COMMAND_BYTES_MAX`]. It was not proposed.
    #[error("the encoded command is larger than {COMMAND_BYTES_MAX} bytes: split it")]
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
        /// The name of the type of the command.
        command: &'static str,
        /// The error of the decoder.
        reason: String,
    },
    /// The replica has stopped. The command was not sent and never takes effect.
    #[error("the replica has stopped: {0}")]
    Stopped(StopReason),
    /// The command could not be sent within
    /// [`Builder::proposal_timeout`](crate::Builder::proposal_timeout). It was withdrawn and never
    /// takes effect. The text says what the replica waits for.
    #[error("the command was withdrawn, because it could not be sent in time: {0}")]
    Withdrawn(String),
    /// The command was sent, but its outcome did not become known within
    /// [`Builder::proposal_timeout`](crate::Builder::proposal_timeout), or the replica stopped
    /// first. The command may still take effect.
    #[error("outcome unknown: the command may or may not take effect; read the state to find out")]
    OutcomeUnknown,
    /// The command took effect. This replica received its effect as part of a snapshot, which does
    /// not contain the output.
    #[error("the command took effect, but its output is not known here; read the state")]
    OutputLost,
    /// The timeout given to [`Pending::wait_timeout`] has passed. The command continues and may
    /// still take effect.
    #[error("no answer in time: the command may still take effect")]
    Timeout,
}

impl ProposeError {
    /// Returns true if the command may have taken effect, or may do so later, despite the error. If
    /// false, the command has not taken effect and never will.
    pub fn may_still_take_effect(&self) -> bool {
        matches!(self, Self::OutcomeUnknown | Self::OutputLost | Self::Timeout)
    }
}

/// The channel for the answer to a caller.
pub(crate) type Caller<O, E = ProposeError> = oneshot::Sender<Result<O, E>>;

/// An error type with variants for a missing answer.
pub trait Unanswered {
    /// Returns the error for a timeout chosen by the caller.
    fn timeout() -> Self;

    /// Returns the error for an answer that will never come, because a thread of the replica ended.
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

/// The answer to a proposal or a read, which may not have arrived yet. Wait for it with
/// [`wait`](Self::wait) or [`wait_timeout`](Self::wait_timeout), or `.await` it with any executor.
///
/// Dropping it discards the answer but does not cancel the command.
#[must_use = "the command proceeds, but only this value reports its outcome"]
pub struct Pending<O, E = ProposeError>(State<O, E>);

enum State<O, E> {
    Waiting(oneshot::Receiver<Result<O, E>>),
    Failed(E),
}

impl<O, E: Unanswered> Pending<O, E> {
    /// Creates the two ends of an answer.
    pub(crate) fn new() -> (Caller<O, E>, Self) {
        let (caller, answer) = oneshot::channel();
        (caller, Self(State::Waiting(answer)))
    }

    pub(crate) fn failed(error: E) -> Self {
        Self(State::Failed(error))
    }

    /// Waits for the answer without a time limit. Blocks the thread.
    ///
    /// # Errors
    ///
    /// See [`ProposeError`] and [`ReadError`](crate::ReadError).
    pub fn wait(self) -> Result<O, E> {
        match self.0 {
            // The sender is dropped without an answer only if a thread of the replica has ended.
            State::Waiting(answer) => answer.recv().unwrap_or_else(|_| Err(E::lost())),
            State::Failed(error) => Err(error),
        }
    }

    /// Waits for the answer for up to `timeout`. Blocks the thread.
    ///
    /// # Errors
    ///
    /// `Timeout` if no answer arrived in time. A command is not cancelled and may still take
    /// effect. See also [`wait`](Self::wait).
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

/// The future of a [`Pending`]. Works with any executor.
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
