//! The order of the commands of one connection.
//!
//! Commands take effect in the order in which a client sent them. What a replica is asked can
//! take effect at two kinds of places:
//!
//! - A *proposal* takes effect at its place in the log. The proposals of a connection stand there
//!   in the order in which they were made.
//! - A *plain read* looks at the state of this replica once it is fresh enough, whatever stands in
//!   the log by then. Plain reads of one [`Consistency`] look in the order in which they were made.
//!
//! So only a plain read and a proposal, or plain reads of two kinds, can pass each other, and
//! [`Order`] keeps them from being under way together: a read behind an unanswered proposal is
//! proposed itself, and whatever else comes behind plain reads waits until they have looked, which
//! is one round trip in the group. A pipeline of plain reads or of proposals alone never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use plainsong::Consistency;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// What a connection has under way, as its reader sees it.
#[derive(Debug, Default)]
pub(super) struct Order {
    progress: Arc<Progress>,
    proposals: u64,
    reads: u64,
    /// The kind of the last plain read.
    consistency: Consistency,
}

/// How much of that is done.
#[derive(Debug, Default)]
pub(super) struct Progress {
    proposals_answered: AtomicU64,
    reads_answered: AtomicU64,
    /// Plain reads that have looked at the state, or never will.
    reads_placed: AtomicU64,
    is_awaited: AtomicBool,
    changed: Notify,
}

/// How a request takes its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// By the log.
    Proposal,
    PlainRead,
}

/// A plain read that may still look at the state: dropped when it has, or never will.
#[derive(Debug)]
pub(super) struct UnplacedRead(Arc<Progress>);

impl Order {
    /// What the writer of the connection reports answers to.
    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// How the next read takes its place.
    pub(super) fn way_of_read(&self) -> Way {
        if self.is_settled() { Way::PlainRead } else { Way::Proposal }
    }

    /// Whether all proposals are answered.
    pub(super) fn is_settled(&self) -> bool {
        self.progress.proposals_answered.load(Ordering::SeqCst) == self.proposals
    }

    /// Waits until the next request cannot pass one before it. Returns whether that was so before
    /// the deadline.
    pub(super) async fn turn(
        &mut self,
        way: Way,
        consistency: Consistency,
        deadline: Instant,
    ) -> bool {
        if way == Way::PlainRead && consistency == self.consistency || self.are_reads_placed() {
            return true;
        }
        self.wait(deadline, Self::are_reads_placed).await
    }

    /// Waits until all proposals are answered. Returns whether that was so before the deadline.
    pub(super) async fn settled(&self, deadline: Instant) -> bool {
        self.is_settled() || self.wait(deadline, Self::is_settled).await
    }

    /// A proposal is made.
    pub(super) fn begin_proposal(&mut self) {
        self.proposals += 1;
    }

    /// A plain read is about to be asked for.
    pub(super) fn begin_read(&mut self, consistency: Consistency) -> UnplacedRead {
        self.consistency = consistency;
        self.reads += 1;
        UnplacedRead(self.progress())
    }

    /// A read that is answered with an error counts as done even if it looks at the state later:
    /// nobody learns what it saw.
    fn are_reads_placed(&self) -> bool {
        let Progress { reads_answered, reads_placed, .. } = &*self.progress;
        reads_placed.load(Ordering::SeqCst) == self.reads
            || reads_answered.load(Ordering::SeqCst) == self.reads
    }

    async fn wait(&self, deadline: Instant, is_done: impl Fn(&Self) -> bool) -> bool {
        let Progress { is_awaited, changed, .. } = &*self.progress;
        // Before each look, so that no change is missed.
        is_awaited.store(true, Ordering::SeqCst);
        let mut is_in_time = true;
        while !is_done(self) && is_in_time {
            is_in_time = timeout_at(deadline, changed.notified()).await.is_ok();
        }
        is_awaited.store(false, Ordering::SeqCst);
        is_done(self)
    }
}

impl Progress {
    /// A request is answered, or could not be made.
    pub(super) fn answered(&self, way: Way) {
        let count = match way {
            Way::Proposal => &self.proposals_answered,
            Way::PlainRead => &self.reads_answered,
        };
        count.fetch_add(1, Ordering::SeqCst);
        self.changed();
    }

    fn changed(&self) {
        if self.is_awaited.load(Ordering::SeqCst) {
            self.changed.notify_one();
        }
    }
}

impl Drop for UnplacedRead {
    fn drop(&mut self) {
        self.0.reads_placed.fetch_add(1, Ordering::SeqCst);
        self.0.changed();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(10)
    }

    #[tokio::test]
    async fn a_proposal_waits_for_plain_reads() {
        let mut order = Order::default();
        let (first, second) =
            (order.begin_read(Consistency::Local), order.begin_read(Consistency::Local));
        assert!(order.turn(Way::PlainRead, Consistency::Local, soon()).await);
        drop(first);
        assert!(!order.turn(Way::Proposal, Consistency::Local, soon()).await);
        assert!(!order.turn(Way::PlainRead, Consistency::Linearizable, soon()).await);
        let place = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            drop(second);
        });
        let patient = Instant::now() + Duration::from_secs(60);
        assert!(order.turn(Way::Proposal, Consistency::Local, patient).await);
        place.await.unwrap();
    }

    #[tokio::test]
    async fn a_read_that_is_answered_in_time_or_not_holds_up_nothing() {
        let mut order = Order::default();
        let _never = order.begin_read(Consistency::Linearizable);
        assert!(!order.turn(Way::Proposal, Consistency::Linearizable, soon()).await);
        order.progress().answered(Way::PlainRead);
        assert!(order.turn(Way::Proposal, Consistency::Linearizable, soon()).await);
    }

    #[tokio::test]
    async fn a_read_behind_an_unanswered_proposal_is_proposed() {
        let mut order = Order::default();
        assert_eq!(order.way_of_read(), Way::PlainRead);
        order.begin_proposal();
        assert_eq!(order.way_of_read(), Way::Proposal);
        assert!(!order.settled(soon()).await);
        order.progress().answered(Way::Proposal);
        assert!(order.settled(soon()).await);
        assert_eq!(order.way_of_read(), Way::PlainRead);
    }
}
