use std::collections::VecDeque;
use std::time::Duration;

use crate::RingId;

use super::daemon::Daemon;
use super::node_set::NodeSet;
use super::packet::{Packet, Payload};
use crate::sim::faults::Faults;
use crate::sim::observed::Journal;
use crate::sim::random::Random;

/// Maximum number of items that a node orders when it has the token.
const TURN_MAX: usize = 64;
/// Probability, per mille of the rotations, that a lost packet arrives when it is sent again.
const ARRIVES_AGAIN: u32 = 400;
/// The same, and how often a packet is lost, for a node that hears next to nothing.
const ARRIVES_AT_DEAF: u32 = 20;

/// Nodes that order messages together, and the one order of these messages.
///
/// Each node of the ring delivers a prefix of it. When the ring breaks, those that go on
/// together deliver the same further packets of it, see [`recover`](Self::recover).
pub(in crate::sim) struct SimRing {
    pub(in crate::sim) id: RingId,
    pub(in crate::sim) members: NodeSet,
    /// The packets that some member has not delivered.
    order: VecDeque<Packet>,
    /// The place in the order of the first of them.
    first: u64,
    /// When it will have agreed on its members; `None` when it has, or never will.
    pub(in crate::sim) barrier_at: Option<Duration>,
    pub(in crate::sim) loses_token_at: Option<Duration>,
    /// It will not agree on its members.
    pub(in crate::sim) is_stalled: bool,
    pub(in crate::sim) has_token: bool,
    /// It has its token, and all its members hear each other and are still in it.
    pub(in crate::sim) is_intact: bool,
    /// Some node may still order something, though the ring is broken.
    has_last_words: bool,
}

/// The rest of the simulation, as a ring needs it.
pub(in crate::sim) struct Network<'a> {
    pub(in crate::sim) daemons: &'a mut [Daemon],
    pub(in crate::sim) random: &'a mut Random,
    pub(in crate::sim) faults: &'a Faults,
    pub(in crate::sim) journal: &'a mut Journal,
}

impl SimRing {
    pub(in crate::sim) fn new(id: RingId, members: NodeSet) -> Self {
        Self {
            id,
            members,
            order: VecDeque::new(),
            first: 0,
            barrier_at: None,
            loses_token_at: None,
            is_stalled: false,
            has_token: true,
            is_intact: true,
            has_last_words: true,
        }
    }

    fn end(&self) -> u64 {
        self.first + self.order.len() as u64
    }

    /// Returns true if nothing will happen in this ring until a process sends something.
    pub(in crate::sim) fn is_idle(&self, daemons: &[Daemon]) -> bool {
        let end = self.end();
        self.members.iter().all(|place| {
            let daemon = &daemons[place];
            daemon.ring != Some(self.id)
                || daemon.position == end
                    && daemon.unread == 0
                    && daemon.waiting.is_empty()
                    && daemon.urgent.is_empty()
        })
    }

    /// One rotation of the token, and what it brings to each.
    pub(in crate::sim) fn rotate(&mut self, net: &mut Network<'_>) {
        if self.is_idle(net.daemons) && self.barrier_at.is_none() {
            return;
        }
        let now = net.journal.now;
        if self.is_intact {
            if self.barrier_at.is_some_and(|at| at <= now) {
                self.barrier_at = None;
                let origin = self.members.lowest().unwrap_or_default();
                self.append(origin, Payload::Barrier, false, net);
                self.deliver_to_all(net);
            }
            self.pass_token(net);
        } else {
            self.say_last_words(net);
        }
        self.deliver_to_all(net);
        self.forget(net.daemons, &mut *net.journal);
    }

    fn pass_token(&mut self, net: &mut Network<'_>) {
        let places: Vec<_> = self.members.iter().collect();
        let start = net.random.index(places.len());
        for turn in 0..places.len() {
            let place = places[(start + turn) % places.len()];
            if !net.random.chance(net.faults.skipped_turns) {
                self.take_turn(place, TURN_MAX, net);
            }
        }
    }

    /// A node that has the token orders what waits there. While a ring agrees on its members
    /// that is nothing but, now and then, a departure, and that is how dead members come to
    /// be listed.
    fn take_turn(&mut self, place: usize, count_max: usize, net: &mut Network<'_>) {
        if !net.daemons[place].is_synced && !net.random.chance(net.faults.listed_dead) {
            return;
        }
        while let Some(payload) = net.daemons[place].urgent.pop_front() {
            self.append(place, payload, false, net);
        }
        if !net.daemons[place].is_synced || net.daemons[place].is_to_straddle {
            return;
        }
        for _ in 0..count_max {
            let Some((waiting, straddles)) = net.daemons[place].next_waiting() else { break };
            if waiting.since.is_some_and(|ring| ring != self.id) {
                net.journal.observed.late_messages += 1;
            }
            self.append(place, waiting.payload, straddles, net);
        }
    }

