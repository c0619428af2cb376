//! The log in memory, and its writes to the store (docs/protocol.md §3).

pub(super) mod budget;
pub(super) mod recovery;
pub(super) mod snapshots;
pub(super) mod tables;
pub(super) mod write_queue;

use std::collections::{BTreeSet, VecDeque};

pub(crate) use self::tables::{LastBatch, Tables};
use crate::Timestamp;
use crate::engine::plausible::ORIGIN_AHEAD;
use crate::wire::entry::{Entry, EntryPayload};
use crate::wire::types::{Ballot, Digest, Incarnation, Index, Origin, Position, ReplicaId, Voters};

/// Maximum number of epochs in a history that is sent to other replicas.
const HISTORY_MAX: usize = 16_384;

/// The log as the engine sees it: the newest entries, the tables that follow from all entries, and
/// the extent of the store, which may hold more entries than memory does.
///
/// It contains confirmed entries only. At the sequencer an entry is confirmed when it is ordered,
/// because the sequencer's own decision is the mark.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Tables at the position before the first entry in memory.
    start: Tables,
    /// Tables at the end of the log.
    end: Tables,
    /// Entries in memory.
    entries: VecDeque<Entry>,
    /// For each entry in memory, the cost of all entries up to it, including those no longer kept.
    costs: VecDeque<u64>,
    /// Cost of all entries before the first one in memory.
    cost_before: u64,
    /// Index up to which entries are gone from the store too.
    compacted_through: Index,
    /// Cost of all entries up to `compacted_through`.
    cost_gone: u64,
    /// Cost of all entries up to some of the indices that are in the store but not in memory.
    stored: VecDeque<(Index, u64)>,
    /// Epochs and the index at which each begins, from the epoch of `compacted_through` on.
    history: Vec<(Ballot, Index)>,
}

impl Log {
    /// Returns the log that continues after a snapshot with these tables.
    pub(crate) fn after_snapshot(start: Tables) -> Self {
        let Position { epoch, index } = start.position;
        let history = if index > Index(0) { vec![(epoch, index)] } else { Vec::new() };
        Self { end: start.clone(), start, compacted_through: index, history, ..Self::default() }
    }

    /// Returns the tables at the position before the first entry in memory.
    pub(crate) fn start(&self) -> &Tables {
        &self.start
    }

    /// Returns the tables at the end of the log.
    #[cfg(test)]
    pub(crate) fn end(&self) -> &Tables {
        &self.end
    }

    /// Returns the position of the last entry.
    pub(crate) fn last(&self) -> Position {
        self.end.position
    }

    /// Returns the digest after the last entry.
    pub(crate) fn digest(&self) -> Digest {
        self.end.digest
    }

    /// Returns the stamp of the last entry.
    pub(crate) fn time(&self) -> Timestamp {
        self.end.time
    }

    /// Returns the voters by the last `EpochStart`.
    pub(crate) fn voters(&self) -> &Voters {
        &self.end.voters
    }

    /// Returns the members of the group in the order of the log (rule N9).
    pub(crate) fn members(&self) -> &BTreeSet<Incarnation> {
        &self.end.members
    }

    /// Returns the replicas that operators want to vote. The voters follow once the replicas are in
    /// the group and caught up.
    pub(crate) fn desired(&self) -> &BTreeSet<ReplicaId> {
        &self.end.desired
    }

    /// Returns the newest epochs and the index at which each begins, as many as a frame can carry
    /// at 28 bytes each. A replica whose log parts from this one before all of them gets a
    /// snapshot.
    pub(crate) fn history(&self) -> &[(Ballot, Index)] {
        &self.history[self.history.len().saturating_sub(HISTORY_MAX)..]
    }

    /// Returns true if the log has no entry and follows no snapshot.
    pub(crate) fn is_empty(&self) -> bool {
        self.end.position.index == Index(0)
    }

    /// Returns the index up to which entries are gone from memory and from the store.
    pub(crate) fn compacted_through(&self) -> Index {
        self.compacted_through
    }

    /// Returns the index of the first entry that is in the store or in memory.
    pub(crate) fn first_kept(&self) -> Index {
        self.compacted_through.next()
    }

    /// Returns the index of the first entry in memory.
    pub(crate) fn first_in_memory(&self) -> Index {
        self.start.position.index.next()
    }

    /// Returns the approximate memory, in bytes, of all entries that were ever in this log and not
    /// truncated.
    pub(crate) fn cost(&self) -> u64 {
        self.costs.back().copied().unwrap_or(self.cost_before)
    }

