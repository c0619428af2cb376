//! Each command of a session takes effect once, although clients propose unanswered commands again,
//! at any replica, in simulated groups with all faults.
#![cfg(feature = "testing")]

use std::collections::BTreeMap;

use plainsong::session::{Limits, Reply, Session, SessionCommand, SessionError, Sessions};
use plainsong::testing::{
    Answer, ClientNumber, Parameters, Random, Report, Simulation, Violation, Workload,
    check_determinism,
};
use plainsong::{Context, StateMachine};
use serde::{Deserialize, Serialize};

/// Counts the commands by name.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Counter {
    times: BTreeMap<u64, u64>,
    /// Number of names counted more than once.
    twice: u64,
}

/// The output of a command: the number of names counted, and of those counted more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Count {
    all: u64,
    twice: u64,
}

impl StateMachine for Counter {
    type Command = u64;
    type Output = Count;
    plainsong::snapshot_by_clone!();

    fn apply(&mut self, _: &Context, name: u64) -> Count {
        let times = self.times.entry(name).or_default();
        *times += 1;
        self.twice += u64::from(*times == 2);
        Count { all: self.times.len() as u64, twice: self.twice }
    }
}

type Machine = Sessions<Counter>;
type Numbered = SessionCommand<u64>;

/// Clients whose sessions move between replicas: any idle simulated caller proposes the next
/// command.
struct Wanderers {
    limits: Limits,
    break_rule: fn(Machine) -> Machine,
    sessions: Vec<Session>,
    /// Pending commands by caller, with the index of their session.
    calls: BTreeMap<ClientNumber, (Numbered, Option<usize>)>,
    /// Commands to propose again, because they were not answered.
    unanswered: Vec<(Numbered, usize)>,
    /// Answered commands, which are sometimes proposed again.
    answered: Vec<Numbered>,
    outputs: BTreeMap<u64, Count>,
    names: u64,
    wrong: Option<String>,
}

impl Wanderers {
    fn new(limits: Limits, break_rule: fn(Machine) -> Machine) -> Self {
        Self {
            limits,
            break_rule,
            sessions: Vec::new(),
            calls: BTreeMap::new(),
            unanswered: Vec::new(),
            answered: Vec::new(),
            outputs: BTreeMap::new(),
            names: 0,
            wrong: None,
        }
    }

    fn complain(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    fn output(&mut self, command: &Numbered, count: Count) {
        if count.twice > 0 {
            self.complain(format!("{} commands took effect more than once", count.twice));
        }
        let SessionCommand::Command { command: name, .. } = command else { return };
        let first = *self.outputs.entry(*name).or_insert(count);
        if first != count {
            self.complain(format!("command {name} has the outputs {first:?} and {count:?}"));
        }
    }
}

impl Workload for Wanderers {
    type Machine = Machine;

    fn machine(&self) -> Machine {
        (self.break_rule)(Sessions::with_limits(Counter::default(), self.limits))
    }

    fn command(&mut self, client: ClientNumber, random: &mut Random) -> Numbered {
        if self.sessions.is_empty() || random.chance(30) {
            self.calls.insert(client, (Numbered::Open, None));
            return Numbered::Open;
        }
        let roll = random.below(10);
        let (command, session) = if roll < 5 && !self.unanswered.is_empty() {
            let at = random.below(self.unanswered.len() as u64) as usize;
            self.unanswered.swap_remove(at)
        } else if roll < 6 && !self.answered.is_empty() {
            let at = random.below(self.answered.len() as u64) as usize;
            (self.answered[at].clone(), usize::MAX)
        } else {
            let session = random.below(self.sessions.len() as u64) as usize;
            self.names += 1;
            (self.sessions[session].command(self.names), session)
        };
        self.calls.insert(client, (command.clone(), Some(session)));
        // Sometimes the client does not wait for the answer before it proposes the command again.
        if session != usize::MAX && random.chance(100) {
            self.unanswered.push((command.clone(), session));
        }
        command
    }

    fn answered(
        &mut self,
        client: ClientNumber,
        answer: Answer<Result<Reply<Count>, SessionError>>,
    ) {
        let Some((command, session)) = self.calls.remove(&client) else { return };
        let answer = match answer {
            Answer::Output(answer) => answer,
            Answer::Refused | Answer::Unknown => {
                if let Some(session) = session.filter(|session| *session != usize::MAX) {
                    self.unanswered.push((command, session));
                }
                return;
            }
        };
        match (answer, session) {
            (Ok(Reply::Opened(session)), _) => self.sessions.push(session),
            (Ok(Reply::Output(count)), Some(session)) => {
                self.output(&command, count);
                if let Some(session) = self.sessions.get_mut(session) {
                    session.done(&command);
                    self.answered.push(command);
                }
            }
            (Err(SessionError::TooManyUnderWay), Some(session)) if session != usize::MAX => {
                self.unanswered.push((command, session));
            }
            (Err(SessionError::Done), _) => {
                let SessionCommand::Command { command: name, .. } = command else { return };
                if !self.outputs.contains_key(&name) {
                    self.complain(format!("command {name} is done but was never answered"));
                }
            }
            (Err(error), _) if error != SessionError::OutputLost => {}
            (other, _) => self.complain(format!("unexpected answer to {command:?}: {other:?}")),
        }
    }

