//! Normal operation (protocol §5): the sequencer orders, the others confirm what it
//! marked, and a majority's acks commit.

use std::time::Duration;

use cpg::Member;

use crate::Timestamp;
use crate::engine::{Canary, Checked, Engine, StopReason, ensure};
use crate::entry::{Batch, Content};
use crate::message::{Mark, Marked, Marks, Progress};
use crate::types::{Digest, Index, Origin, Voter};

/// Marks that wait for their batches. What is beyond is fetched later.
pub(crate) const MARKS_MAX: usize = 64 << 10;
/// Stores whose acks are remembered; more than members and voters together.
pub(crate) const ACKS_MAX: usize = 256;
/// Bytes of marks told in one message, which may carry the largest command as well.
pub(crate) const MARKS_BYTES_MAX: usize = 20 << 10;

impl<T> Engine<T> {
    pub(crate) fn on_batch(
        &mut self,
        from: Member,
        batch: Batch,
        progress: Option<Progress>,
    ) -> Checked {
        if let Some(Progress { incarnation, store, .. }) = progress {
            self.identify(from, incarnation, store);
        }
        // A run sends its batches itself.
        if !self.is_of(from, batch.origin.incarnation()) {
            return Ok(());
        }
        self.proposals.heard(&batch, self.now.monotonic);
        let again = self.is_broken(Canary::OrderedTwice)
            && self.is_sequencing()
            && self.log.is_past(&batch.origin, batch.number);
        if again {
            self.order(Content::Batch(batch.clone()));
        }
        if self.is_broken(Canary::PastIsKept) {
            self.pool.keep(batch);
        } else {
            let members = &self.members;
            self.pool.insert(&self.log, batch, |run| members.has(run));
        }
        self.order_pool()?;
        match progress {
            Some(progress) => self.on_progress(from, progress, false),
            None => self.confirm(),
        }
    }

    /// Rules N2 to N4: the sequencer orders what was delivered, each batch when it is the
    /// next of its origin.
    pub(crate) fn order_pool(&mut self) -> Checked {
        self.order_notice();
        while self.may_order() {
            let gaps = self.is_broken(Canary::OrderedWithGaps);
            let strangers = self.is_broken(Canary::BatchesOfStrangers);
            let log = &self.log;
            let is_next = |origin: &Origin, number| {
                gaps || log.is_next(origin, number) || strangers && log.follows(origin, number)
            };
            let Some(batch) = self.pool.take_next(is_next) else { break };
            self.order(Content::Batch(batch));
        }
        Ok(())
    }

    /// Whether this replica gives a batch its position now.
    pub(crate) fn may_order(&self) -> bool {
        self.is_sequencing() && self.full().is_none() && !self.is_held_back() && !self.is_draining()
    }

    /// Rule N3: positions are given once, at the end. The sequencer's word is the mark, so
    /// the entry is confirmed here and now.
    pub(crate) fn order(&mut self, content: Content) {
        self.append(self.open_epoch(), self.stamp(), content);
        self.laggards.ordered_at = self.now.monotonic;
        self.pace.tell();
    }

    /// The log's time of an entry that is ordered now.
    pub(crate) fn stamp(&self) -> Timestamp {
        let last = self.log.time();
        if self.is_broken(Canary::TimeUnbounded) {
            return self.now.wall.max(last);
        }
        if self.is_broken(Canary::TimeGoesBack) {
            return self.clock.stamp(self.now).min(self.now.wall);
        }
        if self.is_broken(Canary::TimeStandsStill) {
            return self.clock.stamp(self.now).min(self.now.wall.max(last));
        }
        self.clock.stamp(self.now).max(last)
    }

    /// What the sequencer has ordered and not yet told.
    pub(crate) fn next_marks(&mut self) -> Option<Marks> {
        if !self.is_sequencing() {
            return None;
        }
        let first = self.pace.told.next();
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
        self.pace.told = last;
        self.pace.told_at = self.now.monotonic;
        Some(Marks { first, entries, digest })
    }

    /// Marks are pieces of a sequence: what is known is skipped, a gap is fetched.
    pub(crate) fn on_marks(&mut self, marks: &Marks) -> Checked {
        let count = marks.entries.len() as u64;
        let Some(last) = marks.first.0.checked_add(count).map(|after| Index(after - 1)) else {
            return Ok(());
        };
        if count == 0 || marks.first == Index(0) {
            return Ok(());
        }
        if self.is_sequencing() {
            // Heard back: the others were sent the same.
            if marks.first <= self.pace.heard.next() {
                self.pace.heard = self.pace.heard.max(last);
            }
            return Ok(());
        }
        if !self.is_in_step() {
            return Ok(());
        }
        let next = self.log.last().index.0 + self.marks.len() as u64 + 1;
        self.pace.known = self.pace.known.max(last);
        if marks.first.0 > next && !self.is_broken(Canary::MarksWithGaps) {
            return self.confirm();
        }
        if last.0 >= next && self.marks.len() < MARKS_MAX {
            let known = next.saturating_sub(marks.first.0) as usize;
            self.marks.extend(marks.entries.iter().skip(known).cloned());
            self.expected.insert(last, marks.digest);
        } else if let Some(entry) = self.log.get(last) {
            self.compare(last, entry.digest, marks.digest)?;
        }
        self.confirm()
    }

