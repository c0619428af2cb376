use std::fmt;
use std::time::Duration;

use cpg::Member;

use super::{Engine, StopReason};
use crate::engine::membership::peers::Peer;
use crate::engine::stop::name_of;
use crate::types::{Ballot, ClusterId, Incarnation, Index, ReplicaId, Voter};

/// What a replica does in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Its order is the order of the epoch.
    Sequencer,
    /// In step with the sequencer, and votes.
    Voter,
    /// Follows without a vote, or does not have the whole log yet.
    Learner,
    /// No epoch is open here: it does not know the order.
    Waiting,
    /// Stopped for good.
    Stopped,
}

/// A replica as it sees itself at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Which run of which replica.
    pub incarnation: Incarnation,
    /// What it does.
    pub role: Role,
    /// The group's identity, once known.
    pub cluster: Option<ClusterId>,
    /// The epoch open here.
    pub epoch: Option<Ballot>,
    /// The highest ballot answered.
    pub promised: Ballot,
    /// Whose order is the order.
    pub sequencer: Option<ReplicaId>,
    /// Who votes; before the first epoch, who is to form the group.
    pub voters: Vec<ReplicaId>,
    /// The replicas that are listed here to form the group, where others are to vote by now. The
    /// list means nothing any more: should it be a mistake, `voters` are those that vote.
    pub listed: Option<Vec<ReplicaId>>,
    /// This replica knows that the last change of the voters is committed. Before that no
    /// other store should be given up (rule V2).
    pub voters_settled: bool,
    /// The entry that changed the voters last: who has applied it knows that it is committed.
    pub voters_since: Index,
    /// Who is to vote, as operators have asked for last. Where these are not `voters`, a change is
    /// pending: it waits until the replicas that it names are in the group and have caught up.
    pub wanted_voters: Vec<ReplicaId>,
    /// Who is in the group now, in CPG's order.
    pub members: Vec<MemberStatus>,
    /// The first entry that is kept in the log.
    pub first_kept: Index,
    /// The index of the newest snapshot that it holds.
    pub snapshot: Option<Index>,
    /// The end of the log.
    pub last: Index,
    /// Committed up to here.
    pub committed: Index,
    /// Applied up to here.
    pub applied: Index,
    /// The snapshot that it receives, if it lags so far that it needs one.
    pub transfer: Option<TransferStatus>,
    /// Where last the state of another replica was found not to be the same: the state machine
    /// is not deterministic, or a machine errs.
    pub diverged: Option<Index>,
    /// Why the last snapshot of the state was dropped: it could not have been restored. Until one
    /// can, the log is kept and grows.
    pub snapshot_refused: Option<String>,
    /// Another cluster whose members are in the same CPG group, and are ignored: one of the two
    /// should have another group name (rule V4).
    pub foreign: Option<ClusterId>,
    /// For how long no majority of the voters has been heard although the transport lists it,
    /// once that is longer than five seconds.
    pub silent: Option<Duration>,
    /// What the replica waits for, in words; `None` when it goes on.
    pub waiting: Option<String>,
    /// Why it stopped.
    pub stopped: Option<StopReason>,
}

/// How far a replica is with a snapshot that it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferStatus {
    /// Who sends it.
    pub donor: ReplicaId,
    /// The last entry that is in it.
    pub index: Index,
    /// Bytes that are here.
    pub bytes: u64,
    /// Bytes that it has.
    pub of_bytes: u64,
    /// Since it began.
    pub elapsed: Duration,
}

impl TransferStatus {
    /// Bytes a second on average, and how long the rest takes at that rate.
    pub fn pace(&self) -> Option<(u64, Duration)> {
        let rate = self.bytes as f64 / self.elapsed.as_secs_f64();
        let left = self.of_bytes.saturating_sub(self.bytes) as f64 / rate;
        let left = Duration::try_from_secs_f64(left).ok()?;
        Some((rate as u64, left))
    }
}

impl fmt::Display for TransferStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { donor, index, bytes, of_bytes, .. } = self;
        write!(
            f,
            "replica {donor} sends the state at index {index}, {bytes} of {of_bytes} bytes are here"
        )?;
        match self.pace() {
            Some((rate, left)) => write!(f, ", {rate} a second, {} s left", left.as_secs()),
            None => Ok(()),
        }
    }
}

