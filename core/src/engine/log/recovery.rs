//! Restart from the contents of a store (protocol §3).

use crate::engine::log::write_queue::WriteQueue;
use crate::engine::log::{Log, Tables};
use crate::engine::plausible::COUNT_MAX;
use crate::engine::{Config, Engine, HardState, Now, Op, SnapshotHead};
use crate::wire::entry::Entry;
use crate::wire::snapshot_name::SnapshotName;
use crate::wire::types::{Digest, Index, ReplicaId, StoreId};

/// Contents of a store at the start of a replica.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Last hard state written; `None` if the store was never written.
    pub hard_state: Option<HardState>,
    /// Complete snapshots, the newest last.
    pub snapshots: Vec<SnapshotName>,
    /// Head of the newest snapshot.
    pub head: Option<SnapshotHead>,
    /// Entries of the log, dense and in order, each with the digest that was written.
    pub entries: Vec<Entry>,
}

/// Reason why a replica cannot start with its store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestartError {
    /// The store belongs to another replica.
    #[error(
        "store {store} belongs to replica {found}, and this is replica {configured}: give each \
         its own store"
    )]
    OtherReplica {
        /// Id of the store.
        store: StoreId,
        /// Replica that the store belongs to.
        found: ReplicaId,
        /// Replica that was started with it.
        configured: ReplicaId,
    },
    /// An entry differs from what was written.
    #[error(
        "entry {index} of the log is damaged: its digest is {found} and should be {expected}; \
         keep the store for inspection, and restart this replica with an empty one"
    )]
    Damaged {
        /// Index of the entry.
        index: Index,
        /// Digest computed from the entry and those before it.
        found: Digest,
        /// Digest as written.
        expected: Digest,
    },
    /// The store failed, or what it holds does not decode.
    #[error("the store cannot be read: {0}")]
    Unreadable(String),
    /// The parts of the store do not fit together.
    #[error(
        "the store is inconsistent: {0}; keep it for inspection, and restart this replica with an \
         empty one"
    )]
    Incomplete(String),
}

impl<T> Engine<T> {
    /// Returns an engine that continues with the contents of its store; for an empty store, a new
    /// one. The id of the store is used; `config.store` applies only to an empty store.
    ///
    /// # Errors
    ///
    /// Fails if the store belongs to another replica, or is damaged.
    pub fn restart(
        mut config: Config,
        now: Now,
        recovered: Recovered,
    ) -> Result<Self, RestartError> {
        let Recovered { hard_state, snapshots, head, entries } = recovered;
        let Some(hard_state) = hard_state else {
            // A promise is written before anything else.
            return if entries.is_empty() && snapshots.is_empty() {
                Ok(Self::new(config, now))
            } else {
                Err(incomplete("it has a log or a snapshot, but no hard state"))
            };
        };
        if hard_state.replica != config.incarnation.replica {
            let (found, configured) = (hard_state.replica, config.incarnation.replica);
            return Err(RestartError::OtherReplica { store: hard_state.store, found, configured });
        }
        if hard_state.promised.counter > COUNT_MAX || hard_state.commit.0 > COUNT_MAX {
            let HardState { promised, commit, .. } = hard_state;
            return Err(incomplete(format!(
                "it has promised ballot {promised} and committed {commit}, which no group can \
                 have reached"
            )));
        }
        config.store = hard_state.store;
        let start = head.map(|head| head.tables).unwrap_or_default();
        let (log, mend) = rebuild(start, entries)?;
        // A snapshot may be complete before the promise of its epoch is written.
        let promised = hard_state.promised.max(log.start().position.epoch);
        let written = hard_state.promised;
        let hard_state = HardState { promised, ..hard_state };
        check(&hard_state, &log)?;
        let mut engine = Self::new(config, now);
        engine.promised = hard_state.promised;
        engine.election.counter_seen = hard_state.promised.counter;
        // The cluster id is written before the first entry; without an entry the replica belongs to
        // no cluster.
        engine.cluster = hard_state.cluster.filter(|_| !log.is_empty());
        engine.write_queue = WriteQueue::recovered(log.last().index, hard_state.promised);
        mend.into_iter().for_each(|op| engine.write_queue.push(op));
        if hard_state.promised > written {
            engine.write_queue.push(Op::HardState(hard_state));
        }
        let start = log.start().position.index;
        // Rule P4: nothing past these is applied until an epoch is open here.
        engine.commit.index = start.max(hard_state.commit);
        engine.write_queue.persisted_commit = hard_state.commit;
        engine.commit.handed_out = start;
        engine.transfer.snapshots.recovered(snapshots, log.start().clone());
        engine.log = log;
        engine.see_time(false);
        Ok(engine)
    }
}

