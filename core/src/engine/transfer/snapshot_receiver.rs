//! Receiving of a snapshot by a lagging replica (rules L3 to L6).

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::engine::SnapshotCommand;
use crate::engine::log::Log;
use crate::engine::replication::proposals::Overtaken;
use crate::engine::transfer::flow_control::FlowControl;
use crate::engine::{Config, Engine, Output, SnapshotHead, StepResult};
use crate::wire::message::{Chunk, Message, Offered, Received};
use crate::wire::snapshot_name::SnapshotName;
use crate::wire::types::{Incarnation, Index};

/// Maximum number of chunks that wait to be written. Further ones are dropped, and sent again.
pub(crate) const WRITING_MAX: usize = 32;

/// A snapshot that is being received. It survives changes of the epoch and the donor (rule L5).
#[derive(Debug)]
pub(crate) struct SnapshotReceiver {
    /// Name of the snapshot.
    pub(crate) name: SnapshotName,
    /// Replica that sends it.
    pub(crate) donor: Incarnation,
    /// Number of chunks that are written.
    pub(crate) count: u64,
    /// Number of chunks at the start without a gap.
    whole_to: u64,
    /// Chunks after a gap that are written. Its size follows from the chunks received, never from
    /// the size that a name claims.
    later: BTreeSet<u64>,
    /// Chunks that are being written, each with the donor's count of chunks sent by then.
    writing: VecDeque<(u64, u64)>,
    /// Count of the donor's chunks that this replica has dealt with.
    seen: u64,
    /// Value of `seen` in the last `Received`.
    told: u64,
    /// Time at which the last `Received` was sent.
    told_at: Duration,
    /// Set if a `Received` is due once the last one has left this replica.
    tell: bool,
    /// Time at which a chunk last arrived, or a donor was named.
    pub(crate) heard_at: Duration,
    /// Time at which the transfer began.
    pub(crate) since: Duration,
    /// Set once all chunks are written, and the snapshot is being checked.
    checking: bool,
    /// Head of the snapshot, once it is complete and waits to be installed.
    head: Option<Box<SnapshotHead>>,
}

impl SnapshotReceiver {
    fn new(name: SnapshotName, donor: Incarnation, now: Duration) -> Self {
        Self {
            name,
            donor,
            count: 0,
            whole_to: 0,
            later: BTreeSet::new(),
            writing: VecDeque::new(),
            seen: 0,
            told: 0,
            told_at: now,
            tell: false,
            heard_at: now,
            since: now,
            checking: false,
            head: None,
        }
    }

    /// Returns true if the chunk is written, or does not exist.
    fn has(&self, chunk: u64) -> bool {
        chunk < self.whole_to || chunk >= self.name.chunks() || self.later.contains(&chunk)
    }

    /// Records that a chunk is written.
    fn add(&mut self, chunk: u64) {
        if self.has(chunk) {
            return;
        }
        self.later.insert(chunk);
        self.count += 1;
        while self.later.remove(&self.whole_to) {
            self.whole_to += 1;
        }
    }

    /// Returns true if the chunk is written or being written, or does not exist.
    fn is_coming(&self, chunk: u64) -> bool {
        self.has(chunk) || self.writing.iter().any(|(writing, _)| *writing == chunk)
    }

    /// Returns the first missing chunks, as a half-open range.
    fn gap(&self) -> Option<(u64, u64)> {
        let chunks = self.name.chunks();
        let first = (self.whole_to..chunks).find(|chunk| !self.is_coming(*chunk))?;
        let written = self.later.range(first..).next().copied();
        let writing = self.writing.iter().map(|(chunk, _)| *chunk).filter(|chunk| *chunk > first);
        Some((first, writing.chain(written).min().unwrap_or(chunks)))
    }

    #[cfg(feature = "testing")]
    pub(crate) fn writing(&self) -> usize {
        self.writing.len()
    }

    #[cfg(feature = "testing")]
    pub(crate) fn later(&self) -> usize {
        self.later.len()
    }

    /// Returns true if all chunks are written.
    fn is_whole(&self) -> bool {
        self.count == self.name.chunks()
    }

