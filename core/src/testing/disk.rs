use std::collections::VecDeque;
use std::fmt::Display;
use std::time::Duration;

use plainsong_storage::faulty::{FaultyLog, FaultySnapshots};

use super::checker::{Checked, Violation};
use crate::engine::{Entry, EntryPayload, HardState, Op, Recovered};
use crate::record;
use crate::snapshot::{SnapshotManager, SnapshotName};
use crate::wire::types::{Ballot, Digest, Index, StoreId, Voters};

/// The epoch and digest of each log entry, by index from 1. Entries that a snapshot replaced are
/// unknown.
#[derive(Clone, Debug, Default)]
pub(super) struct Digests {
    entries: Vec<Option<(Ballot, Digest)>>,
    /// Every `EpochStart`, with its voters.
    starts: Vec<(Index, Voters)>,
}

impl Digests {
    /// Returns the digests of a log that begins at `first`.
    pub(super) fn of<'a>(first: Index, log: impl Iterator<Item = &'a Entry>) -> Self {
        let mut digests = Self::default();
        digests.apply(&Op::Reset(Index(first.0 - 1)));
        log.for_each(|entry| digests.apply(&Op::Append(entry.clone())));
        digests
    }

    pub(super) fn last(&self) -> Index {
        Index(self.entries.len() as u64)
    }

    /// Returns the digest at an index, or `None` if it is unknown. Index 0 has the zero digest.
    pub(super) fn at(&self, index: Index) -> Option<Digest> {
        if index == Index(0) {
            return Some(Digest::default());
        }
        let entry = self.entries.get(index.0 as usize - 1)?;
        entry.map(|(_, digest)| digest)
    }

    pub(super) fn epoch_at(&self, index: Index) -> Ballot {
        let entry = index.0.checked_sub(1).and_then(|at| self.entries.get(at as usize));
        entry.copied().flatten().map_or(Ballot::default(), |(epoch, _)| epoch)
    }

    /// Returns true if the log holds this entry, or if the entry at this index is unknown.
    pub(super) fn holds(&self, index: Index, digest: Digest) -> bool {
        index <= self.last() && self.at(index).is_none_or(|known| known == digest)
    }

    /// Returns the voters as of the end of the log.
    pub(super) fn voters(&self) -> Option<&Voters> {
        self.starts.last().map(|(_, voters)| voters)
    }

    pub(super) fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(entry) => {
                self.entries.push(Some((entry.position.epoch, entry.digest)));
                if let EntryPayload::EpochStart(voters) = &entry.payload {
                    self.starts.push((entry.position.index, voters.clone()));
                }
            }
            Op::Truncate(after) => {
                self.entries.truncate(after.0 as usize);
                self.starts.retain(|(index, _)| index <= after);
            }
            Op::Reset(through) => {
                self.entries = vec![None; through.0 as usize];
            }
            Op::HardState(_) | Op::Compact(_) => {}
        }
    }
}

/// A replica's stores, and what the checkers know about their durable content.
pub(super) struct Store {
    /// Drawn when the store was formatted.
    pub(super) id: StoreId,
    log: FaultyLog,
    snapshots: FaultySnapshots,
    pub(super) manager: SnapshotManager,
    under_way: VecDeque<Op>,
    /// Time until which every write fails because the disk is full.
    pub(super) full_until: Duration,
    /// Describes where a bit has flipped, if one has.
    pub(super) damage: Option<String>,
    /// Digests of the durable log.
    pub(super) digests: Digests,
    pub(super) hard_state: Option<HardState>,
    /// Commit indices that the replica learned, each with the epoch in which it learned them, since
    /// the store was formatted.
    pub(super) commits: Vec<(Index, Ballot)>,
}

impl Store {
    pub(super) fn new(id: StoreId) -> Checked<Self> {
        let snapshots = FaultySnapshots::new();
        Ok(Self {
            id,
            log: FaultyLog::new(),
            manager: SnapshotManager::open(Box::new(snapshots.clone())).map_err(store_error)?,
            snapshots,
            under_way: VecDeque::new(),
            full_until: Duration::ZERO,
            damage: None,
            digests: Digests::default(),
            hard_state: None,
            commits: Vec::new(),
        })
    }

