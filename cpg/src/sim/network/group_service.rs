//! A daemon's use of the order of its ring: Corosync's `exec/cpg.c`, for one group.

use bytes::Bytes;

use crate::{Change, Configuration, Event, Member, NodeId, Pid, Reason, Ring};

use super::connection::{Progress, SimConnection};
use super::daemon::Daemon;
use super::node_set::NodeSet;
use super::packet::{Packet, Payload};
use crate::sim::observed::Journal;

impl Daemon {
    /// The next packet of its ring's order.
    pub(in crate::sim) fn take(&mut self, packet: &Packet, journal: &mut Journal) {
        match &packet.payload {
            Payload::Message { sender, content } => {
                if packet.straddles && !self.together.contains(packet.origin) {
                    journal.observed.straddled += 1;
                    journal.note(format_args!(
                        "{}: a message of {sender} straddles the ring change and is lost",
                        self.id
                    ));
                } else {
                    self.take_message(*sender, content, journal);
                }
            }
            Payload::Join { member } => {
                if self.processes.insert(*member) {
                    self.tell(vec![change(*member, Reason::Join)], vec![], journal);
                }
            }
            Payload::Leave { member, reason } => self.let_go(*member, *reason, journal),
            Payload::Joinlist { members } => {
                members.iter().for_each(|member| self.joinlists.insert(0, *member));
            }
            Payload::Barrier => self.activate(journal),
        }
    }

    /// Corosync looks whether it knows the node, not the process.
    fn take_message(&mut self, sender: Member, content: &Bytes, journal: &mut Journal) {
        let mut listeners =
            self.connections.values_mut().filter(|connection| connection.listens()).peekable();
        if listeners.peek().is_none() {
            return;
        }
        if !self.processes.contains(&sender) {
            if self.processes.range(of_node(sender.node)).next().is_none() {
                journal.observed.unknown_node += 1;
                return;
            }
            journal.observed.posthumous += 1;
        }
        for connection in listeners {
            connection.hear(Event::Deliver { sender, message: content.clone() });
        }
    }

    /// Delivers a departure, even if the member was not known.
    fn let_go(&mut self, member: Member, reason: Reason, journal: &mut Journal) {
        self.processes.remove(&member);
        if !self.is_synced {
            self.buried.push(member);
        }
        self.tell(vec![], vec![change(member, reason)], journal);
    }

    /// The ring has agreed on its members: who is gone with a node, who came with one, who is
    /// known and was not named by its node; then the ring itself.
    fn activate(&mut self, journal: &mut Journal) {
        let away = self.activated - self.together;
        let gone = self.activated - self.transitional;
        let silent = away & self.transitional & self.ring_members;
        if silent
            .iter()
            .any(|place| self.processes.range(of_node(self.ids[place])).next().is_some())
        {
            journal.observed.silent_gaps += 1;
            journal.note(format_args!("{}: was away, and hears nothing of it", self.id));
        }
        self.activated = self.ring_members;
        self.is_synced = true;

        let left: Vec<_> = self.processes.iter().copied().filter(|m| self.is_of(gone, m)).collect();
        left.iter().for_each(|member| {
            self.processes.remove(member);
        });
        if !left.is_empty() {
            let changes = left.iter().map(|member| change(*member, Reason::NodeDown)).collect();
            self.tell(vec![], changes, journal);
        }

        let listed = std::mem::take(&mut self.joinlists);
        let buried = std::mem::take(&mut self.buried);
        let mut joined = Vec::new();
        for member in listed.iter().filter(|member| member.node != self.id) {
            if self.processes.insert(*member) {
                joined.push(change(*member, Reason::NodeUp));
                if buried.contains(member) || !self.is_of(self.ring_members, member) {
                    journal.observed.listed_dead += 1;
                    journal.note(format_args!("{}: {member} is dead and listed", self.id));
                }
            }
        }
        if joined.iter().any(|change| left.contains(&change.member)) {
            journal.observed.two_step_merges += 1;
        }
        let mut is_bare = left.is_empty() && joined.is_empty();
        if !joined.is_empty() {
            self.tell(joined, vec![], journal);
        }

        let is_vanished = |member: &&Member| member.node != self.id && !listed.contains(member);
        let vanished: Vec<_> = self.processes.iter().filter(is_vanished).copied().collect();
        for member in vanished {
            journal.observed.vanished += 1;
            is_bare = false;
            self.let_go(member, Reason::ProcessDown, journal);
        }

        if let Some(ring) = self.known_ring() {
            for connection in self.connections.values_mut() {
                if connection.progress < Progress::Member {
                    journal.observed.early_rings += 1;
                }
                if connection.progress < Progress::Left {
                    connection.hear(Event::Ring(ring.clone()));
                    journal.observed.bare_rings += u64::from(is_bare);
                }
            }
        }
    }

    /// Tells a configuration to all who listen, and the ring to those who have not heard of
    /// any yet.
    fn tell(&mut self, joined: Vec<Change>, left: Vec<Change>, journal: &mut Journal) {
        let has_left = |member: &&Member| !left.iter().any(|change| change.member == **member);
        let members: Vec<_> = self.processes.iter().filter(has_left).copied().collect();
        let (id, ring) = (self.id, self.known_ring());
        let is_named = |changes: &[Change], member| changes.iter().any(|c| c.member == member);
        for connection in self.connections.values_mut() {
            if is_named(&joined, connection.member) && connection.progress < Progress::Member {
                connection.progress = Progress::Member;
            }
        }
        let configuration = Configuration { members, joined, left };
        journal.note(format_args!("{id}: {}", Shown(&configuration)));
        for connection in self.connections.values_mut().filter(|connection| connection.listens()) {
            connection.hear(Event::Configuration(configuration.clone()));
            if connection.is_leaving
                && configuration.left.contains(&change(connection.member, Reason::Leave))
            {
                connection.progress = Progress::Left;
            }
        }
        let Some(ring) = ring else { return };
        let is_told = |connection: &&mut SimConnection| {
            connection.knows_ring || connection.progress == Progress::Left
        };
        for connection in self.connections.values_mut().filter(|connection| !is_told(connection)) {
            connection.knows_ring = true;
            connection.hear(Event::Ring(ring.clone()));
            if connection.progress < Progress::Member {
                journal.observed.early_rings += 1;
            }
        }
    }

    /// The name of the newest ring, with the nodes of the last one that was agreed on.
    fn known_ring(&self) -> Option<Ring> {
        let nodes = self.activated.iter().map(|place| self.ids[place]).collect();
        self.ring.map(|id| Ring { id, nodes })
    }

    fn is_of(&self, nodes: NodeSet, member: &Member) -> bool {
        self.ids.binary_search(&member.node).is_ok_and(|place| nodes.contains(place))
    }
}

fn change(member: Member, reason: Reason) -> Change {
    Change { member, reason }
}

/// All members that there can be at a node.
fn of_node(node: NodeId) -> std::ops::RangeInclusive<Member> {
    Member { node, pid: Pid(0) }..=Member { node, pid: Pid(u32::MAX) }
}

/// A configuration in one line.
struct Shown<'a>(&'a Configuration);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Configuration { members, joined, left } = self.0;
        f.write_str(if members.is_empty() { "no members" } else { "members" })?;
        members.iter().try_for_each(|member| write!(f, " {member}"))?;
        joined.iter().try_for_each(|c| write!(f, ", joined {} ({})", c.member, c.reason))?;
        left.iter().try_for_each(|c| write!(f, ", left {} ({})", c.member, c.reason))
    }
}
