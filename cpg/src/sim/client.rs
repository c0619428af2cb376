use std::collections::VecDeque;

use bytes::Bytes;

use crate::{Event, Member, RingId};

/// One connection of a [`Sim`](super::Sim), which has asked to join. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId {
    pub(super) number: u64,
    /// Where its node is in the list of all.
    pub(super) place: usize,
    pub(super) member: Member,
}

/// What a process asks of its daemon, which reads it later.
#[derive(Debug)]
pub(super) enum Request {
    Join,
    Leave,
    /// With the ring of the moment when it was taken over.
    Message(Bytes, Option<RingId>),
}

/// One connection, as its daemon sees it and as the process does.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) member: Member,
    /// Taken over and not yet read by the daemon: lost with the process or the daemon.
    pub(super) requests: VecDeque<Request>,
    /// The bytes of messages among them.
    pub(super) unread_bytes: usize,
    events: VecDeque<Event>,
    pub(super) progress: Progress,
    /// The daemon has read the wish to leave.
    pub(super) is_leaving: bool,
    /// The process has called `leave`.
    pub(super) has_asked_to_leave: bool,
    /// Whether the initial ring was told.
    pub(super) knows_ring: bool,
    /// The daemon died.
    pub(super) is_lost: bool,
}

/// How far a membership has come at the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    /// The daemon has not read the wish to join.
    New,
    /// The join waits for its place in the order.
    Joining,
    /// Joined: hears what the group hears.
    Member,
    /// Left: hears nothing more.
    Left,
}

impl Client {
    pub(super) fn new(member: Member) -> Self {
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

    /// Whether it hears messages and configurations.
    pub(super) fn listens(&self) -> bool {
        self.progress == Progress::Member
    }

    pub(super) fn hear(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(super) fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(super) fn has_events(&self) -> bool {
        self.is_lost || !self.events.is_empty()
    }

    /// The daemon is gone, and with it all that was under way in either direction.
    pub(super) fn lose(&mut self) {
        self.is_lost = true;
        self.progress = Progress::Left;
        self.requests = VecDeque::new();
        self.events = VecDeque::new();
    }
}
