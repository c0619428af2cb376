//! Normal operation (protocol §5): the sequencer orders batches, the other replicas confirm what it
//! has marked, and a majority's acks commit.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cpg::Member;

use crate::Timestamp;
use crate::engine::replication::batch_pool::BatchPool;
use crate::engine::{Engine, StepResult, StopReason, ensure};
use crate::wire::entry::{Batch, EntryPayload};
use crate::wire::message::{Mark, Marked, Marks, Progress};
use crate::wire::types::{Digest, Index, Origin};

/// Maximum number of marks that wait for their batches. Entries beyond are fetched later.
pub(crate) const MARKS_MAX: usize = 64 << 10;
/// Maximum number of stores whose acks are kept; more than members and voters together.
pub(crate) const ACKS_MAX: usize = 256;
/// Maximum number of bytes of marks in one message, which may carry the largest command as well.
pub(crate) const MARKS_BYTES_MAX: usize = 20 << 10;

/// Order of the open epoch that is not in the log yet.
#[derive(Debug, Default)]
pub(crate) struct Ordering {
    /// Batches delivered and not yet in the log (rule N5).
    pub(crate) pool: BatchPool,
    /// Marks after the end of the log, in order, without gaps.
    pub(crate) marks: VecDeque<Mark>,
    /// Digests that the sequencer reported for indices after the end of the log.
    pub(crate) expected: BTreeMap<Index, Digest>,
    /// Progress of sending and receiving marks.
    pub(crate) cursor: MarkCursor,
}

/// Indices up to which marks were sent, delivered and known.
#[derive(Debug, Default)]
pub(crate) struct MarkCursor {
    /// Index up to which this sequencer has sent marks.
    pub(crate) sent: Index,
    /// Time at which it last sent marks.
    pub(crate) sent_at: Duration,
    /// Index up to which its own marks were delivered back to it.
    pub(crate) delivered: Index,
    /// Index that the order is known to reach at least.
    pub(crate) known: Index,
}

impl MarkCursor {
    /// Moves past entries up to `through`, which have left memory: their marks cannot be sent
    /// again.
    pub(crate) fn left_memory(&mut self, through: Index) {
        self.sent = self.sent.max(through);
        self.delivered = self.delivered.max(through);
    }

    /// Starts again for an epoch whose base ends at index `base`.
    pub(crate) fn epoch_opened(&mut self, base: Index) {
        // The `EpochStart` after the base is known from `Open` itself (rule B8).
        let sent = base.next();
        *self = Self { sent, delivered: sent, ..Self::default() };
    }
}

impl<T> Engine<T> {
    /// Handles a batch: keeps it, orders it if this replica sequences, or confirms marked batches.
    pub(crate) fn on_batch(
        &mut self,
        from: Member,
        batch: Batch,
        progress: Option<Progress>,
    ) -> StepResult {
        if let Some(Progress { incarnation, store, .. }) = progress {
            self.identify(from, incarnation, store);
        }
        // A run sends only its own batches.
        if !self.is_of(from, batch.origin.incarnation()) {
            return Ok(());
        }
        self.proposals.heard(&batch, self.now.monotonic);
        let peers = &self.peers;
        self.ordering.pool.insert(&self.log, batch, |run| peers.has(run));
        self.order_pool()?;
        match progress {
            Some(progress) => self.on_progress(from, progress, false),
            None => self.confirm(),
        }
    }

    /// Orders the delivered batches at the sequencer, each when it is the next of its origin (rules
    /// N2 to N4).
    pub(crate) fn order_pool(&mut self) -> StepResult {
        self.order_notice();
        while self.may_order() {
            let log = &self.log;
            let is_next = |origin: &Origin, number| log.is_next(origin, number);
            let Some(batch) = self.ordering.pool.take_next(is_next) else { break };
            self.order(EntryPayload::Batch(batch));
        }
        Ok(())
    }