    /// Records that a chunk needs no further work here, though earlier ones may still be written.
    fn deal_with(&mut self, seen: u64) {
        match self.writing.back_mut() {
            Some((_, last)) => *last = seen.max(*last),
            None => self.seen = self.seen.max(seen),
        }
    }

    /// Returns the number of bytes that are written.
    pub(crate) fn bytes(&self) -> u64 {
        let most = self.count.saturating_mul(self.name.chunk_bytes(0));
        most.min(self.name.bytes)
    }
}

impl<T> Engine<T> {
    /// Returns true if a snapshot would advance this log. It must not remove entries that may have
    /// been acked here (rule P3): for a log that is a part of the base, it has to reach beyond the
    /// end of the log; for another log, it has to reach the place where the base begins, since the
    /// log parts from the base before that.
    fn wants(&self, name: &SnapshotName) -> bool {
        self.live().is_some_and(|epoch| {
            let begins = epoch.open.history.first().map_or(Index(0), |(_, first)| *first);
            let last = self.log.last().index;
            !epoch.sequencing
                && name.index() > self.commit.index
                && if epoch.shares { name.index() > last } else { name.index() >= begins }
        })
    }

    /// Accepts an offer: this lagging replica learns its donor (rule L2).
    pub(crate) fn accept(&mut self, what: Offered, donor: Incarnation, out: &mut Vec<Output<T>>) {
        match what {
            Offered::Entries => {
                self.transfer.fetch.donor = Some(donor);
                self.fetch_entries(out);
            }
            Offered::Snapshot(name) if self.wants(&name) => {
                let now = self.now.monotonic;
                let told_at = self.transfer.receiver.as_ref().map(|receiving| receiving.told_at);
                let known = self.transfer.receiver.take_if(|receiving| receiving.name == name);
                if known.is_none() {
                    self.abandon_transfer(out);
                    tracing::info!(
                        replica = %self.me().replica, %name, donor = %donor.replica,
                        bytes = name.bytes, "receiving a snapshot"
                    );
                }
                let mut receiving =
                    known.unwrap_or_else(|| SnapshotReceiver::new(name, donor, now));
                if receiving.donor != donor {
                    receiving.donor = donor;
                    // The counts of chunks being written are another donor's.
                    receiving.writing.iter_mut().for_each(|(_, seen)| *seen = 0);
                    receiving.seen = 0;
                }
                receiving.heard_at = now;
                receiving.told_at = told_at.unwrap_or(receiving.told_at);
                self.transfer.receiver = Some(receiving);
                self.send_received(out);
            }
            Offered::Snapshot(_) => {}
        }
    }

    /// Handles a chunk: has it written, unless it is known or too many wait to be written.
    pub(crate) fn on_chunk(&mut self, chunk: Chunk, out: &mut Vec<Output<T>>) {
        let Chunk { name, number, donor, sent, bytes } = chunk;
        self.transfer.snapshots.pin(name, self.now.monotonic);
        let is_of = |receiving: &&mut SnapshotReceiver| receiving.name == name;
        let Some(receiving) = self.transfer.receiver.as_mut().filter(is_of) else { return };
        let name = receiving.name;
        if bytes.len() as u64 != name.chunk_bytes(number) || bytes.is_empty() {
            return;
        }
        receiving.heard_at = self.now.monotonic;
        let seen = if donor == receiving.donor { sent } else { 0 };
        if receiving.is_coming(number) || receiving.writing.len() >= WRITING_MAX {
            receiving.deal_with(seen);
        } else {
            receiving.writing.push_back((number, seen));
            out.push(Output::Snapshot(SnapshotCommand::Write { name, chunk: number, bytes }));
        }
    }

    /// Records a written chunk, and has the snapshot checked if it was the last.
    pub(crate) fn on_chunk_written(
        &mut self,
        name: SnapshotName,
        chunk: u64,
        out: &mut Vec<Output<T>>,
    ) {
        let Some(receiving) =
            self.transfer.receiver.as_mut().filter(|receiving| receiving.name == name)
        else {
            return;
        };
        let Some((_, seen)) = receiving.writing.front().copied().filter(|next| next.0 == chunk)
        else {
            return;
        };
        receiving.writing.pop_front();
        receiving.seen = receiving.seen.max(seen);
        receiving.add(chunk);
        self.check_received(out);
    }

