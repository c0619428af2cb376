//! Descriptions of what a blocked replica waits for.

use crate::engine::Engine;
use crate::engine::membership::peers::Peer;
use crate::engine::status::{Role, join};
use crate::engine::stop::name_of;
use crate::wire::types::{Ballot, Index, Voter};

impl<T> Engine<T> {
    /// Returns what this replica waits for, in words; `None` if it is not blocked.
    pub(crate) fn waiting(&self) -> Option<String> {
        if self.stopped.is_some() {
            return None;
        }
        if let Some(reason) = self.peers.lost() {
            return Some(format!("waiting for the transport to come back: {reason}"));
        }
        if self.peers.local().is_none() {
            return Some("waiting for the transport to join the group".into());
        }
        if let Some(silent) = self.waiting_for_silent_majority() {
            return Some(silent);
        }
        let transfer = self.transfer();
        if let Some(epoch) = self.live().filter(|epoch| !epoch.in_sync || transfer.is_some()) {
            let (base, last) = (epoch.open.base.index, self.log.last().index);
            let how = match transfer {
                Some(transfer) => transfer.to_string(),
                None => {
                    format!("the epoch's log goes beyond {base}, and the rest was requested")
                }
            };
            return Some(format!(
                "waiting to catch up: this replica's log ends at index {last}; {how}"
            ));
        }
        if self.log.is_empty() {
            return Some(self.waiting_for_a_group());
        }
        if !self.sees_majority() {
            if let Some(other) = self.waiting_beside_other_cluster() {
                return Some(other);
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
                format!("waiting to catch up: entries {missing} to {known} have not arrived")
            } else {
                format!("waiting for entry {missing}, which was lost on the way")
            });
        }
        if !self.log.members().contains(&self.me()) {
            return Some(format!(
                "waiting to become a member: the sequencer, replica {}, has not ordered that this \
                 replica joined, and orders no command of it before that",
                epoch.open.sequencer.replica
            ));
        }
        let voted = self.log.voters().now.iter().any(|v| v.replica == self.me().replica);
        if voted && self.role() == Role::Learner {
            return Some(
                "waiting for a vote: this replica's store is new, so it lost its vote; the \
                 sequencer makes it a voter again once it has caught up"
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

    /// Describes the lack of a majority of the voters.
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
                "; {again} came back with new stores, so they lost their data and do not count"
            );
        }
        if lost * 2 >= voters.len() {
            text += "; force a new cluster at one replica, and only one, that still has its \
                     log: its data is kept";
        }
        text
    }

    /// Describes a cluster other than this replica's whose members are here and will never answer
    /// (rule V4); `None` if there is none.
    fn waiting_beside_other_cluster(&self) -> Option<String> {
        let (mine, theirs) = self.cluster().zip(self.peers.foreign_cluster())?;
        Some(format!(
            "this replica belongs to cluster {mine}, but the group here is cluster {theirs}: \
             restart it with an empty store to join that group, or give one of the two another \
             group name"
        ))
    }

    /// Returns true if all replicas that are listed to form the group are here, with empty stores.
    fn are_listed_here_and_empty(&self) -> bool {
        let is_empty = |peer: &Peer| peer.last.index == Index(0) && peer.epoch == Ballot::default();
        let is_listed = |peer: &&Peer| self.config.bootstrap.contains(&peer.incarnation.replica);
        !self.config.bootstrap.is_empty()
            && self.sees_majority()
            && self.peers.identified().filter(is_listed).all(is_empty)
    }

    /// Returns true if the peer is a voter with its own store; before the first epoch, if it is
    /// listed to form the group.
    pub(crate) fn counts(&self, peer: &Peer) -> bool {
        let replica = peer.incarnation.replica;
        if self.log.is_empty() {
            return self.config.bootstrap.contains(&replica);
        }
        self.log.voters().now.contains(&Voter { replica, store: peer.store })
    }

    /// Describes the state of a replica with an empty log.
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
                "waiting to be admitted to an existing group: its log is at replica {with_log}, \
                 and this replica's store is empty"
            );
            if self.are_listed_here_and_empty() {
                text += &format!(
                    "; the stores of {} are empty too: if these were all the voters, force a new \
                     cluster at replica {with_log} to keep its data, or stop it and empty its \
                     store to form a new group without the data",
                    join(listed.iter())
                );
            }
            return text;
        }
        if listed.is_empty() {
            return "waiting for an existing group: this replica is not configured to form one"
                .into();
        }
        let here = listed.iter().filter(|replica| self.peers.has_replica(**replica));
        format!("waiting for all of {} to form the group: have {}", join(listed.iter()), join(here))
    }
}