    /// Returns true if this replica may order a batch now.
    pub(crate) fn may_order(&self) -> bool {
        self.is_sequencing()
            && self.throttle().is_none()
            && !self.is_held_back()
            && !self.is_draining()
    }

    /// Gives an entry the next position (rule N3). The sequencer decides the order, so the entry is
    /// confirmed here at once.
    pub(crate) fn order(&mut self, payload: EntryPayload) {
        self.append(self.open_epoch(), self.stamp(), payload);
        self.transfer.flow_control.ordered_at = self.now.monotonic;
        self.progress.schedule();
    }

    /// Returns the stamp for an entry that is ordered now.
    pub(crate) fn stamp(&self) -> Timestamp {
        self.clock.stamp(self.now).max(self.log.time())
    }

    /// Returns marks for entries that the sequencer has ordered and not yet sent, as many as fit
    /// into a message; `None` if there are none.
    pub(crate) fn next_marks(&mut self) -> Option<Marks> {
        if !self.is_sequencing() {
            return None;
        }
        let first = self.ordering.cursor.sent.next();
        let (mut bytes, mut end) = (0, None);
        let mut entries = Vec::new();
        for entry in self.log.from(first) {
            let Some(mark) = Mark::of(entry) else { break };
            bytes += mark.bytes();
            if !entries.is_empty() && bytes > MARKS_BYTES_MAX {
                break;
            }
            entries.push(mark);
            end = Some((entry.index(), entry.digest));
        }
        let (last, digest) = end?;
        self.ordering.cursor.sent = last;
        self.ordering.cursor.sent_at = self.now.monotonic;
        Some(Marks { first, entries, digest })
    }

    /// Handles marks, which are pieces of a sequence: skips known ones, and fetches a gap.
    pub(crate) fn on_marks(&mut self, marks: &Marks) -> StepResult {
        let count = marks.entries.len() as u64;
        let Some(last) = marks.first.0.checked_add(count).map(|after| Index(after - 1)) else {
            return Ok(());
        };
        if count == 0 || marks.first == Index(0) {
            return Ok(());
        }
        if self.is_sequencing() {
            // These are its own marks: every replica was sent the same.
            if marks.first <= self.ordering.cursor.delivered.next() {
                self.ordering.cursor.delivered = self.ordering.cursor.delivered.max(last);
            }
            return Ok(());
        }
        if !self.is_in_sync() {
            return Ok(());
        }
        let next = self.log.last().index.0 + self.ordering.marks.len() as u64 + 1;
        self.ordering.cursor.known = self.ordering.cursor.known.max(last);
        if marks.first.0 > next {
            return self.confirm();
        }
        if last.0 >= next && self.ordering.marks.len() < MARKS_MAX {
            let known = next.saturating_sub(marks.first.0) as usize;
            self.ordering.marks.extend(marks.entries.iter().skip(known).cloned());
            self.ordering.expected.insert(last, marks.digest);
        } else if let Some(entry) = self.log.get(last) {
            self.compare(last, entry.digest, marks.digest)?;
        }
        self.confirm()
    }

    /// Confirms marked batches in the order of the marks (rule N5).
    pub(crate) fn confirm(&mut self) -> StepResult {
        if !self.is_in_sync() || self.is_sequencing() {
            return Ok(());
        }
        while self.throttle().is_none()
            && let Some(Mark { time, what }) = self.ordering.marks.front().cloned()
        {
            let payload = match what {
                Marked::Batch { origin, number } => {
                    let Some(batch) = self.ordering.pool.take(origin, number) else { break };
                    ensure(self.log.is_next(&origin, number), || {
                        format!(
                            "the mark of batch {number} breaks the order of its origin {origin:?}"
                        )
                    })?;
                    EntryPayload::Batch(batch)
                }
                Marked::Notice(notice) => EntryPayload::Notice(notice),
                Marked::Time => EntryPayload::Time,
            };
            ensure(time >= self.log.time(), || {
                format!("a mark moves the log's time backwards, from {} to {time}", self.log.time())
            })?;
            self.ordering.marks.pop_front();
            self.append(self.open_epoch(), time, payload);
            self.meet_expectation()?;
        }
        if self.log.last().index >= self.ordering.cursor.known {
            (self.transfer.fetch.missing_since, self.transfer.fetch.requested) = (None, false);
        } else {
            self.transfer.fetch.missing_since.get_or_insert(self.now.monotonic);
        }
        Ok(())
    }

