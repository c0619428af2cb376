//! Keeps the commands of one connection in order.
//!
//! Commands take effect in the order in which the client sent them. There are two ways to send a
//! request to the replica:
//!
//! - A *proposal* takes effect at its position in the log. The proposals of a connection have the
//!   order in which they were made.
//! - A *plain read* runs on the state of this replica once that is fresh enough, independently of
//!   the log. Plain reads of one [`Consistency`] run in the order in which they were made.
//!
//! So a plain read and a proposal, or plain reads of two consistencies, could overtake each other.
//! [`Order`] prevents that by never having both in flight. A read after an unanswered proposal is
//! proposed as well. Any other request waits until the plain reads before it have run, which takes
//! one round trip in the group. A pipeline of plain reads only, or of proposals only, never waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use plainsong::Consistency;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// Requests of a connection that are in flight, as its reader counts them.
#[derive(Debug, Default)]
pub(super) struct Order {
    progress: Arc<Progress>,
    proposals: u64,
    reads: u64,
    /// Consistency of the last plain read.
    consistency: Consistency,
}

/// Progress of these requests, as the writer and the replica report it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    proposals_answered: AtomicU64,
    reads_answered: AtomicU64,
    /// Number of plain reads that have run, or never will.
    reads_placed: AtomicU64,
    is_awaited: AtomicBool,
    changed: Notify,
}

/// Way to send a request to the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Through the log.
    Proposal,
    /// Directly, at this replica's state.
    PlainRead,
}

/// A plain read that may still run. Dropped once it has run or never will.
#[derive(Debug)]
pub(super) struct UnplacedRead(Arc<Progress>);

impl Order {
    /// Returns the progress, for the writer of the connection to report answers to.
    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Returns the way to send the next read.
    pub(super) fn way_of_read(&self) -> Way {
        if self.is_settled() { Way::PlainRead } else { Way::Proposal }
    }

    /// Returns true if all proposals are answered.
    pub(super) fn is_settled(&self) -> bool {
        self.progress.proposals_answered.load(Ordering::SeqCst) == self.proposals
    }

    /// Waits until the next request cannot overtake an earlier one. Returns false if the deadline
    /// passes first.
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

    /// Waits until all proposals are answered. Returns false if the deadline passes first.
    pub(super) async fn settled(&self, deadline: Instant) -> bool {
        self.is_settled() || self.wait(deadline, Self::is_settled).await
    }

    /// Counts a proposal that has been made.
    pub(super) fn begin_proposal(&mut self) {
        self.proposals += 1;
    }

    /// Counts a plain read that is about to be made.
    pub(super) fn begin_read(&mut self, consistency: Consistency) -> UnplacedRead {
        self.consistency = consistency;
        self.reads += 1;
        UnplacedRead(self.progress())
    }

    /// Returns true if all plain reads have run. A read that was answered with an error counts,
    /// even if it runs later, because its result is discarded.
    fn are_reads_placed(&self) -> bool {
        let Progress { reads_answered, reads_placed, .. } = &*self.progress;
        reads_placed.load(Ordering::SeqCst) == self.reads
            || reads_answered.load(Ordering::SeqCst) == self.reads
    }

    async fn wait(&self, deadline: Instant, is_done: impl Fn(&Self) -> bool) -> bool {
        let Progress { is_awaited, changed, .. } = &*self.progress;
        // Set before the first check, so that no change is missed.
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
    /// Counts a request that was answered, or could not be made.
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
    async fn an_answered_read_holds_up_nothing() {
        let mut order = Order::default();
        let _never = order.begin_read(Consistency::Linearizable);
        assert!(!order.turn(Way::Proposal, Consistency::Linearizable, soon()).await);
        order.progress().answered(Way::PlainRead);
        assert!(order.turn(Way::Proposal, Consistency::Linearizable, soon()).await);
    }

    #[tokio::test]
    async fn a_read_after_an_unanswered_proposal_is_proposed() {
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
