//! Formation and breaking of rings: the results of Totem's membership protocol.

use std::collections::BTreeMap;

use crate::RingId;
use crate::limits::RING_STEP;

use super::node_set::NodeSet;
use super::packet::Payload;
use super::ring::{Network, SimRing};
use crate::sim::Sim;
use crate::sim::faults::draw_span;

impl Sim {
    /// Something changed in who hears whom: which rings are broken, and which nodes will form
    /// one.
    pub(in crate::sim) fn settle(&mut self) {
        let running: NodeSet =
            self.daemons.iter().filter(|daemon| daemon.runs()).map(|daemon| daemon.place).collect();
        for daemon in &mut self.daemons {
            let part = self.parts.iter().find(|part| part.contains(daemon.place));
            let heard = part.copied().unwrap_or_default() & running;
            daemon.hears = if daemon.runs() { heard } else { NodeSet::default() };
        }
        let daemons = &self.daemons;
        for ring in self.rings.values_mut() {
            let is_there = |place: usize| {
                daemons[place].ring == Some(ring.id) && ring.members.is_within(daemons[place].hears)
            };
            ring.is_intact = ring.has_token && ring.members.iter().all(is_there);
        }
        let before = std::mem::take(&mut self.forming);
        for part in self.parts.clone() {
            let nodes = part & running;
            if nodes.is_empty() || self.is_one_ring(nodes) {
                continue;
            }
            let due = before.get(&nodes).copied().unwrap_or_else(|| {
                self.journal.now + draw_span(&mut self.random, self.faults.detection_max)
            });
            self.forming.insert(nodes, due);
        }
    }

    fn is_one_ring(&self, nodes: NodeSet) -> bool {
        let ring = nodes.lowest().and_then(|place| self.daemons[place].ring);
        ring.and_then(|id| self.rings.get(&id))
            .is_some_and(|ring| ring.is_intact && ring.members == nodes)
    }

    /// Forms the rings whose time has come.
    pub(in crate::sim) fn form_rings(&mut self) {
        loop {
            let now = self.journal.now;
            let due = self.forming.iter().find(|(_, at)| **at <= now).map(|(nodes, _)| *nodes);
            let Some(nodes) = due else { return };
            self.forming.remove(&nodes);
            let mut chosen = nodes;
            if nodes.len() > 1 && self.random.chance(self.faults.split_rings) {
                chosen = nodes.iter().filter(|_| self.random.chance(500)).collect();
            }
            if !chosen.is_empty() {
                self.form(chosen);
            }
            self.settle();
            if chosen != nodes {
                // The others are not let in at once, or this would never end.
                let later = now + crate::sim::ROTATION;
                self.forming.values_mut().for_each(|at| *at = (*at).max(later));
            }
        }
    }

    /// Forms one ring. Each node brings its old ring to an end first, together with those
    /// who come from the same.
    fn form(&mut self, nodes: NodeSet) {
        let representative = self.daemons[nodes.lowest().unwrap_or_default()].id;
        let newest = nodes.iter().map(|place| self.daemons[place].sequence).max();
        let attempts = 1 + self.random.below(3);
        let sequence = newest.unwrap_or_default() + RING_STEP * attempts;
        let id = RingId { representative, sequence };

        let mut origins: BTreeMap<Option<RingId>, NodeSet> = BTreeMap::new();
        for place in nodes.iter() {
            origins.entry(self.daemons[place].ring).or_default().insert(place);
        }
        self.note_ring(id, &origins);
        let is_stalled = std::mem::take(&mut self.is_next_sync_stalled);
        let mut net = Network {
            daemons: &mut self.daemons,
            random: &mut self.random,
            faults: &self.faults,
            journal: &mut self.journal,
        };
        for (origin, together) in origins {
            if let Some(old) = origin.and_then(|origin| self.rings.get_mut(&origin)) {
                old.recover(together, &mut net);
                for place in together.iter() {
                    enter(place, together, &mut net);
                }
            } else {
                together.iter().for_each(|place| enter(place, NodeSet::one(place), &mut net));
            }
        }
        let mut ring = SimRing::new(id, nodes);
        for place in nodes.iter() {
            let daemon = &mut net.daemons[place];
            daemon.ring = Some(id);
            daemon.ring_members = nodes;
            daemon.sequence = sequence;
            daemon.position = 0;
            daemon.keeps_joinlists = is_stalled;
        }
        let mut speakers: Vec<_> = nodes.iter().collect();
        net.random.shuffle(&mut speakers);
        for place in speakers {
            let daemon = &net.daemons[place];
            let is_own = |member: &&crate::Member| member.node == daemon.id;
            let members = daemon.processes.iter().filter(is_own).copied().collect();
            ring.append(place, Payload::Joinlist { members }, false, &mut net);
        }
        let now = self.journal.now;
        let sync = draw_span(&mut self.random, self.faults.sync_max);
        ring.is_stalled = is_stalled;
        ring.barrier_at = (!is_stalled).then_some(now + sync);
        if self.random.chance(self.faults.aborted_syncs) {
            ring.loses_token_at = Some(now + draw_span(&mut self.random, sync));
        }
        self.journal.observed.rings += 1;
        self.rings.insert(id, ring);
        let (daemons, journal) = (&self.daemons, &mut self.journal);
        self.rings.retain(|_, ring| ring.forget(daemons, journal));
    }

    fn note_ring(&mut self, id: RingId, origins: &BTreeMap<Option<RingId>, NodeSet>) {
        if self.journal.reader.is_none() {
            return;
        }
        let text: Vec<_> = origins
            .iter()
            .map(|(origin, nodes)| {
                let nodes: Vec<_> =
                    nodes.iter().map(|place| self.daemons[place].id.to_string()).collect();
                let origin = origin.map_or("no ring".into(), |ring| ring.to_string());
                format!("{} from {origin}", nodes.join(" "))
            })
            .collect();
        self.journal.note(format_args!("ring {id}: {}", text.join(", ")));
    }
}

/// A node goes over to a new ring, `together` with those who come from the same as it.
fn enter(place: usize, together: NodeSet, net: &mut Network<'_>) {
    let daemon = &mut net.daemons[place];
    daemon.transitional = together;
    if daemon.is_synced || daemon.ring.is_none() {
        daemon.together = together;
    } else {
        net.journal.observed.aborted_rings += u64::from(together.lowest() == Some(place));
        daemon.together = daemon.together & together;
        // Released versions of Corosync forget the lists only in some of the states in which
        // a sync can be aborted.
        if !net.random.chance(net.faults.listed_dead) && !daemon.keeps_joinlists {
            daemon.joinlists.clear();
        }
    }
    daemon.is_synced = false;
    daemon.straddling = 0;
    if !daemon.waiting.is_empty() {
        if std::mem::take(&mut daemon.is_to_straddle) {
            daemon.straddling = 1;
        } else if net.random.chance(net.faults.straddles) {
            daemon.straddling = 1 + net.random.index(3);
        }
    }
}
