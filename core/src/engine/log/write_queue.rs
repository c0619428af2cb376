use std::collections::VecDeque;

use crate::engine::{Engine, Entry, HardState, Op, Output, StepResult, ensure};
use crate::wire::types::{Ballot, Index};

/// Maximum number of entries by which the commit index on disk may lag while there are writes.
const HINT_ENTRIES: u64 = 64;

/// Maximum number of writes in flight: one in progress and one waiting, so that the log thread is
/// never idle while there is work, and everything that gathers meanwhile shares a sync.
const WRITES_MAX: usize = 2;

/// Operations that wait to be written, writes in flight, and the state that is durable.
#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    /// Operations for the next write.
    gathered: Vec<Op>,
    /// Bytes of the entries in `gathered`.
    gathered_bytes: usize,
    /// Index of the last entry appended, including those in `gathered`.
    appended: Index,
    /// Ballot whose promise is in `gathered`.
    promise: Option<Ballot>,
    /// Writes handed out and not done, oldest first.
    under_way: VecDeque<Write>,
    /// Ticket of the last write handed out.
    next_ticket: u64,
    /// Index up to which entries are durable.
    durable: Index,
    /// Highest ballot whose promise is durable.
    promise_durable: Ballot,
    /// Commit index in the hard state that was written last.
    pub(crate) persisted_commit: Index,
}

#[derive(Debug)]
struct Write {
    ticket: u64,
    bytes: usize,
    appended: Index,
    promise: Option<Ballot>,
}

impl WriteQueue {
    /// Returns the queue of a store that holds a log up to `last`, and that promise.
    pub(crate) fn recovered(last: Index, promised: Ballot) -> Self {
        Self { appended: last, durable: last, promise_durable: promised, ..Self::default() }
    }

    /// Adds an operation to the next write.
    pub(crate) fn push(&mut self, op: Op) {
        self.gathered.push(op);
    }

    /// Adds an entry to the next write.
    pub(crate) fn append(&mut self, entry: Entry) {
        self.appended = entry.index();
        self.gathered_bytes += entry.payload.bytes();
        self.gathered.push(Op::Append(entry));
    }

    /// Adds a promise. Its report has to wait for the write (rules P1 and P3).
    pub(crate) fn promise(&mut self, ballot: Ballot, op: Op) {
        self.promise = Some(ballot);
        self.gathered.push(op);
    }

    /// Adds a truncation of the entries after `after`.
    pub(crate) fn cut(&mut self, after: Index) {
        self.gathered.push(Op::Truncate(after));
        self.appended = self.appended.min(after);
        // Entries that replace truncated ones are not durable yet, even when an earlier write is
        // done.
        self.durable = self.durable.min(after);
        for write in &mut self.under_way {
            write.appended = write.appended.min(after);
        }
    }

    /// Adds the replacement of the whole log by a snapshot that ends at `through`. No entry counts
    /// as durable before this is written, even when an earlier write is done.
    pub(crate) fn reset(&mut self, through: Index) {
        self.gathered.push(Op::Reset(through));
        self.appended = through;
        self.durable = Index(0);
        for write in &mut self.under_way {
            write.appended = Index(0);
        }
    }

    /// Returns true if operations wait to be written.
    pub(crate) fn has_gathered(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// Hands out everything that has gathered as one write, and returns its ticket. Does nothing
    /// while the maximum number of writes is in flight.
    pub(crate) fn flush<T>(&mut self, out: &mut Vec<Output<T>>) -> Option<u64> {
        if self.gathered.is_empty() || self.under_way.len() >= WRITES_MAX {
            return None;
        }
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let (appended, promise) = (self.appended, self.promise.take());
        let bytes = std::mem::take(&mut self.gathered_bytes);
        self.under_way.push_back(Write { ticket, bytes, appended, promise });
        out.push(Output::Write { ticket, ops: std::mem::take(&mut self.gathered) });
        Some(ticket)
    }

    /// Records that a write is done, and all before it. Returns the highest ballot whose promise
    /// this made durable.
    pub(crate) fn written(&mut self, ticket: u64) -> Option<Ballot> {
        let mut promise = None;
        while let Some(write) = self.under_way.front().filter(|write| write.ticket <= ticket) {
            self.durable = write.appended;
            promise = promise.max(write.promise);
            self.under_way.pop_front();
        }
        self.promise_durable = self.promise_durable.max(promise.unwrap_or_default());
        promise
    }

    /// Returns the bytes of the entries that are not written yet.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.gathered_bytes + self.under_way.iter().map(|write| write.bytes).sum::<usize>()
    }

    /// Returns the highest ballot whose promise is durable.
    pub(crate) fn promise_durable(&self) -> Ballot {
        self.promise_durable
    }

    /// Returns true if any promise is durable. A store with a snapshot but no hard state has no
    /// owner.
    pub(crate) fn has_hard_state(&self) -> bool {
        self.promise_durable > Ballot::default()
    }

