//! Snapshots of this replica's own state: when they are taken, how the log is compacted after them,
//! and whether the states of all replicas agree (protocol §6).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::log::Tables;
use crate::engine::transfer::flow_control::KEPT_TIMEOUTS;
use crate::engine::{Config, Engine, Op, Output, StepResult, StopReason};
use crate::engine::{SnapshotCommand, SnapshotEvent};
use crate::wire::entry::Entry;
use crate::wire::snapshot_name::SnapshotName;
use crate::wire::types::{Digest, Index, Position};

/// Number of complete snapshots that are kept: the newest, and the one before it for replicas that
/// are still receiving it.
const HELD_MAX: usize = 2;
/// Maximum spacing of the snapshots of a large state: at most every 16th place by entries, and
/// every 2nd by bytes. Powers of two. If too low, the disk is busy with snapshots; if too high, a
/// restart has many entries to apply, and the log grows too long while a snapshot is written.
const SPACING_OF_ENTRIES_MAX: u64 = 16;
const SPACING_OF_BYTES_MAX: u64 = 2;
/// The size of the log after an index that is no longer in memory is known to within this fraction
/// (1/4096) of the log's limit.
const STORED_STEPS: u64 = 4096;

/// Protocol state at the position of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHead {
    pub(crate) tables: Tables,
}

impl SnapshotHead {
    /// Returns the position of the last entry that the snapshot includes.
    pub fn position(&self) -> Position {
        self.tables.position
    }
}

#[cfg(test)]
impl SnapshotHead {
    /// Returns a head with `count` rows in its table of origins.
    pub(crate) fn of_origins(count: u32) -> Self {
        let last = crate::engine::log::LastBatch {
            counter: 1,
            nonce: crate::wire::types::Nonce(1),
            number: 1,
        };
        let origins = (1..=count).map(|id| (crate::wire::types::ReplicaId(id), last)).collect();
        Self { tables: Tables { origins, ..Tables::default() } }
    }
}

/// Snapshots that this replica holds, and the protocol state for the next one.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    /// Complete snapshots, the newest last.
    held: Vec<SnapshotName>,
    /// Tables as of the last entry handed out.
    tables: Tables,
    /// Set while a snapshot is being taken.
    taking: bool,
    /// Snapshot that the state machine has to be restored from.
    restore: Option<SnapshotName>,
    /// Snapshot that is being transferred between any replicas, and the time at which the transfer
    /// was last heard of.
    pinned: Option<(SnapshotName, Duration)>,
    /// Highest index at which the state of another replica was found to differ; zero if none.
    differs_at: Index,
    /// Reason why the last snapshot taken was dropped: it could not have been restored.
    refused: Option<String>,
}

impl Snapshots {
    /// Takes over the snapshots that the store held at the start.
    pub(crate) fn recovered(&mut self, held: Vec<SnapshotName>, tables: Tables) {
        self.restore = held.last().copied();
        self.held = held;
        self.tables = tables;
    }

    /// Records that a snapshot received from another replica has replaced the whole log.
    pub(crate) fn installed(&mut self, name: SnapshotName, tables: Tables) {
        self.restore = Some(name);
        self.tables = tables;
    }

    /// Returns true while a snapshot is being taken.
    pub(crate) fn is_taking(&self) -> bool {
        self.taking
    }

    /// Returns the complete snapshots, the newest last.
    pub(crate) fn held(&self) -> &[SnapshotName] {
        &self.held
    }

    /// Returns the highest index at which the state of another replica was found to differ, if any.
    pub(crate) fn differs_at(&self) -> Option<Index> {
        Some(self.differs_at).filter(|index| *index > Index(0))
    }

    /// Returns the reason why the last snapshot taken was dropped, if it was.
    pub(crate) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// Records that a snapshot is being transferred, if this replica holds it.
    pub(crate) fn pin(&mut self, name: SnapshotName, now: Duration) {
        if self.held.contains(&name) {
            self.pinned = Some((name, now));
        }
    }

    /// Returns, once, the snapshot that the state machine has to be restored from.
    pub(crate) fn take_restore(&mut self) -> Option<SnapshotName> {
        self.restore.take()
    }

    /// Begins to take a snapshot. Returns false if one is being taken already.
    pub(crate) fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.taking, true)
    }

    /// Returns the tables as of the last entry handed out.
    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Adds a complete snapshot.
    fn add(&mut self, name: SnapshotName) {
        self.held.push(name);
        self.held.sort_unstable();
        self.held.dedup();
    }

    /// Records that an entry is handed out. Returns true if a snapshot of the state after it is
    /// due.
    ///
    /// The places at which snapshots are due follow from the log alone, so all replicas take the
    /// same ones. A large state is taken only at every 2nd, 4th, … of these places; so even if
    /// replicas know different sizes, the places of those that take fewer are among the places of
    /// those that take more.
    pub(crate) fn pass(&mut self, entry: &Entry, config: &Config) -> bool {
        let bytes_before = self.tables.bytes;
        self.tables.add(entry);
        let Config { snapshot_entries, snapshot_bytes, .. } = *config;
        let size = self.held.last().map_or(0, |newest| newest.bytes);
        let spacing = (size / snapshot_bytes.saturating_mul(2)).next_power_of_two();
        let bytes = snapshot_bytes.saturating_mul(spacing.min(SPACING_OF_BYTES_MAX));
        let entries = snapshot_entries.saturating_mul(spacing.min(SPACING_OF_ENTRIES_MAX));
        entry.position.index.0.is_multiple_of(entries)
            || self.tables.bytes / bytes > bytes_before / bytes
    }
}