    /// Returns the approximate memory, in bytes, of the entries in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.cost() - self.cost_before
    }

    /// Returns the approximate memory, in bytes, that the entries in the store would take.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.cost() - self.cost_gone
    }

    /// Returns the bytes of the entries after `index`; slightly more if some are not in memory.
    pub(crate) fn bytes_after(&self, index: Index) -> u64 {
        self.cost() - self.cost_to(index)
    }

    /// Returns the cost of all entries up to `index`.
    fn cost_to(&self, index: Index) -> u64 {
        if let Some(offset) = index.0.checked_sub(self.first_in_memory().0) {
            let cost = usize::try_from(offset).ok().and_then(|offset| self.costs.get(offset));
            return cost.copied().unwrap_or(self.cost());
        }
        if index == self.start.position.index {
            return self.cost_before;
        }
        let after = self.stored.partition_point(|(stored, _)| *stored <= index);
        after.checked_sub(1).map_or(self.cost_gone, |at| self.stored[at].1)
    }

    /// Returns the index up to which entries have to leave the store so that the rest takes at most
    /// `bytes_max`.
    pub(crate) fn first_within(&self, bytes_max: u64) -> Index {
        if self.stored_bytes() <= bytes_max {
            return self.compacted_through;
        }
        if self.bytes() > bytes_max {
            return self.first_in_memory_within(bytes_max);
        }
        let after = self.stored.partition_point(|(_, cost)| self.cost() - cost > bytes_max);
        self.stored.get(after).map_or(self.start.position.index, |(index, _)| *index)
    }

    /// Returns the index up to which entries have to leave memory so that the rest takes at most
    /// `bytes_max`.
    pub(crate) fn first_in_memory_within(&self, bytes_max: u64) -> Index {
        let start = self.start.position.index;
        if self.bytes() <= bytes_max {
            return start;
        }
        let over = self.costs.partition_point(|cost| self.cost() - cost > bytes_max);
        Index(start.0 + over as u64 + 1)
    }

    /// Returns the last batch of a replica in the order.
    pub(crate) fn last_batch(&self, replica: ReplicaId) -> Option<&LastBatch> {
        self.end.origins.get(&replica)
    }

    /// Returns true if the batch can be the next entry: its origin is a member, and `number` is the
    /// origin's next (rule N2).
    pub(crate) fn is_next(&self, origin: &Origin, number: u64) -> bool {
        self.end.members.contains(&origin.incarnation()) && self.follows(origin, number)
    }

    /// Returns true if `number` is the next batch of `origin`, regardless of membership.
    pub(crate) fn follows(&self, origin: &Origin, number: u64) -> bool {
        match self.last_batch(origin.replica) {
            Some(last) if last.counter == origin.counter => {
                last.nonce == origin.nonce && number.checked_sub(1) == Some(last.number)
            }
            last => {
                let last = last.map_or(0, |last| last.counter);
                let above = origin.counter.checked_sub(last);
                number == 1 && above.is_some_and(|above| (1..=ORIGIN_AHEAD).contains(&above))
            }
        }
    }

    /// Returns true if the batch is in the order already, or can never be (rule N2).
    pub(crate) fn is_past(&self, origin: &Origin, number: u64) -> bool {
        self.last_batch(origin.replica).is_some_and(|last| {
            origin.counter < last.counter
                || origin.counter == last.counter
                    && (origin.nonce != last.nonce || number <= last.number)
        })
    }

    /// Returns an entry, if it is in memory.
    pub(crate) fn get(&self, index: Index) -> Option<&Entry> {
        let offset = index.0.checked_sub(self.first_in_memory().0)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// Returns the entries from `first` to the end that are in memory.
    pub(crate) fn from(&self, first: Index) -> impl Iterator<Item = &Entry> {
        let skipped = first.0.saturating_sub(self.first_in_memory().0);
        self.entries.range(
            usize::try_from(skipped)
                .map_or(self.entries.len(), |skipped| skipped.min(self.entries.len()))..,
        )
    }

    /// Returns the epoch of an index in this log; the zero ballot for index zero.
    pub(crate) fn epoch_at(&self, index: Index) -> Ballot {
        epoch_at(&self.history, index)
    }

    /// Appends an entry with the next index.
    pub(crate) fn append(
        &mut self,
        epoch: Ballot,
        time: Timestamp,
        payload: EntryPayload,
    ) -> &Entry {
        let position = Position { epoch, index: self.end.position.index.next() };
        assert!(epoch >= self.end.position.epoch, "epochs in a log must not decrease");
        assert!(time >= self.end.time, "the log's time must not decrease");
        let entry = Entry::new(self.end.digest, position, time, payload);
        self.push(entry)
    }

    /// Appends an entry that must follow the last one.
    pub(crate) fn push(&mut self, entry: Entry) -> &Entry {
        if entry.position.epoch > self.end.position.epoch {
            self.history.push((entry.position.epoch, entry.index()));
        }
        self.end.add(&entry);
        self.costs.push_back(self.cost() + cost(&entry));
        self.entries.push_back(entry);
        &self.entries[self.entries.len() - 1]
    }

    /// Returns the last index that this log shares with another of the given history and last index
    /// (rule B6). Two logs that hold the same position agree up to it. `None` if the histories do
    /// not reach back far enough to tell.
    pub(crate) fn shared_with(&self, history: &[(Ballot, Index)], last: Index) -> Option<Index> {
        let known = reaches_back_to(&self.history).max(reaches_back_to(history));
        let mut shared = self.last().index.min(last);
        while shared >= known {
            if self.epoch_at(shared) == epoch_at(history, shared) {
                return Some(shared);
            }
            // Skip a whole epoch of one of the two at a time.
            let begin = |history| first_of_epoch_at(history, shared);
            shared = Index(begin(&self.history).max(begin(history)).0.saturating_sub(1));
        }
        None
    }

    /// Removes the entries after `shared` and returns them.
    pub(crate) fn cut(&mut self, shared: Index) -> VecDeque<Entry> {
        assert!(
            shared >= self.start.position.index,
            "an entry that has left memory must not be truncated"
        );
        let kept = usize::try_from(shared.0 - self.start.position.index.0).unwrap_or(usize::MAX);
        let removed = self.entries.split_off(kept.min(self.entries.len()));
        self.costs.truncate(kept);
        self.history.retain(|(_, first)| *first <= shared);
        self.end = self.start.clone();
        for entry in &self.entries {
            self.end.add(entry);
        }
        removed
    }

    /// Drops the entries up to `through` from memory. They stay in the store, and the tables still
    /// include them. Their cost is recorded in steps of at least `step` bytes.
    pub(crate) fn forget(&mut self, through: Index, step: u64) {
        while let Some(entry) = self.entries.front().filter(|entry| entry.index() <= through) {
            self.start.add(entry);
            self.cost_before = self.costs.pop_front().unwrap_or(self.cost_before);
            let last = self.stored.back().map_or(self.cost_gone, |(_, cost)| *cost);
            if self.cost_before - last > step {
                self.stored.push_back((entry.index(), self.cost_before));
            }
            self.entries.pop_front();
        }
    }

    /// Drops the entries up to `through` from memory and from the store.
    pub(crate) fn compact(&mut self, through: Index) {
        self.forget(through, u64::MAX);
        let through = through.min(self.start.position.index).max(self.compacted_through);
        self.cost_gone = self.cost_to(through);
        self.compacted_through = through;
        let past = self.stored.partition_point(|(index, _)| *index <= through);
        self.stored.drain(..past);
        // Compacted entries are committed, so every later base holds them, and logs are never
        // compared before them. So the history stays bounded.
        let past = self.history.partition_point(|(_, first)| *first <= through);
        self.history.drain(..past.saturating_sub(1));
    }
}

