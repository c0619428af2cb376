//! What a blocked replica waits for, in words.

use crate::engine::Engine;
use crate::engine::membership::peers::Peer;
use crate::engine::status::{Role, join};
use crate::engine::stop::name_of;
use crate::wire::types::{Ballot, Index, Voter};

impl<T> Engine<T> {
    /// What keeps this replica from going on.
    pub(crate) fn waiting(&self) -> Option<String> {
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
    pub(crate) fn counts(&self, peer: &Peer) -> bool {
        let replica = peer.incarnation.replica;
        if self.log.is_empty() {
            return self.config.bootstrap.contains(&replica);
        }
        self.log.voters().now.contains(&Voter { replica, store: peer.store })
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