impl<T> Engine<T> {
    pub(crate) fn on_snapshot_event(
        &mut self,
        event: SnapshotEvent,
        out: &mut Vec<Output<T>>,
    ) -> StepResult {
        match event {
            SnapshotEvent::Taken(name) => {
                tracing::debug!(replica = %self.me().replica, %name, "snapshot taken");
                self.transfer.snapshots.taking = false;
                self.transfer.snapshots.refused = None;
                self.hold(name, out);
                self.compare_states()
            }
            SnapshotEvent::Unreadable { name, reason } => {
                tracing::error!(
                    replica = %self.me().replica, %name, reason,
                    "the state cannot be read back from its snapshot, which was dropped; the log \
                     is kept instead and grows: correct its serialization"
                );
                self.transfer.snapshots.taking = false;
                self.transfer.snapshots.refused =
                    Some(format!("{name} cannot be restored: {reason}"));
                Ok(())
            }
            SnapshotEvent::Read { name, chunk, bytes } => {
                self.on_chunk_read(name, chunk, bytes, out);
                Ok(())
            }
            SnapshotEvent::Written { name, chunk } => {
                self.on_chunk_written(name, chunk, out);
                Ok(())
            }
            SnapshotEvent::Received { name, head } => {
                self.hold(name, out);
                self.on_received_all(name, head, out)
            }
            SnapshotEvent::Refused { name, reason } => {
                tracing::error!(
                    replica = %self.me().replica, %name, reason,
                    "a received snapshot is damaged and was dropped; it will be requested again"
                );
                self.give_up_transfer(name);
                Ok(())
            }
        }
    }

    /// Records a complete snapshot, announces it, and removes snapshots and entries that are no
    /// longer needed.
    fn hold(&mut self, name: SnapshotName, out: &mut Vec<Output<T>>) {
        self.transfer.snapshots.add(name);
        self.peers.announce_due = true;
        let pinned = self.pinned();
        let old = self.transfer.snapshots.held.len().saturating_sub(HELD_MAX);
        // The state machine may still have to be restored from a snapshot that it has not reached.
        let is_done_with =
            |old: &SnapshotName| Some(*old) != pinned && old.index() <= self.commit.applied;
        let old: Vec<_> =
            self.transfer.snapshots.held[..old].iter().copied().filter(is_done_with).collect();
        self.transfer.snapshots.held.retain(|held| !old.contains(held));
        out.extend(old.into_iter().map(|old| Output::Snapshot(SnapshotCommand::Remove(old))));
        self.compact();
    }

    /// Returns the snapshot that is being transferred, if one was heard of recently.
    pub(crate) fn pinned(&self) -> Option<SnapshotName> {
        let span = self.config.election_timeout * KEPT_TIMEOUTS;
        self.transfer
            .snapshots
            .pinned
            .filter(|(_, heard)| self.ago(*heard) < span)
            .map(|(name, _)| name)
    }

    /// Drops old entries that the newest snapshot includes, except for a margin for slightly
    /// lagging replicas, and for those kept for replicas that are receiving state.
    pub(crate) fn compact(&mut self) {
        self.forget_applied();
        self.forget_old();
        // Marks of entries that have left memory are not sent again: a replica that missed them
        // fetches the entries.
        self.ordering.cursor.left_memory(self.log.start().position.index);
    }

    /// Drops entries from the store, if the newest snapshot includes them and the log is too long.
    fn forget_old(&mut self) {
        let newest = self.transfer.snapshots.held.last().map(SnapshotName::index);
        let Some(newest) = newest else { return };
        let Config { kept_entries_max, kept_bytes_max, .. } = self.config;
        let compacted_through = self.log.compacted_through();
        let spare = Index(self.log.last().index.0.saturating_sub(kept_entries_max as u64));
        let applied = self.commit.handed_out;
        let kept = self.kept_for_laggards().unwrap_or(newest).min(newest).min(applied);
        let too_much = self.log.stored_bytes() > kept_bytes_max;
        let within = if too_much {
            self.log.first_within(kept_bytes_max / 4 * 3)
        } else {
            compacted_through
        };
        let through = spare.max(within).min(kept);
        // Compact in steps, not for every entry.
        let freed = self.log.stored_bytes() - self.log.bytes_after(through);
        let worth_it = through.0 > compacted_through.0 + kept_entries_max as u64 / 4
            || too_much && freed > kept_bytes_max / 16;
        if worth_it && through > compacted_through {
            self.log.compact(through);
            self.write_queue.push(Op::Compact(through));
        }
    }

