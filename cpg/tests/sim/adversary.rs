//! Over many seeds: everything happens, and what CPG does promise holds all the same.
//!
//! `CPG_SIM_SEEDS=N` runs more seeds than the few of every test run.

use std::collections::{BTreeMap, BTreeSet};

use cpg::sim::{Faults, Observed};
use cpg::{Error, Event, Member};

use super::test_group::{TestGroup, ms, node, words};

const NODES: u32 = 5;

/// A mixture of coming, going and talking under drawn faults; then calm.
struct Run {
    group: TestGroup,
    random: u64,
    next_pid: u32,
    sent: u64,
}

impl Run {
    fn new(seed: u64, faults: Faults) -> Self {
        Self { group: TestGroup::with(seed, NODES, faults), random: seed, next_pid: 100, sent: 0 }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.random >> 33) % limit
    }

    fn go(&mut self, steps: u64) {
        for _ in 0..steps {
            let member = self.below(self.group.members.len() as u64) as usize;
            match self.below(1000) {
                0..900 => self.send(member),
                900..910 => self.group.sim.close(self.group.members[member].id),
                910..915 => {
                    let _ = self.group.sim.leave(self.group.members[member].id);
                }
                915..960 => self.join(),
                _ => {}
            }
            let micros = self.below(4000);
            self.group.sim.advance(std::time::Duration::from_micros(micros));
            if self.below(10) > 0 {
                self.group.listen();
            }
        }
        self.group.listen();
    }

    fn send(&mut self, member: usize) {
        for _ in 0..1 + self.below(4) {
            self.sent += 1;
            let text = format!("{} {}", member, self.sent);
            match self.group.try_send(member, &text) {
                Ok(())
                | Err(Error::TryAgain | Error::Library | Error::NotExist | Error::BadHandle) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn join(&mut self) {
        let id = 1 + self.below(u64::from(NODES)) as u32;
        self.next_pid += 1;
        if let Ok(id) = self.group.sim.join(node(id), cpg::Pid(self.next_pid)) {
            let (heard, failed) = (Vec::new(), None);
            self.group.members.push(super::test_group::TestMember { id, heard, failed });
        }
    }

    /// After the faults: all who are left agree, and hear each other.
    fn check_calm(&mut self) {
        self.group.sim.calm();
        self.group.settle();
        let mut open = BTreeSet::new();
        for member in 0..self.group.members.len() {
            let is_lost = self.group.members[member].failed.is_some();
            if !is_lost && self.group.try_send(member, &format!("calm at {member}")).is_ok() {
                open.insert(member);
            }
        }
        self.group.settle();
        let expected: BTreeSet<_> = open.iter().map(|member| format!("calm at {member}")).collect();
        for member in &open {
            let heard = &self.group.members[*member].heard;
            let heard: BTreeSet<_> =
                heard.iter().map(words).filter(|word| word.starts_with("calm")).collect();
            assert_eq!(heard, expected, "at {member}");
        }
    }
}

/// Checks the invariants of the events that one connection has received.
fn check_one(me: Member, heard: &[Event]) {
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    let mut is_member = false;
    for event in heard {
        match event {
            Event::Configuration(configuration) => {
                assert!(configuration.members.is_sorted());
                let joined = configuration.joined.iter().map(|change| change.member);
                is_member |= joined.into_iter().any(|member| member == me);
                let has_left = configuration.left.iter().any(|change| change.member == me);
                assert!(is_member, "{me} hears of others before its own join");
                assert!(configuration.members.contains(&me) != has_left);
            }
            Event::Deliver { message, .. } => {
                assert!(is_member, "{me} hears a message before its own join");
                let text = String::from_utf8(message.to_vec()).unwrap();
                let (member, number) = text.split_once(' ').unwrap();
                let Ok(number) = number.parse() else { continue };
                let before = last.insert(member.to_owned(), number);
                assert!(before < Some(number), "{me} hears {member} out of order, or twice");
            }
            Event::Ring(ring) => assert!(ring.nodes.contains(&me.node)),
        }
    }
}

/// Two connections have heard what both heard in the same order.
fn check_two(first: &[Event], second: &[Event]) {
    let messages = |heard: &[Event]| -> Vec<Vec<u8>> {
        let message = |event: &Event| match event {
            Event::Deliver { message, .. } => Some(message.to_vec()),
            _ => None,
        };
        heard.iter().filter_map(message).collect()
    };
    let (first, second) = (messages(first), messages(second));
    let places: BTreeMap<_, _> =
        second.iter().enumerate().map(|(place, message)| (message, place)).collect();
    let common: Vec<_> = first.iter().filter_map(|message| places.get(message)).collect();
    assert!(common.is_sorted(), "two orders of the same messages");
}

#[test]
fn what_cpg_promises_holds_and_everything_else_happens() {
    let seeds = std::env::var("CPG_SIM_SEEDS").map_or(60, |seeds| seeds.parse().unwrap());
    let mut total: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..seeds {
        let mut run = Run::new(seed, Faults::drawn(seed));
        run.go(1500);
        run.check_calm();
        let members = &run.group.members;
        for (place, member) in members.iter().enumerate() {
            let initial = place < NODES as usize;
            let me = run.group.sim.member(member.id);
            if !initial {
                check_one(me, &member.heard);
            }
            let other = &members[(place + 1) % members.len()];
            check_two(&member.heard, &other.heard);
        }
        for (name, count) in run.group.sim.observed().named() {
            *total.entry(name).or_default() += count;
        }
    }
    println!("{total:?}");
    let never: Vec<_> = total.iter().filter(|(_, count)| **count == 0).collect();
    assert!(never.is_empty(), "never happened: {never:?}");
}

/// S4: between two rings that they saw both, one after the other, members have delivered the
/// same.
#[test]
fn those_who_go_on_together_deliver_the_same() {
    let mut compared = 0;
    for seed in 0..60 {
        let faults = Faults {
            aborted_syncs: 0,
            split_rings: 0,
            sync_max: ms(0),
            listed_dead: 0,
            ..Faults::drawn(seed)
        };
        let mut run = Run::new(seed, faults);
        run.go(1500);
        if run.group.sim.observed().aborted_rings > 0 {
            continue;
        }
        // Deliveries between rings, by these and the one before, which decides what
        // straddles; of those who were members all the while.
        let mut chapters: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
        for member in &run.group.members {
            let mut rings: Vec<String> = Vec::new();
            let mut chapter: Vec<String> = Vec::new();
            for event in &member.heard {
                if let Event::Ring(ring) = event {
                    if rings.last() == Some(&ring.id.to_string()) {
                        continue;
                    }
                    rings.push(ring.id.to_string());
                    let said = std::mem::take(&mut chapter);
                    if rings.len() > 3 {
                        let key = rings[rings.len() - 3..].to_vec();
                        if let Some(before) = chapters.insert(key, said.clone()) {
                            compared += 1;
                            assert_eq!(before, said, "seed {seed}");
                        }
                    }
                } else {
                    chapter.push(words(event));
                }
            }
        }
    }
    assert!(compared > 100, "only {compared} were compared");
}

#[test]
fn a_faultless_group_never_does_any_of_it() {
    for seed in 0..20 {
        let mut run = Run::new(seed, Faults::default());
        run.go(1500);
        let seen = run.group.sim.observed();
        let Observed { early_rings, rings, lost_messages, .. } = seen;
        // Messages of those whose connection was closed before the daemon had a turn, and
        // connections made while another's join is under way.
        assert_eq!(seen, Observed { early_rings, lost_messages, ..Observed::default() });
        assert_eq!((rings, lost_messages), (0, 0));
        run.check_calm();
    }
}
