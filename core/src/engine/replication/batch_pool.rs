use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::{Bound, RangeBounds};

use crate::engine::log::Log;
use crate::wire::entry::Batch;
use crate::wire::types::{Incarnation, Nonce, Origin};

/// How far an origin may be ahead of the order. More than any replica has in flight.
const AHEAD_MAX: u64 = 1024;
/// Maximum number of bytes that the batches take, beside what the log keeps.
const BYTES_MAX: usize = 64 << 20;

/// Batches that were delivered and are not in the log yet (rule N5).
///
/// When they take more than [`BYTES_MAX`], batches of runs that are gone are dropped first, then
/// the newest ones of the live run that has the most. A dropped batch is sent again by its origin,
/// or fetched once it is marked.
#[derive(Debug, Default)]
pub(crate) struct BatchPool {
    batches: BTreeMap<(Origin, u64), Batch>,
    /// Sum of [`cost`] over all batches.
    bytes: usize,
    /// The same for each run.
    by_run: BTreeMap<Incarnation, usize>,
    /// Origin of the batch that was ordered last.
    served: Option<Origin>,
}

/// About the memory that a batch takes.
fn cost(batch: &Batch) -> usize {
    batch.commands.len() + size_of::<((Origin, u64), Batch)>()
}

impl BatchPool {
    /// Keeps a batch that may still be ordered. `is_here` tells which runs are in the group.
    pub(crate) fn insert(
        &mut self,
        log: &Log,
        batch: Batch,
        is_here: impl Fn(Incarnation) -> bool,
    ) {
        let Batch { origin, number, .. } = batch;
        let reached = log.last_batch(origin.replica).filter(|last| last.counter == origin.counter);
        let ahead = number.saturating_sub(reached.map_or(0, |last| last.number));
        if log.is_past(&origin, number) || ahead > AHEAD_MAX || cost(&batch) > BYTES_MAX {
            return;
        }
        self.put(batch);
        self.make_room(is_here);
    }

    fn put(&mut self, batch: Batch) {
        let key = (batch.origin, batch.number);
        if let Entry::Vacant(place) = self.batches.entry(key) {
            let cost = cost(&batch);
            self.bytes += cost;
            *self.by_run.entry(key.0.incarnation()).or_default() += cost;
            place.insert(batch);
        }
    }

    /// Drops batches until the rest fits.
    fn make_room(&mut self, is_here: impl Fn(Incarnation) -> bool) {
        while self.bytes > BYTES_MAX {
            let by_weight = |run: &(&Incarnation, &usize)| (!is_here(*run.0), *run.1);
            let Some((run, _)) = self.by_run.iter().max_by_key(by_weight) else { return };
            let run = *run;
            // Its first batches are the ones that can be ordered next.
            let all = self.batches.range(of_replica(run)).rev().map(|(key, _)| *key);
            let Some(newest) = all.clone().find(|(origin, _)| origin.nonce == run.nonce) else {
                return;
            };
            self.take(newest.0, newest.1);
        }
    }

    pub(crate) fn take(&mut self, origin: Origin, number: u64) -> Option<Batch> {
        let batch = self.batches.remove(&(origin, number))?;
        let cost = cost(&batch);
        self.bytes -= cost;
        if let Entry::Occupied(mut run) = self.by_run.entry(origin.incarnation()) {
            *run.get_mut() -= cost;
            if *run.get() == 0 {
                run.remove();
            }
        }
        Some(batch)
    }

    /// Forgets what is in the order already or can never be.
    pub(crate) fn prune(&mut self, log: &Log) {
        self.forget(log, ..);
    }

    /// The same for the batches of one replica, a batch of which has come into the log.
    pub(crate) fn reached(&mut self, log: &Log, origin: Origin, number: u64) {
        let first = (Origin { counter: 0, nonce: Nonce(0), ..origin }, 0);
        self.forget(log, first..=(origin, number));
        // Later runs by their nonce, with the same counter.
        let last = (Origin { nonce: Nonce(u64::MAX), ..origin }, u64::MAX);
        self.forget(log, (Bound::Excluded((origin, u64::MAX)), Bound::Included(last)));
    }

