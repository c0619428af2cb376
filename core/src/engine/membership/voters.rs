//! Who votes: what operators ask for, and how the voters follow it (rules V1 to V4).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, Output, StepResult, StopReason};
use crate::wire::codec;
use crate::wire::entry::{Batch, Commands, Entry, EntryPayload};
use crate::wire::message::Open;
use crate::wire::types::{Ballot, ClusterId, Index, Position, ReplicaId, Voter, Voters};

/// More voters than any group has use for: each command waits for a majority of them.
pub const VOTERS_MAX: usize = 15;
/// How far a replica may be behind the commit index to be taken in as a voter: less than
/// what the group writes while the epoch that takes it in begins.
pub(crate) const LAG_MAX: u64 = 1024;

/// A change of who is to vote, asked for by an operator. It stands in the log like any
/// command; the voters follow once the replicas that it names are there and in step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum VoterChange {
    /// That replica is to vote.
    Add(ReplicaId),
    /// It is not to vote any more. It may go on as a learner.
    Remove(ReplicaId),
    /// The second is to vote in the place of the first.
    Replace(ReplicaId, ReplicaId),
}

/// Why an operator's request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// There is no such voter.
    #[error("replica {0} is no voter: `status` tells who is")]
    NotAVoter(ReplicaId),
    /// It votes already, and so cannot take another's place.
    #[error("replica {0} votes already: remove the other one instead")]
    VotesAlready(ReplicaId),
    /// A group needs a voter.
    #[error("replica {0} is the last voter: add another before it is removed")]
    LastVoter(ReplicaId),
    /// The limit is reached.
    #[error("a group has {VOTERS_MAX} voters at most: remove one first")]
    TooMany,
    /// With the log in memory a group that has lost all its stores forms itself anew from the
    /// list it was started with, so all who vote must be listed there (rule V3).
    #[error(
        "replica {0} is not among those that form the group, and only they may vote while the \
         log is in memory: keep the log on disk, or list it at all replicas"
    )]
    NotListed(ReplicaId),
    /// Another request has undone it before it was in force.
    #[error("another request has undone this one before it was in force")]
    Undone,
    /// A majority of the voters is in the group, and has been heard within the last five election
    /// timeouts.
    #[error(
        "a majority of the voters {0} is in the group: force a new cluster only when they are lost \
         for good; should their processes be dead, ask again in a few seconds"
    )]
    MajorityIsHere(String),
    /// This replica has nothing to go on with.
    #[error("this replica has no log that a cluster could go on with: force it at one that has")]
    NoLog,
    /// The replica stopped. The request may still take effect.
    #[error("the replica has stopped ({0}); the request may still take effect")]
    Stopped(StopReason),
    /// No answer came in time. The request may still take effect.
    #[error("no answer in time: {0}; the request may still take effect")]
    Timeout(String),
}

impl VoterChange {
    /// What it makes of the replicas that are to vote.
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

    fn holds(self, replicas: &BTreeSet<ReplicaId>) -> bool {
        match self {
            Self::Add(new) => replicas.contains(&new),
            Self::Remove(old) => !replicas.contains(&old),
            Self::Replace(old, new) => !replicas.contains(&old) && replicas.contains(&new),
        }
    }

    /// The change that a batch of the operator's kind holds.
    pub(crate) fn of(batch: &Batch) -> Option<Self> {
        codec::decode(Commands(&batch.commands).next()?).ok()
    }
}

/// What operators have asked of this replica and wait for.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    /// By ticket.
    waiting: BTreeMap<u64, Awaited>,
}

/// What a request waits for.
#[derive(Clone, Copy, Debug)]
enum Awaited {
    /// The entry that holds the change is to be committed.
    Entry(VoterChange),
    /// The change is to be in force.
    Force(VoterChange),
    /// This entry is to be committed.
    Commit(Index),
}

impl Requests {
    /// The entry with that request is committed.
    pub(crate) fn committed(&mut self, ticket: u64) {
        if let Some(awaited) = self.waiting.get_mut(&ticket)
            && let Awaited::Entry(change) = *awaited
        {
            *awaited = Awaited::Force(change);
        }
    }
}

