//! Changes of voters: operators' requests, and how the voters follow them (rules V1 to V4).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, Output, StepResult, StopReason};
use crate::wire::codec;
use crate::wire::entry::{Batch, Commands, Entry, EntryPayload};
use crate::wire::message::Open;
use crate::wire::types::{Ballot, ClusterId, Index, Position, ReplicaId, Voter, Voters};

/// Maximum number of voters. More would only make commands slower, as each waits for a majority.
pub const VOTERS_MAX: usize = 15;
/// Maximum number of entries that a replica may be behind the commit index to become a voter. The
/// group writes more than that while the epoch that admits the replica opens.
pub(crate) const LAG_MAX: u64 = 1024;

/// A change of the voters, requested by an operator. It is an entry of the log like any command;
/// the voters follow once the replicas that it names are in the group and caught up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VoterChange {
    /// Makes the replica a voter.
    Add(ReplicaId),
    /// Takes the replica's vote away. It may continue as a learner.
    Remove(ReplicaId),
    /// Makes the second replica a voter in place of the first.
    Replace(ReplicaId, ReplicaId),
}

/// Reason why an operator's request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// The replica is not a voter.
    #[error("replica {0} is not a voter: `status` lists the voters")]
    NotAVoter(ReplicaId),
    /// The replica is a voter already, so it cannot take another's place.
    #[error("replica {0} is a voter already: remove the other replica instead")]
    VotesAlready(ReplicaId),
    /// The replica is the only voter, and a group needs one.
    #[error("replica {0} is the last voter: add another one before removing it")]
    LastVoter(ReplicaId),
    /// The group has [`VOTERS_MAX`] voters already.
    #[error("a group has at most {VOTERS_MAX} voters: remove one first")]
    TooMany,
    /// The replica is not listed in `bootstrap`, and logs are in memory. A group that has lost all
    /// its stores then forms anew from that list, so every voter must be listed (rule V3).
    #[error(
        "replica {0} is not listed in the bootstrap voters, and only those may vote while the log \
         is in memory: keep the log on disk, or list the replica at all replicas"
    )]
    NotListed(ReplicaId),
    /// Another request has reversed this one before it took effect.
    #[error("another request reversed this one before it took effect")]
    Undone,
    /// A majority of the voters is in the group, and was heard within the last five election
    /// timeouts.
    #[error(
        "a majority of the voters {0} is in the group: force a new cluster only if they are lost \
         for good; if their processes are dead, retry in a few seconds"
    )]
    MajorityIsHere(String),
    /// This replica's log is empty, so it cannot start a new cluster.
    #[error("this replica has an empty log: force the new cluster at a replica that has a log")]
    NoLog,
    /// The replica has stopped. The request may still take effect.
    #[error("the replica has stopped ({0}); the request may still take effect")]
    Stopped(StopReason),
    /// The group did not answer in time. The request may still take effect.
    #[error("the request timed out: {0}; it may still take effect")]
    Timeout(String),
}

impl VoterChange {
    /// Applies the change to the set of desired voters.
    pub(crate) fn apply(self, desired: &mut BTreeSet<ReplicaId>) -> Result<(), AdminError> {
        match self {
            Self::Add(new) => {
                if desired.len() >= VOTERS_MAX && !desired.contains(&new) {
                    return Err(AdminError::TooMany);
                }
                desired.insert(new);
            }
            Self::Remove(old) => {
                if !desired.contains(&old) {
                    return Err(AdminError::NotAVoter(old));
                }
                if desired.len() == 1 {
                    return Err(AdminError::LastVoter(old));
                }
                desired.remove(&old);
            }
            Self::Replace(old, new) => {
                if !desired.contains(&old) {
                    return Err(AdminError::NotAVoter(old));
                }
                if desired.contains(&new) {
                    return Err(AdminError::VotesAlready(new));
                }
                desired.remove(&old);
                desired.insert(new);
            }
        }
        Ok(())
    }

    /// Returns true if the change is in effect in this set of voters.
    fn holds(self, replicas: &BTreeSet<ReplicaId>) -> bool {
        match self {
            Self::Add(new) => replicas.contains(&new),
            Self::Remove(old) => !replicas.contains(&old),
            Self::Replace(old, new) => !replicas.contains(&old) && replicas.contains(&new),
        }
    }

    /// Returns the change that an operator's batch holds.
    pub(crate) fn of(batch: &Batch) -> Option<Self> {
        codec::decode(Commands(&batch.commands).next()?).ok()
    }
}