    fn forget(&mut self, log: &Log, range: impl RangeBounds<(Origin, u64)>) {
        let keys = self.batches.range(range).map(|(key, _)| *key);
        let past: Vec<_> = keys.filter(|(origin, number)| log.is_past(origin, *number)).collect();
        for (origin, number) in past {
            self.take(origin, number);
        }
    }

    /// Whether it takes no more than it may, and holds nothing that is past.
    #[cfg(feature = "testing")]
    pub(crate) fn is_within_bounds(&self, log: &Log) -> bool {
        self.bytes <= BYTES_MAX
            && self.batches.values().map(cost).sum::<usize>() == self.bytes
            && self.by_run.values().sum::<usize>() == self.bytes
            && !self.batches.keys().any(|(origin, number)| log.is_past(origin, *number))
    }

    /// Takes a batch that is the next of its origin, if there is any; of each origin in turn, so
    /// that nobody waits for ever when less is ordered than comes.
    pub(crate) fn take_next(&mut self, is_next: impl Fn(&Origin, u64) -> bool) -> Option<Batch> {
        let others = self.served.map_or(Bound::Unbounded, |o| Bound::Excluded((o, u64::MAX)));
        let later = self.batches.range((others, Bound::Unbounded)).map(|(key, _)| key);
        let mut all = later.chain(self.batches.keys());
        let (origin, number) = *all.find(|(origin, number)| is_next(origin, *number))?;
        self.served = Some(origin);
        self.take(origin, number)
    }

    /// Whether there is a batch that could be ordered now. What waits behind a gap of a
    /// dead origin cannot.
    pub(crate) fn has_next(&self, log: &Log) -> bool {
        self.batches.keys().any(|(origin, number)| log.is_next(origin, *number))
    }
}

