//! Membership in the order of the log (rule N9): the sequencer turns configurations into
//! notices.

use std::collections::BTreeSet;

use crate::engine::Engine;
use crate::wire::entry::{EntryPayload, MembersChanged};
use crate::wire::types::{Incarnation, ReplicaId};

/// Peers by the order of the log; who comes beyond that waits. As many as CPG has.
pub(crate) const MEMBERS_MAX: usize = 128;

impl<T> Engine<T> {
    /// Whether the sequencer of the epoch open here is in the configuration.
    pub(crate) fn sees_sequencer(&self) -> bool {
        self.epoch.as_ref().is_some_and(|epoch| self.peers.has(epoch.open.sequencer))
    }

    /// Orders the difference between who is here and who is here by the order.
    ///
    /// Without a majority it could not be committed, so it waits, and whoever has come back
    /// by then was never away.
    pub(crate) fn order_notice(&mut self) {
        if !self.is_sequencing() || !self.peers.membership_dirty || !self.sees_majority() {
            return;
        }
        let here: BTreeSet<Incarnation> =
            self.peers.identified().map(|peer| peer.incarnation).collect();
        // A member that has not said yet who it is may be one of those that seem gone. It is
        // not waited for longer than that: some never answer.
        let now = self.now.monotonic;
        let recent = now.saturating_sub(self.config.election_timeout);
        let all_known = !self.peers.has_unidentified(recent);
        self.peers.membership_dirty = !all_known;
        let mut after = self.log.members().clone();
        let gone = |run: &&Incarnation| !here.contains(run) && **run != self.me();
        let left: Vec<_> = after.iter().filter(gone).filter(|_| all_known).copied().collect();
        after.retain(|run| !left.contains(run));
        // Of two live runs with one id the later is about to be refused.
        let mut ids: BTreeSet<ReplicaId> =
            after.intersection(&here).map(|run| run.replica).collect();
        let new = here.difference(&after).filter(|run| ids.insert(run.replica));
        let joined: Vec<_> = new.take(MEMBERS_MAX.saturating_sub(after.len())).copied().collect();
        if !joined.is_empty() || !left.is_empty() {
            tracing::debug!(replica = %self.me().replica, ?joined, ?left, "orders a notice");
            self.order(EntryPayload::Notice(MembersChanged { joined, left }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::solo::{Solo, member, run};

    fn notice(joined: &[Incarnation], left: &[Incarnation]) -> EntryPayload {
        EntryPayload::Notice(MembersChanged { joined: joined.to_vec(), left: left.to_vec() })
    }

    fn with_second() -> Solo {
        let mut solo = Solo::new();
        assert_eq!(solo.news()[1..], [notice(&[run(1, 1)], &[])], "behind the `EpochStart`");
        solo.configure(&[member(1, 1), member(2, 2)], &[member(2, 2)]);
        assert_eq!(solo.news(), [], "nobody knows who it is");
        solo.announce(member(2, 2), run(2, 2));
        assert_eq!(solo.news(), [notice(&[run(2, 2)], &[])]);
        solo
    }

    #[test]
    fn n9_who_comes_and_who_goes_is_ordered_once() {
        let mut solo = with_second();
        solo.announce(member(2, 2), run(2, 2));
        assert_eq!(solo.news(), []);
        solo.configure(&[member(1, 1)], &[]);
        assert_eq!(solo.news(), [notice(&[], &[run(2, 2)])]);
        solo.configure(&[member(1, 1), member(2, 3)], &[member(2, 3)]);
        solo.announce(member(2, 3), run(2, 2));
        assert_eq!(solo.news(), [notice(&[run(2, 2)], &[])], "the same run came back");
    }

    #[test]
    fn n9_a_departure_waits_a_while_for_members_that_have_not_said_who_they_are() {
        for comes_back in [true, false] {
            let mut solo = with_second();
            solo.configure(&[member(1, 1), member(2, 3)], &[member(2, 3)]);
            assert_eq!(solo.news(), []);
            if comes_back {
                solo.announce(member(2, 3), run(2, 2));
            }
            solo.wait(Duration::from_secs(2));
            let left = notice(&[], &[run(2, 2)]);
            assert_eq!(solo.news(), if comes_back { vec![] } else { vec![left] });
        }
    }

    #[test]
    fn n9_a_replica_that_was_started_again_has_left_and_joined_in_one_notice() {
        let mut solo = with_second();
        solo.configure(&[member(1, 1), member(2, 3)], &[member(2, 3)]);
        solo.announce(member(2, 3), run(2, 7));
        assert_eq!(solo.news(), [notice(&[run(2, 7)], &[run(2, 2)])]);
    }

    #[test]
    fn n9_batches_of_a_run_that_has_left_wait_until_it_is_back() {
        let mut solo = with_second();
        solo.batch(member(2, 2), run(2, 2), 1);
        assert!(matches!(solo.news()[..], [EntryPayload::Batch(_)]));
        solo.configure(&[member(1, 1)], &[]);
        solo.batch(member(2, 2), run(2, 2), 2);
        assert_eq!(solo.news(), [notice(&[], &[run(2, 2)])]);
        assert!(!solo.engine.has_work(), "and nobody waits for it");
        solo.configure(&[member(1, 1), member(2, 3)], &[member(2, 3)]);
        solo.announce(member(2, 3), run(2, 2));
        let news = solo.news();
        assert_eq!(news[0], notice(&[run(2, 2)], &[]));
        assert!(matches!(&news[1..], [EntryPayload::Batch(batch)] if batch.number == 2));
    }

    #[test]
    fn n9_a_run_is_not_taken_to_be_dead_after_a_short_silence() {
        let mut solo = with_second();
        let all = [member(1, 1), member(2, 2), member(3, 3)];
        solo.configure(&all, &[member(3, 3)]);
        // A message of an earlier run of its replica comes late.
        let timeout = solo.engine.config().election_timeout;
        solo.wait(timeout * 3);
        solo.announce(member(3, 3), run(2, 1));
        solo.wait(timeout / 2);
        assert_eq!(solo.news(), [], "it may be busy");
        solo.wait(timeout);
        solo.announce(member(3, 3), run(2, 1));
        solo.wait(timeout);
        assert_eq!(solo.news(), [notice(&[run(2, 1)], &[run(2, 2)])], "it is silent for long");
    }

    #[test]
    fn n9_of_two_live_runs_with_one_id_the_first_is_a_member() {
        let mut solo = with_second();
        let all = [member(1, 1), member(2, 2), member(3, 3)];
        solo.configure(&all, &[member(3, 3)]);
        solo.announce(member(3, 3), run(2, 1));
        assert_eq!(solo.news(), []);
        solo.configure(&[member(1, 1), member(3, 3)], &[]);
        assert_eq!(solo.news(), [notice(&[run(2, 1)], &[run(2, 2)])]);
    }

    #[test]
    fn n9_members_beyond_the_limit_wait_for_room() {
        let mut solo = with_second();
        let all: Vec<_> = (1..=MEMBERS_MAX as u32 + 1).map(|id| member(id, id)).collect();
        solo.configure(&all, &all[2..]);
        for id in 3..=MEMBERS_MAX as u32 + 1 {
            solo.announce(member(id, id), run(id, u64::from(id)));
        }
        let last = MEMBERS_MAX as u32 + 1;
        assert_eq!(solo.news().len(), MEMBERS_MAX - 2);
        assert!(!solo.engine.log.members().contains(&run(last, u64::from(last))));
        let without_second: Vec<_> = all.iter().copied().filter(|m| *m != member(2, 2)).collect();
        solo.configure(&without_second, &[]);
        assert_eq!(solo.news(), [notice(&[run(last, u64::from(last))], &[run(2, 2)])]);
    }
}