    /// Compares the digest at the end of the log with the one that the sequencer reported for it.
    pub(crate) fn meet_expectation(&mut self) -> StepResult {
        let index = self.log.last().index;
        match self.ordering.expected.remove(&index) {
            Some(theirs) => self.compare(index, self.log.digest(), theirs),
            None => Ok(()),
        }
    }

    /// Stops this replica if two digests at the same index differ.
    pub(crate) fn compare(&self, index: Index, mine: Digest, theirs: Digest) -> StepResult {
        if mine == theirs {
            return Ok(());
        }
        Err(StopReason::Invariant(format!(
            "the log differs from the sequencer's at index {index}: {mine} here, {theirs} there"
        )))
    }

    /// Schedules marks again that the sequencer has sent and not received back in time.
    pub(crate) fn resend_marks(&mut self) {
        let waited = self.unanswered(self.ordering.cursor.sent_at);
        if self.is_sequencing()
            && self.ordering.cursor.delivered < self.ordering.cursor.sent
            && waited > self.config.resend_timeout
        {
            self.ordering.cursor.sent = self.ordering.cursor.delivered;
            self.progress.schedule();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::engine::solo::{Solo, member, run};
    use crate::engine::{Input, Output};
    use crate::wire::entry::{EntryHead, EntryPayloadHead};
    use crate::wire::message::{Entries, Message};
    use crate::wire::types::StoreId;

    #[test]
    fn n3_the_sequencer_takes_no_entries_from_others() {
        let mut solo = Solo::with_member();
        let (epoch, last) = (solo.engine.open_epoch(), solo.engine.log.last());
        let (time, digest) = (solo.engine.log.time(), Digest(7));
        for first in [last.index.0, last.index.0 + 1] {
            let first = Index(first);
            let head = EntryHead { epoch, time, payload: EntryPayloadHead::Time };
            let entries = vec![(head, Bytes::new()); 2];
            let piece = Entries { epoch, first, entries, digest, more: false };
            solo.deliver(member(2, 2), Message::Entries(piece));
            let marks = Marks { first, entries: vec![Mark { time, what: Marked::Time }], digest };
            solo.deliver(
                member(2, 2),
                Message::Progress(Progress {
                    epoch,
                    incarnation: run(2, 2),
                    store: StoreId(2),
                    marks: Some(marks),
                    acked: last.index,
                    applied: last.index,
                    echo: Vec::new(),
                    promised: epoch,
                }),
            );
            assert_eq!(solo.engine.log.last(), last);
        }
        solo.batch(member(2, 2), run(2, 2), 1);
        assert_eq!(solo.engine.log.last().index, Index(last.index.0 + 1));
        assert!(solo.engine.is_sequencing());
    }

    #[test]
    fn n4_the_sequencer_orders_its_own_batch_when_it_sends_it() {
        let mut solo = Solo::with_member();
        let before = solo.engine.log.last().index;
        let command = Bytes::from_static(b"a command");
        let out = solo.step(Input::Propose { ticket: 1, command, deadline: None });
        // Nothing has been delivered yet.
        assert_eq!(solo.engine.log.last().index, Index(before.0 + 1));
        let marks = out.iter().find_map(|output| match output {
            Output::Send(Message::Batch(_, progress)) => progress.as_ref()?.marks.as_ref(),
            _ => None,
        });
        let Some(marks) = marks else { panic!("the batch must carry its mark") };
        assert_eq!(marks.first.0 + marks.entries.len() as u64 - 1, before.0 + 1);
        assert_eq!(marks.digest, solo.engine.log.digest());
    }
}
