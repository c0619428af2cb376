//! Normal operation (protocol §5): the sequencer orders, the others confirm what it
//! marked, and a majority's acks commit.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use cpg::Member;

use crate::Timestamp;
use crate::engine::replication::batch_pool::BatchPool;
use crate::engine::{Engine, StepResult, StopReason, ensure};
use crate::wire::entry::{Batch, EntryPayload};
use crate::wire::message::{Mark, Marked, Marks, Progress};
use crate::wire::types::{Digest, Index, Origin};

/// Marks that wait for their batches. What is beyond is fetched later.
pub(crate) const MARKS_MAX: usize = 64 << 10;
/// Stores whose acks are remembered; more than members and voters together.
pub(crate) const ACKS_MAX: usize = 256;
/// Bytes of marks told in one message, which may carry the largest command as well.
pub(crate) const MARKS_BYTES_MAX: usize = 20 << 10;

/// What is ordered in the open epoch and not in the log yet.
#[derive(Debug, Default)]
pub(crate) struct Ordering {
    /// Batches delivered and not yet in the log (rule N5).
    pub(crate) pool: BatchPool,
    /// Marks after the end of the log, in order, without gaps.
    pub(crate) marks: VecDeque<Mark>,
    /// Digests that the sequencer reported for indices after the end of the log.
    pub(crate) expected: BTreeMap<Index, Digest>,
    pub(crate) cursor: MarkCursor,
}

/// How far marks were sent, delivered and heard of.
#[derive(Debug, Default)]
pub(crate) struct MarkCursor {
    /// This sequencer has sent marks up to here.
    pub(crate) sent: Index,
    /// When it last sent marks.
    pub(crate) sent_at: Duration,
    /// Its own marks were delivered to it up to here.
    pub(crate) delivered: Index,
    /// The order reaches up to here at least.
    pub(crate) known: Index,
}

impl MarkCursor {
    /// Marks up to there cannot be sent again.
    pub(crate) fn left_memory(&mut self, through: Index) {
        self.sent = self.sent.max(through);
        self.delivered = self.delivered.max(through);
    }

    /// An epoch opened whose base is at `base`.
    pub(crate) fn epoch_opened(&mut self, base: Index) {
        // The `EpochStart` after the base is known from `Open` itself (rule B8).
        let sent = base.next();
        *self = Self { sent, delivered: sent, ..Self::default() };
    }
}

impl<T> Engine<T> {
    pub(crate) fn on_batch(
        &mut self,
        from: Member,
        batch: Batch,
        progress: Option<Progress>,
    ) -> StepResult {
        if let Some(Progress { incarnation, store, .. }) = progress {
            self.identify(from, incarnation, store);
        }
        // A run sends its batches itself.
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

    /// Rules N2 to N4: the sequencer orders what was delivered, each batch when it is the
    /// next of its origin.
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

    /// Whether this replica gives a batch its position now.
    pub(crate) fn may_order(&self) -> bool {
        self.is_sequencing()
            && self.throttle().is_none()
            && !self.is_held_back()
            && !self.is_draining()
    }

    /// Rule N3: positions are given once, at the end. The sequencer's word is the mark, so
    /// the entry is confirmed here and now.
    pub(crate) fn order(&mut self, payload: EntryPayload) {
        self.append(self.open_epoch(), self.stamp(), payload);
        self.transfer.flow_control.ordered_at = self.now.monotonic;
        self.progress.schedule();
    }

    /// The log's time of an entry that is ordered now.
    pub(crate) fn stamp(&self) -> Timestamp {
        self.clock.stamp(self.now).max(self.log.time())
    }

    /// What the sequencer has ordered and not yet told.
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

    /// Marks are pieces of a sequence: what is known is skipped, a gap is fetched.
    pub(crate) fn on_marks(&mut self, marks: &Marks) -> StepResult {
        let count = marks.entries.len() as u64;
        let Some(last) = marks.first.0.checked_add(count).map(|after| Index(after - 1)) else {
            return Ok(());
        };
        if count == 0 || marks.first == Index(0) {
            return Ok(());
        }
        if self.is_sequencing() {
            // Heard back: the others were sent the same.
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

    /// Rule N5: confirms marked batches in the order of the marks.
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
                        format!("a mark breaks the order of its origin: {origin:?}, {number}")
                    })?;
                    EntryPayload::Batch(batch)
                }
                Marked::Notice(notice) => EntryPayload::Notice(notice),
                Marked::Time => EntryPayload::Time,
            };
            ensure(time >= self.log.time(), || {
                format!("a mark turns the log's time back, from {} to {time}", self.log.time())
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

    /// Compares the digest at the end of the log with what the sequencer told for it.
    pub(crate) fn meet_expectation(&mut self) -> StepResult {
        let index = self.log.last().index;
        match self.ordering.expected.remove(&index) {
            Some(told) => self.compare(index, self.log.digest(), told),
            None => Ok(()),
        }
    }

    pub(crate) fn compare(&self, index: Index, mine: Digest, told: Digest) -> StepResult {
        if mine == told {
            return Ok(());
        }
        Err(StopReason::Invariant(format!(
            "the log differs from the sequencer's at index {index}: {mine} here, {told} there"
        )))
    }

    /// Marks that the sequencer has not heard back are told again.
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
    fn n3_the_sequencer_takes_no_order_from_others() {
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
    fn n4_the_sequencer_orders_its_own_batch_when_it_hands_it_over() {
        let mut solo = Solo::with_member();
        let before = solo.engine.log.last().index;
        let command = Bytes::from_static(b"a command");
        let out = solo.step(Input::Propose { ticket: 1, command, deadline: None });
        // Nothing was delivered yet.
        assert_eq!(solo.engine.log.last().index, Index(before.0 + 1));
        let marks = out.iter().find_map(|output| match output {
            Output::Send(Message::Batch(_, progress)) => progress.as_ref()?.marks.as_ref(),
            _ => None,
        });
        let Some(marks) = marks else { panic!("the batch carries its mark") };
        assert_eq!(marks.first.0 + marks.entries.len() as u64 - 1, before.0 + 1);
        assert_eq!(marks.digest, solo.engine.log.digest());
    }
}