/// A member of the group, as another sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberStatus {
    /// Its CPG label.
    pub member: Member,
    /// Who it is, once it has said so.
    pub replica: Option<ReplicaId>,
    /// It counts as a voter: it is one, and runs with the store that it votes with. One that has
    /// lost its store does not count until the group has taken it in again.
    pub votes: bool,
    /// What it has last said to have acked in the epoch.
    pub acked: Index,
    /// What it has last said to have applied.
    pub applied: Index,
    /// Which other application it runs, in words, and is ignored therefore (rule V5); `None` at
    /// replicas of this application.
    pub other_application: Option<String>,
}

/// How far a voter may be behind what is committed, in entries, to count as caught up.
const LAG_MAX: u64 = 1024;

impl Status {
    /// The change of the voters that is asked for and not in force yet, and what it waits for.
    pub fn pending_change(&self) -> Option<String> {
        let missing: Vec<String> = self
            .wanted_voters
            .iter()
            .filter(|id| !self.voters.contains(id))
            .map(|id| match self.members.iter().any(|member| member.replica == Some(*id)) {
                true => format!("replica {id} is to vote, and has not caught up yet"),
                false => format!("replica {id} is to vote, and is not in the group: start it"),
            })
            .collect();
        let going = self.voters.iter().filter(|id| !self.wanted_voters.contains(id));
        let going: Vec<String> = going.map(|id| format!("replica {id} is not to vote")).collect();
        match (missing.is_empty(), going.is_empty()) {
            (true, true) => None,
            (true, false) => Some(going.join("; ")),
            (false, true) => Some(missing.join("; ")),
            // As many stay as are missing.
            (false, false) => {
                Some(format!("{}; {}, but votes on", missing.join("; "), going.join("; ")))
            }
        }
    }

    /// Returns why no other replica should be stopped now, or lose its store, as seen from here;
    /// `None` if each of the voters is in the group, has caught up, and knows that the last change
    /// of the voters is committed (rule V2). To be asked at the replica that was restarted last:
    /// others may not have noticed yet that it was gone.
    pub fn restart_obstacle(&self) -> Option<String> {
        if let Some(stopped) = &self.stopped {
            return Some(format!("this replica has stopped: {stopped}"));
        }
        if let Some(waiting) = &self.waiting {
            return Some(waiting.clone());
        }
        if !matches!(self.role, Role::Voter | Role::Sequencer) {
            return Some("this replica does not vote yet".into());
        }
        if !self.voters_settled {
            return Some("the last change of the voters is not known to be committed".into());
        }
        self.voters.iter().find_map(|id| {
            if *id == self.incarnation.replica {
                return None;
            }
            let is_it = |member: &&MemberStatus| member.replica == Some(*id);
            if !self.members.iter().any(|member| is_it(&member)) {
                return Some(format!("replica {id}, a voter, is not in the group"));
            }
            let Some(member) = self.members.iter().filter(is_it).find(|member| member.votes) else {
                return Some(format!("replica {id} has a new store, which does not vote yet"));
            };
            if member.applied < self.voters_since {
                return Some(format!(
                    "replica {id} does not know yet that the last change of the voters is committed"
                ));
            }
            let behind = self.committed.0.saturating_sub(member.acked.0);
            (behind > LAG_MAX).then(|| format!("replica {id} is {behind} entries behind"))
        })
    }

    /// Why nothing could be done in time.
    pub(crate) fn waits_for(&self) -> String {
        self.waiting.clone().unwrap_or_else(|| "the group is slower than that".into())
    }

    /// The replica died of that, without the engine's doing.
    pub(crate) fn fail(&mut self, reason: StopReason) {
        self.role = Role::Stopped;
        self.waiting = None;
        self.stopped = Some(reason);
    }
}

