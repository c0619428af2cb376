//! Handover of an epoch from a sequencer that does not vote to a voter (rule B7).

use std::time::Duration;

use crate::engine::Engine;
use crate::engine::epoch::election::Reason;
use crate::engine::membership::peers::Peer;
use crate::engine::membership::voters::LAG_MAX;
use crate::wire::types::{Index, Voter};

/// Number of election timeouts after which the sequencer waits for a successor again.
const AGAIN_AFTER: u32 = 4;

impl<T> Engine<T> {
    /// Returns true if this sequencer does not vote while a voter that follows it could sequence.
    pub(crate) fn is_to_hand_over(&self) -> bool {
        let Some(epoch) = self.live().filter(|epoch| epoch.sequencing) else { return false };
        let voters = self.log.voters();
        self.commit.index > epoch.open.base.index
            && voters.is_settled(self.commit.index)
            && !voters.now.contains(&self.voter())
            && self.successors(&voters.now).next().is_some()
    }

    /// Returns the peers among `voters` that follow this epoch and are close to the commit index.
    fn successors<'a>(&'a self, voters: &'a [Voter]) -> impl Iterator<Item = &'a Peer> {
        self.peers.identified().filter(|peer| {
            let voter = Voter { replica: peer.incarnation.replica, store: peer.store };
            voters.contains(&voter)
                && peer.epoch == self.promised
                && peer.acked > Index(0)
                && peer.acked.0 + LAG_MAX >= self.commit.index.0
        })
    }

    /// Returns true if a ballot that this replica is about to start may begin now. A ballot that
    /// ends its own sequencing waits until a successor has acked everything that was ordered, and
    /// so will be at the base. Meanwhile nothing more is ordered, for half an election timeout at
    /// most; a change of voters is not delayed further than that.
    pub(crate) fn may_give_way(&mut self, reason: Reason) -> bool {
        let voters = match reason {
            Reason::Voters => self.wanted_voters().unwrap_or_default(),
            Reason::HandOver => self.log.voters().now.clone(),
            _ => return true,
        };
        if voters.contains(&self.voter()) {
            return true;
        }
        let (now, last) = (self.now.monotonic, self.log.last().index);
        if self.successors(&voters).any(|peer| peer.acked == last) {
            // Order nothing more until the ballot is delivered here.
            self.election.draining_since = Some(now);
            return true;
        }
        let since = *self.election.draining_since.get_or_insert(now);
        if self.ago(since) >= self.config.election_timeout * AGAIN_AFTER {
            self.election.draining_since = Some(now);
        }
        reason == Reason::Voters && self.ago(since) >= self.draining_max()
    }

    /// Returns true while this sequencer orders nothing, so that a successor can ack everything.
    pub(crate) fn is_draining(&self) -> bool {
        self.election.draining_since.is_some_and(|since| self.ago(since) < self.draining_max())
    }

    /// Maximum time for which nothing is ordered while a successor catches up.
    fn draining_max(&self) -> Duration {
        self.config.election_timeout / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Input;
    use crate::engine::membership::voters::VoterChange;
    use crate::engine::solo::{Solo, member, run};
    use crate::wire::message::{Message, Progress};
    use crate::wire::types::{ReplicaId, StoreId};

    fn follows(solo: &mut Solo, acked: Index) {
        let epoch = solo.engine.open_epoch();
        let progress = Progress {
            epoch,
            incarnation: run(2, 2),
            store: StoreId(2),
            marks: None,
            acked,
            applied: acked,
            echo: Vec::new(),
            promised: epoch,
        };
        solo.deliver(member(2, 2), Message::Progress(progress));
    }

    fn begins(solo: &Solo) -> bool {
        solo.sent.iter().any(|message| matches!(message, Message::Begin(_)))
    }

    /// Returns a sequencer, replica 1, that replica 2 is to replace as a voter; replica 2 is one
    /// entry behind.
    fn to_be_replaced() -> Solo {
        let mut solo = Solo::new();
        solo.configure(&[member(1, 1), member(2, 2)], &[member(2, 2)]);
        solo.announce(member(2, 2), run(2, 2));
        let change = VoterChange::Replace(ReplicaId(1), ReplicaId(2));
        solo.input(Input::ChangeVoters { ticket: 7, change });
        let behind = Index(solo.engine.log.last().index.0 - 1);
        follows(&mut solo, behind);
        solo.sent.clear();
        solo.wait(solo.engine.config().election_timeout / 4);
        assert!(!begins(&solo));
        solo
    }

    #[test]
    fn b7_a_removed_sequencer_waits_until_a_voter_has_acked_everything_ordered() {
        let mut solo = to_be_replaced();
        assert!(!solo.engine.may_order());
        let last = solo.engine.log.last().index;
        follows(&mut solo, last);
        assert!(begins(&solo));
    }

    #[test]
    fn b7_a_removal_does_not_wait_forever_for_a_lagging_voter() {
        let mut solo = to_be_replaced();
        solo.wait(solo.engine.config().election_timeout / 2);
        assert!(begins(&solo));
    }
}
