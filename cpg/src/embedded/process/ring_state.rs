use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::embedded::membership::Membership;
use crate::limits::{BACKLOG_BYTES_MAX, RING_STEP};
use crate::mailbox::Mailbox;
use crate::{
    Error, Event, GroupEntry, GroupName, Iteration, Member, NodeId, Reason, Result, RingId,
};

/// The state of a ring, shared by its handles, nodes and connections.
#[derive(Clone, Default)]
pub(super) struct SharedRing(Arc<Mutex<RingState>>);

impl SharedRing {
    pub(super) fn lock(&self) -> MutexGuard<'_, RingState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Id of a connection within its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ConnectionId(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct GroupId(u64);

/// The state of a ring. Its lock provides the order: events pushed to mailboxes under one lock have
/// the same position at all members.
#[derive(Default)]
pub(super) struct RingState {
    /// All nodes; true for those that run.
    nodes: BTreeMap<NodeId, bool>,
    sequence: u64,
    connections: BTreeMap<ConnectionId, ConnectionState>,
    names: BTreeMap<GroupName, GroupId>,
    groups: BTreeMap<GroupId, Group>,
    /// The last id given to a connection or a group.
    last_id: u64,
    /// Connections with too many undispatched events. They are closed at the end of the operation.
    overflowed: Vec<ConnectionId>,
}

struct ConnectionState {
    mailbox: Arc<Mailbox>,
    initial_ring: bool,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    New,
    In(GroupId),
    Left,
}

struct Group {
    name: GroupName,
    membership: Membership<(ConnectionId, Arc<Mailbox>)>,
}

impl RingState {
    /// Adds a node and starts it. Returns its id, which is one more than the last.
    pub(super) fn add_node(&mut self) -> NodeId {
        let id = NodeId(self.nodes.last_key_value().map_or(1, |(id, _)| id.0 + 1));
        self.nodes.insert(id, false);
        self.start(id);
        id
    }

    /// Opens a connection on a running node.
    pub(super) fn connect(
        &mut self,
        mailbox: Arc<Mailbox>,
        initial_ring: bool,
    ) -> Result<ConnectionId> {
        if self.nodes.get(&mailbox.member().node) != Some(&true) {
            return Err(Error::Library);
        }
        let id = ConnectionId(self.next_id());
        self.connections.insert(id, ConnectionState { mailbox, initial_ring, phase: Phase::New });
        Ok(id)
    }

    /// Closes a connection. If it is still a member, its group sees the process go down.
    pub(super) fn disconnect(&mut self, id: ConnectionId) {
        self.end(id, Reason::ProcessDown);
        self.connections.remove(&id);
        self.settle();
    }

    pub(super) fn join(&mut self, id: ConnectionId, name: &GroupName) -> Result<()> {
        let connection = self.connections.get(&id).ok_or(Error::Library)?;
        match connection.phase {
            Phase::New => {}
            Phase::In(_) => return Err(Error::Exist),
            Phase::Left => return Err(Error::BadHandle),
        }
        let (mailbox, initial_ring) = (connection.mailbox.clone(), connection.initial_ring);
        let group = self.group(name);
        let Some(Group { membership, .. }) = self.groups.get_mut(&group) else {
            return Err(Error::Library);
        };
        let configuration = membership.join(mailbox.member(), (id, mailbox.clone()))?;
        self.send(group, &Event::Configuration(configuration));
        if initial_ring {
            let ring = Event::Ring(self.ring());
            self.send_one(id, &mailbox, ring);
        }
        self.set_phase(id, Phase::In(group));
        self.settle();
        Ok(())
    }

    pub(super) fn leave(&mut self, id: ConnectionId) -> Result<()> {
        match self.connections.get(&id).ok_or(Error::Library)?.phase {
            Phase::In(_) => {}
            Phase::New | Phase::Left => return Err(Error::NotExist),
        }
        self.end(id, Reason::Leave);
        self.settle();
        Ok(())
    }

    /// Returns true until the connection has been closed.
    pub(super) fn is_connected(&self, id: ConnectionId) -> bool {
        self.connections.contains_key(&id)
    }

    /// Returns an error if the connection may not multicast.
    pub(super) fn check(&self, id: ConnectionId) -> Result<()> {
        self.group_of(id).map(|_| ())
    }

    pub(super) fn multicast(&mut self, id: ConnectionId, message: Bytes) -> Result<()> {
        let group = self.group_of(id)?;
        let Some(Group { membership, .. }) = self.groups.get(&group) else {
            return Err(Error::NotExist);
        };
        let Some(sender) = self.connections.get(&id) else {
            return Err(Error::Library);
        };
        sender.mailbox.charge(message.len());
        let sender = sender.mailbox.member();
        let mut overflowed = mem::take(&mut self.overflowed);
        for seat in membership.seats() {
            let (id, mailbox) = &seat.keep;
            if mailbox.push(Event::Deliver { sender, message: message.clone() }).is_err() {
                overflowed.push(*id);
            }
        }
        self.overflowed = overflowed;
        self.settle();
        Ok(())
    }

    pub(super) fn members(&self, name: &GroupName) -> Vec<Member> {
        let group = self.names.get(name).and_then(|group| self.groups.get(group));
        group.map(|group| group.membership.members()).unwrap_or_default()
    }

