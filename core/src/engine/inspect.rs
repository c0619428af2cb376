//! State that simulations inspect in addition to the status.

use super::Engine;
use crate::engine::config::Config;
use crate::engine::membership::notices::MEMBERS_MAX;
use crate::engine::replication::ordering::{ACKS_MAX, MARKS_BYTES_MAX, MARKS_MAX};
use crate::engine::replication::reads::READERS_MAX;
use crate::engine::transfer::fetch::PIECE_BYTES_MAX;
use crate::engine::transfer::snapshot_receiver::WRITING_MAX;
use crate::engine::transfer::snapshot_sender::WINDOW;
use crate::wire::entry::Entry;
use crate::wire::message::Open;
use crate::wire::snapshot_name::SnapshotName;
use crate::wire::types::{Ballot, Digest, Index, Origin, Voters};

impl<T> Engine<T> {
    /// Returns the epoch that was opened here last, frozen or not.
    pub(crate) fn last_epoch(&self) -> Ballot {
        self.epoch.as_ref().map_or(Ballot::default(), |epoch| epoch.open.ballot)
    }

    /// Returns the commit index, without the cost of a whole status.
    pub(crate) fn commit(&self) -> Index {
        self.commit.index
    }

    /// Returns true if everything in the log is committed, applied and durable, the replica is
    /// caught up in the open epoch, and no change of voters is pending.
    pub(crate) fn is_at_rest(&self) -> bool {
        let last = self.log.last().index;
        self.is_in_sync()
            && [self.commit.index, self.commit.applied, self.write_queue.durable()] == [last; 3]
            && !self.has_work()
            && self.wanted_voters().is_none()
            && !self.is_to_hand_over()
    }

    /// Returns true if this replica is a voter by its log.
    pub(crate) fn votes(&self) -> bool {
        self.log.voters().now.contains(&self.voter())
    }

    /// Returns true if this replica sequences the open epoch.
    pub(crate) fn is_sequencer(&self) -> bool {
        self.is_sequencing()
    }

    /// Returns true unless this replica sequences and the members in the order of the log differ
    /// from those in the configuration (rule N9).
    pub(crate) fn knows_members(&self) -> bool {
        let mut here = self.peers.identified().map(|peer| peer.incarnation);
        let ordered = self.log.members();
        !self.is_sequencing()
            || here.all(|run| ordered.contains(&run))
                && ordered.iter().all(|run| self.peers.has(*run))
    }

    /// Returns the `Open` of the epoch that was opened here last.
    pub(crate) fn open(&self) -> Option<&Open> {
        self.epoch.as_ref().map(|epoch| &epoch.open)
    }

    /// Returns the entries in memory.
    pub(crate) fn log(&self) -> impl Iterator<Item = &Entry> {
        self.log.from(self.log.first_in_memory())
    }

    /// Returns the entries in memory after `index`.
    pub(crate) fn entries_after(&self, index: Index) -> impl Iterator<Item = &Entry> {
        self.log.from(index.next().max(self.log.first_in_memory()))
    }

    /// Returns the digest after an entry in memory.
    pub(crate) fn digest_at(&self, index: Index) -> Option<Digest> {
        self.log.get(index).map(|entry| entry.digest)
    }

    /// Returns the index of the first entry in memory.
    pub(crate) fn first_in_memory(&self) -> Index {
        self.log.first_in_memory()
    }

    /// Returns the voters by the log in memory.
    pub(crate) fn voters(&self) -> &Voters {
        self.log.voters()
    }

    /// Returns true if this replica knows that the open epoch's first entry is committed.
    pub(crate) fn has_committed_in_epoch(&self) -> bool {
        self.epoch.as_ref().is_some_and(|epoch| self.commit.index > epoch.open.base.index)
    }

    /// Returns the highest ballot answered.
    pub(crate) fn promised(&self) -> Ballot {
        self.promised
    }

    /// Returns the epoch of the last entry of the log.
    pub(crate) fn ends_in(&self) -> Ballot {
        self.log.last().epoch
    }

    /// Returns the index of the last entry of the log.
    pub(crate) fn last(&self) -> Index {
        self.log.last().index
    }

    /// Returns the index before the first entry in memory, and the digest there.
    pub(crate) fn before_memory(&self) -> (Index, Digest) {
        (self.log.start().position.index, self.log.start().digest)
    }

    /// Returns the snapshots that it holds.
    pub(crate) fn held(&self) -> &[SnapshotName] {
        self.transfer.snapshots.held()
    }

    /// Returns the index up to which entries were handed out to be applied.
    pub(crate) fn handed_out(&self) -> Index {
        self.commit.handed_out
    }

    /// Returns this replica's batches that are in flight and not in its log, if it is caught up.
    pub(crate) fn unordered(&self) -> Vec<(Origin, u64)> {
        if self.is_in_sync() { self.proposals.unordered() } else { Vec::new() }
    }

    /// Returns a description of a queue or table that exceeds its bound, if there is one.
    pub(crate) fn exceeds(&self) -> Option<String> {
        let Config { batches_in_flight_max, writing_bytes_max, .. } = self.config;
        let mut sizes = vec![
            ("marks", self.ordering.marks.len(), MARKS_MAX + MARKS_BYTES_MAX),
            ("digests expected", self.ordering.expected.len(), self.ordering.marks.len()),
            ("acks", self.commit.acks.len(), ACKS_MAX),
            ("batches in flight", self.proposals.under_way(), batches_in_flight_max),
            ("echoes", self.reads.owed(), READERS_MAX),
            ("lagging replicas", self.transfer.flow_control.known(), MEMBERS_MAX * 2),
            (
                "lagging replicas to be read for",
                self.transfer.log_reader.waiting(),
                MEMBERS_MAX * 2,
            ),
            (
                "bytes to be written",
                self.write_queue.waiting_bytes(),
                writing_bytes_max + PIECE_BYTES_MAX * 8,
            ),
        ];
        if let Some(donating) = &self.transfer.sender {
            sizes.push(("receivers", donating.takers(), MEMBERS_MAX * 2));
            sizes.push(("chunks being read", donating.reading(), WINDOW as usize));
        }
        if let Some(receiving) = &self.transfer.receiver {
            let chunks = usize::try_from(receiving.name.chunks()).unwrap_or(usize::MAX);
            sizes.push(("chunks being written", receiving.writing(), WRITING_MAX));
            sizes.push(("chunks out of order", receiving.later(), chunks));
        }
        let found = sizes.into_iter().find(|(_, size, max)| size > max);
        let pool = !self.ordering.pool.is_within_bounds(&self.log);
        let pool =
            pool.then(|| "the pool exceeds its limit, or holds batches that are past".to_owned());
        found.map(|(what, size, max)| format!("{size} {what}, but the maximum is {max}")).or(pool)
    }
}
