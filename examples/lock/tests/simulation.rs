//! The locks in simulated groups with random faults. The environment variable `PLAINSONG_SEEDS`
//! sets the number of seeds; `PLAINSONG_SEED` selects one seed and prints its run line by line.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use lock::command::{Command, Mode, Output, Patience, Terms, Token};
use lock::{LockMachine, Name, Owner};
use plainsong::testing::{
    Answer, ClientNumber, Parameters, Random, Workload, check_determinism, run_seeds,
};
use plainsong::{Incarnation, Index, ReplicaId};
use tokio::sync::mpsc;

/// A grant in the list of locks.
type Grant = (Token, Name);

/// Clients that request a few locks and remember their grants.
struct Clients {
    new: NewMachine,
    /// Last index that was checked, and the grants after it.
    looked_to: Index,
    grants: BTreeSet<Grant>,
    /// Highest token in the log so far.
    last_token: Token,
    /// Highest token that any client has received, and its value when each client sent its request.
    last_received: Token,
    called_at: BTreeMap<ClientNumber, Token>,
    wrong: Option<String>,
}

/// Returns a random command of a session. Its times are short.
fn any_command(session: u64, last_received: Token, random: &mut Random) -> Command {
    let name: Name = random.pick(&["a", "b", "c", "d"]).parse().expect("a name");
    let soon = |random: &mut Random| random.below(3000);
    match random.below(18) {
        0..8 => {
            let terms = Terms {
                mode: random.pick(&[Mode::Exclusive, Mode::Exclusive, Mode::Shared]),
                patience: match random.below(3) {
                    0 => Patience::None,
                    1 => Patience::Ms(soon(random)),
                    _ => Patience::Endless,
                },
                lease_ms: random.chance(300).then(|| soon(random)),
                linger_ms: random.pick(&[0, 0, 500]),
                owner: Owner::about("a test"),
            };
            Command::Acquire { session, name, terms }
        }
        8 => Command::Renew { session, name },
        9..13 => Command::Release { session, name },
        13 => Command::End { session },
        14 => Command::Abandon { session },
        15 | 16 => Command::Resume { session, name, token: last_received },
        _ => Command::Break { name, at_once: random.chance(500) },
    }
}

/// Returns a state machine whose events of sessions are dropped.
fn machine() -> LockMachine {
    LockMachine::new(mpsc::channel(1).0)
}

type NewMachine = fn() -> LockMachine;

fn grants(machine: &LockMachine) -> BTreeSet<Grant> {
    let listed = machine.locks().list(None, usize::MAX).into_iter();
    let held = |lock: lock::command::LockListed| {
        let name = lock.name;
        lock.first.into_iter().map(move |by| (by.token, name.clone()))
    };
    listed.flat_map(held).collect()
}

impl Clients {
    fn of(new: NewMachine) -> Self {
        Self {
            new,
            looked_to: Index::default(),
            grants: BTreeSet::new(),
            last_token: 0,
            last_received: 0,
            called_at: BTreeMap::new(),
            wrong: None,
        }
    }
}

impl Workload for Clients {
    type Machine = LockMachine;

    fn machine(&self) -> LockMachine {
        (self.new)()
    }

    fn command(&mut self, client: ClientNumber, random: &mut Random) -> Command {
        self.called_at.insert(client, self.last_received);
        any_command(client.0, self.last_received, random)
    }

    fn answered(&mut self, client: ClientNumber, answer: Answer<Output>) {
        let before = self.called_at.remove(&client).unwrap_or_default();
        if let Answer::Output(Output::Granted(token)) = answer {
            if token <= before {
                let text = format!(
                    "{client:?} received token {token} although {before} was received before"
                );
                self.wrong.get_or_insert(text);
            }
            self.last_received = self.last_received.max(token);
        }
    }

    fn applied(&mut self, _: ReplicaId, index: Index, machine: &LockMachine) -> Result<(), String> {
        // Checks, among others, that an exclusive lock has one holder.
        machine.locks().check()?;
        if index <= self.looked_to {
            return Ok(());
        }
        let now = grants(machine);
        let mut new = now.difference(&self.grants);
        if let Some((token, name)) = new.find(|(token, ..)| *token <= self.last_token) {
            let before = self.last_token;
            return Err(format!(
                "{name} was granted with token {token} although {before} was given out before"
            ));
        }
        self.last_token = now.last().map_or(0, |(token, ..)| *token).max(self.last_token);
        (self.looked_to, self.grants) = (index, now);
        Ok(())
    }

    fn at_rest(
        &mut self,
        machine: &LockMachine,
        members: &BTreeSet<Incarnation>,
    ) -> Result<(), String> {
        let listed = machine.locks().list(None, usize::MAX);
        let mut held = listed.iter().flat_map(|lock| lock.first.iter().map(|by| (&lock.name, by)));
        match held.find(|(_, by)| !by.lost && !members.contains(&by.session.server)) {
            Some((name, by)) => Err(format!("{name} is held by {by:?}, which is gone")),
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<(), String> {
        self.wrong.clone().map_or(Ok(()), Err)
    }
}

#[test]
fn exclusive_locks_have_one_holder_tokens_grow_and_dead_holders_lose_their_locks() {
    let reports = run_seeds(30, |_: &Parameters| Clients::of(machine));
    assert!(reports.iter().any(|report| report.acknowledged > 100), "{reports:?}");
}

#[test]
fn the_locks_are_deterministic_also_after_snapshots() {
    let mut random = Random::new(1);
    let commands = std::iter::repeat_with(|| {
        let session = random.below(5);
        any_command(session, 1, &mut random)
    });
    check_determinism(machine, commands.take(1000)).unwrap();
}
