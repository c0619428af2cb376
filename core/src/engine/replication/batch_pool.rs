use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::{Bound, RangeBounds};

use crate::engine::log::Log;
use crate::wire::entry::Batch;
use crate::wire::types::{Incarnation, Nonce, Origin};

/// Maximum number of batches by which an origin may be ahead of the order. No replica has as many
/// in flight.
const AHEAD_MAX: u64 = 1024;
/// Maximum number of bytes that the batches take, in addition to the log.
const BYTES_MAX: usize = 64 << 20;

/// Batches that were delivered and are not in the log yet (rule N5).
///
/// If they take more than [`BYTES_MAX`], batches of runs that are gone are dropped first, then the
/// newest batches of the live run that has the most. A dropped batch is sent again by its origin,
/// or fetched once it is marked.
#[derive(Debug, Default)]
pub(crate) struct BatchPool {
    batches: BTreeMap<(Origin, u64), Batch>,
    /// Sum of [`cost`] over all batches.
    bytes: usize,
    /// Sum of [`cost`] over the batches of each run.
    by_run: BTreeMap<Incarnation, usize>,
    /// Origin of the last batch that was ordered.
    served: Option<Origin>,
}

/// Returns the approximate memory that a batch takes, in bytes.
fn cost(batch: &Batch) -> usize {
    batch.commands.len() + size_of::<((Origin, u64), Batch)>()
}

impl BatchPool {
    /// Keeps a batch if it may still be ordered. `is_here` returns true for runs that are in the
    /// group.
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
            // Drop the newest batch: the oldest ones are those that can be ordered next.
            let all = self.batches.range(of_replica(run)).rev().map(|(key, _)| *key);
            let Some(newest) = all.clone().find(|(origin, _)| origin.nonce == run.nonce) else {
                return;
            };
            self.take(newest.0, newest.1);
        }
    }

    /// Removes a batch and returns it.
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

    /// Drops all batches that are already in the order or can never be.
    pub(crate) fn prune(&mut self, log: &Log) {
        self.forget(log, ..);
    }

    /// Drops the batches of one replica that are in the order or can never be, after its batch
    /// `number` has entered the log.
    pub(crate) fn reached(&mut self, log: &Log, origin: Origin, number: u64) {
        let first = (Origin { counter: 0, nonce: Nonce(0), ..origin }, 0);
        self.forget(log, first..=(origin, number));
        // Also those of other runs with the same counter and a higher nonce.
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

    /// Returns true if the accounting is right, the limit is kept, and no batch is past the log.
    #[cfg(feature = "testing")]
    pub(crate) fn is_within_bounds(&self, log: &Log) -> bool {
        self.bytes <= BYTES_MAX
            && self.batches.values().map(cost).sum::<usize>() == self.bytes
            && self.by_run.values().sum::<usize>() == self.bytes
            && !self.batches.keys().any(|(origin, number)| log.is_past(origin, *number))
    }

    /// Removes and returns a batch that is the next of its origin, if there is one. Origins take
    /// turns, so that none starves when batches arrive faster than they are ordered.
    pub(crate) fn take_next(&mut self, is_next: impl Fn(&Origin, u64) -> bool) -> Option<Batch> {
        let others = self.served.map_or(Bound::Unbounded, |o| Bound::Excluded((o, u64::MAX)));
        let later = self.batches.range((others, Bound::Unbounded)).map(|(key, _)| key);
        let mut all = later.chain(self.batches.keys());
        let (origin, number) = *all.find(|(origin, number)| is_next(origin, *number))?;
        self.served = Some(origin);
        self.take(origin, number)
    }

    /// Returns true if a batch could be ordered now. A batch after a gap of a dead origin cannot.
    pub(crate) fn has_next(&self, log: &Log) -> bool {
        self.batches.keys().any(|(origin, number)| log.is_next(origin, *number))
    }
}

/// Returns the range of keys of the batches of all runs of a replica.
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
    fn batches_are_taken_in_the_order_of_their_numbers() {
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
    fn origins_take_turns() {
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

    /// Returns a batch of `bytes` bytes of a run of the given replica.
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
        assert_eq!(kept(&pool), [(2, 1), (3, 1)], "then the newest of the run with the most");
        // The batches of a run that is gone are dropped whatever their size.
        pool.insert(&log, large(4, 1, third), |run| run.replica.0 != 4);
        assert_eq!(kept(&pool), [(2, 1), (3, 1)]);
        pool.insert(&log, large(2, 3, third / 2), |_| true);
        assert_eq!(kept(&pool), [(2, 1), (2, 3), (3, 1)]);
        pool.insert(&log, large(5, 1, third / 2), |_| true);
        assert_eq!(kept(&pool), [(2, 1), (3, 1), (5, 1)]);
        pool.insert(&log, large(6, 1, BYTES_MAX), |_| true);
        assert_eq!(kept(&pool), [(2, 1), (3, 1), (5, 1)], "the batch is larger than the limit");
        for (replica, number) in [(2, 1), (3, 1), (5, 1)] {
            let origin = large(replica, number, 0).origin;
            assert!(pool.take(origin, number).is_some());
        }
        assert!(pool.bytes == 0 && pool.by_run.is_empty());
    }

    #[test]
    fn batches_that_the_log_has_passed_are_dropped_at_once() {
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
    fn batches_of_superseded_origins_are_dropped() {
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