    pub(super) fn groups(&self, iteration: &Iteration) -> Vec<GroupEntry> {
        let all = self.names.iter().filter_map(|(name, id)| Some((name, self.groups.get(id)?)));
        let rows = |(name, group): (&GroupName, &Group)| -> Vec<GroupEntry> {
            let members = group.membership.members().into_iter();
            members.map(|member| GroupEntry { group: name.clone(), member: Some(member) }).collect()
        };
        match iteration {
            Iteration::NamesOnly => {
                all.map(|(name, _)| GroupEntry { group: name.clone(), member: None }).collect()
            }
            Iteration::OneGroup(wanted) => {
                all.filter(|(name, _)| *name == wanted).flat_map(rows).collect()
            }
            Iteration::All => all.flat_map(rows).collect(),
        }
    }

    pub(super) fn ring(&self) -> crate::Ring {
        let nodes: Vec<_> = self.nodes.iter().filter(|(_, up)| **up).map(|(id, _)| *id).collect();
        let representative = nodes.first().copied().unwrap_or(NodeId(1));
        crate::Ring { id: RingId { representative, sequence: self.sequence }, nodes }
    }

    pub(super) fn is_up(&self, node: NodeId) -> bool {
        self.nodes.get(&node) == Some(&true)
    }

    pub(super) fn start(&mut self, node: NodeId) {
        if self.nodes.insert(node, true) == Some(false) {
            self.form_ring();
            self.settle();
        }
    }

    pub(super) fn stop(&mut self, node: NodeId) {
        if self.nodes.insert(node, false) != Some(true) {
            return;
        }
        self.connections.retain(|_, connection| {
            let stays = connection.mailbox.member().node != node;
            if !stays {
                connection.mailbox.close(Error::Library);
            }
            stays
        });
        let groups: Vec<_> = self.groups.keys().copied().collect();
        for group in groups {
            let membership = self.groups.get_mut(&group).map(|group| &mut group.membership);
            let gone = membership
                .and_then(|of| of.remove(Reason::NodeDown, |seat| seat.member.node == node));
            if let Some((configuration, _)) = gone {
                self.send(group, &Event::Configuration(configuration));
                self.forget_if_empty(group);
            }
        }
        self.form_ring();
        self.settle();
    }

    fn form_ring(&mut self) {
        self.sequence += RING_STEP;
        let ring = self.ring();
        let mut overflowed = mem::take(&mut self.overflowed);
        for (id, connection) in &self.connections {
            // A connection that left has received its last event.
            if connection.phase != Phase::Left
                && connection.mailbox.push(Event::Ring(ring.clone())).is_err()
            {
                overflowed.push(*id);
            }
        }
        self.overflowed = overflowed;
    }

    /// Ends the membership of a connection, if it has one. A connection that leaves receives this
    /// configuration as its last event; one that is closed does not.
    fn end(&mut self, id: ConnectionId, reason: Reason) {
        let Ok(group) = self.group_of(id) else { return };
        let Some(Group { membership, .. }) = self.groups.get_mut(&group) else { return };
        let Some((configuration, gone)) = membership.remove(reason, |seat| seat.keep.0 == id)
        else {
            return;
        };
        if reason == Reason::Leave {
            for seat in gone {
                let (id, mailbox) = seat.keep;
                self.send_one(id, &mailbox, Event::Configuration(configuration.clone()));
            }
        }
        self.set_phase(id, Phase::Left);
        self.send(group, &Event::Configuration(configuration));
        self.forget_if_empty(group);
    }

    fn send(&mut self, group: GroupId, event: &Event) {
        let Some(Group { membership, .. }) = self.groups.get(&group) else { return };
        for seat in membership.seats() {
            let (id, mailbox) = &seat.keep;
            if mailbox.push(event.clone()).is_err() {
                self.overflowed.push(*id);
            }
        }
    }

    fn send_one(&mut self, id: ConnectionId, mailbox: &Mailbox, event: Event) {
        if mailbox.push(event).is_err() {
            self.overflowed.push(id);
        }
    }

    /// Closes the connections that have too many events. The configurations that this causes may
    /// overflow the mailboxes of others, which are then closed, too.
    fn settle(&mut self) {
        while let Some(id) = self.overflowed.pop() {
            let Some(connection) = self.connections.get(&id) else { continue };
            tracing::warn!(
                member = %connection.mailbox.member(),
                bytes_max = BACKLOG_BYTES_MAX,
                "closing a connection that did not dispatch its events"
            );
            connection.mailbox.close(Error::Library);
            self.end(id, Reason::ProcessDown);
            self.connections.remove(&id);
        }
    }

    fn group_of(&self, id: ConnectionId) -> Result<GroupId> {
        match self.connections.get(&id).ok_or(Error::Library)?.phase {
            Phase::In(group) => Ok(group),
            Phase::New | Phase::Left => Err(Error::NotExist),
        }
    }

    /// Returns the group with this name; creates it if necessary.
    fn group(&mut self, name: &GroupName) -> GroupId {
        if let Some(group) = self.names.get(name) {
            return *group;
        }
        let id = GroupId(self.next_id());
        self.names.insert(name.clone(), id);
        self.groups.insert(id, Group { name: name.clone(), membership: Membership::default() });
        id
    }

    fn forget_if_empty(&mut self, id: GroupId) {
        if let Some(group) = self.groups.get(&id)
            && group.membership.is_empty()
        {
            self.names.remove(&group.name);
            self.groups.remove(&id);
        }
    }

    fn set_phase(&mut self, id: ConnectionId, phase: Phase) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.phase = phase;
        }
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}