impl<T> Engine<T> {
    /// How things are, for people and programs.
    pub fn status(&self) -> Status {
        let voters = if self.log.is_empty() {
            self.config.bootstrap.clone()
        } else {
            self.log.voters().now.iter().map(|voter| voter.replica).collect()
        };
        let wanted_voters = match self.log.is_empty() {
            true => self.config.bootstrap.clone(),
            false => self.log.desired().iter().copied().collect(),
        };
        Status {
            incarnation: self.me(),
            role: self.role(),
            cluster: self.cluster,
            epoch: self.epoch.as_ref().map(|epoch| epoch.open.ballot),
            promised: self.promised,
            sequencer: self.live().map(|epoch| epoch.open.sequencer.replica),
            voters,
            listed: self.listed_otherwise(),
            voters_settled: self.log.voters().is_settled(self.commit.index),
            voters_since: self.log.voters().since,
            wanted_voters,
            members: self
                .peers
                .iter()
                .map(|(member, peer)| MemberStatus {
                    member,
                    replica: peer.map(|peer| peer.incarnation.replica),
                    votes: peer.is_some_and(|peer| self.counts(peer)),
                    acked: peer.map_or(Index(0), |peer| peer.acked),
                    applied: peer.map_or(Index(0), |peer| peer.applied),
                    other_application: self.peers.applications.of(member),
                })
                .collect(),
            first_kept: self.log.first_kept(),
            snapshot: self.transfer.snapshots.held().last().map(|name| name.index()),
            last: self.log.last().index,
            committed: self.commit.index,
            applied: self.commit.applied,
            transfer: self.transfer(),
            diverged: self.transfer.snapshots.differs_at(),
            snapshot_refused: self.transfer.snapshots.refused().map(str::to_owned),
            foreign: self.peers.foreign_cluster(),
            silent: self.silence(),
            waiting: self.waiting(),
            stopped: self.stopped.clone(),
        }
    }

    fn transfer(&self) -> Option<TransferStatus> {
        self.transfer.receiver.as_ref().map(|receiving| TransferStatus {
            donor: receiving.donor.replica,
            index: receiving.name.index(),
            bytes: receiving.bytes(),
            of_bytes: receiving.name.bytes,
            elapsed: self.ago(receiving.since),
        })
    }

    fn role(&self) -> Role {
        if self.stopped.is_some() {
            return Role::Stopped;
        }
        match self.live() {
            None => Role::Waiting,
            Some(_) if self.peers.local().is_none() => Role::Waiting,
            Some(epoch) if epoch.sequencing => Role::Sequencer,
            Some(epoch) if epoch.in_sync && self.log.voters().now.contains(&self.voter()) => {
                Role::Voter
            }
            Some(_) => Role::Learner,
        }
    }

    /// What keeps this replica from going on.
    fn waiting(&self) -> Option<String> {
        if self.stopped.is_some() {
            return None;
        }
        if let Some(reason) = self.peers.lost() {
            return Some(format!("waiting for the transport to come back: {reason}"));
        }
        if self.peers.local().is_none() {
            return Some("waiting to be taken into the group by its transport".into());
        }
        if let Some(silent) = self.waiting_for_silent_majority() {
            return Some(silent);
        }
        let transfer = self.transfer();
        if let Some(epoch) = self.live().filter(|epoch| !epoch.in_sync || transfer.is_some()) {
            let (base, last) = (epoch.open.base.index, self.log.last().index);
            let how = match transfer {
                Some(transfer) => transfer.to_string(),
                None => format!("the group's goes on from {base}, and it asks for the rest"),
            };
            return Some(format!(
                "waiting to catch up: this replica's log ends at index {last}; {how}"
            ));
        }
        if self.log.is_empty() {
            return Some(self.waiting_for_a_group());
        }
        if !self.sees_majority() {
            if let Some(stranger) = self.stranger() {
                return Some(stranger);
            }
            return Some(self.waiting_for_majority());
        }
        if let Some(coordination) = &self.election.coordination {
            return Some(format!(
                "waiting for reports of ballot {}: have {}",
                coordination.ballot,
                join(coordination.reported())
            ));
        }
        let Some(epoch) = self.live() else {
            return Some(format!("waiting for epoch {} to open", self.promised));
        };
        if !self.peers.has(epoch.open.sequencer) {
            return Some(format!(
                "waiting for a new sequencer: {} is gone",
                epoch.open.sequencer.replica
            ));
        }
        if let Some(waiting) = self.waiting_for_log_space().or_else(|| self.waiting_for_laggard()) {
            return Some(waiting);
        }
        if self.transfer.fetch.missing_since.is_some() {
            let (missing, known) = (self.log.last().index.next(), self.ordering.cursor.known);
            return Some(if known > missing {
                format!("waiting to catch up: entries {missing} to {known} are still to come")
            } else {
                format!("waiting for entry {missing}, which was lost on the way")
            });
        }
        if !self.log.members().contains(&self.me()) {
            return Some(format!(
                "waiting to be a member: the sequencer, {}, has not put this replica into the \
                 order, and until then orders nothing that it proposes",
                epoch.open.sequencer.replica
            ));
        }
        let voted = self.log.voters().now.iter().any(|v| v.replica == self.me().replica);
        if voted && self.role() == Role::Learner {
            return Some(
                "waiting for a vote: this replica follows, but its store is new, so it is not \
                 the voter it was; the sequencer takes it in once it has caught up"
                    .into(),
            );
        }
        let voters = self.log.voters();
        (!voters.is_settled(self.commit.index)).then(|| {
            let ids = |set: &[Voter]| join(set.iter().map(|voter| voter.replica));
            let (old, new) = (ids(&voters.previous), ids(&voters.now));
            if voters.now == voters.previous {
                format!("waiting for the first entry of epoch {} to be committed", self.promised)
            } else if old == new {
                let came = voters.now.iter().filter(|voter| !voters.previous.contains(voter));
                let came = join(came.map(|voter| voter.replica));
                format!("waiting for the vote of {came}, whose store is new, to be committed")
            } else {
                format!("waiting for the change of the voters from {old} to {new} to be committed")
            }
        })
    }

