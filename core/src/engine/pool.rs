use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use super::log::Log;
use crate::entry::Batch;
use crate::types::Origin;

/// How far an origin may be ahead of the order. More than any replica has in flight.
const AHEAD_MAX: u64 = 1024;
/// Bytes of batches kept, beside what the log keeps.
const BYTES_MAX: usize = 64 << 20;

/// Batches that were delivered and are not in the log yet (rule N5). What finds no room is
/// dropped: its origin sends it again, or it is fetched.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    batches: BTreeMap<(Origin, u64), Batch>,
    bytes: usize,
    /// Whose batch was last ordered.
    served: Option<Origin>,
}

impl Pool {
    /// Keeps a batch that may still be ordered.
    pub(crate) fn insert(&mut self, log: &Log, batch: Batch) {
        let Batch { origin, number, .. } = batch;
        let reached = log.last_batch(origin.replica).filter(|last| last.counter == origin.counter);
        let ahead = number.saturating_sub(reached.map_or(0, |last| last.number));
        if log.is_past(&origin, number)
            || ahead > AHEAD_MAX
            || self.bytes + batch.commands.len() > BYTES_MAX
        {
            return;
        }
        if let Entry::Vacant(place) = self.batches.entry((origin, number)) {
            self.bytes += batch.commands.len();
            place.insert(batch);
        }
    }

    pub(crate) fn take(&mut self, origin: Origin, number: u64) -> Option<Batch> {
        let batch = self.batches.remove(&(origin, number))?;
        self.bytes -= batch.commands.len();
        Some(batch)
    }

    /// Forgets what is in the order already or can never be.
    pub(crate) fn prune(&mut self, log: &Log) {
        let bytes = &mut self.bytes;
        self.batches.retain(|(origin, number), batch| {
            let keep = !log.is_past(origin, *number);
            if !keep {
                *bytes -= batch.commands.len();
            }
            keep
        });
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Timestamp;
    use crate::entry::{BatchKind, Content, MembersChanged};
    use crate::types::{Ballot, Nonce, ReplicaId};

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
        log.append(Ballot::default(), Timestamp(0), Content::Notice(notice));
        log
    }

    #[test]
    fn gives_batches_in_the_order_of_their_numbers() {
        let mut log = log_with_members();
        let mut pool = Pool::default();
        for number in [3, 2, 1, 2] {
            pool.insert(&log, batch(1, number));
        }
        pool.insert(&log, batch(1, 2 + AHEAD_MAX));
        let mut order = Vec::new();
        while let Some(batch) = pool.take_next(|origin, number| log.is_next(origin, number)) {
            order.push(batch.number);
            log.append(Ballot::default(), Timestamp(0), Content::Batch(batch));
        }
        assert_eq!(order, [1, 2, 3]);
        assert!(pool.batches.is_empty());
        assert_eq!(pool.bytes, 0);
    }

    #[test]
    fn each_origin_has_its_turn() {
        let mut log = Log::default();
        let mut pool = Pool::default();
        let at = |replica| Origin { replica: ReplicaId(replica), counter: 1, nonce: Nonce(1) };
        let joined = [1, 2].map(|replica| at(replica).incarnation()).to_vec();
        let notice = MembersChanged { joined, left: Vec::new() };
        log.append(Ballot::default(), Timestamp(0), Content::Notice(notice));
        for (replica, number) in [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)] {
            pool.insert(&log, Batch { origin: at(replica), ..batch(1, number) });
        }
        let mut order = Vec::new();
        while let Some(batch) = pool.take_next(|origin, number| log.is_next(origin, number)) {
            order.push((batch.origin.replica.0, batch.number));
            log.append(Ballot::default(), Timestamp(0), Content::Batch(batch));
        }
        assert_eq!(order, [(1, 1), (2, 1), (1, 2), (2, 2), (1, 3)]);
    }

    #[test]
    fn forgets_what_was_superseded() {
        let mut log = Log::default();
        let mut pool = Pool::default();
        pool.insert(&log, batch(1, 1));
        pool.insert(&log, batch(2, 1));
        log.append(Ballot::default(), Timestamp(0), Content::Batch(batch(2, 1)));
        pool.prune(&log);
        assert!(pool.batches.is_empty());
        assert_eq!(pool.bytes, 0);
        pool.insert(&log, batch(1, 1));
        assert!(pool.batches.is_empty());
    }
}