/// Operators' requests at this replica that have not been answered.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// By ticket.
    waiting: BTreeMap<u64, Awaited>,
}

/// Event that a request waits for.
#[derive(Clone, Copy, Debug)]
enum Awaited {
    /// The commit of the entry that holds the change.
    Entry(VoterChange),
    /// The change taking effect, once its entry is committed.
    Force(VoterChange),
    /// The commit of the entry at this index.
    Commit(Index),
}

impl Requests {
    /// Records that the entry with the request is committed.
    pub(crate) fn committed(&mut self, ticket: u64) {
        if let Some(awaited) = self.waiting.get_mut(&ticket)
            && let Awaited::Entry(change) = *awaited
        {
            *awaited = Awaited::Force(change);
        }
    }
}

impl<T> Engine<T> {
    /// Checks an operator's change and proposes it. A change that is impossible is rejected at
    /// once.
    pub(crate) fn on_voter_change(
        &mut self,
        ticket: u64,
        change: VoterChange,
        out: &mut Vec<Output<T>>,
    ) {
        let unlisted =
            |new: &ReplicaId| self.config.volatile && !self.config.bootstrap.contains(new);
        let checked = match change {
            VoterChange::Add(new) | VoterChange::Replace(_, new) if unlisted(&new) => {
                Err(AdminError::NotListed(new))
            }
            change => change.apply(&mut self.log.desired().clone()),
        };
        if let Err(error) = checked {
            out.push(Output::Answer { ticket, result: Err(error) });
            return;
        }
        self.requests.waiting.insert(ticket, Awaited::Entry(change));
        match codec::encode(&change) {
            Ok(bytes) => self.proposals.queue_request(ticket, bytes.into()),
            Err(error) => unreachable!("a change of voters must encode: {error}"),
        }
    }

    /// Answers the requests whose effect is complete, or that another request has reversed.
    pub(crate) fn answer_requests(&mut self, out: &mut Vec<Output<T>>) {
        let voters = self.log.voters();
        let in_force = || voters.now.iter().map(|voter| voter.replica).collect();
        let settled = voters.is_settled(self.commit.index);
        let desired = self.log.desired();
        self.requests.waiting.retain(|ticket, awaited| {
            let result = match awaited {
                Awaited::Force(change) if !change.holds(desired) => Err(AdminError::Undone),
                Awaited::Force(change) if settled && change.holds(&in_force()) => Ok(()),
                Awaited::Commit(index) if *index <= self.commit.index => Ok(()),
                _ => return true,
            };
            out.push(Output::Answer { ticket: *ticket, result });
            false
        });
    }

    /// Answers all requests because the replica stops.
    pub(crate) fn abandon_requests(&mut self, reason: &StopReason, out: &mut Vec<Output<T>>) {
        for ticket in std::mem::take(&mut self.requests.waiting).into_keys() {
            let result = Err(AdminError::Stopped(reason.clone()));
            out.push(Output::Answer { ticket, result });
        }
    }

    /// Returns the voters that this sequencer wants in place of the present ones. `None` while the
    /// voters are as desired, or cannot be changed yet.
    ///
    /// A caught-up replica takes the place of its predecessor whose store is no longer here (rule
    /// V2). No replica becomes a voter before it has caught up, and no change is started that the
    /// replicas here could not commit.
    pub(crate) fn wanted_voters(&self) -> Option<Vec<Voter>> {
        let epoch = self.live().filter(|epoch| epoch.sequencing)?;
        let voters = self.log.voters();
        // This epoch's `EpochStart` has to be committed, and so the last change of the voters
        // settled.
        if self.commit.index <= epoch.open.base.index || !voters.is_settled(self.commit.index) {
            return None;
        }
        let mut wanted: Vec<Voter> = self
            .log
            .desired()
            .iter()
            .filter_map(|replica| {
                let old = voters.now.iter().find(|voter| voter.replica == *replica);
                match old {
                    Some(old) if self.peers.has_voter(old) => Some(*old),
                    _ => self.caught_up_as(*replica).or(old.copied()),
                }
            })
            .collect();
        // A store whose replica now runs with another one is lost, even if the group has not
        // noticed yet.
        let is_here =
            |voter: &Voter| self.peers.has_voter(voter) && !self.peers.has_other_store(voter);
        // A voter that is being removed keeps its vote until its replacement is ready, so that
        // fault tolerance never drops during the change.
        let desired = self.log.desired();
        let goes = |voter: &&Voter| !desired.contains(&voter.replica);
        let mut going: Vec<Voter> = voters.now.iter().filter(goes).copied().collect();
        going.sort_by_key(|voter| !is_here(voter));
        let missing = desired.len() - wanted.len();
        wanted.extend(going.into_iter().take(missing));
        wanted.sort_unstable();
        let wanted = Voters { now: wanted.clone(), previous: wanted, since: Index(0) };
        let can_commit = wanted.majority(Index(0), is_here);
        (wanted.now != voters.now && can_commit).then_some(wanted.now)
    }