    fn waiting_for_majority(&self) -> String {
        let voters = &self.log.voters().now;
        let is_here = |voter: &&Voter| self.peers.has_voter(voter);
        let ids = |voters: &mut dyn Iterator<Item = &Voter>| join(voters.map(|v| v.replica));
        let mut text = format!(
            "waiting for a majority of {}: have {}",
            ids(&mut voters.iter()),
            ids(&mut voters.iter().filter(is_here))
        );
        let is_lost = |voter: &&Voter| !is_here(voter) && self.peers.has_other_store(voter);
        let lost = voters.iter().filter(is_lost).count();
        if lost > 0 {
            let again = ids(&mut voters.iter().filter(is_lost));
            text += &format!(
                "; {again} came back with new stores, so they have forgotten what they knew and \
                 do not count"
            );
        }
        if lost * 2 >= voters.len() {
            text += "; force a new cluster at a replica that still has its log, and only there: \
                     that keeps the data it has";
        }
        text
    }

    /// Rule V4: whether those here are of another cluster, who will never answer.
    fn stranger(&self) -> Option<String> {
        let (mine, theirs) = self.cluster().zip(self.peers.foreign_cluster())?;
        Some(format!(
            "belongs to cluster {mine}, the group here is cluster {theirs}: start this replica with \
             an empty store to join that, or give one of the two another group name"
        ))
    }

    /// Whether all that are listed to form the group are here, with empty stores.
    fn are_listed_here_and_empty(&self) -> bool {
        let is_empty = |peer: &Peer| peer.last.index == Index(0) && peer.epoch == Ballot::default();
        let is_listed = |peer: &&Peer| self.config.bootstrap.contains(&peer.incarnation.replica);
        !self.config.bootstrap.is_empty()
            && self.sees_majority()
            && self.peers.identified().filter(is_listed).all(is_empty)
    }

    /// Whether that member is a voter with its own store; before the first epoch, whether it is
    /// listed to form the group.
    fn counts(&self, peer: &Peer) -> bool {
        let replica = peer.incarnation.replica;
        if self.log.is_empty() {
            return self.config.bootstrap.contains(&replica);
        }
        self.log.voters().now.contains(&Voter { replica, store: peer.store })
    }

    /// The replicas that are listed here, where the group has others that are to vote.
    fn listed_otherwise(&self) -> Option<Vec<ReplicaId>> {
        let listed = &self.config.bootstrap;
        let desired = self.log.desired();
        let differs =
            listed.len() != desired.len() || !listed.iter().all(|id| desired.contains(id));
        (differs && !self.log.is_empty() && !listed.is_empty()).then(|| listed.clone())
    }

    /// Says in the log that the group's voters are not those listed here, once for each set.
    pub(crate) fn warn_of_other_voters(&mut self) {
        let Some(listed) = self.listed_otherwise() else { return };
        if self.peers.warned_of != *self.log.desired() {
            self.peers.warned_of.clone_from(self.log.desired());
            tracing::warn!(
                replica = %self.me().replica,
                voters = join(self.log.desired().iter()), listed = join(listed.iter()),
                "the voters of this group are others than those listed here: if that is a mistake, \
                 change them by commands, not by the list, which means nothing to a group that exists"
            );
        }
    }