    /// Drops entries from memory that are applied and durable, except the newest ones. Does nothing
    /// for a store in memory, because its entries could not be read back.
    fn forget_applied(&mut self) {
        let Config { cached_bytes_max, volatile, .. } = self.config;
        if volatile || self.log.bytes() <= cached_bytes_max {
            return;
        }
        let within = self.log.first_in_memory_within(cached_bytes_max / 4 * 3);
        // In the place of an entry that is not durable yet, the store may still have a truncated
        // one.
        let durable = self.write_queue.durable();
        let through = within.min(self.commit.applied).min(durable);
        self.log.forget(through, self.log_bytes_max() / STORED_STEPS);
    }

    /// Compares the states of replicas at the indices of snapshots. A difference means that the
    /// state machine is not deterministic, or that a memory or disk is faulty. A replica that
    /// differs from a majority of the voters stops.
    pub(crate) fn compare_states(&mut self) -> StepResult {
        let voters = &self.log.voters().now;
        for mine in &self.transfer.snapshots.held {
            let index = mine.index();
            let theirs: Vec<(_, Digest)> = self
                .peers
                .held()
                .filter(|(_, name)| name.position == mine.position)
                .map(|(incarnation, name)| (incarnation.replica, name.digest))
                .filter(|(replica, _)| *replica != self.me().replica)
                .collect();
            let Some((_, other)) = theirs.iter().find(|(_, theirs)| *theirs != mine.digest) else {
                continue;
            };
            let has = |digest: Digest, replica| {
                let is_mine = replica == self.me().replica && mine.digest == digest;
                is_mine || theirs.contains(&(replica, digest))
            };
            let majority = |digest: Digest| {
                voters.iter().filter(|v| has(digest, v.replica)).count() * 2 > voters.len()
            };
            let others = theirs.iter().map(|(_, digest)| *digest);
            if let Some(theirs) = others.filter(|d| *d != mine.digest).find(|d| majority(*d)) {
                return Err(StopReason::Diverged { index, mine: mine.digest, theirs });
            }
            if index > self.transfer.snapshots.differs_at {
                self.transfer.snapshots.differs_at = index;
                tracing::error!(
                    replica = %self.me().replica, %index, mine = %mine.digest, theirs = %other,
                    "the states of two replicas differ: the state machine is not deterministic"
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::Timestamp;
    use crate::wire::entry::{Batch, BatchKind, EntryPayload};
    use crate::wire::types::{Nonce, Origin, ReplicaId, StoreId};

    /// Returns the indices at which snapshots are taken of a state that had `size` bytes when it
    /// was last taken.
    fn places(size: u64, entry_bytes: usize, entries: u64) -> Vec<u64> {
        let incarnation =
            crate::wire::types::Incarnation { replica: ReplicaId(1), nonce: Nonce(1) };
        let mut config = Config::new(incarnation, StoreId(1), vec![ReplicaId(1)]);
        (config.snapshot_entries, config.snapshot_bytes) = (10, 1000);
        let newest = SnapshotName { bytes: size, ..SnapshotName::default() };
        let mut snapshots = Snapshots { held: vec![newest], ..Snapshots::default() };
        let commands = Bytes::from(vec![0; entry_bytes]);
        let due = (1..=entries).filter(|number| {
            let origin = Origin { replica: ReplicaId(1), counter: 1, nonce: Nonce(1) };
            let (kind, commands) = (BatchKind::Application, commands.clone());
            let batch = Batch { origin, number: *number, kind, count: 1, commands };
            let position = Position { index: Index(*number), ..Position::default() };
            let payload = EntryPayload::Batch(batch);
            let entry = Entry { position, time: Timestamp(0), payload, digest: Digest(0) };
            snapshots.pass(&entry, &config)
        });
        due.collect()
    }

    #[test]
    fn a_large_state_is_taken_at_a_subset_of_the_places_of_a_small_one() {
        let sizes = [0, 1999, 2000, 5000, 17_000, u64::MAX];
        for entry_bytes in [0, 150] {
            let all: Vec<Vec<u64>> =
                sizes.iter().map(|size| places(*size, entry_bytes, 640)).collect();
            for pair in all.windows(2) {
                assert!(!pair[1].is_empty());
                assert!(pair[1].iter().all(|place| pair[0].contains(place)), "{pair:?}");
            }
        }
        assert_eq!(places(1999, 0, 40), [10, 20, 30, 40]);
        assert_eq!(places(2000, 0, 40), [10, 20, 30, 40]);
        assert_eq!(places(5000, 0, 40), [20, 40]);
        assert_eq!(places(u64::MAX, 0, 640), [160, 320, 480, 640], "the spacing has a limit");
        assert_eq!(places(5000, 1500, 9), [2, 3, 4, 6, 7, 8]);
    }
}