    fn check(&self) -> Result<(), String> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        let most = self.outputs.values().map(|count| count.all).max().unwrap_or_default();
        if most > self.names {
            return Err(format!("{most} names were counted, but {} proposed", self.names));
        }
        if most < self.outputs.len() as u64 {
            return Err(format!("{most} names were counted, but {} answered", self.outputs.len()));
        }
        Ok(())
    }
}

const LONG: Limits =
    Limits { sessions_max: 1000, under_way_max: 8, output_bytes_max: 1000, idle_ms_max: 3_600_000 };

/// Limits with which sessions expire often.
const SHORT: Limits = Limits { idle_ms_max: 400, sessions_max: 20, ..LONG };

fn run(seed: u64, break_rule: fn(Machine) -> Machine) -> Result<Report, Violation> {
    let limits = if seed.is_multiple_of(2) { LONG } else { SHORT };
    let workload = Wanderers::new(limits, break_rule);
    Simulation::new(Parameters::drawn(seed), workload).run()
}

/// Returns the number of seeds from the environment, 30 by default.
fn seeds() -> u64 {
    std::env::var("PLAINSONG_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(30)
}

#[test]
fn each_command_of_a_session_takes_effect_once() {
    let mut restored = 0;
    for seed in 0..seeds() {
        let report = run(seed, |machine| machine);
        let report = report.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        restored += report.restored;
    }
    assert!(restored > 0, "no replica restored a snapshot: the runs are too short");
}

#[test]
fn sessions_are_deterministic() {
    let mut session: Option<Session> = None;
    let mut opener = Sessions::with_limits(Counter::default(), LONG);
    let context = Context::new(plainsong::Index(1), plainsong::Timestamp(1_000_100));
    if let Ok(Reply::Opened(opened)) = opener.apply(&context, Numbered::Open) {
        session = Some(opened);
    }
    // The machines under test assign the same number to this session, at the same time.
    let mut session = session.unwrap();
    let mut commands = vec![Numbered::Open];
    for name in 0..200 {
        let command = session.command(name);
        commands.push(command.clone());
        if name % 3 == 0 {
            commands.push(command.clone());
        }
        if name % 7 != 0 {
            session.done(&command);
        }
        if name % 50 == 49 {
            commands.push(Numbered::Open);
        }
    }
    for limits in [LONG, SHORT] {
        let new = || Sessions::with_limits(Counter::default(), limits);
        check_determinism(new, commands.clone()).unwrap();
    }
}

/// Uses sessions at random times and compares them with a model of their expiry.
fn sessions_end_when_they_were_not_used(break_rule: fn(Machine) -> Machine) -> Result<(), String> {
    for seed in 0..20 {
        let mut random = Random::new(seed);
        let mut machine = break_rule(Sessions::with_limits(Counter::default(), SHORT));
        let mut sessions: Vec<(Session, u64)> = Vec::new();
        let mut now = 1_000_000;
        for index in 1..500 {
            now += random.below(SHORT.idle_ms_max / 2);
            let context = Context::new(plainsong::Index(index), plainsong::Timestamp(now));
            if machine.wake_at().is_some_and(|at| at.0 <= now) {
                machine.wake(&context);
            }
            let lives = sessions.iter().filter(|(_, ends)| *ends > now).count();
            if machine.count() != lives {
                let count = machine.count();
                return Err(format!("{count} sessions are open at {now} instead of {lives}"));
            }
            if lives < 3 {
                if let Ok(Reply::Opened(session)) = machine.apply(&context, Numbered::Open) {
                    sessions.push((session, now + SHORT.idle_ms_max));
                }
                continue;
            }
            let at = sessions.len() - 1 - random.below(4.min(sessions.len() as u64)) as usize;
            let (session, ends) = &mut sessions[at];
            let is_over = *ends <= now;
            let command = if random.chance(500) { session.keep() } else { session.command(index) };
            let answer = machine.apply(&context, command.clone());
            session.done(&command);
            if is_over != (answer == Err(SessionError::Over)) {
                return Err(format!("at {now}, a session that expires at {ends}: {answer:?}"));
            }
            if !is_over {
                *ends = now + SHORT.idle_ms_max;
            }
        }
    }
    Ok(())
}

#[test]
fn a_session_ends_when_it_was_not_used_for_long_enough() {
    sessions_end_when_they_were_not_used(|machine| machine).unwrap();
}