/// The range of keys that the batches of all runs of a replica have.
fn of_replica(run: Incarnation) -> impl RangeBounds<(Origin, u64)> {
    let origin = Origin { replica: run.replica, counter: 0, nonce: Nonce(0) };
    (origin, 0)..=(Origin { counter: u64::MAX, nonce: Nonce(u64::MAX), ..origin }, u64::MAX)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Timestamp;
    use crate::wire::entry::{BatchKind, EntryPayload, MembersChanged};
    use crate::wire::types::{Ballot, Nonce, ReplicaId};

    fn batch(counter: u64, number: u64) -> Batch {
        let origin = Origin { replica: ReplicaId(1), counter, nonce: Nonce(counter) };
        Batch {
            origin,
            number,
            kind: BatchKind::Application,
            count: 0,
            commands: Bytes::from_static(b"abcd"),
        }
    }

    fn log_with_members() -> Log {
        let mut log = Log::default();
        let joined = [1, 2].map(|counter| batch(counter, 1).origin.incarnation()).to_vec();
        let notice = MembersChanged { joined, left: Vec::new() };
        log.append(Ballot::default(), Timestamp(0), EntryPayload::Notice(notice));
        log
    }

    #[test]
    fn gives_batches_in_the_order_of_their_numbers() {
        let mut log = log_with_members();
        let mut pool = BatchPool::default();
        for number in [3, 2, 1, 2] {
            pool.insert(&log, batch(1, number), |_| true);
        }
        pool.insert(&log, batch(1, 2 + AHEAD_MAX), |_| true);
        let mut order = Vec::new();
        while let Some(batch) = pool.take_next(|origin, number| log.is_next(origin, number)) {
            order.push(batch.number);
            log.append(Ballot::default(), Timestamp(0), EntryPayload::Batch(batch));
        }
        assert_eq!(order, [1, 2, 3]);
        assert!(pool.batches.is_empty());
        assert_eq!(pool.bytes, 0);
    }

    #[test]
    fn each_origin_has_its_turn() {
        let mut log = Log::default();
        let mut pool = BatchPool::default();
        let at = |replica| Origin { replica: ReplicaId(replica), counter: 1, nonce: Nonce(1) };
        let joined = [1, 2].map(|replica| at(replica).incarnation()).to_vec();
        let notice = MembersChanged { joined, left: Vec::new() };
        log.append(Ballot::default(), Timestamp(0), EntryPayload::Notice(notice));
        for (replica, number) in [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)] {
            pool.insert(&log, Batch { origin: at(replica), ..batch(1, number) }, |_| true);
        }
        let mut order = Vec::new();
        while let Some(batch) = pool.take_next(|origin, number| log.is_next(origin, number)) {
            order.push((batch.origin.replica.0, batch.number));
            log.append(Ballot::default(), Timestamp(0), EntryPayload::Batch(batch));
        }
        assert_eq!(order, [(1, 1), (2, 1), (1, 2), (2, 2), (1, 3)]);
    }

    /// A batch of a run of another replica.
    fn large(replica: u32, number: u64, bytes: usize) -> Batch {
        let origin = Origin { replica: ReplicaId(replica), counter: 1, nonce: Nonce(7) };
        Batch { origin, commands: Bytes::from(vec![0; bytes]), ..batch(1, number) }
    }

    fn kept(pool: &BatchPool) -> Vec<(u32, u64)> {
        pool.batches.keys().map(|(origin, number)| (origin.replica.0, *number)).collect()
    }

    #[test]
    fn batches_of_runs_that_are_gone_are_dropped_first() {
        let (log, mut pool) = (Log::default(), BatchPool::default());
        let third = BYTES_MAX / 3;
        for (replica, number) in [(1, 1), (2, 1), (2, 2), (3, 1)] {
            pool.insert(&log, large(replica, number, third), |run| run.replica.0 != 1);
        }
        assert_eq!(kept(&pool), [(2, 1), (3, 1)], "then the newest of the largest");
        // Whatever a run that is gone had, it gives way.
        pool.insert(&log, large(4, 1, third), |run| run.replica.0 != 4);
        assert_eq!(kept(&pool), [(2, 1), (3, 1)]);
        pool.insert(&log, large(2, 3, third / 2), |_| true);
        assert_eq!(kept(&pool), [(2, 1), (2, 3), (3, 1)]);
        pool.insert(&log, large(5, 1, third / 2), |_| true);
        assert_eq!(kept(&pool), [(2, 1), (3, 1), (5, 1)]);
        pool.insert(&log, large(6, 1, BYTES_MAX), |_| true);
        assert_eq!(kept(&pool), [(2, 1), (3, 1), (5, 1)], "larger than all there is");
        for (replica, number) in [(2, 1), (3, 1), (5, 1)] {
            let origin = large(replica, number, 0).origin;
            assert!(pool.take(origin, number).is_some());
        }
        assert!(pool.bytes == 0 && pool.by_run.is_empty());
    }

    #[test]
    fn what_a_log_has_reached_is_forgotten_at_once() {
        let (mut log, mut pool) = (Log::default(), BatchPool::default());
        let of = |counter, nonce, number| {
            let origin = Origin { replica: ReplicaId(1), counter, nonce: Nonce(nonce) };
            Batch { origin, ..batch(1, number) }
        };
        for (counter, nonce) in [(1, 5), (2, 1), (2, 5), (2, 9), (3, 5)] {
            for number in 1..=3 {
                pool.insert(&log, of(counter, nonce, number), |_| true);
            }
        }
        pool.insert(&log, large(2, 1, 1), |_| true);
        log.append(Ballot::default(), Timestamp(0), EntryPayload::Batch(of(2, 5, 1)));
        pool.reached(&log, of(2, 5, 1).origin, 1);
        let left: Vec<_> =
            pool.batches.keys().map(|(origin, number)| (origin.counter, *number)).collect();
        assert_eq!(left, [(2, 2), (2, 3), (3, 1), (3, 2), (3, 3), (1, 1)]);
    }

    #[test]
    fn forgets_what_was_superseded() {
        let mut log = Log::default();
        let mut pool = BatchPool::default();
        pool.insert(&log, batch(1, 1), |_| true);
        pool.insert(&log, batch(2, 1), |_| true);
        log.append(Ballot::default(), Timestamp(0), EntryPayload::Batch(batch(2, 1)));
        pool.prune(&log);
        assert!(pool.batches.is_empty());
        assert_eq!(pool.bytes, 0);
        pool.insert(&log, batch(1, 1), |_| true);
        assert!(pool.batches.is_empty());
    }
}