    /// The token went on for a while after the ring broke.
    fn say_last_words(&mut self, net: &mut Network<'_>) {
        let mut speakers: Vec<_> = self.members.iter().collect();
        speakers.retain(|place| {
            let daemon = &net.daemons[*place];
            daemon.ring == Some(self.id) && daemon.runs() && !daemon.waiting.is_empty()
        });
        if !self.has_last_words || speakers.is_empty() {
            return;
        }
        let start = net.random.index(speakers.len());
        let heard = net.daemons[speakers[start]].hears;
        let mut turn = start;
        while net.random.chance(net.faults.last_words) && heard.contains(speakers[turn]) {
            let count = 1 + net.random.index(4);
            self.take_turn(speakers[turn], count, net);
            self.deliver(speakers[turn], net);
            turn = (turn + 1) % speakers.len();
        }
        self.has_last_words = false;
    }

    pub(in crate::sim) fn append(
        &mut self,
        origin: usize,
        payload: Payload,
        straddles: bool,
        net: &mut Network<'_>,
    ) {
        let mut missing = self.members - net.daemons[origin].hears;
        if net.faults.loss > 0 || net.faults.bursts > 0 {
            for place in self.members.iter() {
                let is_deaf = net.daemons[place].is_deaf_until > net.journal.now;
                let loss = if is_deaf { 1000 - ARRIVES_AT_DEAF } else { net.faults.loss };
                if net.random.chance(loss) {
                    missing.insert(place);
                }
            }
        }
        let mut is_lost = false;
        if matches!(payload, Payload::Message { .. })
            && let Some(losers) = net.daemons[origin].to_lose.pop_front()
        {
            missing = missing | losers;
            is_lost = true;
        }
        missing.remove(origin);
        let delivered = NodeSet::default();
        self.order.push_back(Packet { origin, payload, straddles, missing, delivered, is_lost });
    }

    fn deliver_to_all(&mut self, net: &mut Network<'_>) {
        for place in self.members.iter() {
            self.deliver(place, net);
        }
    }

    /// Hands a node what it has received without a gap.
    fn deliver(&mut self, place: usize, net: &mut Network<'_>) {
        let daemon = &mut net.daemons[place];
        if daemon.ring != Some(self.id) || !daemon.runs() {
            return;
        }
        let end = self.end();
        while daemon.position < end {
            let packet = &mut self.order[(daemon.position - self.first) as usize];
            if packet.missing.contains(place) {
                let is_deaf = daemon.is_deaf_until > net.journal.now;
                let arrives = if is_deaf { ARRIVES_AT_DEAF } else { ARRIVES_AGAIN };
                if packet.is_lost || !self.is_intact || !net.random.chance(arrives) {
                    return;
                }
                packet.missing.remove(place);
            }
            packet.delivered.insert(place);
            daemon.position += 1;
            daemon.take(packet, net.journal);
        }
    }

    /// Those of its nodes that go on together deliver what any of them has: all of it, up to
    /// the first hole, and behind it only what they themselves had sent.
    pub(in crate::sim) fn recover(&mut self, together: NodeSet, net: &mut Network<'_>) {
        let position = |daemons: &[Daemon], place: usize| daemons[place].position;
        let from = together.iter().map(|place| position(net.daemons, place)).min();
        let (mut hole, mut is_told) = (None, false);
        for at in from.unwrap_or(self.end())..self.end() {
            let packet = &mut self.order[(at - self.first) as usize];
            if together.is_within(packet.missing) {
                hole = hole.or(Some(packet.origin));
                continue;
            }
            if let Some(hole) = hole {
                if !together.contains(packet.origin) {
                    continue;
                }
                net.journal.observed.holes += 1;
                if !is_told {
                    is_told = true;
                    let sender = net.daemons[hole].id;
                    net.journal.note(format_args!(
                        "ring {}: a message from {sender} is passed over, a hole",
                        self.id
                    ));
                }
            }
            for place in together.iter() {
                let daemon = &mut net.daemons[place];
                if daemon.position <= at {
                    daemon.position = at + 1;
                    packet.delivered.insert(place);
                    daemon.take(packet, net.journal);
                }
            }
        }
    }

    /// Forgets what all who are still in this ring have delivered; `false` when nobody is.
    pub(in crate::sim) fn forget(&mut self, daemons: &[Daemon], journal: &mut Journal) -> bool {
        let here = self.members.iter().filter(|place| daemons[*place].ring == Some(self.id));
        let needed = here.map(|place| daemons[place].position).min();
        while self.first < needed.unwrap_or(u64::MAX)
            && let Some(packet) = self.order.pop_front()
        {
            self.first += 1;
            if matches!(packet.payload, Payload::Message { .. }) && packet.delivered != self.members
            {
                journal.observed.partly_delivered += 1;
                journal.observed.only_at_sender +=
                    u64::from(packet.delivered == NodeSet::one(packet.origin));
            }
        }
        needed.is_some()
    }

    /// A sync that was to wait for a further change comes to its end.
    pub(in crate::sim) fn end_stall(&mut self, now: Duration) {
        if self.is_stalled {
            self.is_stalled = false;
            self.barrier_at = Some(now);
        }
    }

    /// Sends again the messages that a scenario had lost for good.
    pub(in crate::sim) fn send_again(&mut self) {
        self.order.iter_mut().for_each(|packet| packet.is_lost = false);
    }
}