    /// Has the snapshot checked once all of it is here and the store has an owner.
    fn check_received(&mut self, out: &mut Vec<Output<T>>) {
        if let Some(receiving) = &mut self.transfer.receiver
            && receiving.is_whole()
            && self.write_queue.has_hard_state()
            && !receiving.checking
        {
            receiving.checking = true;
            out.push(Output::Snapshot(SnapshotCommand::Finish(receiving.name)));
        }
    }

    /// Reports progress to the donor if there is any.
    pub(crate) fn acknowledge_chunks(&mut self, out: &mut Vec<Output<T>>) {
        let is_due =
            |receiving: &SnapshotReceiver| receiving.tell || receiving.seen > receiving.told;
        if self.transfer.receiver.as_ref().is_some_and(is_due) {
            self.send_received(out);
        }
    }

    /// Sends a `Received`, or notes that one is due while the last one is still queued.
    fn send_received(&mut self, out: &mut Vec<Output<T>>) {
        let incarnation = self.me();
        let now = self.now.monotonic;
        let told_at = self.transfer.receiver.as_ref().map(|receiving| receiving.told_at);
        let is_unsent = told_at.is_some_and(|at| self.is_unsent(at));
        let Some(receiving) = &mut self.transfer.receiver else { return };
        receiving.tell = is_unsent;
        if is_unsent {
            return;
        }
        receiving.told = receiving.seen;
        receiving.told_at = now;
        let SnapshotReceiver { name, donor, seen, .. } = *receiving;
        let (gap, missing) = (receiving.gap(), name.chunks() - receiving.count);
        let received = Received { incarnation, name, donor, seen, gap, missing };
        out.push(Output::Send(Message::Received(received)));
    }

    /// At a tick: requests lost chunks again, in the end from another donor.
    pub(crate) fn tend_snapshot_receiver(&mut self, out: &mut Vec<Output<T>>) {
        self.check_received(out);
        let Some(receiving) = &self.transfer.receiver else { return };
        if !receiving.checking && !self.wants(&receiving.name) && self.live().is_some() {
            return self.abandon_transfer(out);
        }
        let Config { election_timeout, resend_timeout, .. } = self.config;
        let is_due = if receiving.is_whole() {
            // While the snapshot is checked, the others have to know that it is still wanted.
            self.unanswered(receiving.told_at) > election_timeout
        } else {
            self.ago(receiving.heard_at) > resend_timeout
                && self.unanswered(receiving.told_at) > resend_timeout
        };
        if is_due {
            self.send_received(out);
        }
    }

    /// Returns true if no replica has to be asked for entries, because chunks arrive or the
    /// snapshot is being checked.
    pub(crate) fn is_receiving(&self) -> bool {
        self.transfer.receiver.as_ref().is_some_and(|receiving| {
            receiving.is_whole() || self.ago(receiving.heard_at) < self.config.resend_timeout * 3
        })
    }

    /// Gives up the transfer. The snapshot may be complete by now, or have been taken here; then it
    /// is kept like any other.
    fn abandon_transfer(&mut self, out: &mut Vec<Output<T>>) {
        if let Some(receiving) = self.transfer.receiver.take() {
            out.push(Output::Snapshot(SnapshotCommand::Abandon(receiving.name)));
        }
    }

    /// Forgets the transfer of a snapshot that turned out to be damaged.
    pub(crate) fn give_up_transfer(&mut self, name: SnapshotName) {
        self.transfer.receiver.take_if(|receiving| receiving.name == name);
    }

    /// Handles a received snapshot that is complete and correct in the store.
    pub(crate) fn on_received_all(
        &mut self,
        name: SnapshotName,
        head: Box<SnapshotHead>,
        out: &mut Vec<Output<T>>,
    ) -> StepResult {
        if let Some(receiving) =
            self.transfer.receiver.as_mut().filter(|receiving| receiving.name == name)
        {
            receiving.head = Some(head);
            self.send_received(out);
        }
        self.install(out)
    }

