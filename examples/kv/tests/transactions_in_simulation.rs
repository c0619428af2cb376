//! Transactions, watched keys and compare-and-set in simulated groups with random faults. State
//! machines that break a rule on purpose must be detected. The environment variable
//! `PLAINSONG_SEEDS` sets the number of seeds.

#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use kv::KvStore;
use kv::command::{
    Command, Condition, Deadline, Expiry, Output, Proposal, Query, Step, Transaction,
};
use plainsong::testing::{
    Answer, ClientNumber, Parameters, Random, Report, Simulation, Violation, Workload,
};
use plainsong::{Context, Incarnation, Index, ReplicaId, StateMachine, Timestamp};

const ACCOUNTS: u64 = 6;
const COUNTERS: u64 = 4;

/// A defect of the state machine, made on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    /// Only the first half of a transaction is applied.
    ExecAppliesHalf,
    /// Watched keys are not checked.
    WatchDoesNotCompare,
    /// `IFEQ` sets the key regardless of its value.
    IfEqDoesNotCompare,
    /// Keys expire by the replica's own clock.
    ExpiryByLocalClock,
}

/// The store, possibly with a defect.
#[derive(Clone, Debug)]
struct Machine {
    store: KvStore,
    defect: Option<Defect>,
    /// Offset of this replica's clock.
    skew_ms: u64,
}

impl Machine {
    fn context(&self, context: &Context) -> Context {
        match self.defect {
            Some(Defect::ExpiryByLocalClock) => {
                Context::new(context.index(), Timestamp(context.time().0 + self.skew_ms))
            }
            _ => *context,
        }
    }
}

impl StateMachine for Machine {
    type Command = Proposal;
    type Output = Output;
    type Snapshot = <KvStore as StateMachine>::Snapshot;

    fn apply(&mut self, context: &Context, mut proposal: Proposal) -> Output {
        match (self.defect, &mut proposal) {
            (Some(Defect::ExecAppliesHalf), Proposal::Transaction(transaction)) => {
                let half = transaction.steps.len().div_ceil(2);
                transaction.steps.truncate(half);
            }
            (Some(Defect::WatchDoesNotCompare), Proposal::Transaction(transaction)) => {
                transaction.watched.clear();
            }
            (
                Some(Defect::IfEqDoesNotCompare),
                Proposal::Command(Command::Set { condition, .. }),
            ) if matches!(condition, Condition::Equal(_)) => *condition = Condition::Always,
            _ => {}
        }
        self.store.apply(&self.context(context), proposal)
    }

    fn snapshot(&self) -> Self::Snapshot {
        self.store.snapshot()
    }

    fn restore(&mut self, from: &mut dyn io::Read) -> io::Result<()> {
        self.store.restore(from)
    }

    fn wake_at(&self) -> Option<Timestamp> {
        self.store.wake_at()
    }

    fn wake(&mut self, context: &Context) {
        self.store.wake(&self.context(context));
    }
}

/// A client's call, which decides how the answer is used.
#[derive(Clone, Debug)]
enum Call {
    /// Transfers money from one account to another. The total stays the same.
    Transfer,
    /// Reads a counter before adding to it.
    Look(Counter),
    /// Adds one to the value read, unless another client has changed it since.
    Add(Counter),
    Other,
}

/// Number of a counter. Even ones are changed with `WATCH`, odd ones with `IFEQ`.
type Counter = u64;

fn by_watch(counter: Counter) -> bool {
    counter.is_multiple_of(2)
}

fn counter_key(counter: Counter) -> Bytes {
    format!("counter {counter}").into()
}

fn account_key(account: u64) -> Bytes {
    format!("account {account}").into()
}

#[derive(Clone, Debug, Default)]
struct Sums {
    added: u64,
    maybe_added: u64,
}

struct Clients {
    defect: Option<Defect>,
    machines: Cell<u64>,
    calls: BTreeMap<ClientNumber, Call>,
    /// The counter that each client has read last, with its version if it is watched, and its
    /// value.
    seen: BTreeMap<ClientNumber, (Counter, u64, Option<Bytes>)>,
    sums: BTreeMap<Counter, Sums>,
    wrong: Option<String>,
    executed: u64,
    refused: u64,
}

impl Clients {
    fn new(defect: Option<Defect>) -> Self {
        Self {
            defect,
            machines: Cell::new(0),
            calls: BTreeMap::new(),
            seen: BTreeMap::new(),
            sums: BTreeMap::new(),
            wrong: None,
            executed: 0,
            refused: 0,
        }
    }

    fn draw(&mut self, client: ClientNumber, random: &mut Random) -> (Call, Proposal) {
        if let Some((counter, version, value)) = self.seen.remove(&client) {
            return (Call::Add(counter), add(counter, version, value));
        }
        match random.below(10) {
            0..4 => {
                let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
                let amount = random.below(100) as i64;
                let write = |key, delta| Step::Write(Command::Add { key, delta });
                let steps = vec![write(account_key(from), -amount), write(account_key(to), amount)];
                (Call::Transfer, transaction(Vec::new(), steps))
            }
            4..8 => {
                let counter = random.below(COUNTERS);
                let key = counter_key(counter);
                let steps = vec![
                    Step::Read(Query::Versions(vec![key.clone()])),
                    Step::Read(Query::Get { key }),
                ];
                (Call::Look(counter), transaction(Vec::new(), steps))
            }
            _ => {
                let key = Bytes::from(format!("key {}", random.below(4)));
                let value = Bytes::from(random.below(1000).to_string());
                let expiry = Expiry::At(Deadline::In(random.below(400) as i64));
                let condition = Condition::Absent;
                (Call::Other, Command::Set { key, value, condition, expiry, get: true }.into())
            }
        }
    }
}

