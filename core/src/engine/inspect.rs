//! What simulations look at beside the status.

use super::Engine;
use crate::entry::Entry;
use crate::message::Open;
use crate::types::{Ballot, Digest, Index, Voters};

impl<T> Engine<T> {
    /// The epoch that was opened here last, frozen or not.
    pub(crate) fn last_epoch(&self) -> Ballot {
        self.epoch.as_ref().map_or(Ballot::default(), |epoch| epoch.open.ballot)
    }

    /// The commit index, without the cost of a whole status.
    pub(crate) fn commit(&self) -> Index {
        self.commit
    }

    /// Whether everything in the log is committed, applied and durable, in step with the open
    /// epoch, and no other voters are wanted.
    pub(crate) fn is_at_rest(&self) -> bool {
        let last = self.log.last().index;
        self.is_in_step()
            && [self.commit, self.applied, self.disk.durable()] == [last; 3]
            && !self.has_work()
            && self.wanted_voters().is_none()
    }

    /// Whether the sequencer of that epoch is in the configuration.
    pub(crate) fn sees_sequencer(&self) -> bool {
        self.epoch.as_ref().is_some_and(|epoch| self.members.has(epoch.open.sequencer))
    }

    /// Whether it orders, in an epoch that is open.
    pub(crate) fn is_sequencer(&self) -> bool {
        self.is_sequencing()
    }

    /// Rule N9: where this replica sequences, whether the order knows who is here and who not.
    pub(crate) fn knows_members(&self) -> bool {
        let mut here = self.members.peers().map(|peer| peer.incarnation);
        let ordered = self.log.members();
        !self.is_sequencing()
            || here.all(|run| ordered.contains(&run))
                && ordered.iter().all(|run| self.members.has(*run))
    }

    /// How the epoch was opened that was opened here last.
    pub(crate) fn open(&self) -> Option<&Open> {
        self.epoch.as_ref().map(|epoch| &epoch.open)
    }

    /// The log in memory.
    pub(crate) fn log(&self) -> impl Iterator<Item = &Entry> {
        self.log.from(self.log.first_in_memory())
    }

    /// The digest of an entry in memory.
    pub(crate) fn digest_at(&self, index: Index) -> Option<Digest> {
        self.log.get(index).map(|entry| entry.digest)
    }

    /// Where the log in memory begins.
    pub(crate) fn first_in_memory(&self) -> Index {
        self.log.first_in_memory()
    }

    /// Who votes, by the log in memory.
    pub(crate) fn voters(&self) -> &Voters {
        self.log.voters()
    }

    /// Whether the open epoch's first entry is committed, as far as this replica knows.
    pub(crate) fn has_committed_in_epoch(&self) -> bool {
        self.epoch.as_ref().is_some_and(|epoch| self.commit > epoch.open.base.index)
    }

    /// The highest ballot answered.
    pub(crate) fn promised(&self) -> Ballot {
        self.promised
    }

    /// The epoch of the last entry of the log in memory.
    pub(crate) fn ends_in(&self) -> Ballot {
        self.log.last().epoch
    }

    /// The end of the log in memory.
    pub(crate) fn last(&self) -> Index {
        self.log.last().index
    }
}