    /// Returns the index up to which entries are durable.
    pub(crate) fn durable(&self) -> Index {
        self.durable
    }
}

impl<T> Engine<T> {
    /// Returns the hard state to be written. It includes the commit index, so the index on disk is
    /// as recent as the last hard state.
    pub(crate) fn hard_state(&mut self) -> Op {
        self.write_queue.persisted_commit = self.commit.index;
        Op::HardState(HardState {
            replica: self.me().replica,
            store: self.config.store,
            promised: self.promised,
            cluster: self.cluster,
            commit: self.commit.index,
        })
    }

    /// Adds the commit index to the next write from time to time. Causes no write of its own.
    pub(crate) fn persist_commit(&mut self) {
        if self.write_queue.has_gathered()
            && self.commit.index.0
                >= self.write_queue.persisted_commit.0.saturating_add(HINT_ENTRIES)
        {
            let hard_state = self.hard_state();
            self.write_queue.push(hard_state);
        }
    }

    /// Hands out the operations that have gathered. A store in memory is lost with the process in
    /// any case, so it counts as written at once: entries confirmed a moment ago are acked in the
    /// message that is sent next (rule N6).
    pub(crate) fn write(&mut self, out: &mut Vec<Output<T>>) -> StepResult {
        match self.write_queue.flush(out) {
            Some(ticket) if self.config.volatile => self.on_written(ticket, out),
            _ => Ok(()),
        }
    }

    /// Handles a finished write: acks the entries that it made durable, and sends the report if it
    /// held the promise (rules P1 to P3).
    pub(crate) fn on_written(&mut self, ticket: u64, out: &mut Vec<Output<T>>) -> StepResult {
        let promise = self.write_queue.written(ticket);
        if promise == Some(self.promised) && self.live().is_none() {
            ensure(self.write_queue.durable() == self.log.last().index, || {
                let (durable, last) = (self.write_queue.durable(), self.log.last().index);
                format!("a report must name durable entries only: durable {durable}, last {last}")
            })?;
            self.send_report(out);
        }
        // Nothing is acked while the log is frozen (rule B3).
        if self.is_in_sync() && self.durable() > self.commit.acked {
            self.commit.acked = self.durable();
            self.commit.acks.insert(self.voter(), self.commit.acked);
            self.progress.schedule();
            self.advance_commit();
        }
        Ok(())
    }

    /// Returns the index up to which entries are durable and may be acked (rule P2).
    pub(crate) fn durable(&self) -> Index {
        self.write_queue.durable()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timestamp;
    use crate::wire::entry::EntryPayload;
    use crate::wire::types::{Digest, Position, Voters};

    fn entry(index: u64) -> Entry {
        let position = Position { epoch: Ballot::default(), index: Index(index) };
        Entry::new(Digest(0), position, Timestamp(0), EntryPayload::EpochStart(Voters::default()))
    }

    fn flushed(queue: &mut WriteQueue) -> Option<(u64, usize)> {
        let mut out: Vec<Output<()>> = Vec::new();
        queue.flush(&mut out);
        out.into_iter().next().map(|output| match output {
            Output::Write { ticket, ops } => (ticket, ops.len()),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn n6_operations_that_gather_during_writes_share_one_write() {
        let mut queue = WriteQueue::default();
        for index in 1..=5 {
            queue.append(entry(index));
            let expected = if index <= 2 { Some((index, 1)) } else { None };
            assert_eq!(flushed(&mut queue), expected);
        }
        assert_eq!(queue.written(1), None);
        assert_eq!(queue.durable(), Index(1));
        assert_eq!(flushed(&mut queue), Some((3, 3)));
        queue.written(3);
        assert_eq!(queue.durable(), Index(5));
    }

    #[test]
    fn p2_a_write_before_a_truncation_makes_no_later_entry_durable() {
        let mut queue = WriteQueue::default();
        (1..=5).for_each(|index| queue.append(entry(index)));
        assert_eq!(flushed(&mut queue), Some((1, 5)));
        queue.cut(Index(3));
        queue.append(entry(4));
        queue.written(1);
        assert_eq!(queue.durable(), Index(3));
        assert_eq!(flushed(&mut queue), Some((2, 2)));
        queue.written(2);
        assert_eq!(queue.durable(), Index(4));
    }

    #[test]
    fn p2_a_write_before_a_snapshot_makes_nothing_of_it_durable() {
        let mut queue = WriteQueue::recovered(Index(3), Ballot::default());
        queue.append(entry(4));
        assert_eq!(flushed(&mut queue), Some((1, 1)));
        queue.reset(Index(20));
        queue.append(entry(21));
        queue.written(1);
        assert_eq!(queue.durable(), Index(0));
        assert_eq!(flushed(&mut queue), Some((2, 2)));
        queue.written(2);
        assert_eq!(queue.durable(), Index(21));
    }
}
