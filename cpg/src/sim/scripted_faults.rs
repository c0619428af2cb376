//! Faults that a scenario asks for.

use std::time::Duration;

use crate::{NodeId, RingId};

use super::Sim;
use super::network::node_set::NodeSet;

impl Sim {
    /// Partitions the network into these parts. A node in none of them is alone.
    pub fn part(&mut self, parts: &[&[NodeId]]) {
        let parts: Vec<NodeSet> =
            parts.iter().map(|part| part.iter().map(|node| self.place(*node)).collect()).collect();
        self.part_into(parts);
    }

    pub(super) fn part_into(&mut self, mut parts: Vec<NodeSet>) {
        let mut alone = NodeSet::first(self.daemons.len());
        for part in &mut parts {
            *part = *part & alone;
            alone = alone - *part;
        }
        parts.extend(alone.iter().map(NodeSet::one));
        parts.retain(|part| !part.is_empty());
        self.journal.note(format_args!("the network is cut into {} parts", parts.len()));
        self.parts = parts;
        self.heals_at = None;
        self.settle();
    }

    pub(super) fn is_whole(&self) -> bool {
        self.parts.len() == 1
    }

    /// Ends the partition: all nodes are connected again.
    pub fn heal(&mut self) {
        self.heals_at = None;
        if !self.is_whole() {
            self.journal.note(format_args!("the network is whole again"));
            self.parts = vec![NodeSet::first(self.daemons.len())];
            self.settle();
        }
    }

    /// Kills the daemon of a node. Its connections return [`Error::Library`](crate::Error::Library)
    /// from then on; events not yet polled and messages not yet ordered are lost (S15).
    pub fn kill_daemon(&mut self, node: NodeId) {
        let place = self.place(node);
        if self.daemons[place].is_up {
            self.daemons[place].die(&mut self.journal);
            self.settle();
        }
    }

    /// Starts a dead daemon. It rejects connections with
    /// [`Error::TryAgain`](crate::Error::TryAgain) until its first ring has formed.
    pub fn start_daemon(&mut self, node: NodeId) {
        let place = self.place(node);
        let daemon = &mut self.daemons[place];
        daemon.starts_at = None;
        if !daemon.is_up {
            daemon.is_up = true;
            self.journal.note(format_args!("{node}: the daemon starts"));
            self.settle();
        }
    }

    /// Returns true if the daemon of a node lives, even if it is paused.
    pub fn is_up(&self, node: NodeId) -> bool {
        self.daemons[self.place(node)].is_up
    }

    /// Suspends the daemon of a node (`SIGSTOP`). If the pause outlasts the detection of its loss,
    /// the daemon resumes with a ring that has continued without it.
    pub fn pause_daemon(&mut self, node: NodeId) {
        let place = self.place(node);
        self.daemons[place].wakes_at = None;
        if !self.daemons[place].is_paused {
            self.daemons[place].is_paused = true;
            self.journal.note(format_args!("{node}: the daemon stands still"));
            self.settle();
        }
    }

    /// Resumes a paused daemon.
    pub fn resume_daemon(&mut self, node: NodeId) {
        let place = self.place(node);
        self.daemons[place].wakes_at = None;
        if self.daemons[place].is_paused {
            self.daemons[place].is_paused = false;
            self.journal.note(format_args!("{node}: the daemon goes on"));
            self.settle();
        }
    }

    /// Makes the ring of a node lose its token, so that its nodes form a new one. If the ring has
    /// not agreed on its members yet, this aborts its sync.
    pub fn lose_token(&mut self, node: NodeId) {
        if let Some(ring) = self.daemons[self.place(node)].ring {
            self.lose_token_of(ring);
        }
    }

    pub(super) fn lose_token_of(&mut self, ring: RingId) {
        if let Some(ring) = self.rings.get_mut(&ring) {
            ring.loses_token_at = None;
            if ring.is_intact {
                ring.has_token = false;
                self.journal.note(format_args!("ring {}: the token is lost", ring.id));
                self.settle();
            }
        }
    }

    /// Keeps the next ring from agreeing on its members, until a further change such as
    /// [`lose_token`](Self::lose_token) or the loss of a node aborts it.
    ///
    /// To get a *silent gap* (S8): pause a daemon, let the others continue without it, stall the
    /// next sync, resume the daemon, [`advance`](Self::advance), and lose the token. The node has
    /// then missed messages and receives no change. To get a *listed dead member* (S11): partition
    /// a node off and let it form a ring of its own, stall the next sync, heal, advance, and kill
    /// its daemon.
    pub fn stall_next_sync(&mut self) {
        self.is_next_sync_stalled = true;
    }

    /// Drops a message of `from` at the nodes `at`: its next one that no earlier call covers. It is
    /// not sent again in this ring, so `at` deliver nothing more of the ring. If the ring breaks
    /// and no node that continues with them has the message, it is a hole (S4).
    pub fn lose_next(&mut self, from: NodeId, at: &[NodeId]) {
        let losers = at.iter().map(|node| self.place(*node)).collect();
        let place = self.place(from);
        self.daemons[place].to_lose.push_back(losers);
    }

    /// Makes `node` send nothing more in its ring. Its next message straddles the next ring change,
    /// and is lost at the nodes that merge then (S9).
    pub fn straddle_next(&mut self, node: NodeId) {
        let place = self.place(node);
        self.daemons[place].is_to_straddle = true;
    }

    /// Makes the next `count` calls that send from this node return
    /// [`Error::TryAgain`](crate::Error::TryAgain) (S3).
    pub fn refuse_next(&mut self, node: NodeId, count: usize) {
        let place = self.place(node);
        self.daemons[place].refuse_next = count;
    }

    /// Loses the next `count` messages sent from this node, after `Ok` (S2).
    pub fn swallow_next(&mut self, node: NodeId, count: usize) {
        let place = self.place(node);
        self.daemons[place].swallow_next = count;
    }

    /// Ends all faults: the network is whole, and all daemons run. Lost messages stay lost, queued
    /// ones are delivered, and listed dead members stay listed until the next ring.
    pub fn calm(&mut self) {
        self.journal.note(format_args!("no more faults"));
        self.faults = self.faults.only_spans();
        self.is_next_sync_stalled = false;
        for place in 0..self.daemons.len() {
            let daemon = &mut self.daemons[place];
            daemon.is_deaf_until = Duration::ZERO;
            daemon.to_lose.clear();
            daemon.is_to_straddle = false;
            daemon.refuse_next = 0;
            daemon.swallow_next = 0;
            let id = daemon.id;
            self.start_daemon(id);
            self.resume_daemon(id);
        }
        let now = self.journal.now;
        for ring in self.rings.values_mut() {
            ring.send_again();
            ring.loses_token_at = None;
            ring.end_stall(now);
        }
        self.heal();
    }
}