/// Rebuilds the log after the snapshot, and recomputes every digest. Also returns the operation
/// that makes the store's log match, if one is needed.
fn rebuild(start: Tables, entries: Vec<Entry>) -> Result<(Log, Option<Op>), RestartError> {
    let at = start.position;
    let first = entries.first().map_or(at.index.next(), Entry::index);
    if first > at.index.next() {
        return Err(incomplete(format!(
            "its log begins at index {first}, but its newest snapshot ends at {}",
            at.index
        )));
    }
    let mut log = Log::after_snapshot(start);
    // The digest before the first entry is known only if the log begins right after the snapshot.
    let mut before = (first == at.index.next()).then_some(log.digest());
    let mut fits = before.is_some() && !entries.is_empty();
    for (index, entry) in (first.0..).map(Index).zip(entries) {
        if entry.index() != index {
            return Err(incomplete(format!("entry {index} of its log is missing")));
        }
        let expected = entry.digest;
        let found = before.map_or(expected, |before| {
            let Entry { position, time, payload, .. } = entry.clone();
            Entry::new(before, position, time, payload).digest
        });
        // Two logs that hold the same position agree up to it.
        let found = if entry.position == at { log.digest() } else { found };
        if found != expected {
            return Err(RestartError::Damaged { index, found, expected });
        }
        before = Some(expected);
        fits |= entry.position == at;
        if index > at.index && fits {
            if entry.position.epoch < log.last().epoch || entry.time < log.time() {
                return Err(incomplete(format!(
                    "the epoch or time of entry {index} of its log decreases"
                )));
            }
            log.push(entry);
        }
    }
    // If the log does not reach the snapshot, or had parted from it before, the replica stopped
    // after the snapshot was complete and before the log was replaced (rule L6).
    let mend = if fits { Op::Compact(at.index) } else { Op::Reset(at.index) };
    Ok((log, (at.index > Index(0)).then_some(mend)))
}

fn check(hard_state: &HardState, log: &Log) -> Result<(), RestartError> {
    let last = log.last();
    if last.index < hard_state.commit {
        return Err(incomplete(format!(
            "its log ends at index {}, but {} was committed",
            last.index, hard_state.commit
        )));
    }
    if last.epoch > hard_state.promised {
        return Err(incomplete(format!(
            "its log ends in epoch {}, but only {} was promised",
            last.epoch, hard_state.promised
        )));
    }
    Ok(())
}

