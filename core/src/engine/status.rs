use std::fmt;
use std::time::Duration;

use cpg::Member;

use super::{Engine, StopReason};
use crate::wire::types::{Ballot, ClusterId, Incarnation, Index, ReplicaId};

/// Role of a replica in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// Orders the entries of the open epoch.
    Sequencer,
    /// Has caught up, and votes.
    Voter,
    /// Follows without a vote, or does not have the whole log yet.
    Learner,
    /// No epoch is open here, or there is no connection to the group.
    Waiting,
    /// Stopped for good.
    Stopped,
}

/// State of a replica, as the replica itself sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Replica id and nonce of this run.
    pub incarnation: Incarnation,
    /// Role in the group.
    pub role: Role,
    /// Id of the cluster, once known.
    pub cluster: Option<ClusterId>,
    /// Epoch open here.
    pub epoch: Option<Ballot>,
    /// Highest ballot answered.
    pub promised: Ballot,
    /// Replica that sequences the open epoch.
    pub sequencer: Option<ReplicaId>,
    /// Voters; before the first epoch, the replicas that are to form the group.
    pub voters: Vec<ReplicaId>,
    /// Replicas that are listed here to form the group, if the wanted voters differ from them. The
    /// list has no effect any more: only `voters` vote, even if the list is a mistake.
    pub listed: Option<Vec<ReplicaId>>,
    /// True if this replica knows that the last change of the voters is committed. Before that, no
    /// other store should be given up (rule V2).
    pub voters_settled: bool,
    /// Index of the entry that last changed the voters. A replica that has applied it knows that
    /// the change is committed.
    pub voters_since: Index,
    /// Voters by the operators' last requests. If they differ from `voters`, a change is pending:
    /// it waits until the replicas that it names are in the group and have caught up.
    pub wanted_voters: Vec<ReplicaId>,
    /// Members of the group, in CPG's order.
    pub members: Vec<MemberStatus>,
    /// Index of the first entry that is kept in the log.
    pub first_kept: Index,
    /// Index of the newest snapshot that it holds.
    pub snapshot: Option<Index>,
    /// Index of the last entry of the log.
    pub last: Index,
    /// Index up to which the log is committed.
    pub committed: Index,
    /// Index up to which the log is applied.
    pub applied: Index,
    /// Progress of the snapshot that it receives, if it lags so far that it needs one.
    pub transfer: Option<TransferStatus>,
    /// Highest index at which the state of another replica was found to differ: the state machine
    /// is not deterministic, or a host has faulty memory or disks.
    pub diverged: Option<Index>,
    /// Reason why the last snapshot of the state was dropped: it could not have been restored.
    /// Until a snapshot can, the log is kept, and grows.
    pub snapshot_refused: Option<String>,
    /// Another cluster whose members are in the same CPG group, and are ignored: one of the two
    /// clusters should have another group name (rule V4).
    pub foreign: Option<ClusterId>,
    /// Time for which no majority of the voters has been heard although the transport lists it;
    /// `None` while it is shorter than five election timeouts.
    pub silent: Option<Duration>,
    /// Description of what the replica waits for; `None` if it is not blocked.
    pub waiting: Option<String>,
    /// Reason why it stopped, if it did.
    pub stopped: Option<StopReason>,
}

/// Progress of a snapshot that a replica receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransferStatus {
    /// Replica that sends it.
    pub donor: ReplicaId,
    /// Index of the last entry that it includes.
    pub index: Index,
    /// Number of bytes received.
    pub bytes: u64,
    /// Size of the snapshot in bytes.
    pub of_bytes: u64,
    /// Time since the transfer began.
    pub elapsed: Duration,
}

impl TransferStatus {
    /// Returns the average number of bytes per second, and the time that the rest takes at that
    /// rate.
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

/// A member of the group, as another replica sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberStatus {
    /// Its CPG address.
    pub member: Member,
    /// Its replica id, once it has identified itself.
    pub replica: Option<ReplicaId>,
    /// True if it counts as a voter: it is one, and runs with the store that it votes with. A voter
    /// that has lost its store does not count until the group makes it a voter again.
    pub votes: bool,
    /// Index that it last reported as acked in the epoch.
    pub acked: Index,
    /// Index that it last reported as applied.
    pub applied: Index,
    /// Description of the other application that it runs, for which it is ignored (rule V5); `None`
    /// if it runs this application.
    pub other_application: Option<String>,
}

/// Maximum number of entries by which a voter may be behind the commit index to count as caught up.
const LAG_MAX: u64 = 1024;

impl Status {
    /// Returns a description of the change of the voters that is pending, and of what it waits for.
    pub fn pending_change(&self) -> Option<String> {
        let missing: Vec<String> = self
            .wanted_voters
            .iter()
            .filter(|id| !self.voters.contains(id))
            .map(|id| match self.members.iter().any(|member| member.replica == Some(*id)) {
                true => format!("replica {id} will become a voter once it has caught up"),
                false => {
                    format!("replica {id} will become a voter, but is not in the group: start it")
                }
            })
            .collect();
        let going = self.voters.iter().filter(|id| !self.wanted_voters.contains(id));
        let going: Vec<String> =
            going.map(|id| format!("replica {id} will lose its vote")).collect();
        match (missing.is_empty(), going.is_empty()) {
            (true, true) => None,
            (true, false) => Some(going.join("; ")),
            (false, true) => Some(missing.join("; ")),
            // A voter keeps its vote until its replacement is ready.
            (false, false) => Some(format!(
                "{}; {}, but keeps it until then",
                missing.join("; "),
                going.join("; ")
            )),
        }
    }