    /// Installs a snapshot: replaces log, tables and state together (rule L6). The snapshot is
    /// already complete and durable; after a crash before the log is replaced, the restart does the
    /// rest. Waits while the log is frozen (rule B3).
    pub(crate) fn install(&mut self, out: &mut Vec<Output<T>>) -> StepResult {
        if self.live().is_none() {
            return Ok(());
        }
        let Some(receiving) = self.transfer.receiver.take_if(|receiving| receiving.head.is_some())
        else {
            return Ok(());
        };
        let name = receiving.name;
        let Some(head) = receiving.head.filter(|_| self.wants(&name)) else { return Ok(()) };
        let SnapshotHead { tables } = *head;
        tracing::info!(replica = %self.me().replica, %name, "continuing from a snapshot");
        self.log = Log::after_snapshot(tables.clone());
        self.see_time(true);
        // The progress of other replicas was measured against the old log.
        self.transfer.flow_control = FlowControl::default();
        self.commit.index = name.index();
        self.commit.handed_out = name.index();
        self.write_queue.reset(name.index());
        let hard_state = self.hard_state();
        self.write_queue.push(hard_state);
        self.transfer.snapshots.installed(name, tables);
        self.ordering.marks.clear();
        self.ordering.expected.clear();
        self.ordering.pool.prune(&self.log);
        self.forgo_outputs(out);
        let in_epoch = self.log.last().epoch == self.open_epoch();
        if let Some(epoch) = &mut self.epoch {
            epoch.shares = true;
            epoch.in_sync = in_epoch;
        }
        if in_epoch {
            self.get_in_sync();
        }
        self.fetch_entries(out);
        Ok(())
    }

    /// Answers callers whose commands are in the snapshot: they took effect, but their outputs are
    /// unknown (rule N10).
    fn forgo_outputs(&mut self, out: &mut Vec<Output<T>>) {
        let Overtaken { taken, unknown, requests } = self.proposals.overtaken(&self.log);
        requests.into_iter().for_each(|ticket| self.requests.committed(ticket));
        if !taken.is_empty() {
            out.push(Output::Forgo { tickets: taken });
        }
        if !unknown.is_empty() {
            out.push(Output::Fail { tickets: unknown, may_take_effect: true });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::snapshot_name::CHUNK_BYTES;
    use crate::wire::types::{Nonce, ReplicaId};

    fn receiving(bytes: u64) -> SnapshotReceiver {
        let donor = Incarnation { replica: ReplicaId(1), nonce: Nonce(1) };
        let name = SnapshotName { bytes, ..SnapshotName::default() };
        SnapshotReceiver::new(name, donor, Duration::ZERO)
    }

    #[test]
    fn a_claimed_size_costs_neither_memory_nor_time() {
        let mut receiving = receiving(u64::MAX);
        let chunks = receiving.name.chunks();
        assert_eq!(receiving.gap(), Some((0, chunks)));
        receiving.later.insert(chunks - 1);
        assert_eq!(receiving.gap(), Some((0, chunks - 1)));
        assert!(!receiving.is_whole());
    }

    #[test]
    fn the_gap_lies_between_chunks_written_or_being_written() {
        let mut receiving = receiving(10 * CHUNK_BYTES as u64);
        assert_eq!(receiving.gap(), Some((0, 10)));
        receiving.whole_to = 2;
        receiving.later.extend([2, 7]);
        receiving.writing.extend([(3, 1), (5, 2)]);
        assert_eq!(receiving.gap(), Some((4, 5)));
        receiving.writing.push_back((4, 3));
        assert_eq!(receiving.gap(), Some((6, 7)));
        receiving.writing.push_back((6, 4));
        assert_eq!(receiving.gap(), Some((8, 10)));
        receiving.whole_to = 10;
        assert_eq!(receiving.gap(), None);
        assert!(receiving.is_coming(10) && receiving.is_coming(u64::MAX));
    }
}
