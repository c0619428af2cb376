use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use crate::{Member, Reason, RingId};

use super::daemon::Daemon;
use super::faults::Faults;
use super::journal::Journal;
use super::nodes::Nodes;
use super::random::Random;

/// How much a node orders when it has the token.
const TURN_MAX: usize = 64;
/// How often, per mille of the rotations, a lost packet arrives when it is sent again.
const ARRIVES_AGAIN: u32 = 400;
/// The same, and how often a packet is lost, for a node that hears next to nothing.
const ARRIVES_AT_DEAF: u32 = 20;

/// Nodes that order messages together, and the one order of them.
///
/// Each node of the ring delivers a prefix of it. When the ring breaks, those that go on
/// together deliver the same further packets of it, see [`recover`](Self::recover).
pub(super) struct Ring {
    pub(super) id: RingId,
    pub(super) members: Nodes,
    /// What not all have delivered.
    order: VecDeque<Packet>,
    /// The place in the order of the first of them.
    first: u64,
    /// When it will have agreed on its members; `None` when it has, or never will.
    pub(super) barrier_at: Option<Duration>,
    pub(super) loses_token_at: Option<Duration>,
    /// It will not agree on its members.
    pub(super) is_stalled: bool,
    pub(super) has_token: bool,
    /// It has its token, and all its members hear each other and are still in it.
    pub(super) is_intact: bool,
    /// Some node may still order something, though the ring is broken.
    has_last_words: bool,
}

/// One place in a ring's order.
pub(super) struct Packet {
    /// The node that sent it.
    pub(super) origin: usize,
    pub(super) what: What,
    /// Begun in an earlier ring: means nothing to those who were not in it.
    pub(super) straddles: bool,
    /// Who has not received it.
    missing: Nodes,
    /// Who has delivered it.
    delivered: Nodes,
    /// Who misses it now will not get it in this ring.
    is_lost: bool,
}

pub(super) enum What {
    Message {
        sender: Member,
        content: Bytes,
    },
    Join {
        member: Member,
    },
    Leave {
        member: Member,
        reason: Reason,
    },
    /// The processes of the node that sends it.
    Joinlist {
        members: Vec<Member>,
    },
    /// All joinlists are there.
    Barrier,
}

/// What a ring works with.
pub(super) struct Net<'a> {
    pub(super) daemons: &'a mut [Daemon],
    pub(super) random: &'a mut Random,
    pub(super) faults: &'a Faults,
    pub(super) journal: &'a mut Journal,
}

impl Ring {
    pub(super) fn new(id: RingId, members: Nodes) -> Self {
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

    /// Whether nothing will happen in it until somebody sends something.
    pub(super) fn is_idle(&self, daemons: &[Daemon]) -> bool {
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
    pub(super) fn rotate(&mut self, net: &mut Net<'_>) {
        if self.is_idle(net.daemons) && self.barrier_at.is_none() {
            return;
        }
        let now = net.journal.now;
        if self.is_intact {
            if self.barrier_at.is_some_and(|at| at <= now) {
                self.barrier_at = None;
                let origin = self.members.lowest().unwrap_or_default();
                self.append(origin, What::Barrier, false, net);
                self.deliver_to_all(net);
            }
            self.pass_token(net);
        } else {
            self.say_last_words(net);
        }
        self.deliver_to_all(net);
        self.forget(net.daemons, &mut *net.journal);
    }

    fn pass_token(&mut self, net: &mut Net<'_>) {
        let places: Vec<_> = self.members.iter().collect();
        let start = net.random.below(places.len());
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
    fn take_turn(&mut self, place: usize, count_max: usize, net: &mut Net<'_>) {
        if !net.daemons[place].is_synced && !net.random.chance(net.faults.ghosts) {
            return;
        }
        while let Some(what) = net.daemons[place].urgent.pop_front() {
            self.append(place, what, false, net);
        }
        if !net.daemons[place].is_synced || net.daemons[place].is_to_straddle {
            return;
        }
        for _ in 0..count_max {
            let Some((waiting, straddles)) = net.daemons[place].next_waiting() else { break };
            if waiting.since.is_some_and(|ring| ring != self.id) {
                net.journal.seen.late_messages += 1;
            }
            self.append(place, waiting.what, straddles, net);
        }
    }

    /// The token went on for a while after the ring broke.
    fn say_last_words(&mut self, net: &mut Net<'_>) {
        let mut speakers: Vec<_> = self.members.iter().collect();
        speakers.retain(|place| {
            let daemon = &net.daemons[*place];
            daemon.ring == Some(self.id) && daemon.runs() && !daemon.waiting.is_empty()
        });
        if !self.has_last_words || speakers.is_empty() {
            return;
        }
        let start = net.random.below(speakers.len());
        let heard = net.daemons[speakers[start]].hears;
        let mut turn = start;
        while net.random.chance(net.faults.last_words) && heard.contains(speakers[turn]) {
            let count = 1 + net.random.below(4);
            self.take_turn(speakers[turn], count, net);
            self.deliver(speakers[turn], net);
            turn = (turn + 1) % speakers.len();
        }
        self.has_last_words = false;
    }

    pub(super) fn append(&mut self, origin: usize, what: What, straddles: bool, net: &mut Net<'_>) {
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
        if matches!(what, What::Message { .. })
            && let Some(losers) = net.daemons[origin].to_lose.pop_front()
        {
            missing = missing | losers;
            is_lost = true;
        }
        missing.remove(origin);
        let delivered = Nodes::default();
        self.order.push_back(Packet { origin, what, straddles, missing, delivered, is_lost });
    }

    fn deliver_to_all(&mut self, net: &mut Net<'_>) {
        for place in self.members.iter() {
            self.deliver(place, net);
        }
    }

    /// Hands a node what it has received without a gap.
    fn deliver(&mut self, place: usize, net: &mut Net<'_>) {
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
    pub(super) fn recover(&mut self, together: Nodes, net: &mut Net<'_>) {
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
                net.journal.seen.holes += 1;
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
    pub(super) fn forget(&mut self, daemons: &[Daemon], journal: &mut Journal) -> bool {
        let here = self.members.iter().filter(|place| daemons[*place].ring == Some(self.id));
        let needed = here.map(|place| daemons[place].position).min();
        while self.first < needed.unwrap_or(u64::MAX)
            && let Some(packet) = self.order.pop_front()
        {
            self.first += 1;
            if matches!(packet.what, What::Message { .. }) && packet.delivered != self.members {
                journal.seen.partly_delivered += 1;
                journal.seen.only_at_sender +=
                    u64::from(packet.delivered == Nodes::one(packet.origin));
            }
        }
        needed.is_some()
    }

    /// A sync that was to wait for a further change comes to its end.
    pub(super) fn end_stall(&mut self, now: Duration) {
        if self.is_stalled {
            self.is_stalled = false;
            self.barrier_at = Some(now);
        }
    }

    /// What was lost for good on demand is sent again after all.
    pub(super) fn send_again(&mut self) {
        self.order.iter_mut().for_each(|packet| packet.is_lost = false);
    }
}