    /// Returns the reason why no other replica should be stopped now, or lose its store, as seen
    /// from here; `None` if each of the voters is in the group, has caught up, and knows that the
    /// last change of the voters is committed (rule V2). Ask the replica that was restarted last:
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

    /// Returns the reason why an operation could not be carried out in time.
    pub(crate) fn waits_for(&self) -> String {
        self.waiting.clone().unwrap_or_else(|| "the group did not respond in time".into())
    }

    /// Records that the replica died for this reason, outside the engine.
    pub(crate) fn fail(&mut self, reason: StopReason) {
        self.role = Role::Stopped;
        self.waiting = None;
        self.stopped = Some(reason);
    }
}

impl<T> Engine<T> {
    /// Returns the status.
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

    /// Returns the progress of the snapshot that is being received, if there is one.
    pub(crate) fn transfer(&self) -> Option<TransferStatus> {
        self.transfer.receiver.as_ref().map(|receiving| TransferStatus {
            donor: receiving.donor.replica,
            index: receiving.name.index(),
            bytes: receiving.bytes(),
            of_bytes: receiving.name.bytes,
            elapsed: self.ago(receiving.since),
        })
    }

    /// Returns this replica's role.
    pub(crate) fn role(&self) -> Role {
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

    /// Returns the replicas that are listed here, if the group's wanted voters differ from them.
    fn listed_otherwise(&self) -> Option<Vec<ReplicaId>> {
        let listed = &self.config.bootstrap;
        let desired = self.log.desired();
        let differs =
            listed.len() != desired.len() || !listed.iter().all(|id| desired.contains(id));
        (differs && !self.log.is_empty() && !listed.is_empty()).then(|| listed.clone())
    }

    /// Logs a warning if the group's voters differ from those listed here, once for each set of
    /// voters.
    pub(crate) fn warn_of_other_voters(&mut self) {
        let Some(listed) = self.listed_otherwise() else { return };
        if self.peers.warned_of != *self.log.desired() {
            self.peers.warned_of.clone_from(self.log.desired());
            tracing::warn!(
                replica = %self.me().replica,
                voters = join(self.log.desired().iter()), listed = join(listed.iter()),
                "the voters of this group differ from those listed here: use commands to change \
                 voters; the list is ignored once a group exists"
            );
        }
    }
}

/// Joins items with spaces: "1 2 3", or "none".
pub(crate) fn join<D: fmt::Display>(items: impl Iterator<Item = D>) -> String {
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
    use crate::wire::entry::{Entry, EntryPayload};
    use crate::wire::types::Voter;
    use crate::wire::types::{Digest, Position, StoreId, Voters};

    /// Returns the status of replica 1 of the voters 1, 2 and 3, which kept running, after the
    /// given others returned with new stores.
    fn with_new_stores(others: &[u32]) -> Status {
        let now = Now { monotonic: Duration::from_secs(100), wall: Timestamp(100_000) };
        let voters: Vec<_> =
            (1..=3).map(|id| Voter { replica: ReplicaId(id), store: StoreId(id.into()) }).collect();
        let voters = Voters { now: voters.clone(), previous: voters, since: Index(1) };
        let position =
            Position { epoch: Ballot { counter: 1, ..Ballot::default() }, index: Index(1) };
        let start =
            Entry::new(Digest::default(), position, now.wall, EntryPayload::EpochStart(voters));
        let config =
            Config::new(run(1, 1), StoreId(1), vec![1, 2, 3].into_iter().map(ReplicaId).collect());
        let mut engine = Engine::<u64>::new(config, now);
        engine.log.append(position.epoch, now.wall, start.payload);
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
    fn replicas_that_returned_with_new_stores_are_named_with_a_remedy() {
        let status = with_new_stores(&[2, 3]);
        let waiting = status.waiting.unwrap_or_default();
        assert!(waiting.starts_with("waiting for a majority of 1 2 3: have 1; 2 3 came back"));
        assert!(waiting.contains("force a new cluster"), "{waiting}");
        assert_eq!(status.members.iter().filter(|member| member.votes).count(), 1);
        // The third replica may return with its store.
        let waiting = with_new_stores(&[2]).waiting.unwrap_or_default();
        assert!(waiting.contains("2 came back") && !waiting.contains("force"), "{waiting}");
        let waiting = with_new_stores(&[]).waiting.unwrap_or_default();
        assert_eq!(waiting, "waiting for a majority of 1 2 3: have 1");
    }

    #[test]
    fn the_status_shows_a_list_that_differs_from_the_voters() {
        let mut solo = Solo::new();
        assert_eq!(solo.engine.status().listed, None);
        let change = VoterChange::Add(ReplicaId(2));
        solo.input(Input::ChangeVoters { ticket: 7, change });
        assert_eq!(solo.engine.status().listed, Some(vec![ReplicaId(1)]));
    }
}
