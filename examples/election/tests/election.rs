//! The replicated state on its own: election of a leader, tokens, and unstopped work.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use election::{Command, Election, ElectionMachine, Output, Token};
use std::collections::BTreeSet;

use plainsong::testing::{Answer, ClientNumber, Parameters, Random, Workload, run_seeds};
use plainsong::{Context, Incarnation, Index, Nonce, ReplicaId, StateMachine, Timestamp};

const LINGER_MS: u64 = 1000;
const PATIENCE_MS: u64 = 100;

#[derive(Default)]
struct World {
    election: Election,
    time: u64,
}

fn run(id: u32) -> Incarnation {
    Incarnation { replica: ReplicaId(id), nonce: Nonce(id.into()) }
}

fn stand(priority: i32) -> Command {
    Command::Stand { priority, patience_ms: PATIENCE_MS, linger_ms: LINGER_MS }
}

impl World {
    #[track_caller]
    fn does(&mut self, id: u32, command: Command) -> Output {
        let output = self.election.execute(Timestamp(self.time), run(id), command);
        self.election.check().unwrap();
        output
    }

    #[track_caller]
    fn stands(&mut self, id: u32, priority: i32) {
        assert_eq!(self.does(id, stand(priority)), Output::Done);
    }

    #[track_caller]
    fn is_at(&mut self, time: u64) {
        self.time = time;
        self.election.expire(Timestamp(time));
        self.election.check().unwrap();
    }

    #[track_caller]
    fn leaves(&mut self, id: u32) {
        self.election.dismiss(Timestamp(self.time), run(id));
        self.election.check().unwrap();
    }

    /// The leader's replica id and token.
    fn leader(&self) -> Option<(u32, Token)> {
        self.election.leader().map(|leader| (leader.run.replica.0, leader.token))
    }

    #[track_caller]
    fn begins(&mut self) -> Token {
        let (id, token) = self.leader().unwrap();
        assert_eq!(self.does(id, Command::Begin { token }), Output::Done);
        token
    }

    fn unstopped(&self) -> Option<Token> {
        self.election.unstopped().map(|unstopped| unstopped.token)
    }
}

#[test]
fn the_first_candidate_leads_and_is_not_replaced_by_a_better_one() {
    let mut world = World::default();
    world.stands(1, 0);
    world.stands(2, 9);
    assert_eq!(world.leader().unwrap().0, 1);
    world.stands(1, 0);
    assert_eq!(world.leader().unwrap().0, 1);
}

#[test]
fn the_next_leader_has_the_highest_priority_and_then_the_longest_candidacy() {
    let mut world = World::default();
    for (id, priority) in [(1, 0), (4, 1), (3, 5), (2, 5)] {
        world.stands(id, priority);
    }
    let mut order = Vec::new();
    while let Some((id, _)) = world.leader() {
        order.push(id);
        world.leaves(id);
    }
    assert_eq!(order, [1, 3, 2, 4]);
}

#[test]
fn tokens_grow_with_each_leader_and_after_a_loss_of_the_state() {
    let mut world = World { time: 5000, ..World::default() };
    world.stands(1, 0);
    world.stands(2, 0);
    let mut last = 0;
    for _ in 0..5 {
        let (id, token) = world.leader().unwrap();
        assert!(token > last);
        last = token;
        world.leaves(id);
        world.stands(id, 0);
    }
    let mut anew = World { time: 6000, ..World::default() };
    anew.stands(1, 0);
    assert!(anew.leader().unwrap().1 > last);
}

#[test]
fn work_of_a_departed_leader_is_unstopped_until_it_stops_or_the_next_leader_begins() {
    for reports in [true, false] {
        let mut world = World::default();
        world.stands(1, 0);
        let first = world.begins();
        world.stands(2, 0);
        world.leaves(1);
        assert_eq!(world.unstopped(), Some(first));
        assert_eq!(world.election.unstopped().unwrap().linger_ms, LINGER_MS);
        if reports {
            // It was partitioned, and is back.
            assert_eq!(world.does(1, Command::Stopped { token: first }), Output::Done);
        } else {
            world.begins();
        }
        assert_eq!(world.unstopped(), None);
        assert_eq!(world.leader().unwrap().0, 2);
    }
}

#[test]
fn unstopped_work_remains_when_the_next_leader_dies_before_it_begins() {
    let mut world = World::default();
    world.stands(1, 0);
    let first = world.begins();
    world.stands(2, 0);
    world.stands(3, 0);
    world.leaves(1);
    assert_eq!(world.leader().unwrap().0, 2);
    world.leaves(2);
    assert_eq!((world.leader().unwrap().0, world.unstopped()), (3, Some(first)));
}

