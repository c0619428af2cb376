//! A replica of the store, as the server sees it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use plainsong::{Answer, Busy, Replica};
use service::Situation;

use crate::Store;
use crate::backend::{Backend, Failure};
use crate::command::{Command, Output};

/// A replica of the store as the server sees it. Clones are handles on the same replica.
#[derive(Clone)]
pub struct Node(Arc<Replica<Store>>);

/// The outcome to come of a command.
pub struct Outcome(Answer<Output>);

impl Node {
    /// A handle on a running replica.
    pub fn new(replica: Replica<Store>) -> Self {
        Self(Arc::new(replica))
    }

    /// Stops the replica in order: it leaves the group. Blocks until it has. Other handles
    /// keep it running until they are dropped.
    pub fn stop(self) {
        if let Some(replica) = Arc::into_inner(self.0) {
            replica.stop();
        }
    }
}

impl Backend for Node {
    type Pending = Outcome;

    fn try_propose(&self, command: Command) -> Result<Outcome, Command> {
        let pending = self.0.try_propose(command);
        pending.map(|p| Outcome(p.into_future())).map_err(|Busy(command)| command)
    }

    fn situation(&self) -> Situation {
        Situation::of(&self.0.status())
    }
}

impl Future for Outcome {
    type Output = Result<Output, Failure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(|error| Failure {
            message: error.to_string(),
            may_still_take_effect: error.may_still_take_effect(),
        })
    }
}
