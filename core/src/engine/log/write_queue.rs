use std::collections::VecDeque;

use crate::engine::{Engine, Entry, HardState, Op, Output, StepResult, ensure};
use crate::wire::types::{Ballot, Index};

/// How far the commit index on disk may be behind while there are writes.
const HINT_ENTRIES: u64 = 64;

/// Writes under way at once: one being done and one waiting, so that the log thread is
/// never idle while there is work, and everything that gathers meanwhile shares a sync.
const WRITES_MAX: usize = 2;

/// What is to be written, what is being written, and what is durable.
#[derive(Debug, Default)]
pub(crate) struct WriteQueue {
    gathered: Vec<Op>,
    /// Of the entries in `gathered`.
    gathered_bytes: usize,
    /// The last index appended, as of the end of `gathered`.
    appended: Index,
    /// A ballot whose promise is in `gathered`.
    promise: Option<Ballot>,
    under_way: VecDeque<Write>,
    next_ticket: u64,
    durable: Index,
    promise_durable: Ballot,
    /// The commit index in the hard state that were written last.
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
    /// Of a store that holds a log up to `last`, and that promise.
    pub(crate) fn recovered(last: Index, promised: Ballot) -> Self {
        Self { appended: last, durable: last, promise_durable: promised, ..Self::default() }
    }

    pub(crate) fn push(&mut self, op: Op) {
        self.gathered.push(op);
    }

    pub(crate) fn append(&mut self, entry: Entry) {
        self.appended = entry.index();
        self.gathered_bytes += entry.payload.bytes();
        self.gathered.push(Op::Append(entry));
    }

    /// A promise whose report waits for the write (rules P1 and P3).
    pub(crate) fn promise(&mut self, ballot: Ballot, op: Op) {
        self.promise = Some(ballot);
        self.gathered.push(op);
    }

    pub(crate) fn cut(&mut self, after: Index) {
        self.gathered.push(Op::Truncate(after));
        self.appended = self.appended.min(after);
        // Entries that come in the place of what is cut are not durable yet, whatever an
        // earlier write says when it is done.
        self.durable = self.durable.min(after);
        for write in &mut self.under_way {
            write.appended = write.appended.min(after);
        }
    }

    /// A snapshot took the place of the whole log, and of what an earlier write says when it
    /// is done. Nothing counts as durable before this is.
    pub(crate) fn reset(&mut self, through: Index) {
        self.gathered.push(Op::Reset(through));
        self.appended = through;
        self.durable = Index(0);
        for write in &mut self.under_way {
            write.appended = Index(0);
        }
    }

    pub(crate) fn has_gathered(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// Hands out what has gathered as one write, and tells its ticket.
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

    /// A write is done, and all before it. Returns the highest ballot whose promise is
    /// durable by that.
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

    /// Of the entries that are not written yet.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.gathered_bytes + self.under_way.iter().map(|write| write.bytes).sum::<usize>()
    }

    /// The highest ballot whose promise is durable.
    pub(crate) fn promise_durable(&self) -> Ballot {
        self.promise_durable
    }

    /// Whether any promise is durable. A store with a snapshot and without hard state would be
    /// nobody's.
    pub(crate) fn has_hard_state(&self) -> bool {
        self.promise_durable > Ballot::default()
    }

    /// All entries up to here are durable.
    pub(crate) fn durable(&self) -> Index {
        self.durable
    }
}

impl<T> Engine<T> {
    /// What must not be forgotten, to be written. Each names the commit index, so the hint is
    /// as new as the last of them.
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

    /// The commit index goes along with other writes now and then; it alone is no reason for
    /// one.
    pub(crate) fn persist_commit(&mut self) {
        if self.write_queue.has_gathered()
            && self.commit.index.0
                >= self.write_queue.persisted_commit.0.saturating_add(HINT_ENTRIES)
        {
            let hard_state = self.hard_state();
            self.write_queue.push(hard_state);
        }
    }

    /// Hands out what is to be written. A store in memory, which is gone with the process
    /// whatever is done, has it with the word (rule N6): what was confirmed a moment ago is
    /// acked in the message that goes out next.
    pub(crate) fn write(&mut self, out: &mut Vec<Output<T>>) -> StepResult {
        match self.write_queue.flush(out) {
            Some(ticket) if self.config.volatile => self.on_written(ticket, out),
            _ => Ok(()),
        }
    }

    /// The log thread is through with a write: acks what it made durable, and reports if
    /// it held a promise (rules P1 to P3).
    pub(crate) fn on_written(&mut self, ticket: u64, out: &mut Vec<Output<T>>) -> StepResult {
        let promise = self.write_queue.written(ticket);
        if promise == Some(self.promised) && self.live().is_none() {
            ensure(self.write_queue.durable() == self.log.last().index, || {
                let (durable, last) = (self.write_queue.durable(), self.log.last().index);
                format!("a report must name durable entries only: durable {durable}, last {last}")
            })?;
            self.send_report(out);
        }
        // Nothing is acked in a frozen log (rule B3).
        if self.is_in_sync() && self.durable() > self.commit.acked {
            self.commit.acked = self.durable();
            self.commit.acks.insert(self.voter(), self.commit.acked);
            self.progress.schedule();
            self.advance_commit();
        }
        Ok(())
    }

    /// Entries up to here are durable and may be acked (rule P2).
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
    fn n6_what_gathers_during_writes_shares_one() {
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
    fn p2_a_write_from_before_a_cut_makes_nothing_durable_after_it() {
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
    fn p2_a_write_from_before_a_snapshot_makes_nothing_of_it_durable() {
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