    /// Returns the replica, with the store that it follows this epoch with, if it has caught up.
    fn caught_up_as(&self, replica: ReplicaId) -> Option<Voter> {
        let follows = self.peers.identified().find(|peer| {
            peer.incarnation.replica == replica
                && peer.epoch == self.promised
                && peer.acked > Index(0)
                && peer.acked.0 + LAG_MAX >= self.commit.index.0
        })?;
        Some(Voter { replica, store: follows.store })
    }

    /// Continues with this replica as the only voter after a majority of the voters was lost for
    /// good (rule V4). Opens an epoch whose `EpochStart` gives the new cluster its id. Keeps
    /// everything in this log; entries that only the other replicas had are lost.
    pub(crate) fn force_new_cluster(
        &mut self,
        ticket: u64,
        out: &mut Vec<Output<T>>,
    ) -> StepResult {
        let refusal = if self.log.is_empty() {
            Some(AdminError::NoLog)
        } else if self.sees_majority() && !self.majority_seems_dead() {
            let voters = self.log.voters().now.iter().map(|voter| voter.replica.to_string());
            Some(AdminError::MajorityIsHere(voters.collect::<Vec<_>>().join(" ")))
        } else {
            None
        };
        if let Some(error) = refusal {
            out.push(Output::Answer { ticket, result: Err(error) });
            return Ok(());
        }
        let Some(counter) = self.next_counter() else {
            return Err(StopReason::Invariant(
                "no ballot counter is left above the highest one seen".into(),
            ));
        };
        let me = self.me();
        let ballot = Ballot { counter, replica: me.replica.0, nonce: me.nonce };
        let (base, digest, time) = (self.log.last(), self.log.digest(), self.time_by_itself());
        let position = Position { epoch: ballot, index: base.index.next() };
        let alone = vec![self.voter()];
        let voters = Voters { now: alone.clone(), previous: alone, since: position.index };
        let start = Entry::new(digest, position, time, EntryPayload::EpochStart(voters.clone()));
        let cluster = ClusterId(start.digest.0);
        tracing::warn!(
            replica = %me.replica, old = ?self.cluster, new = %cluster, index = %position.index,
            "forcing a new cluster with this replica as the only voter"
        );
        self.cluster = Some(cluster);
        self.requests.waiting.insert(ticket, Awaited::Commit(position.index));
        let history = self.log.history().to_vec();
        self.on_open(Open { ballot, base, digest, history, sequencer: me, voters, time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Input;
    use crate::engine::solo::{Solo, member, run};
    use crate::wire::message::{Message, Progress};
    use crate::wire::types::{Incarnation, StoreId};

    fn follows(solo: &Solo, incarnation: Incarnation) -> Message {
        let epoch = solo.engine.open_epoch();
        Message::Progress(Progress {
            epoch,
            incarnation,
            store: StoreId(incarnation.nonce.0),
            marks: None,
            acked: solo.engine.commit.index,
            applied: solo.engine.commit.index,
            echo: Vec::new(),
            promised: epoch,
        })
    }

    /// Returns a group of one that replica 2 follows, after an operator has asked to make 2 a
    /// voter.
    fn to_be_changed() -> Solo {
        let mut solo = Solo::new();
        solo.configure(&[member(1, 1), member(2, 2)], &[member(2, 2)]);
        solo.announce(member(2, 2), run(2, 2));
        let news = follows(&solo, run(2, 2));
        solo.deliver(member(2, 2), news);
        solo.sent.clear();
        let change = VoterChange::Add(ReplicaId(2));
        solo.input(Input::ChangeVoters { ticket: 7, change });
        assert!(solo.engine.wanted_voters().is_some());
        solo
    }

    #[test]
    fn v1_a_voter_keeps_its_vote_until_its_replacement_has_caught_up() {
        let mut solo = Solo::new();
        let change = VoterChange::Replace(ReplicaId(1), ReplicaId(2));
        solo.input(Input::ChangeVoters { ticket: 7, change });
        assert_eq!(solo.engine.wanted_voters(), None);
        solo.configure(&[member(1, 1), member(2, 2)], &[member(2, 2)]);
        solo.announce(member(2, 2), run(2, 2));
        assert_eq!(solo.engine.wanted_voters(), None);
        let news = follows(&solo, run(2, 2));
        solo.deliver(member(2, 2), news);
        let wanted = solo.engine.wanted_voters().unwrap_or_default();
        assert_eq!(wanted, [Voter { replica: ReplicaId(2), store: StoreId(2) }]);
    }

    #[test]
    fn the_status_reports_a_change_that_waits_for_a_replica() {
        let mut solo = Solo::new();
        assert_eq!(solo.engine.status().pending_change(), None);
        let change = VoterChange::Replace(ReplicaId(1), ReplicaId(2));
        solo.input(Input::ChangeVoters { ticket: 7, change });
        let pending = solo.engine.status().pending_change().unwrap_or_default();
        assert_eq!(
            pending,
            "replica 2 will become a voter, but is not in the group: start it; replica 1 will lose \
             its vote, but keeps it until then"
        );
        solo.configure(&[member(1, 1), member(2, 2)], &[member(2, 2)]);
        solo.announce(member(2, 2), run(2, 2));
        let pending = solo.engine.status().pending_change().unwrap_or_default();
        assert!(
            pending.starts_with("replica 2 will become a voter once it has caught up"),
            "{pending}"
        );
    }

    #[test]
    fn v4_listed_but_silent_voters_do_not_prevent_a_new_cluster() {
        let mut solo = to_be_changed();
        solo.wait(solo.engine.config().election_timeout / 4);
        let members = [member(1, 1), member(2, 2), member(3, 3)];
        solo.configure(&members, &members[2..]);
        let news = follows(&solo, run(2, 2));
        solo.deliver(member(2, 2), news);
        let old = solo.engine.cluster();
        assert_eq!(solo.engine.log.voters().now.len(), 2);

        solo.input(Input::ForceNewCluster { ticket: 8 });
        assert_eq!(solo.engine.cluster(), old, "replica 2 was heard a moment ago");
        // The transport lists replica 2 forever, although its process is dead.
        (0..6).for_each(|_| solo.wait(solo.engine.config().election_timeout));
        solo.input(Input::ForceNewCluster { ticket: 9 });
        assert_ne!(solo.engine.cluster(), old);
        assert_eq!(solo.engine.log.voters().now, [solo.engine.voter()]);
    }

    #[test]
    fn v4_a_replica_that_does_not_hear_itself_cannot_force_a_new_cluster() {
        let mut solo = to_be_changed();
        solo.wait(solo.engine.config().election_timeout / 4);
        let old = solo.engine.cluster();
        solo.deaf_for(solo.engine.config().election_timeout * 6);
        solo.input(Input::ForceNewCluster { ticket: 8 });
        assert_eq!(solo.engine.cluster(), old);
    }

    fn begins(solo: &Solo) -> bool {
        solo.sent.iter().any(|message| matches!(message, Message::Begin(_)))
    }

    #[test]
    fn a_change_waits_a_moment_for_others_that_come_at_the_same_time() {
        let mut solo = to_be_changed();
        assert!(!begins(&solo));
        solo.wait(solo.engine.config().election_timeout / 4);
        assert!(begins(&solo));
    }

    #[test]
    fn a_change_does_not_rely_on_a_store_whose_replica_runs_with_another_store() {
        let mut solo = to_be_changed();
        let members = [member(1, 1), member(2, 2), member(2, 3)];
        solo.configure(&members, &members[2..]);
        solo.announce(member(2, 3), run(2, 3));
        assert_eq!(solo.engine.wanted_voters(), None);
        // The group has noticed that the old store is gone.
        solo.configure(&[member(1, 1), member(2, 3)], &[]);
        let news = follows(&solo, run(2, 3));
        solo.deliver(member(2, 3), news);
        let wanted = solo.engine.wanted_voters().unwrap_or_default();
        assert_eq!(wanted.last(), Some(&Voter { replica: ReplicaId(2), store: StoreId(3) }));
    }

    #[test]
    fn v4_a_member_of_another_cluster_is_no_longer_a_peer() {
        let mut solo = to_be_changed();
        let cluster = Some(ClusterId(77));
        let message = follows(&solo, run(2, 2));
        solo.input(Input::Delivered { from: member(2, 2), cluster, message });
        assert!(!solo.engine.peers.has(run(2, 2)));
        assert_eq!(solo.engine.wanted_voters(), None);
    }
}