#[test]
fn a_leader_that_resigns_is_elected_last_and_with_a_new_token() {
    let mut world = World::default();
    world.stands(1, 9);
    let first = world.begins();
    world.stands(2, 0);
    assert_eq!(world.does(2, Command::Resign), Output::Done);
    assert_eq!((world.leader().unwrap().0, world.unstopped()), (2, Some(first)));
    assert_eq!(world.does(1, Command::Stopped { token: first }), Output::Done);
    let second = world.begins();
    assert_eq!(world.does(2, Command::Stopped { token: second }), Output::Done);
    // It is passed over only once, so it is first again.
    assert_eq!((world.leader().unwrap().0, world.unstopped()), (1, None));
    world.leaves(2);
    let third = world.begins();
    world.does(1, Command::Resign);
    let (id, fourth) = world.leader().unwrap();
    assert!(id == 1 && fourth > third && world.unstopped() == Some(third));
}

#[test]
fn a_leader_that_does_not_renew_loses_its_place_and_its_candidacy() {
    let mut world = World::default();
    for id in [1, 2, 3] {
        world.stands(id, 0);
    }
    let first = world.begins();
    world.is_at(PATIENCE_MS - 1);
    assert_eq!(world.does(1, Command::Renew { token: first }), Output::Done);
    world.is_at(2 * PATIENCE_MS - 2);
    assert_eq!(world.leader(), Some((1, first)));
    world.is_at(2 * PATIENCE_MS - 1);
    assert_eq!((world.leader().unwrap().0, world.unstopped()), (2, Some(first)));
    assert_eq!(world.does(1, Command::Renew { token: first }), Output::Void);
    // The next leader waits before it begins, and is frozen too.
    let begins_by = world.time + LINGER_MS;
    world.is_at(begins_by + PATIENCE_MS - 1);
    assert_eq!(world.leader().unwrap().0, 2);
    world.is_at(begins_by + PATIENCE_MS);
    assert_eq!((world.leader().unwrap().0, world.unstopped()), (3, Some(first)));
    // The first one resumes.
    assert_eq!(world.does(1, Command::Stopped { token: first }), Output::Done);
    let second = world.begins();
    world.stands(1, 0);
    world.is_at(world.time + PATIENCE_MS);
    assert_eq!((world.leader().unwrap().0, world.unstopped()), (1, Some(second)));
    world.leaves(1);
    assert_eq!((world.leader(), world.election.next_deadline()), (None, None));
}

#[test]
fn commands_with_the_token_of_another_term_are_void() {
    let mut world = World::default();
    world.stands(1, 0);
    world.stands(2, 0);
    let token = world.begins();
    for command in [
        Command::Renew { token },
        Command::Renew { token: token + 1 },
        Command::Begin { token },
        Command::Begin { token: token + 1 },
        Command::Stopped { token },
        Command::Stopped { token: token + 1 },
    ] {
        assert_eq!(world.does(2, command), Output::Void, "{command:?}");
    }
    assert_eq!(world.does(1, Command::Begin { token: token + 1 }), Output::Void);
    assert_eq!(world.leader(), Some((1, token)));
    assert_eq!(world.does(1, Command::Withdraw), Output::Done);
    assert_eq!(world.does(1, Command::Withdraw), Output::Void);
    assert_eq!((world.leader().unwrap().0, world.unstopped()), (2, None));
    world.does(2, Command::Withdraw);
    assert_eq!(world.leader(), None);
    assert_eq!(world.does(2, Command::Resign), Output::Void);
}

/// Draws a random command; most fit the current state.
fn draw(random: &mut Random, last_token: Token) -> Command {
    let token = last_token.saturating_sub(random.below(3));
    match random.below(9) {
        0..2 => stand(random.below(3) as i32),
        2..5 => Command::Begin { token },
        5 => Command::Renew { token },
        6 => Command::Stopped { token },
        7 => Command::Withdraw,
        _ => Command::Resign,
    }
}

/// Checks an election against a simple model of the commands applied to it.
#[derive(Default)]
struct Model {
    world: World,
    /// Token of the work that has begun and has not been reported stopped.
    works: Option<Token>,
    /// Token of the latest term, and the time from which its leader's patience counts.
    heard: (Token, u64),
}

