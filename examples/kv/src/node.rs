//! Implements the server's interface to a replica with Plainsong.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use plainsong::{Answer, Consistency, Event, Overloaded, ReadError, Replica, Status, Watcher};
use service_lib::{ReplicaStatus, operator};

use crate::backend::{Backend, CommandFailure};
use crate::command::{Output, Proposal, Query};
use crate::resp::{Reply, error};
use crate::{KvStore, View};

/// A handle on a replica of the store. Clones are handles on the same replica.
#[derive(Clone)]
pub struct Node {
    replica: Arc<Replica<KvStore>>,
    view: View,
}

/// The future outcome of a command or a read.
pub struct Outcome(Kind);

enum Kind {
    Command(Answer<Output>),
    Read(Answer<Output, ReadError>),
}

impl Node {
    /// Wraps a running replica and the view of the store that it was started with.
    pub fn new(replica: Replica<KvStore>, view: View) -> Self {
        Self { replica: Arc::new(replica), view }
    }

    /// Returns the replica's full status.
    pub fn status(&self) -> Status {
        self.replica.status()
    }

    /// Subscribes to changes of the replica's status.
    pub fn subscribe(&self) -> Watcher<Event> {
        self.replica.subscribe()
    }

    /// Stops the replica: it leaves the group. Blocks until it has stopped. If there are other
    /// handles, the replica keeps running until they are dropped.
    pub fn stop(self) {
        if let Some(replica) = Arc::into_inner(self.replica) {
            replica.stop();
        }
    }
}

impl Backend for Node {
    type Pending = Outcome;

    fn try_propose(&self, proposal: Proposal) -> Result<Outcome, Proposal> {
        let pending =
            self.replica.try_propose(proposal).map_err(|Overloaded(proposal)| proposal)?;
        Ok(Outcome(Kind::Command(pending.into_future())))
    }

    fn try_read(
        &self,
        query: Query,
        consistency: Consistency,
        unplaced: impl Send + 'static,
    ) -> Result<Outcome, Query> {
        let (asked, now) = (query.clone(), self.replica.log_time());
        let look = move |store: &KvStore| {
            let answer = store.answer(asked, now);
            drop(unplaced);
            answer
        };
        let pending = self.replica.try_read(consistency, look).map_err(|Overloaded(())| query)?;
        Ok(Outcome(Kind::Read(pending.into_future())))
    }

    async fn operate(&self, words: Vec<Bytes>) -> Reply {
        let answer = operator::answer(Arc::clone(&self.replica), &words).await;
        answer.map_or_else(|| error("ERR syntax error"), Reply::from)
    }

    fn replica_status(&self) -> ReplicaStatus {
        ReplicaStatus::of(&self.replica.status())
    }

    fn view(&self) -> View {
        self.view.clone()
    }
}

impl Future for Outcome {
    type Output = Result<Output, CommandFailure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Kind::Command(answer) => {
                Pin::new(answer).poll(context).map_err(|error| CommandFailure {
                    message: error.to_string(),
                    may_still_take_effect: error.may_still_take_effect(),
                })
            }
            Kind::Read(answer) => Pin::new(answer).poll(context).map_err(|error| CommandFailure {
                message: error.to_string(),
                may_still_take_effect: false,
            }),
        }
    }
}
