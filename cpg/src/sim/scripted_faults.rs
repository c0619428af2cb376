//! Faults that a scenario asks for.

use std::time::Duration;

use crate::{NodeId, RingId};

use super::Sim;
use super::network::node_set::NodeSet;

impl Sim {
    /// The network falls into these parts, within which nodes hear each other. Who is in none
    /// is alone.
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

    /// All nodes hear each other again.
    pub fn heal(&mut self) {
        self.heals_at = None;
        if !self.is_whole() {
            self.journal.note(format_args!("the network is whole again"));
            self.parts = vec![NodeSet::first(self.daemons.len())];
            self.settle();
        }
    }

    /// The daemon of a node dies: its connections get [`Error::Library`](crate::Error::Library)
    /// from now on, what they had not polled and what was not ordered yet is lost (S15).
    pub fn kill_daemon(&mut self, node: NodeId) {
        let place = self.place(node);
        if self.daemons[place].is_up {
            self.daemons[place].die(&mut self.journal);
            self.settle();
        }
    }

    /// Starts a daemon that died. Until its first ring is formed it refuses connections with
    /// [`Error::TryAgain`](crate::Error::TryAgain).
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

    /// Whether the daemon of a node lives. It may be paused.
    pub fn is_up(&self, node: NodeId) -> bool {
        self.daemons[self.place(node)].is_up
    }

    /// The daemon of a node stands still (`SIGSTOP`). If that takes longer than its loss is
    /// noticed, it wakes up in a ring that has gone on without it.
    pub fn pause_daemon(&mut self, node: NodeId) {
        let place = self.place(node);
        self.daemons[place].wakes_at = None;
        if !self.daemons[place].is_paused {
            self.daemons[place].is_paused = true;
            self.journal.note(format_args!("{node}: the daemon stands still"));
            self.settle();
        }
    }

    /// A paused daemon goes on.
    pub fn resume_daemon(&mut self, node: NodeId) {
        let place = self.place(node);
        self.daemons[place].wakes_at = None;
        if self.daemons[place].is_paused {
            self.daemons[place].is_paused = false;
            self.journal.note(format_args!("{node}: the daemon goes on"));
            self.settle();
        }
    }

    /// The ring of that node loses its token: its nodes form a new one. In a ring that is
    /// still agreeing on its members, this aborts that.
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

    /// The next ring to be formed never gets to agree on its members: it waits for a further
    /// change, such as [`lose_token`](Self::lose_token) or the loss of a node, which aborts it.
    ///
    /// A *silent gap* (S8): pause a daemon, let the others go on without it, stall the next
    /// sync, resume it, [`advance`](Self::advance), lose the token. The node has missed messages
    /// and hears of no change. A *listed dead member* (S11): part a node off and let it form a ring of its
    /// own, stall the next sync, heal, advance, kill its daemon.
    pub fn stall_next_sync(&mut self) {
        self.is_next_sync_stalled = true;
    }

    /// Of the messages that `from` sends next, the first that is not yet spoken for does not
    /// reach `at`, and is not sent again in this ring: `at` delivers nothing of the ring any
    /// more. When the ring breaks and nobody who goes on with `at` has it, it is a hole (S4).
    pub fn lose_next(&mut self, from: NodeId, at: &[NodeId]) {
        let losers = at.iter().map(|node| self.place(*node)).collect();
        let place = self.place(from);
        self.daemons[place].to_lose.push_back(losers);
    }

    /// From now on `node` sends nothing more in its ring, and its next message straddles the
    /// next ring change: lost at the nodes that merge then (S9).
    pub fn straddle_next(&mut self, node: NodeId) {
        let place = self.place(node);
        self.daemons[place].is_to_straddle = true;
    }

    /// The next so many calls that send from this node are refused with
    /// [`Error::TryAgain`](crate::Error::TryAgain) (S3).
    pub fn refuse_next(&mut self, node: NodeId, count: usize) {
        let place = self.place(node);
        self.daemons[place].refuse_next = count;
    }

    /// The next so many messages sent from this node are lost, after `Ok` (S2).
    pub fn swallow_next(&mut self, node: NodeId, count: usize) {
        let place = self.place(node);
        self.daemons[place].swallow_next = count;
    }

    /// No more faults: the network is whole, all daemons run. What is lost stays lost, what is
    /// queued comes out, and dead members that are listed stay listed until the next ring.
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
