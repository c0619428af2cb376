//! Acknowledgements, the commit index, and the handing out of committed entries (rule N8).

use std::collections::BTreeMap;

use crate::engine::log::snapshots::SnapshotHead;
use crate::engine::replication::ordering::ACKS_MAX;
use crate::engine::replication::proposals::Callers;
use crate::engine::{Committed, Engine, Output, StepResult, ensure};
use crate::wire::entry::EntryPayload;
use crate::wire::types::{Index, Voter};

/// Indices up to which the log is acknowledged, committed, handed out and applied.
#[derive(Debug, Default)]
pub(crate) struct Commit {
    /// Index that each store has acknowledged in this epoch.
    pub(crate) acks: BTreeMap<Voter, Index>,
    /// Index that this replica has acknowledged in this epoch.
    pub(crate) acked: Index,
    /// The commit index.
    pub(crate) index: Index,
    /// Index up to which entries were handed out to be applied.
    pub(crate) handed_out: Index,
    /// Index up to which entries are applied.
    pub(crate) applied: Index,
}

impl<T> Engine<T> {
    /// Handles an ack, which counts for its epoch and for the store in the voter set (rule N8).
    pub(crate) fn on_ack(&mut self, voter: Voter, acked: Index) {
        // No replica can have acked an entry that the sequencer has not ordered.
        let cannot_be = self.is_sequencing() && acked > self.log.last().index;
        if acked > Index(0) && voter != self.voter() && !cannot_be {
            self.make_room_for_acks();
            // An acked entry exists, even if its mark was lost here.
            self.ordering.cursor.known = self.ordering.cursor.known.max(acked);
            let known = self.commit.acks.entry(voter).or_default();
            *known = (*known).max(acked);
            self.advance_commit();
        }
    }

    /// If many stores have acked, forgets the acks of those that neither vote nor are here.
    fn make_room_for_acks(&mut self) {
        if self.commit.acks.len() < ACKS_MAX {
            return;
        }
        let me = self.voter();
        let Self { commit, peers, log, epoch, .. } = self;
        let votes = |one: &Voter| {
            *one == me
                || log.voters().contains(one)
                || epoch.as_ref().is_some_and(|epoch| epoch.open.voters.contains(one))
        };
        commit.acks.retain(|one, _| votes(one) || peers.has_voter(one));
    }

    /// Commits the entries that a majority has acked in this epoch, from its `EpochStart` on, but
    /// nothing that is not confirmed here.
    pub(crate) fn advance_commit(&mut self) {
        let Some(epoch) = self.epoch.as_ref().filter(|epoch| epoch.in_sync) else { return };
        let start = epoch.open.base.index.next();
        let commit = self.acked_by_majority().min(self.log.last().index);
        if commit >= start && commit > self.commit.index {
            self.commit.index = commit;
            self.election.commit_advanced(self.now.monotonic);
        }
    }

    /// Returns the index that a majority has acked in this epoch, whether confirmed here or not.
    pub(crate) fn acked_by_majority(&self) -> Index {
        let acks = &self.commit.acks;
        let acked =
            self.log.voters().committed(self.commit.index, |voter| acks.get(voter).copied());
        acked.unwrap_or_default()
    }

    /// Hands committed entries out to be applied (rule N8), and requests a snapshot of the state
    /// wherever one is due.
    pub(crate) fn hand_out(&mut self, out: &mut Vec<Output<T>>) -> StepResult {
        if let Some(name) = self.transfer.snapshots.take_restore() {
            out.push(Output::Restore(name));
        }
        let until = Index(
            self.commit.applied.0.saturating_add(self.config.applying_max).min(self.commit.index.0),
        );
        if self.commit.handed_out >= until {
            return Ok(());
        }
        let mut committed = Vec::with_capacity((until.0 - self.commit.handed_out.0) as usize);
        let mut last = self.commit.handed_out;
        for entry in self.log.from(self.commit.handed_out.next()).take_while(|e| e.index() <= until)
        {
            last = entry.index();
            let callers = match &entry.payload {
                EntryPayload::Batch(batch) => match self.proposals.committed(batch)? {
                    Callers::Application(callers) => callers,
                    Callers::Operator(ticket) => {
                        self.requests.committed(ticket);
                        Vec::new()
                    }
                },
                EntryPayload::EpochStart(_) | EntryPayload::Notice(_) | EntryPayload::Time => {
                    Vec::new()
                }
            };
            committed.push(Committed { entry: entry.clone(), callers });
            let due = self.transfer.snapshots.pass(entry, &self.config);
            // While a snapshot is being written, the next one is skipped.
            if due && self.write_queue.has_hard_state() && self.transfer.snapshots.begin() {
                out.push(Output::Apply(std::mem::take(&mut committed)));
                let tables = self.transfer.snapshots.tables().clone();
                out.push(Output::Capture(Box::new(SnapshotHead { tables })));
            }
        }
        ensure(last == until, || format!("committed entries up to {until} are not in the log"))?;
        self.commit.handed_out = until;
        if !committed.is_empty() {
            out.push(Output::Apply(committed));
        }
        Ok(())
    }
}