    /// Rule N5: confirms marked batches in the order of the marks.
    pub(crate) fn confirm(&mut self) -> Checked {
        if !self.is_in_step() || self.is_sequencing() {
            return Ok(());
        }
        while self.full().is_none()
            && let Some(Mark { time, what }) = self.marks.front().cloned()
        {
            let content = match what {
                Marked::Batch { origin, number } => {
                    let Some(batch) = self.pool.take(origin, number) else { break };
                    let broken = self.is_broken(Canary::OrderedTwice)
                        || self.is_broken(Canary::OrderedWithGaps)
                        || self.is_broken(Canary::BatchesOfStrangers);
                    ensure(self.log.is_next(&origin, number) || broken, || {
                        format!("a mark breaks the order of its origin: {origin:?}, {number}")
                    })?;
                    Content::Batch(batch)
                }
                Marked::Notice(notice) => Content::Notice(notice),
                Marked::Time => Content::Time,
            };
            ensure(time >= self.log.time(), || {
                format!("a mark turns the log's time back, from {} to {time}", self.log.time())
            })?;
            self.marks.pop_front();
            self.append(self.open_epoch(), time, content);
            self.meet_expectation()?;
        }
        if self.log.last().index >= self.pace.known {
            (self.pace.missing_since, self.pace.fetched) = (None, false);
        } else {
            self.pace.missing_since.get_or_insert(self.now.monotonic);
        }
        Ok(())
    }

    /// Compares the digest at the end of the log with what the sequencer told for it.
    pub(crate) fn meet_expectation(&mut self) -> Checked {
        let index = self.log.last().index;
        match self.expected.remove(&index) {
            Some(told) => self.compare(index, self.log.digest(), told),
            None => Ok(()),
        }
    }

    pub(crate) fn compare(&self, index: Index, mine: Digest, told: Digest) -> Checked {
        if mine == told {
            return Ok(());
        }
        Err(StopReason::Invariant(format!(
            "the log differs from the sequencer's at index {index}: {mine} here, {told} there"
        )))
    }

    /// Rule N8: an ack counts for its epoch and for the store in the voter set.
    pub(crate) fn on_ack(&mut self, voter: Voter, acked: Index) {
        // Nobody has acked what the sequencer has not ordered.
        let cannot_be = self.is_sequencing() && acked > self.log.last().index;
        if acked > Index(0) && voter != self.voter() && !cannot_be {
            self.make_room_for_acks();
            // What somebody has confirmed exists, even if its mark was lost here.
            self.pace.known = self.pace.known.max(acked);
            let known = self.acks.entry(voter).or_default();
            *known = (*known).max(acked);
            self.advance_commit();
        }
    }

    /// Acks of stores that neither vote nor are here any more are forgotten, when there are many.
    fn make_room_for_acks(&mut self) {
        if self.acks.len() < ACKS_MAX {
            return;
        }
        let me = self.voter();
        let Self { acks, members, log, epoch, .. } = self;
        let votes = |one: &Voter| {
            *one == me
                || log.voters().contains(one)
                || epoch.as_ref().is_some_and(|epoch| epoch.open.voters.contains(one))
        };
        acks.retain(|one, _| votes(one) || members.has_voter(one));
    }

    /// Commits what a majority has acked in this epoch, at or past its `EpochStart`, and
    /// nothing past what is confirmed here.
    pub(crate) fn advance_commit(&mut self) {
        let Some(epoch) = self.epoch.as_ref().filter(|epoch| epoch.in_step) else { return };
        let start = epoch.open.base.index.next();
        let commit = self.acked_by_majority().min(self.log.last().index);
        let old_too = self.is_broken(Canary::OldEpochCommits);
        if (commit >= start || old_too) && commit > self.commit {
            self.commit = commit;
            self.election.commit_advanced(self.now.monotonic);
        }
    }

    /// What a majority has acked in this epoch, here or not.
    pub(crate) fn acked_by_majority(&self) -> Index {
        if let Some(acked) = self.acked_as_broken() {
            return acked;
        }
        let settled = self.is_broken(Canary::NewVotersAlone);
        let commit = if settled { self.log.last().index } else { self.commit };
        let acked = self.log.voters().committed(commit, |voter| self.acks.get(voter).copied());
        acked.unwrap_or_default()
    }

    /// How canaries count acks.
    fn acked_as_broken(&self) -> Option<Index> {
        let voters = &self.log.voters().now;
        let of = |voter: &Voter| self.acks.get(voter).copied().unwrap_or_default();
        let nth = |mut acked: Vec<Index>, n: usize| {
            acked.sort_unstable_by(|a, b| b.cmp(a));
            acked.get(n).copied().unwrap_or_default()
        };
        let half = voters.len() / 2;
        if self.is_broken(Canary::CommitsAlone) && self.is_sequencing() {
            Some(self.disk.durable())
        } else if self.is_broken(Canary::LearnersCount) {
            Some(nth(self.acks.values().copied().collect(), half))
        } else if self.is_broken(Canary::HalfCommits) {
            Some(nth(voters.iter().map(of).collect(), voters.len().div_ceil(2).saturating_sub(1)))
        } else if self.is_broken(Canary::BlankCounts) {
            let of_replica = |voter: &Voter| {
                let same = self.acks.iter().filter(|(known, _)| known.replica == voter.replica);
                same.map(|(_, acked)| *acked).max().unwrap_or_default()
            };
            Some(nth(voters.iter().map(of_replica).collect(), half))
        } else {
            None
        }
    }

    /// Marks that the sequencer has not heard back are told again.
    pub(crate) fn resend_marks(&mut self) {
        let waited = self.unanswered(self.pace.told_at);
        if self.is_sequencing()
            && self.pace.heard < self.pace.told
            && waited > self.config.resend_timeout
        {
            self.pace.told = self.pace.heard;
            self.pace.tell();
        }
    }

    /// How long ago something was.
    pub(crate) fn ago(&self, at: Duration) -> Duration {
        self.now.monotonic.saturating_sub(at)
    }
}
