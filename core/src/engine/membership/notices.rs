//! Membership notices: the sequencer turns configuration changes into entries (rule N9).

use std::collections::BTreeSet;

use crate::engine::Engine;
use crate::wire::entry::{EntryPayload, MembersChanged};
use crate::wire::types::{Incarnation, ReplicaId};

/// Maximum number of members in the order of the log, as in CPG. Further replicas join once there
/// is room.
pub(crate) const MEMBERS_MAX: usize = 128;

impl<T> Engine<T> {
    /// Returns true if the sequencer of the epoch open here is in the configuration.
    pub(crate) fn sees_sequencer(&self) -> bool {
        self.epoch.as_ref().is_some_and(|epoch| self.peers.has(epoch.open.sequencer))
    }

    /// Orders a notice with the difference between the configuration and the members in the order
    /// of the log.
    ///
    /// Does nothing without a majority, because the notice could not be committed. A member that
    /// returns before the notice is ordered counts as never having left.
    pub(crate) fn order_notice(&mut self) {
        if !self.is_sequencing() || !self.peers.membership_dirty || !self.sees_majority() {
            return;
        }
        let here: BTreeSet<Incarnation> =
            self.peers.identified().map(|peer| peer.incarnation).collect();
        // A member that has not identified itself may be one of those that seem gone, so departures
        // wait for it, for an election timeout at most: some members never answer.
        let now = self.now.monotonic;
        let recent = now.saturating_sub(self.config.election_timeout);
        let all_known = !self.peers.has_unidentified(recent);
        self.peers.membership_dirty = !all_known;
        let mut after = self.log.members().clone();
        let gone = |run: &&Incarnation| !here.contains(run) && **run != self.me();
        let left: Vec<_> = after.iter().filter(gone).filter(|_| all_known).copied().collect();
        after.retain(|run| !left.contains(run));
        // Of two live runs with one replica id, the later one is about to be rejected.
        let mut ids: BTreeSet<ReplicaId> =
            after.intersection(&here).map(|run| run.replica).collect();
        let new = here.difference(&after).filter(|run| ids.insert(run.replica));
        let joined: Vec<_> = new.take(MEMBERS_MAX.saturating_sub(after.len())).copied().collect();
        if !joined.is_empty() || !left.is_empty() {
            tracing::debug!(replica = %self.me().replica, ?joined, ?left, "ordering a membership notice");
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
        assert_eq!(solo.new_entries()[1..], [notice(&[run(1, 1)], &[])], "after the `EpochStart`");
        solo.configure(&[member(1, 1), member(2, 2)], &[member(2, 2)]);
        assert_eq!(solo.new_entries(), [], "the member has not identified itself");
        solo.announce(member(2, 2), run(2, 2));
        assert_eq!(solo.new_entries(), [notice(&[run(2, 2)], &[])]);
        solo
    }

    #[test]
    fn n9_each_join_and_each_departure_is_ordered_once() {
        let mut solo = with_second();
        solo.announce(member(2, 2), run(2, 2));
        assert_eq!(solo.new_entries(), []);
        solo.configure(&[member(1, 1)], &[]);
        assert_eq!(solo.new_entries(), [notice(&[], &[run(2, 2)])]);
        solo.configure(&[member(1, 1), member(2, 3)], &[member(2, 3)]);
        solo.announce(member(2, 3), run(2, 2));
        assert_eq!(solo.new_entries(), [notice(&[run(2, 2)], &[])], "the same run came back");
    }

    #[test]
    fn n9_a_departure_waits_for_members_that_have_not_identified_themselves() {
        for comes_back in [true, false] {
            let mut solo = with_second();
            solo.configure(&[member(1, 1), member(2, 3)], &[member(2, 3)]);
            assert_eq!(solo.new_entries(), []);
            if comes_back {
                solo.announce(member(2, 3), run(2, 2));
            }
            solo.wait(Duration::from_secs(2));
            let left = notice(&[], &[run(2, 2)]);
            assert_eq!(solo.new_entries(), if comes_back { vec![] } else { vec![left] });
        }
    }

    #[test]
    fn n9_one_notice_holds_the_departure_and_the_join_of_a_restarted_replica() {
        let mut solo = with_second();
        solo.configure(&[member(1, 1), member(2, 3)], &[member(2, 3)]);
        solo.announce(member(2, 3), run(2, 7));
        assert_eq!(solo.new_entries(), [notice(&[run(2, 7)], &[run(2, 2)])]);
    }

    #[test]
    fn n9_batches_of_a_run_that_has_left_wait_until_it_returns() {
        let mut solo = with_second();
        solo.batch(member(2, 2), run(2, 2), 1);
        assert!(matches!(solo.new_entries()[..], [EntryPayload::Batch(_)]));
        solo.configure(&[member(1, 1)], &[]);
        solo.batch(member(2, 2), run(2, 2), 2);
        assert_eq!(solo.new_entries(), [notice(&[], &[run(2, 2)])]);
        assert!(!solo.engine.has_work(), "the batch must not count as work");
        solo.configure(&[member(1, 1), member(2, 3)], &[member(2, 3)]);
        solo.announce(member(2, 3), run(2, 2));
        let news = solo.new_entries();
        assert_eq!(news[0], notice(&[run(2, 2)], &[]));
        assert!(matches!(&news[1..], [EntryPayload::Batch(batch)] if batch.number == 2));
    }

    #[test]
    fn n9_a_short_silence_does_not_make_a_run_presumed_dead() {
        let mut solo = with_second();
        let all = [member(1, 1), member(2, 2), member(3, 3)];
        solo.configure(&all, &[member(3, 3)]);
        // A message of an earlier run of replica 2 arrives late.
        let timeout = solo.engine.config().election_timeout;
        solo.wait(timeout * 3);
        solo.announce(member(3, 3), run(2, 1));
        solo.wait(timeout / 2);
        assert_eq!(solo.new_entries(), [], "the run may be busy");
        solo.wait(timeout);
        solo.announce(member(3, 3), run(2, 1));
        solo.wait(timeout);
        assert_eq!(
            solo.new_entries(),
            [notice(&[run(2, 1)], &[run(2, 2)])],
            "the run has been silent for too long"
        );
    }

    #[test]
    fn n9_of_two_live_runs_with_one_id_the_first_is_a_member() {
        let mut solo = with_second();
        let all = [member(1, 1), member(2, 2), member(3, 3)];
        solo.configure(&all, &[member(3, 3)]);
        solo.announce(member(3, 3), run(2, 1));
        assert_eq!(solo.new_entries(), []);
        solo.configure(&[member(1, 1), member(3, 3)], &[]);
        assert_eq!(solo.new_entries(), [notice(&[run(2, 1)], &[run(2, 2)])]);
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
        assert_eq!(solo.new_entries().len(), MEMBERS_MAX - 2);
        assert!(!solo.engine.log.members().contains(&run(last, u64::from(last))));
        let without_second: Vec<_> = all.iter().copied().filter(|m| *m != member(2, 2)).collect();
        solo.configure(&without_second, &[]);
        assert_eq!(solo.new_entries(), [notice(&[run(last, u64::from(last))], &[run(2, 2)])]);
    }
}