fn incomplete(what: impl Into<String>) -> RestartError {
    RestartError::Incomplete(what.into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Timestamp;
    use crate::engine::solo::run;
    use crate::engine::{Input, Output};
    use crate::wire::entry::EntryPayload;
    use crate::wire::types::{Ballot, ClusterId, Position, StoreId};

    /// Returns a log whose entries have these epochs.
    fn entries(epochs: &[u64]) -> Vec<Entry> {
        let mut log = Log::default();
        for epoch in epochs {
            let epoch = Ballot { counter: *epoch, ..Ballot::default() };
            log.append(epoch, Timestamp(0), EntryPayload::Time);
        }
        log.from(Index(1)).cloned().collect()
    }

    /// Returns the tables after the first `count` entries.
    fn snapshot(entries: &[Entry], count: usize) -> Tables {
        let mut tables = Tables::default();
        entries[..count].iter().for_each(|entry| tables.add(entry));
        tables
    }

    fn last(log: &Log) -> (u64, u64) {
        let Position { epoch, index } = log.last();
        (epoch.counter, index.0)
    }

    #[test]
    fn a_log_continues_after_its_snapshot() {
        let all = entries(&[1, 1, 2, 2, 3]);
        for (kept_from, at) in [(0, 0), (0, 3), (2, 3), (3, 3), (4, 4), (0, 5)] {
            let (log, mend) = rebuild(snapshot(&all, at), all[kept_from..].to_vec()).unwrap();
            assert_eq!((last(&log), log.digest()), ((3, 5), all[4].digest), "{kept_from} {at}");
            assert_eq!(log.from(Index(1)).count(), 5 - at);
            let compact = Op::Compact(Index(at as u64));
            assert_eq!(mend, (at > 0).then_some(compact), "{kept_from} {at}");
        }
    }

    #[test]
    fn l6_a_snapshot_replaces_a_log_that_does_not_reach_or_contradicts_it() {
        let all = entries(&[1, 1, 2, 2]);
        for other in [&[][..], &[1], &[1, 1, 2], &[1, 1, 1, 1, 1, 1]] {
            let (log, mend) = rebuild(snapshot(&all, 4), entries(other)).unwrap();
            assert_eq!((last(&log), log.digest()), ((2, 4), all[3].digest), "{other:?}");
            assert_eq!(mend, Some(Op::Reset(Index(4))), "{other:?}");
        }
    }

    #[test]
    fn a_damaged_entry_is_named() {
        let all = entries(&[1, 1, 2, 2, 2]);
        let mut damaged = all.clone();
        damaged[3].time = Timestamp(9);
        let error = rebuild(Tables::default(), damaged.clone()).unwrap_err();
        assert!(matches!(error, RestartError::Damaged { index: Index(4), .. }), "{error}");
        // The log begins at the very entry that the snapshot ends with.
        let mut at_start = all[2..].to_vec();
        at_start[0].digest = Digest(7);
        let error = rebuild(snapshot(&all, 3), at_start).unwrap_err();
        assert!(matches!(error, RestartError::Damaged { index: Index(3), .. }), "{error}");
        let error = rebuild(snapshot(&all, 2), all[3..].to_vec()).unwrap_err();
        assert!(matches!(error, RestartError::Incomplete(_)), "{error}");
    }

    #[test]
    fn p4_a_restart_applies_only_entries_known_to_be_committed() {
        let all = entries(&[1, 1, 2, 2, 2]);
        let incarnation = run(1, 9);
        let hard_state = HardState {
            replica: incarnation.replica,
            store: StoreId(1),
            promised: Ballot { counter: 2, ..Ballot::default() },
            cluster: Some(ClusterId(1)),
            commit: Index(2),
        };
        let recovered = Recovered {
            hard_state: Some(hard_state),
            snapshots: Vec::new(),
            head: None,
            entries: all,
        };
        let config = Config::new(incarnation, StoreId(1), Vec::new());
        let now = Now { monotonic: Duration::from_secs(100), wall: Timestamp(100_000) };
        let mut engine = Engine::<u64>::restart(config, now, recovered).unwrap();
        let mut out = Vec::new();
        engine.step(now, Input::Tick, &mut out);
        engine.step(now, Input::Drained, &mut out);
        let applied = out.iter().filter_map(|output| match output {
            Output::Apply(entries) => Some(entries.iter().map(|entry| entry.entry.position.index)),
            _ => None,
        });
        assert_eq!(applied.flatten().collect::<Vec<_>>(), [Index(1), Index(2)]);
    }
}