/// Returns the approximate memory that an entry takes, in bytes.
fn cost(entry: &Entry) -> u64 {
    (size_of::<Entry>() + entry.payload.bytes()) as u64
}

/// Returns the epoch of an index in an epoch history.
pub(crate) fn epoch_at(history: &[(Ballot, Index)], index: Index) -> Ballot {
    let after = history.partition_point(|(_, first)| *first <= index);
    after.checked_sub(1).map_or_else(Ballot::default, |at| history[at].0)
}

/// Returns the first index whose epoch the history knows.
fn reaches_back_to(history: &[(Ballot, Index)]) -> Index {
    // There is nothing before index 1 that could differ.
    history
        .first()
        .map_or(Index(0), |(_, first)| if *first == Index(1) { Index(0) } else { *first })
}

/// Returns the first index of the epoch that `index` belongs to.
fn first_of_epoch_at(history: &[(Ballot, Index)], index: Index) -> Index {
    let after = history.partition_point(|(_, first)| *first <= index);
    after.checked_sub(1).map_or(Index(1), |at| history[at].1)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::wire::entry::BatchKind;
    use crate::wire::entry::{Batch, MembersChanged};
    use crate::wire::types::Nonce;

    fn ballot(counter: u64) -> Ballot {
        Ballot { counter, ..Ballot::default() }
    }

    fn origin(counter: u64, nonce: u64) -> Origin {
        Origin { replica: ReplicaId(1), counter, nonce: Nonce(nonce) }
    }

    fn log_of(epochs: &[u64]) -> Log {
        let mut log = Log::default();
        for epoch in epochs {
            log.append(ballot(*epoch), Timestamp(0), EntryPayload::EpochStart(Voters::default()));
        }
        log
    }

    fn batch(origin: Origin, number: u64) -> EntryPayload {
        let (kind, commands) = (BatchKind::Application, Bytes::new());
        EntryPayload::Batch(Batch { origin, number, kind, count: 0, commands })
    }

    #[test]
    fn b6_the_shared_position_is_the_last_one_with_equal_epochs() {
        let log = log_of(&[1, 1, 3, 3, 3]);
        for (other, shared) in [
            (&[1, 1, 3, 3, 3][..], 5),
            (&[1, 1, 3], 3),
            (&[1, 1, 3, 3, 3, 3, 4], 5),
            (&[1, 1, 2, 2, 2, 2], 2),
            (&[1, 1, 1, 1, 4], 2),
            (&[1, 2, 3], 3),
            (&[2, 2], 0),
            (&[], 0),
        ] {
            // The history [1, 2, 3] beside [1, 1, 3] cannot arise, because the epoch of a position
            // fixes all before it. The case shows that only the last epoch is compared.
            let other = log_of(other);
            let last = other.last().index;
            assert_eq!(log.shared_with(other.history(), last), Some(Index(shared)), "{other:?}");
        }
    }

    #[test]
    fn compacted_entries_are_not_compared() {
        let mut base = log_of(&[1, 1, 3, 3, 4, 4]);
        base.compact(Index(4));
        assert_eq!(base.history(), [(ballot(3), Index(3)), (ballot(4), Index(5))]);
        let last = base.last().index;
        for (other, shared) in [
            (&[1, 1, 3, 3, 4][..], Some(5)),
            (&[1, 1, 3, 3, 3], Some(4)),
            (&[1, 1, 3], Some(3)),
            (&[1, 1], None),
            (&[1, 1, 2, 2, 2], None),
            (&[], None),
        ] {
            let other = log_of(other);
            assert_eq!(other.shared_with(base.history(), last), shared.map(Index), "{other:?}");
        }
        let behind = Log::after_snapshot(base.start().clone());
        assert_eq!(behind.last(), Position { epoch: ballot(3), index: Index(4) });
        assert_eq!(behind.shared_with(base.history(), last), Some(Index(4)));
        assert_eq!(base.shared_with(behind.history(), Index(4)), Some(Index(4)));
    }

    #[test]
    fn a_truncated_and_compacted_log_equals_one_written_that_way() {
        let mut log = log_of(&[1, 1, 3]);
        log.append(ballot(3), Timestamp(5), batch(origin(1, 1), 1));
        let digest = log.digest();
        log.append(ballot(4), Timestamp(9), batch(origin(1, 1), 2));
        log.compact(Index(2));
        assert_eq!(log.cut(Index(4)).len(), 1);
        let history = [(ballot(1), Index(1)), (ballot(3), Index(3))];
        assert_eq!((log.digest(), log.history(), log.time()), (digest, &history[..], Timestamp(5)));
        assert_eq!(log.last(), Position { epoch: ballot(3), index: Index(4) });
        assert_eq!(log.first_kept(), Index(3));
        assert!(log.get(Index(2)).is_none());
        assert_eq!(log.from(Index(0)).count(), 2);
        assert_eq!(log.from(Index(4)).count(), 1);
        assert_eq!(log.from(Index(9)).count(), 0);
        assert!(log.follows(&origin(1, 1), 2));
        let each = size_of::<Entry>() as u64;
        assert_eq!((log.bytes(), log.cost()), (2 * each, 4 * each));
        let after = [0, 2, 3, 4, 9].map(|index| log.bytes_after(Index(index)) / each);
        assert_eq!(after, [2, 2, 1, 0, 0]);
        assert_eq!(log.first_within(log.bytes()), Index(2));
        assert_eq!(log.first_within(log.bytes() - 1), Index(3));
        assert_eq!(log.first_within(0), Index(4));
    }

    #[test]
    fn entries_that_left_memory_count_until_they_leave_the_store() {
        let mut log = log_of(&[1, 1, 2, 2, 3, 3]);
        let each = size_of::<Entry>() as u64;
        log.compact(Index(1));
        log.forget(Index(4), 0);
        assert_eq!((log.first_kept(), log.first_in_memory()), (Index(2), Index(5)));
        assert_eq!((log.bytes(), log.stored_bytes(), log.cost()), (2 * each, 5 * each, 6 * each));
        assert_eq!((log.get(Index(4)), log.from(Index(2)).count()), (None, 2));
        assert_eq!([1, 3, 5].map(|index| log.epoch_at(Index(index)).counter), [1, 2, 3]);
        let after = [0, 1, 2, 3, 4, 5, 6].map(|index| log.bytes_after(Index(index)) / each);
        assert_eq!(after, [5, 5, 4, 3, 2, 1, 0]);
        let within = [5, 4, 3, 2, 1, 0].map(|count| log.first_within(count * each).0);
        assert_eq!(within, [1, 2, 3, 4, 5, 6]);
        let in_memory = [5, 2, 1, 0].map(|count| log.first_in_memory_within(count * each).0);
        assert_eq!(in_memory, [4, 4, 5, 6]);
        log.compact(Index(3));
        assert_eq!((log.first_kept(), log.first_in_memory()), (Index(4), Index(5)));
        assert_eq!((log.bytes(), log.stored_bytes()), (2 * each, 3 * each));
        assert_eq!(log.history(), [(ballot(2), Index(3)), (ballot(3), Index(5))]);
        assert_eq!(log.cut(Index(5)).len(), 1);
        assert_eq!((log.bytes(), log.stored_bytes()), (each, 2 * each));
        log.compact(Index(5));
        assert_eq!((log.bytes(), log.stored_bytes(), log.compacted_through()), (0, 0, Index(5)));
    }

    #[test]
    fn the_size_of_entries_that_left_memory_is_known_to_within_a_step() {
        let mut log = log_of(&[1; 20]);
        let each = size_of::<Entry>() as u64;
        log.forget(Index(20), 3 * each);
        for index in 0..=20 {
            let after = log.bytes_after(Index(index)) / each;
            assert!(after >= 20 - index && after <= 24 - index, "{index}: {after}");
        }
        assert!(log.stored.len() < 7);
        log.compact(Index(10));
        assert!(log.stored_bytes() / each >= 10 && log.stored_bytes() / each <= 14);
    }

    #[test]
    fn n2_origins_are_gapless_and_a_higher_counter_supersedes() {
        let mut log = log_of(&[1]);
        assert!(!log.is_next(&origin(1, 1), 1), "the origin is no member yet");
        let joined = vec![origin(1, 1).incarnation(), origin(2, 2).incarnation()];
        let left = Vec::new();
        let notice = EntryPayload::Notice(MembersChanged { joined, left });
        log.append(ballot(1), Timestamp(0), notice);
        assert!(log.is_next(&origin(1, 1), 1) && !log.is_next(&origin(1, 1), 2));
        log.append(ballot(1), Timestamp(0), batch(origin(1, 1), 1));
        assert!(log.is_next(&origin(1, 1), 2) && !log.is_next(&origin(1, 1), 3));
        assert!(log.is_past(&origin(1, 1), 1) && !log.is_past(&origin(1, 1), 2));
        // An equal counter with another nonce belongs to a faulty incarnation.
        assert!(!log.is_next(&origin(1, 2), 2) && log.is_past(&origin(1, 2), 2));
        assert!(log.is_next(&origin(2, 2), 1) && !log.is_next(&origin(2, 2), 2));
        log.append(ballot(1), Timestamp(0), batch(origin(2, 2), 1));
        assert!(!log.is_next(&origin(1, 1), 2) && log.is_past(&origin(1, 1), 2));
        let (joined, left) = (Vec::new(), vec![origin(2, 2).incarnation()]);
        let notice = EntryPayload::Notice(MembersChanged { joined, left });
        log.append(ballot(1), Timestamp(0), notice);
        assert!(!log.is_next(&origin(2, 2), 2) && !log.is_past(&origin(2, 2), 2));
        log.cut(log.last().index.0.checked_sub(1).map(Index).unwrap());
        assert!(log.is_next(&origin(2, 2), 2), "a truncated notice has no effect");
    }
}
