//! Finding epochs that are open elsewhere (rules B3 and B9).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::engine::replication::outbox::Outbox;
use crate::engine::{Engine, Output};
use crate::wire::message::Missing;
use crate::wire::types::Ballot;

/// Epochs kept of each kind in [`EpochDiscovery`]: more than there are clusters in one CPG group.
const KNOWN_MAX: usize = 16;

/// Epochs that were heard of and are not open here (rule B9). Nobody may ever answer for some of
/// them: they are of a cluster that is no more, and must not hide the one that is open.
#[derive(Debug, Default)]
pub(crate) struct EpochDiscovery {
    /// Of which traffic was seen.
    seen: BTreeSet<Ballot>,
    /// That somebody has promised, and that nobody may have opened.
    promised: BTreeSet<Ballot>,
    /// That were asked for since all of them were.
    asked: BTreeSet<Ballot>,
    /// When this replica last asked for an `Open`.
    asked_at: Option<Duration>,
}

impl EpochDiscovery {
    /// An epoch opened: only a question that still waits for the transport is remembered.
    pub(crate) fn epoch_opened(&mut self, outbox: &Outbox) {
        let asked_at = self.asked_at.filter(|at| outbox.is_waiting(*at));
        *self = Self { asked_at, ..Self::default() };
    }

    pub(crate) fn seen(&mut self, epoch: Ballot) {
        keep(&mut self.seen, epoch);
    }

    pub(crate) fn promised(&mut self, epoch: Ballot) {
        keep(&mut self.promised, epoch);
    }

    /// The epoch to ask for: the greatest not asked for yet, those with traffic first.
    fn next(&self, may_open: impl Fn(Ballot) -> bool) -> Option<Ballot> {
        let epochs = || self.seen.iter().rev().chain(self.promised.iter().rev()).copied();
        let mut possible = epochs().filter(|epoch| may_open(*epoch));
        let first = possible.next()?;
        if !self.asked.contains(&first) {
            return Some(first);
        }
        Some(possible.find(|epoch| !self.asked.contains(epoch)).unwrap_or(first))
    }

    /// It is asked for again once it was heard of again.
    fn asked(&mut self, epoch: Ballot) {
        self.seen.remove(&epoch);
        self.promised.remove(&epoch);
        if !self.asked.insert(epoch) {
            self.asked = BTreeSet::from([epoch]);
        }
        keep(&mut self.asked, epoch);
    }
}

/// Adds an epoch, and drops the lowest of too many.
fn keep(epochs: &mut BTreeSet<Ballot>, epoch: Ballot) {
    epochs.insert(epoch);
    if epochs.len() > KNOWN_MAX {
        epochs.pop_first();
    }
}

impl<T> Engine<T> {
    /// Rule B9: whoever sees traffic of an epoch that is not open here, asks.
    pub(crate) fn ask_for_open(&mut self, out: &mut Vec<Output<T>>) {
        let open = self.epoch.as_ref().map_or(Ballot::default(), |epoch| epoch.open.ballot);
        let asked = self
            .election
            .discovery
            .asked_at
            .is_some_and(|at| self.unanswered(at) < self.config.resend_timeout);
        let may_open = |epoch: Ballot| epoch >= self.promised && epoch > open;
        if let Some(next) = self.election.discovery.next(may_open).filter(|_| !asked) {
            self.election.discovery.asked(next);
            self.election.discovery.asked_at = Some(self.now.monotonic);
            self.fetch(next, Missing::Open, out);
        }
    }

    /// Rules B3 and B9. Who knows the promise is not told again, or two frozen replicas
    /// would answer each other for ever.
    pub(crate) fn on_other_epoch(&mut self, epoch: Ballot, promised: Ballot) {
        if epoch < self.promised {
            if promised < self.promised {
                self.progress.schedule();
            }
        } else {
            self.election.discovery.seen(epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ballot(counter: u64) -> Ballot {
        Ballot { counter, ..Ballot::default() }
    }

    #[test]
    fn b9_every_epoch_that_was_heard_of_is_asked_for_in_turn() {
        let mut discovery = EpochDiscovery::default();
        let mut ask = |heard_again: &[u64]| {
            heard_again.iter().for_each(|counter| discovery.seen(ballot(*counter)));
            let next = discovery.next(|_| true);
            next.inspect(|epoch| discovery.asked(*epoch)).map(|epoch| epoch.counter)
        };
        // Epoch 9 is of a cluster that is no more: its members go on speaking of it, and nobody ever
        // answers for it.
        assert_eq!(ask(&[5, 9]), Some(9));
        assert_eq!(ask(&[9]), Some(5), "the greatest must not hide it");
        assert_eq!(ask(&[5, 9]), Some(9), "all were asked for, so it begins anew");
    }
}