    /// Reads the stores as a starting process does.
    pub(super) fn recover(&mut self) -> Checked<Recovered> {
        self.snapshots.crash();
        self.manager =
            SnapshotManager::open(Box::new(self.snapshots.clone())).map_err(store_error)?;
        record::recover(&mut self.log, &mut self.manager)
            .map_err(|error| Violation(format!("a store cannot be read: {error}")))
    }

    /// Flips a bit in a record of the log or in the newest snapshot.
    pub(super) fn flip(&mut self, roll: u64) {
        if roll.is_multiple_of(4) && self.snapshots.damage() {
            self.damage = Some("snapshot".into());
        } else if let Some(index) = self.log.damage(roll / 4) {
            self.damage = Some(format!("record {index}"));
        }
    }

    /// Returns the last index that the newest complete snapshot covers.
    pub(super) fn snapshot_index(&self) -> Index {
        self.manager.names().last().map_or(Index(0), SnapshotName::index)
    }

    /// Returns the last index that a restart would find, in the log or in a snapshot.
    pub(super) fn durable_to(&self) -> Index {
        self.snapshot_index().max(self.digests.last())
    }

    /// Returns the highest durable promise.
    pub(super) fn promised(&self) -> Ballot {
        self.hard_state.map_or(Ballot::default(), |hard_state| hard_state.promised)
    }

    pub(super) fn submit(&mut self, ops: Vec<Op>) -> Checked {
        self.under_way.extend(ops.iter().cloned());
        let records: Result<Vec<_>, _> = ops.into_iter().map(record::encode).collect();
        let records =
            records.map_err(|error| Violation(format!("an entry does not encode: {error}")))?;
        self.log.submit(records);
        Ok(())
    }

    pub(super) fn sync(&mut self) -> Checked {
        self.log.sync().map_err(store_error)?;
        self.settle(usize::MAX);
        Ok(())
    }

    /// Reads entries of the durable log from `first` on.
    pub(super) fn read(&mut self, first: Index, bytes_max: usize) -> Checked<Vec<Entry>> {
        record::read(&mut self.log, first, bytes_max)
            .map_err(|error| Violation(format!("a log cannot be read: {error}")))
    }

    /// Returns the number of operations that are not synced yet.
    pub(super) fn unsynced(&self) -> usize {
        self.log.unsynced()
    }

    /// Simulates a power loss: of the operations that are not synced, only the first `kept`
    /// survive.
    pub(super) fn crash(&mut self, kept: usize) -> Checked {
        self.log.crash(kept).map_err(store_error)?;
        self.settle(kept);
        Ok(())
    }

    fn settle(&mut self, kept: usize) {
        for op in self.under_way.drain(..).take(kept) {
            self.digests.apply(&op);
            if let Op::HardState(hard_state) = op {
                self.hard_state = Some(hard_state);
            }
        }
    }

    /// Records a commit index that the replica learned in `epoch`. Returns true if it is new.
    pub(super) fn committed(&mut self, commit: Index, epoch: Ballot) -> bool {
        let news = self.commits.last().map_or(commit > Index(0), |(last, _)| commit > *last);
        if news {
            self.commits.push((commit, epoch));
        }
        news
    }

    /// Forgets commits after this index: they belong to a cluster that a forced one has replaced.
    pub(super) fn forget_commits(&mut self, after: Index) {
        self.commits.iter_mut().for_each(|(commit, _)| *commit = after.min(*commit));
        self.commits.dedup_by_key(|(commit, _)| *commit);
    }

    /// Returns the epoch in which the replica first knew that this index is committed.
    pub(super) fn known_in(&self, index: Index) -> Option<Ballot> {
        let at = self.commits.partition_point(|(last, _)| *last < index);
        self.commits.get(at).map(|(_, epoch)| *epoch)
    }
}

fn store_error(error: impl Display) -> Violation {
    Violation(format!("a store returned an error: {error}"))
}
