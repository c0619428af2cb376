use std::collections::VecDeque;
use std::fmt::Display;
use std::time::Duration;

use plainsong_storage::faulty::{FaultyLog, FaultySnapshots};

use super::checker::{Checked, Violation};
use crate::engine::{Entry, EntryPayload, HardState, Op, Recovered};
use crate::record;
use crate::snapshot::{SnapshotManager, SnapshotName};
use crate::wire::types::{Ballot, Digest, Index, StoreId, Voters};

/// The epochs and digests of a log, by index from 1; nothing is known of what a snapshot
/// replaced.
#[derive(Clone, Debug, Default)]
pub(super) struct Digests {
    entries: Vec<Option<(Ballot, Digest)>>,
    /// Every `EpochStart`, with its voters.
    starts: Vec<(Index, Voters)>,
}

impl Digests {
    /// Of a log that begins at `first`.
    pub(super) fn of<'a>(first: Index, log: impl Iterator<Item = &'a Entry>) -> Self {
        let mut digests = Self::default();
        digests.apply(&Op::Reset(Index(first.0 - 1)));
        log.for_each(|entry| digests.apply(&Op::Append(entry.clone())));
        digests
    }

    pub(super) fn last(&self) -> Index {
        Index(self.entries.len() as u64)
    }

    /// The zero digest before the first entry.
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

    /// Whether that entry is there, as far as can be told.
    pub(super) fn holds(&self, index: Index, digest: Digest) -> bool {
        index <= self.last() && self.at(index).is_none_or(|known| known == digest)
    }

    /// Who votes at the end of the log.
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

/// What a replica has on disk, and beside it what that means, for the checkers.
pub(super) struct Store {
    /// As it was formatted.
    pub(super) id: StoreId,
    log: FaultyLog,
    snapshots: FaultySnapshots,
    pub(super) manager: SnapshotManager,
    under_way: VecDeque<Op>,
    /// Until then every write fails: the disk is full.
    pub(super) full_until: Duration,
    /// A bit has flipped; in words, where.
    pub(super) damage: Option<String>,
    /// What no crash takes away.
    pub(super) digests: Digests,
    pub(super) hard_state: Option<HardState>,
    /// How far its replica knew of commits, and in which epochs, since the store was made.
    pub(super) commits: Vec<(Index, Ballot)>,
}

impl Store {
    pub(super) fn new(id: StoreId) -> Checked<Self> {
        let snapshots = FaultySnapshots::new();
        Ok(Self {
            id,
            log: FaultyLog::new(),
            manager: SnapshotManager::open(Box::new(snapshots.clone())).map_err(refused)?,
            snapshots,
            under_way: VecDeque::new(),
            full_until: Duration::ZERO,
            damage: None,
            digests: Digests::default(),
            hard_state: None,
            commits: Vec::new(),
        })
    }

    /// What a process finds that is started with it.
    pub(super) fn recover(&mut self) -> Checked<Recovered> {
        self.snapshots.crash();
        self.manager = SnapshotManager::open(Box::new(self.snapshots.clone())).map_err(refused)?;
        record::recover(&mut self.log, &mut self.manager)
            .map_err(|error| Violation(format!("a store cannot be read: {error}")))
    }

    /// A bit flips, in a record of the log or in the newest snapshot.
    pub(super) fn flip(&mut self, roll: u64) {
        if roll.is_multiple_of(4) && self.snapshots.damage() {
            self.damage = Some("snapshot".into());
        } else if let Some(index) = self.log.damage(roll / 4) {
            self.damage = Some(format!("record {index}"));
        }
    }

    /// How far the newest complete snapshot reaches.
    pub(super) fn snapshot_index(&self) -> Index {
        self.manager.names().last().map_or(Index(0), SnapshotName::index)
    }

    /// How far a restart would find entries, or what they came to.
    pub(super) fn durable_to(&self) -> Index {
        self.snapshot_index().max(self.digests.last())
    }

    /// The highest ballot that is promised for good.
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
        self.log.sync().map_err(refused)?;
        self.settle(usize::MAX);
        Ok(())
    }

    /// The log as it is on the disk, from that entry on.
    pub(super) fn read(&mut self, first: Index, bytes_max: usize) -> Checked<Vec<Entry>> {
        record::read(&mut self.log, first, bytes_max)
            .map_err(|error| Violation(format!("a log cannot be read: {error}")))
    }

    /// How many operations are under way.
    pub(super) fn unsynced(&self) -> usize {
        self.log.unsynced()
    }

    /// The machine dies: the first `kept` operations under way are there afterwards.
    pub(super) fn crash(&mut self, kept: usize) -> Checked {
        self.log.crash(kept).map_err(refused)?;
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

    /// The replica knows of commits up to there, in that epoch; whether that is news.
    pub(super) fn committed(&mut self, commit: Index, epoch: Ballot) -> bool {
        let news = self.commits.last().map_or(commit > Index(0), |(last, _)| commit > *last);
        if news {
            self.commits.push((commit, epoch));
        }
        news
    }

    /// What its replica knew of commits behind that is of a cluster that is no more.
    pub(super) fn forget_commits(&mut self, after: Index) {
        self.commits.iter_mut().for_each(|(commit, _)| *commit = after.min(*commit));
        self.commits.dedup_by_key(|(commit, _)| *commit);
    }

    /// In which epoch its replica knew first that an index was committed.
    pub(super) fn known_in(&self, index: Index) -> Option<Ballot> {
        let at = self.commits.partition_point(|(last, _)| *last < index);
        self.commits.get(at).map(|(_, epoch)| *epoch)
    }
}

fn refused(error: impl Display) -> Violation {
    Violation(format!("a store refuses: {error}"))
}
