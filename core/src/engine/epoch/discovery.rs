//! Discovery of epochs that are open at other replicas (rules B3 and B9).

use std::collections::BTreeSet;
use std::time::Duration;

use crate::engine::replication::outbox::Outbox;
use crate::engine::{Engine, Output};
use crate::wire::message::Missing;
use crate::wire::types::Ballot;

/// Maximum number of epochs kept in each set of [`EpochDiscovery`]; more than there are clusters in
/// one CPG group.
const KNOWN_MAX: usize = 16;

/// Epochs that this replica has learned of and that are not open here (rule B9). No replica may
/// ever answer for some of them, because their cluster no longer exists; these must not hide the
/// epoch that is open.
#[derive(Debug, Default)]
pub(crate) struct EpochDiscovery {
    /// Epochs whose traffic was received.
    seen: BTreeSet<Ballot>,
    /// Epochs that a peer has promised, and that may never have been opened.
    promised: BTreeSet<Ballot>,
    /// Epochs already requested in the current round. A round ends once every known epoch was
    /// requested.
    asked: BTreeSet<Ballot>,
    /// Time at which this replica last requested an `Open`.
    asked_at: Option<Duration>,
}

impl EpochDiscovery {
    /// Forgets all epochs because one has opened. Keeps only the time of a request that is still
    /// queued in the transport.
    pub(crate) fn epoch_opened(&mut self, outbox: &Outbox) {
        let asked_at = self.asked_at.filter(|at| outbox.is_waiting(*at));
        *self = Self { asked_at, ..Self::default() };
    }

    /// Records an epoch whose traffic was received.
    pub(crate) fn seen(&mut self, epoch: Ballot) {
        keep(&mut self.seen, epoch);
    }

    /// Records an epoch that a peer has promised.
    pub(crate) fn promised(&mut self, epoch: Ballot) {
        keep(&mut self.promised, epoch);
    }

    /// Returns the epoch to request next: the greatest not requested yet, those with traffic first.
    /// Starts again with the first once all were requested. Skips epochs that `may_open` rules out.
    fn next(&self, may_open: impl Fn(Ballot) -> bool) -> Option<Ballot> {
        let epochs = || self.seen.iter().rev().chain(self.promised.iter().rev()).copied();
        let mut possible = epochs().filter(|epoch| may_open(*epoch));
        let first = possible.next()?;
        if !self.asked.contains(&first) {
            return Some(first);
        }
        Some(possible.find(|epoch| !self.asked.contains(epoch)).unwrap_or(first))
    }

    /// Records a request. The epoch is requested again only after it was seen or promised again.
    fn asked(&mut self, epoch: Ballot) {
        self.seen.remove(&epoch);
        self.promised.remove(&epoch);
        if !self.asked.insert(epoch) {
            self.asked = BTreeSet::from([epoch]);
        }
        keep(&mut self.asked, epoch);
    }
}

/// Adds an epoch, and drops the lowest if there are too many.
fn keep(epochs: &mut BTreeSet<Ballot>, epoch: Ballot) {
    epochs.insert(epoch);
    if epochs.len() > KNOWN_MAX {
        epochs.pop_first();
    }
}

impl<T> Engine<T> {
    /// Requests an `Open` for an epoch that other replicas use and that is not open here (rule B9).
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

    /// Handles a message of an epoch other than the open one (rules B3 and B9). Its sender has
    /// promised `promised`. This replica answers with its own promise only if the sender does not
    /// know it; otherwise two frozen replicas would answer each other forever.
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
    fn b9_known_epochs_are_requested_in_turn() {
        let mut discovery = EpochDiscovery::default();
        let mut ask = |heard_again: &[u64]| {
            heard_again.iter().for_each(|counter| discovery.seen(ballot(*counter)));
            let next = discovery.next(|_| true);
            next.inspect(|epoch| discovery.asked(*epoch)).map(|epoch| epoch.counter)
        };
        // The cluster of epoch 9 no longer exists: its members keep mentioning the epoch, and no
        // replica ever answers for it.
        assert_eq!(ask(&[5, 9]), Some(9));
        assert_eq!(ask(&[9]), Some(5), "the greatest epoch must not hide it");
        assert_eq!(ask(&[5, 9]), Some(9), "all were requested, so a new round starts");
    }
}