    fn waiting_for_a_group(&self) -> String {
        if let Some((member, name)) = self.peers.applications.with_log() {
            return format!(
                "waiting for a group of this application: process {member} of this CPG group runs \
                 {}; give one of the two another group name",
                name_of(name)
            );
        }
        let listed = &self.config.bootstrap;
        let logs = self.peers.identified().filter(|peer| peer.last.index > Index(0));
        let mut logs = logs.map(|peer| peer.incarnation.replica).peekable();
        if logs.peek().is_some() {
            let with_log = join(logs);
            let mut text = format!(
                "waiting to be taken in: replica {with_log} has the log of a group that exists, \
                 and this replica's store is empty"
            );
            if self.are_listed_here_and_empty() {
                text += &format!(
                    "; so are those of {}: if these are all that voted, force a new cluster at \
                     replica {with_log} to go on with its data, or stop it and empty its store to \
                     form a new group without them",
                    join(listed.iter())
                );
            }
            return text;
        }
        if listed.is_empty() {
            return "waiting for a group that exists: none is to be formed here".into();
        }
        let here = listed.iter().filter(|replica| self.peers.has_replica(**replica));
        format!("waiting for all of {} to form the group: have {}", join(listed.iter()), join(here))
    }
}

/// "1 2 3", or "none".
fn join<D: fmt::Display>(items: impl Iterator<Item = D>) -> String {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    if items.is_empty() { "none".into() } else { items.join(" ") }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sequencer => "sequencer",
            Self::Voter => "voter",
            Self::Learner => "learner",
            Self::Waiting => "waiting",
            Self::Stopped => "stopped",
        })
    }
}

impl fmt::Display for MemberStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.replica, &self.other_application) {
            (_, Some(other)) => write!(f, "? ({}, runs {other} and is ignored)", self.member),
            (Some(replica), None) => write!(f, "{replica} ({})", self.member),
            (None, None) => write!(f, "? ({})", self.member),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Input, Now};
    use super::*;
    use crate::Timestamp;
    use crate::engine::membership::voters::VoterChange;
    use crate::engine::solo::{Solo, member, run};
    use crate::entry::{Content, Entry};
    use crate::types::{Digest, Position, StoreId, Voters};

    /// Replica 1 of the voters 1, 2 and 3 runs on; the others that are given came back with new
    /// stores.
    fn with_new_stores(others: &[u32]) -> Status {
        let now = Now { monotonic: Duration::from_secs(100), wall: Timestamp(100_000) };
        let voters: Vec<_> =
            (1..=3).map(|id| Voter { replica: ReplicaId(id), store: StoreId(id.into()) }).collect();
        let voters = Voters { now: voters.clone(), previous: voters, since: Index(1) };
        let position =
            Position { epoch: Ballot { counter: 1, ..Ballot::default() }, index: Index(1) };
        let start = Entry::new(Digest::default(), position, now.wall, Content::EpochStart(voters));
        let config =
            Config::new(run(1, 1), StoreId(1), vec![1, 2, 3].into_iter().map(ReplicaId).collect());
        let mut engine = Engine::<u64>::new(config, now);
        engine.log.append(position.epoch, now.wall, start.content);
        let members: Vec<_> =
            std::iter::once(1).chain(others.iter().copied()).map(|id| member(id, id)).collect();
        engine.peers.configure(member(1, 1), &members, &members, now.monotonic);
        engine.identify(member(1, 1), run(1, 1), StoreId(1));
        for id in others {
            engine.identify(member(*id, *id), run(*id, 90), StoreId(90));
        }
        engine.status()
    }

    #[test]
    fn who_came_back_with_a_new_store_is_named_and_what_keeps_the_data() {
        let status = with_new_stores(&[2, 3]);
        let waiting = status.waiting.unwrap_or_default();
        assert!(waiting.starts_with("waiting for a majority of 1 2 3: have 1; 2 3 came back"));
        assert!(waiting.contains("force a new cluster"), "{waiting}");
        assert_eq!(status.members.iter().filter(|member| member.votes).count(), 1);
        // The other one may come back with its store.
        let waiting = with_new_stores(&[2]).waiting.unwrap_or_default();
        assert!(waiting.contains("2 came back") && !waiting.contains("force"), "{waiting}");
        let waiting = with_new_stores(&[]).waiting.unwrap_or_default();
        assert_eq!(waiting, "waiting for a majority of 1 2 3: have 1");
    }

    #[test]
    fn a_list_that_the_group_does_not_follow_is_shown() {
        let mut solo = Solo::new();
        assert_eq!(solo.engine.status().listed, None);
        let change = VoterChange::Add(ReplicaId(2));
        solo.input(Input::ChangeVoters { ticket: 7, change });
        assert_eq!(solo.engine.status().listed, Some(vec![ReplicaId(1)]));
    }
}
