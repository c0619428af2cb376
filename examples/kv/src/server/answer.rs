use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use service_lib::ReplicaStatus;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::info;
use super::order::Way;
use super::queue::{Slot, executed, receivers};
use crate::backend::{Backend, CommandFailure};
use crate::command::Output;
use crate::request::Shape;
use crate::resp::{Protocol, Reply, error};

/// Form in which replies are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) protocol: Protocol,
    /// True if replies are suppressed and only messages are written (`CLIENT REPLY OFF`).
    pub(super) is_quiet: bool,
}

/// The answer to a request. Answers are written in the order of the requests.
pub(super) enum Answer<P> {
    Now(Reply),
    Later(Later<P>),
    /// A message to a subscriber, with the permit of its notice. The permit limits the number of
    /// notices that wait to be written.
    Message(Reply, Arc<OwnedSemaphorePermit>),
    /// Changes the form of the answers that follow. Writes nothing.
    Form(Form),
    /// The last answer. The connection is closed after it.
    Close(Reply),
}

/// A future answer of the store.
pub(super) struct Later<P> {
    pub(super) pending: P,
    pub(super) kind: ReplyKind,
    pub(super) is_read: bool,
    pub(super) way: Way,
    pub(super) deadline: Instant,
}

/// Conversion of the store's output to a reply.
pub(super) enum ReplyKind {
    Output(Shape),
    /// Reply with the number of subscribers of a channel at this server (`PUBLISH`).
    Receivers(Bytes),
    /// Reply with these sections of `INFO`, and the keyspace section from the output.
    Info(String),
    /// Reply to `EXEC`: one part for each queued request.
    Transaction(Vec<Slot>),
}

impl<P> Later<P>
where
    P: Future<Output = Result<Output, CommandFailure>> + Unpin,
{
    /// Returns the outcome if it is known already.
    pub(super) async fn ready(&mut self) -> Option<Result<Output, CommandFailure>> {
        poll_fn(|context| match Pin::new(&mut self.pending).poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    /// Waits for the outcome. Returns `None` when the deadline passes.
    pub(super) async fn outcome(&mut self) -> Option<Result<Output, CommandFailure>> {
        timeout_at(self.deadline, &mut self.pending).await.ok()
    }

    /// Converts an outcome to a reply. `None` means that the deadline has passed.
    pub(super) fn reply<B: Backend>(
        self,
        outcome: Option<Result<Output, CommandFailure>>,
        backend: &B,
        timeout: Duration,
    ) -> Reply {
        // A read that was proposed is the only step of a transaction.
        let is_step = self.is_read && self.way == Way::Proposal;
        let is_timely = outcome.is_some();
        let outcome = match outcome {
            Some(Ok(output)) if is_step => Some(Ok(output.of_only_step())),
            outcome => outcome,
        };
        let failure = match (outcome, self.kind) {
            (Some(Ok(output)), ReplyKind::Output(shape)) => return shape.reply(output),
            (Some(Ok(output)), ReplyKind::Transaction(slots)) => {
                return executed(slots, output, &backend.view());
            }
            (Some(Ok(_)), ReplyKind::Receivers(channel)) => {
                return receivers(&backend.view(), &channel);
            }
            (Some(Ok(output)), ReplyKind::Info(head)) => return info::with_keyspace(head, &output),
            (_, ReplyKind::Info(head)) => {
                return info::without_keyspace(head, &backend.replica_status());
            }
            (Some(Err(failure)), _) => failure,
            (None, _) => CommandFailure {
                message: overdue(&backend.replica_status(), timeout),
                may_still_take_effect: true,
            },
        };
        match (failure.may_still_take_effect, self.is_read) {
            (true, false) => error(format_args!(
                "UNKNOWN outcome: {}; the command may still take effect",
                failure.message
            )),
            // A read has no effect, so it is safe to repeat.
            (true, true) if is_timely => {
                error("CLUSTERDOWN the outcome of the read was lost; read again")
            }
            _ => error(format_args!("CLUSTERDOWN {}", failure.message)),
        }
    }
}

/// Returns the reply to a command that could not even be proposed in time.
pub(super) fn not_proposed(status: &ReplicaStatus, timeout: Duration) -> Reply {
    error(format_args!(
        "CLUSTERDOWN {}; the command has not taken effect",
        overdue(status, timeout)
    ))
}

fn overdue(status: &ReplicaStatus, timeout: Duration) -> String {
    let seconds = timeout.as_secs_f64();
    match status.blocker() {
        Some(blocker) => format!("no answer within {seconds} s: {blocker}"),
        None => format!("no answer within {seconds} s: the group did not respond in time"),
    }
}
