//! The store in simulated groups with random faults. The environment variable `PLAINSONG_SEEDS`
//! sets the number of seeds, and `PLAINSONG_SEED` selects one whose run is printed line by line.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kv::KvStore;
use kv::command::{
    Command, Condition, Deadline, ExpireCondition, Expiry, LifetimeForm, Output, Proposal, Query,
    Step, Transaction,
};
use linearizability::{Access, History};
use plainsong::testing::{
    Answer, ClientNumber, Parameters, Random, Workload, check_determinism, run_seeds,
};
use plainsong::{Incarnation, Timestamp};

/// Maximum number of calls of a register. The time to check a history grows with its square.
const CALLS_MAX: u32 = 30;

/// Clients whose every second command reads or writes a register: a key that no other command uses,
/// and whose history must be linearizable. The other commands use everything that the store offers.
struct Clients {
    history: History,
    registers: u64,
    calls: BTreeMap<u64, u32>,
    last_value: u64,
}

impl Clients {
    fn new(parameters: &Parameters) -> Self {
        let clients = u64::from((parameters.voters + parameters.learners) * parameters.clients);
        let (history, calls) = (History::default(), BTreeMap::new());
        Self { history, registers: 1 + clients / 3, calls, last_value: 0 }
    }

    /// Reads or writes a register.
    fn on_register(&mut self, client: ClientNumber, random: &mut Random) -> Command {
        let mut register = random.below(self.registers);
        while self.calls.get(&register).is_some_and(|calls| *calls >= CALLS_MAX) {
            register += self.registers;
        }
        *self.calls.entry(register).or_default() += 1;
        let key = Bytes::from(format!("register {register}"));
        if random.chance(500) {
            self.history.called(client, Access::Read { register });
            return Command::GetAndExpire { key, expiry: Expiry::Keep };
        }
        self.last_value += 1;
        let value = self.last_value;
        self.history.called(client, Access::Write { register, value });
        let value = Bytes::from(value.to_string());
        let (condition, expiry) = (Condition::Always, Expiry::Never);
        Command::Set { key, value, condition, expiry, get: true }
    }
}

/// Returns a random command on one of a few keys. Expiries are very short, or a year.
fn any_command(random: &mut Random) -> Command {
    let key = |random: &mut Random| Bytes::from(format!("key {}", random.below(8)));
    let value = |random: &mut Random| Bytes::from(random.below(1000).to_string());
    let deadline = |random: &mut Random| match random.below(4) {
        0 => Deadline::In(365 * 24 * 3_600_000),
        1 => Deadline::At(random.below(1_100_000) as i64),
        _ => Deadline::In(random.below(3000) as i64),
    };
    let expiry = |random: &mut Random| match random.below(3) {
        0 => Expiry::Never,
        1 => Expiry::Keep,
        _ => Expiry::At(deadline(random)),
    };
    let any = |random: &mut Random| random.pick(&[None, None, Some(true), Some(false)]);
    let first = key(random);
    match random.below(10) {
        0 => Command::GetAndExpire { key: first, expiry: expiry(random) },
        1 => Command::GetAndDelete { key: first },
        2..5 => {
            let condition = match random.below(5) {
                0..2 => Condition::Always,
                2 => Condition::Absent,
                3 => Condition::Present,
                _ => Condition::NotEqual(Box::new(value(random))),
            };
            Command::Set {
                key: first,
                value: value(random),
                condition,
                expiry: expiry(random),
                get: random.chance(500),
            }
        }
        5 => Command::SetMany(vec![(first, value(random)), (key(random), value(random))]),
        6 => Command::Delete(vec![first, key(random)]),
        7 => Command::Add { key: first, delta: random.below(100) as i64 - 50 },
        8 => match random.below(4) {
            0 => Command::DeleteIf {
                key: first,
                condition: Condition::NotEqual(Box::new(value(random))),
            },
            1 => {
                Command::SetManyIfAbsent(vec![(first, value(random)), (key(random), value(random))])
            }
            2 => {
                Command::SetRange { key: first, first: random.below(9) as u32, part: value(random) }
            }
            _ => Command::Append { key: first, tail: value(random) },
        },
        _ if random.chance(300) => Command::Persist { key: first },
        _ => {
            let condition = ExpireCondition { present: any(random), longer: any(random) };
            Command::Expire { key: first, deadline: deadline(random), condition }
        }
    }
}

/// Returns a command or a transaction of several, some of them with watched keys.
fn any_proposal(random: &mut Random) -> Proposal {
    if random.chance(800) {
        return any_command(random).into();
    }
    let key = |random: &mut Random| Bytes::from(format!("key {}", random.below(8)));
    let steps = (0..=random.below(4)).map(|_| match random.below(4) {
        0 => Step::Read(Query::Get { key: key(random) }),
        1 => Step::Read(Query::Lifetime { key: key(random), form: LifetimeForm::LeftMs }),
        2 => Step::Read(Query::Versions(vec![key(random), key(random)])),
        _ => Step::Write(any_command(random)),
    });
    let steps = steps.collect();
    // Version 0 stands for an absent key, which each of the keys is now and then.
    let watched = random.chance(300).then(|| (key(random), 0));
    Proposal::Transaction(Transaction { watched: watched.into_iter().collect(), steps })
}

impl Workload for Clients {
    type Machine = KvStore;

    fn machine(&self) -> KvStore {
        KvStore::default()
    }

    fn command(&mut self, client: ClientNumber, random: &mut Random) -> Proposal {
        if random.chance(500) {
            self.on_register(client, random).into()
        } else {
            any_proposal(random)
        }
    }

    fn answered(&mut self, client: ClientNumber, answer: Answer<Output>) {
        // The history contains calls of registers only.
        let answer = match answer {
            Answer::Output(Output::Value(value)) => {
                let text = std::str::from_utf8(&value).expect("a number");
                Answer::Output(text.parse().unwrap_or_default())
            }
            Answer::Output(_) => Answer::Output(0),
            Answer::Refused => Answer::Refused,
            Answer::Unknown => Answer::Unknown,
        };
        self.history.answered(client, answer);
    }

    fn at_rest(&mut self, store: &KvStore, _: &BTreeSet<Incarnation>) -> Result<(), String> {
        let all = Query::Scan { cursor: 0, count: u32::MAX, pattern: None };
        let (all, count) =
            (store.answer(all, Timestamp(0)), store.answer(Query::Count, Timestamp(0)));
        match (&all, &count) {
            (Output::Scanned { cursor: 0, keys }, Output::Counted { keys: count, .. })
                if keys.len() as u64 == *count =>
            {
                Ok(())
            }
            _ => Err(format!("{all:?} and {count:?}")),
        }
    }

    fn check(&self) -> Result<(), String> {
        self.history.wrong().map_or(Ok(()), |register| {
            Err(format!("the history of register {register} is not linearizable"))
        })
    }
}

#[test]
fn replicas_agree_and_registers_are_linearizable() {
    let reports = run_seeds(30, Clients::new);
    assert!(reports.iter().any(|report| report.acknowledged > 100), "{reports:?}");
}

#[test]
fn the_store_is_deterministic_across_snapshots() {
    let mut random = Random::new(1);
    let any = |random: &mut Random| match random.below(50) {
        0 => Command::Clear.into(),
        _ => any_proposal(random),
    };
    let commands = std::iter::repeat_with(|| any(&mut random)).take(1000);
    check_determinism(KvStore::default, commands).unwrap();
}
