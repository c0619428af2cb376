use std::collections::VecDeque;

use bytes::Bytes;

use crate::{Event, Member, RingId};

/// One connection of a [`Sim`](crate::sim::Sim), which has asked to join. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    pub(in crate::sim) number: u64,
    /// Where its node is in the list of all.
    pub(in crate::sim) place: usize,
    pub(in crate::sim) member: Member,
}

/// A request of a process to its daemon, which reads it later.
#[derive(Debug)]
pub(in crate::sim) enum Request {
    Join,
    Leave,
    /// With the ring of the moment when it was taken over.
    Message(Bytes, Option<RingId>),
}

/// One connection, as its daemon sees it and as the process does.
#[derive(Debug)]
pub(in crate::sim) struct SimConnection {
    pub(in crate::sim) member: Member,
    /// Taken over and not yet read by the daemon: lost with the process or the daemon.
    pub(in crate::sim) requests: VecDeque<Request>,
    /// The bytes of messages among them.
    pub(in crate::sim) unread_bytes: usize,
    events: VecDeque<Event>,
    pub(in crate::sim) progress: Progress,
    /// The daemon has read the wish to leave.
    pub(in crate::sim) is_leaving: bool,
    /// The process has called `leave`.
    pub(in crate::sim) has_asked_to_leave: bool,
    /// Set once the initial ring was delivered.
    pub(in crate::sim) knows_ring: bool,
    /// The daemon died.
    pub(in crate::sim) is_lost: bool,
}

/// Progress of a membership at the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sim) enum Progress {
    /// The daemon has not read the wish to join.
    New,
    /// The join waits for its place in the order.
    Joining,
    /// Joined: hears what the group hears.
    Member,
    /// Left: hears nothing more.
    Left,
}

impl SimConnection {
    pub(in crate::sim) fn new(member: Member) -> Self {
        Self {
            member,
            requests: VecDeque::from([Request::Join]),
            unread_bytes: 0,
            events: VecDeque::new(),
            progress: Progress::New,
            is_leaving: false,
            has_asked_to_leave: false,
            knows_ring: false,
            is_lost: false,
        }
    }

    /// Returns true if it receives messages and configurations.
    pub(in crate::sim) fn listens(&self) -> bool {
        self.progress == Progress::Member
    }

    pub(in crate::sim) fn hear(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(in crate::sim) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(in crate::sim) fn has_events(&self) -> bool {
        self.is_lost || !self.events.is_empty()
    }

    /// The daemon is gone, and with it all that was under way in either direction.
    pub(in crate::sim) fn lose(&mut self) {
        self.is_lost = true;
        self.progress = Progress::Left;
        self.requests = VecDeque::new();
        self.events = VecDeque::new();
    }
}