impl<T> Engine<T> {
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
            Err(error) => unreachable!("a change of voters encodes: {error}"),
        }
    }

    /// Answers requests whose effect is there, or cannot come any more.
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

    /// The replica stops: whoever waits hears it.
    pub(crate) fn abandon_requests(&mut self, reason: &StopReason, out: &mut Vec<Output<T>>) {
        for ticket in std::mem::take(&mut self.requests.waiting).into_keys() {
            let result = Err(AdminError::Stopped(reason.clone()));
            out.push(Output::Answer { ticket, result });
        }
    }

    /// Whom this sequencer wants to vote instead of those that do; `None` while they are as
    /// they should be, or cannot be changed yet.
    ///
    /// A replica that is to vote and is in step takes the place of its predecessor whose
    /// store is not here any more (rule V2). Nobody is taken in before it is in step, and no
    /// change is begun that could not be committed by who is here.
    pub(crate) fn wanted_voters(&self) -> Option<Vec<Voter>> {
        let epoch = self.live().filter(|epoch| epoch.sequencing)?;
        let voters = self.log.voters();
        // Its `EpochStart` is committed: so the voters of before are settled too.
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
                    _ => self.in_step_as(*replica).or(old.copied()),
                }
            })
            .collect();
        // Of a replica that runs with another store by now, the one that votes is lost, though
        // the group may not have noticed yet.
        let is_here =
            |voter: &Voter| self.peers.has_voter(voter) && !self.peers.has_other_store(voter);
        // Of those that are not to vote any more as many stay as are missing of those that are:
        // who is to be replaced votes until the other one does.
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

    /// That replica with the store that it follows this epoch with.
    fn in_step_as(&self, replica: ReplicaId) -> Option<Voter> {
        let follows = self.peers.identified().find(|peer| {
            peer.incarnation.replica == replica
                && peer.epoch == self.promised
                && peer.acked > Index(0)
                && peer.acked.0 + LAG_MAX >= self.commit.index.0
        })?;
        Some(Voter { replica, store: follows.store })
    }

    /// Rule V4: goes on alone after a majority of the voters was lost for good, as another
    /// cluster, whose first identity is the entry that says so. Everything in this log is
    /// kept; what only the others had is lost.
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
            return Err(StopReason::Invariant("there is no higher ballot".into()));
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
            "forces a new cluster, of this replica alone"
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

    /// Replica 2 follows a group of one, and an operator wants it to vote.
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
    fn v1_who_is_to_be_replaced_votes_until_the_other_one_is_in_step() {
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
    fn a_change_that_waits_for_a_replica_is_told() {
        let mut solo = Solo::new();
        assert_eq!(solo.engine.status().pending_change(), None);
        let change = VoterChange::Replace(ReplicaId(1), ReplicaId(2));
        solo.input(Input::ChangeVoters { ticket: 7, change });
        let pending = solo.engine.status().pending_change().unwrap_or_default();
        assert_eq!(
            pending,
            "replica 2 is to vote, and is not in the group: start it; replica 1 is not to vote, \
             but votes on"
        );
        solo.configure(&[member(1, 1), member(2, 2)], &[member(2, 2)]);
        solo.announce(member(2, 2), run(2, 2));
        let pending = solo.engine.status().pending_change().unwrap_or_default();
        assert!(
            pending.starts_with("replica 2 is to vote, and has not caught up yet"),
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
        assert_eq!(solo.engine.cluster(), old, "replica 2 was heard just now");
        // The transport lists replica 2 for ever, although its process is dead.
        (0..6).for_each(|_| solo.wait(solo.engine.config().election_timeout));
        solo.input(Input::ForceNewCluster { ticket: 9 });
        assert_ne!(solo.engine.cluster(), old);
        assert_eq!(solo.engine.log.voters().now, [solo.engine.voter()]);
    }

    #[test]
    fn v4_a_replica_that_does_not_hear_itself_forces_nothing() {
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
    fn a_change_waits_a_little_for_others_that_come_at_the_same_time() {
        let mut solo = to_be_changed();
        assert!(!begins(&solo));
        solo.wait(solo.engine.config().election_timeout / 4);
        assert!(begins(&solo));
    }

    #[test]
    fn a_change_does_not_count_on_a_store_whose_replica_runs_with_another() {
        let mut solo = to_be_changed();
        let members = [member(1, 1), member(2, 2), member(2, 3)];
        solo.configure(&members, &members[2..]);
        solo.announce(member(2, 3), run(2, 3));
        assert_eq!(solo.engine.wanted_voters(), None);
        // The group has noticed which of them is gone.
        solo.configure(&[member(1, 1), member(2, 3)], &[]);
        let news = follows(&solo, run(2, 3));
        solo.deliver(member(2, 3), news);
        let wanted = solo.engine.wanted_voters().unwrap_or_default();
        assert_eq!(wanted.last(), Some(&Voter { replica: ReplicaId(2), store: StoreId(3) }));
    }

    #[test]
    fn v4_who_turns_out_to_be_of_another_cluster_is_nobody_here() {
        let mut solo = to_be_changed();
        let cluster = Some(ClusterId(77));
        let message = follows(&solo, run(2, 2));
        solo.input(Input::Delivered { from: member(2, 2), cluster, message });
        assert!(!solo.engine.peers.has(run(2, 2)));
        assert_eq!(solo.engine.wanted_voters(), None);
    }
}