impl Model {
    fn step(&mut self, random: &mut Random) -> Result<(), String> {
        self.world.time += if random.chance(50) { LINGER_MS } else { random.below(3) };
        let (id, elected) = (random.below(4) as u32, self.world.leader());
        let time = Timestamp(self.world.time);
        self.world.election.expire(time);
        let before = self.world.leader();
        if elected != before && self.world.time < self.heard.1 + PATIENCE_MS {
            return Err(format!("{elected:?} has lost its place although it renewed in time"));
        }
        if random.chance(100) {
            self.world.election.dismiss(time, run(id));
            if self.world.leader().is_some_and(|(leader, _)| leader == id) {
                return Err(format!("{id} leads although it has left"));
            }
        } else {
            let command = draw(random, before.map_or(0, |(_, token)| token));
            if self.world.election.execute(time, run(id), command) == Output::Done {
                self.note(id, command, before);
            }
        }
        self.world.election.check()?;
        let after = self.world.leader().map_or(0, |(_, token)| token);
        if after != self.heard.0 {
            let waits = self.world.unstopped().map_or(0, |_| LINGER_MS);
            self.heard = (after, self.world.time + waits);
        } else if after != 0 && self.world.time >= self.heard.1 + PATIENCE_MS {
            return Err(format!(
                "{after} leads although it has not renewed since {}",
                self.heard.1
            ));
        }
        let after = self.world.leader();
        if let (Some((old, before)), Some((new, after))) = (before, after)
            && (after < before || (after == before && old != new))
        {
            return Err(format!("token {after} of {new} comes after {before} of {old}"));
        }
        match self.works {
            Some(works) if after.is_some_and(|(_, token)| token != works) => {
                let known = self.world.unstopped() == Some(works);
                known
                    .then_some(())
                    .ok_or_else(|| format!("the unstopped work of {works} is forgotten"))
            }
            _ => Ok(()),
        }
    }

    fn note(&mut self, id: u32, command: Command, leader: Option<(u32, Token)>) {
        if let Command::Begin { token } | Command::Renew { token } = command {
            self.heard = (token, self.world.time);
        }
        match command {
            // Earlier work has stopped, or has had its time to stop.
            Command::Begin { token } => self.works = Some(token),
            Command::Stopped { token } if self.works == Some(token) => self.works = None,
            Command::Withdraw if leader.is_some_and(|(leader, _)| leader == id) => {
                self.works = self.works.filter(|works| Some((id, *works)) != leader);
            }
            _ => {}
        }
    }
}

fn check_random_run(election: &Election, seed: u64) -> Result<(), String> {
    let mut random = Random::new(seed);
    let world = World { election: election.clone(), time: 0 };
    let mut model = Model { world, works: None, heard: (0, 0) };
    (0..400).try_for_each(|_| model.step(&mut random))
}

#[test]
fn random_commands_preserve_invariants() {
    for seed in 0..200 {
        check_random_run(&Election::default(), seed)
            .unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

/// Runs the state machine in simulated groups with random faults.
struct Members {
    new: fn() -> ElectionMachine,
    last_token: Token,
    /// Last index that was checked, and the leader after it.
    looked_to: Index,
    leader: Option<(Incarnation, Token)>,
}

impl Members {
    fn of(new: fn() -> ElectionMachine) -> Self {
        Self { new, last_token: 0, looked_to: Index(0), leader: None }
    }
}

impl Workload for Members {
    type Machine = ElectionMachine;

    fn machine(&self) -> ElectionMachine {
        (self.new)()
    }

    fn command(&mut self, _: ClientNumber, random: &mut Random) -> Command {
        let token = self.leader.map_or(0, |(_, token)| token);
        draw(random, token)
    }

    fn answered(&mut self, _: ClientNumber, _: Answer<Output>) {}

    fn applied(
        &mut self,
        _: ReplicaId,
        index: Index,
        machine: &ElectionMachine,
    ) -> Result<(), String> {
        machine.election().check()?;
        if index <= self.looked_to {
            return Ok(());
        }
        let leader = machine.election().leader().map(|leader| (leader.run, leader.token));
        if let Some((run, token)) = leader
            && leader != self.leader
            && token <= self.last_token
        {
            return Err(format!("{run:?} leads with token {token}, not above {}", self.last_token));
        }
        self.last_token = leader.map_or(0, |(_, token)| token).max(self.last_token);
        (self.looked_to, self.leader) = (index, leader);
        Ok(())
    }

    fn at_rest(
        &mut self,
        machine: &ElectionMachine,
        here: &BTreeSet<Incarnation>,
    ) -> Result<(), String> {
        let leader = machine.election().leader();
        match leader.filter(|leader| !here.contains(&leader.run)) {
            Some(leader) => Err(format!("{leader:?} leads although it is gone")),
            None => Ok(()),
        }
    }
}

#[test]
fn replicas_agree_on_one_present_leader_with_growing_tokens() {
    run_seeds(20, |_: &Parameters| Members::of(ElectionMachine::default));
}

#[test]
fn a_restored_machine_notifies_its_watchers() {
    let mut first = ElectionMachine::default();
    let context = Context::new(Index(1), Timestamp(1)).proposed_by(run(1));
    first.apply(&context, stand(0));
    let mut bytes = Vec::new();
    plainsong::Snapshot::write(first.snapshot(), &mut bytes).unwrap();
    let mut second = ElectionMachine::default();
    let mut watcher = second.watch();
    second.restore(&mut &bytes[..]).unwrap();
    assert_eq!(watcher.try_next(), Some(plainsong::News::Lagged(None)));
    assert_eq!(second.election(), first.election());
}