fn transaction(watched: Vec<(Bytes, u64)>, steps: Vec<Step>) -> Proposal {
    Proposal::Transaction(Transaction { watched, steps })
}

/// Returns a command that adds one to the value read.
fn add(counter: Counter, version: u64, value: Option<Bytes>) -> Proposal {
    let key = counter_key(counter);
    let next = Bytes::from((number(value.as_ref()) + 1).to_string());
    let set = |condition| {
        let (key, expiry) = (key.clone(), Expiry::Never);
        Command::Set { key, value: next.clone(), condition, expiry, get: false }
    };
    if by_watch(counter) {
        let steps =
            vec![Step::Read(Query::Get { key: key.clone() }), Step::Write(set(Condition::Always))];
        return transaction(vec![(key.clone(), version)], steps);
    }
    set(value.map_or(Condition::Absent, |value| Condition::Equal(Box::new(value)))).into()
}

fn number(value: Option<&Bytes>) -> u64 {
    value.map_or(0, |value| std::str::from_utf8(value).unwrap().parse().unwrap())
}

/// Returns true if the counter was changed.
fn was_added(output: &Output) -> bool {
    match output {
        Output::Transaction(outputs) => outputs.is_some(),
        Output::Done => true,
        _ => false,
    }
}

impl Workload for Clients {
    type Machine = Machine;

    fn machine(&self) -> Machine {
        self.machines.set(self.machines.get() + 1);
        let skew_ms = self.machines.get() * 37 % 400;
        Machine { store: KvStore::default(), defect: self.defect, skew_ms }
    }

    fn command(&mut self, client: ClientNumber, random: &mut Random) -> Proposal {
        let (call, proposal) = self.draw(client, random);
        self.calls.insert(client, call);
        proposal
    }

    fn answered(&mut self, client: ClientNumber, answer: Answer<Output>) {
        let Some(call) = self.calls.remove(&client) else { return };
        match (call, answer) {
            (Call::Look(counter), Answer::Output(Output::Transaction(Some(outputs)))) => {
                let [Output::Versions(versions), seen] = &outputs[..] else {
                    self.wrong = Some(format!("unexpected answer to a read: {outputs:?}"));
                    return;
                };
                let value = match seen {
                    Output::Value(value) => Some(value.clone()),
                    _ => None,
                };
                self.seen.insert(client, (counter, versions[0], value));
            }
            (Call::Add(counter), Answer::Output(output)) => {
                let sums = self.sums.entry(counter).or_default();
                if was_added(&output) {
                    sums.added += 1;
                    self.executed += 1;
                } else {
                    self.refused += 1;
                }
            }
            (Call::Add(counter), Answer::Unknown) => {
                self.sums.entry(counter).or_default().maybe_added += 1;
            }
            _ => {}
        }
    }

    fn applied(&mut self, _: ReplicaId, index: Index, machine: &Machine) -> Result<(), String> {
        let accounts = Query::GetMany((0..ACCOUNTS).map(account_key).collect());
        let Output::Values(values) = machine.store.answer(accounts, Timestamp(0)) else {
            return Err("no accounts".into());
        };
        let balance = |value: &Bytes| std::str::from_utf8(value).unwrap().parse::<i64>().unwrap();
        match values.iter().flatten().map(balance).sum() {
            0 => Ok(()),
            sum => Err(format!("{sum} in all accounts together, at index {index}: {values:?}")),
        }
    }

    fn at_rest(&mut self, machine: &Machine, _: &BTreeSet<Incarnation>) -> Result<(), String> {
        for counter in 0..COUNTERS {
            let Sums { added, maybe_added } = self.sums.remove(&counter).unwrap_or_default();
            let key = counter_key(counter);
            let value = match machine.store.answer(Query::Get { key }, Timestamp(0)) {
                Output::Value(value) => number(Some(&value)),
                _ => 0,
            };
            if !(added..=added + maybe_added).contains(&value) {
                return Err(format!(
                    "counter {counter} is {value}, but {added} were added, and perhaps \
                     {maybe_added} more"
                ));
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        self.wrong.clone().map_or(Ok(()), Err)
    }
}

fn run(seed: u64, defect: Option<Defect>) -> Result<Report, Violation> {
    Simulation::new(Parameters::drawn(seed), Clients::new(defect)).run()
}

fn seeds() -> u64 {
    std::env::var("PLAINSONG_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(30)
}

#[test]
fn transactions_are_atomic_and_check_watched_keys() {
    let mut acknowledged = 0;
    for seed in 0..seeds() {
        let report = run(seed, None);
        let report = report.unwrap_or_else(|violation| panic!("seed {seed}: {violation}"));
        acknowledged += report.acknowledged;
    }
    assert!(acknowledged > 1000, "{acknowledged} commands are too few");
}

#[track_caller]
fn is_caught(defect: Defect) {
    let caught = (0..50).find(|seed| {
        let run = catch_unwind(AssertUnwindSafe(|| run(*seed, Some(defect))));
        !matches!(run, Ok(Ok(_)))
    });
    let seed = caught.unwrap_or_else(|| panic!("{defect:?} is not noticed"));
    println!("{defect:?} is noticed by seed {seed}");
}

#[test]
fn a_half_applied_transaction_is_detected() {
    is_caught(Defect::ExecAppliesHalf);
}

#[test]
fn unchecked_watched_keys_are_detected() {
    is_caught(Defect::WatchDoesNotCompare);
}

#[test]
fn unchecked_ifeq_is_detected() {
    is_caught(Defect::IfEqDoesNotCompare);
}

#[test]
fn expiry_by_a_local_clock_is_detected() {
    is_caught(Defect::ExpiryByLocalClock);
}
