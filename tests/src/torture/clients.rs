use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use linearizability::{Access, History};
use plainsong::testing::{Answer, ClientNumber, Random};

use super::faults::leftover_keys;
use super::group::Group;
use super::locks::{self, Hold};
use super::service::Service;
use super::{Options, RECOVERY_MAX, Result, open, wrong};
use crate::client::{NodeClient, Reply};
use crate::rig;

/// Clients at each replica.
const CLIENTS: u32 = 2;
/// Registers in use at a time, and the calls of each after which new ones are used: the time to
/// check a history grows with its square.
const REGISTERS: u64 = 4;
const CALLS_MAX: u64 = 40;
/// Time after which a client goes to another replica. Longer than kv's own timeout, after which kv
/// reports an unknown outcome.
const PATIENCE: Duration = Duration::from_secs(4);
/// Number of rounds in which a key with a lifetime of an hour is checked.
const LASTING_ROUNDS: u64 = 4;
/// Pause between two attempts to connect.
const RETRY: Duration = Duration::from_millis(20);

/// State of the clients that is kept between rounds.
pub(super) struct Clients {
    seed: u64,
    clients: u32,
    nodes: u32,
    calls: AtomicU64,
    /// Next client number in the histories. A client whose call stays open gets a new number.
    numbers: AtomicU64,
    values: AtomicU64,
    rounds: AtomicU64,
    /// Counts of each client.
    counts: Mutex<BTreeMap<u32, Count>>,
}

/// Results of a client's `INCR` calls.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    acknowledged: u64,
    unknown: u64,
}

impl Count {
    /// Returns true if `value` is possible: no acknowledged call is lost and no call is applied
    /// twice.
    fn admits(self, value: u64) -> bool {
        (self.acknowledged..=self.acknowledged + self.unknown).contains(&value)
    }
}

/// The calls of all clients in one round.
#[derive(Debug)]
pub(super) struct Work {
    history: History,
    /// First and last register in use.
    registers: (u64, u64),
    pub(super) answers: u64,
    pub(super) unknown: u64,
    /// Longest time without an answer to any client since the first fault.
    pub(super) longest_gap: Duration,
    last_answer: Instant,
    holds: Vec<Hold>,
}

/// Shared access to the work of the current round.
pub(super) struct Book<'a>(&'a Mutex<Work>);

impl Book<'_> {
    fn open(&self) -> MutexGuard<'_, Work> {
        open(self.0)
    }

    /// Marks the beginning of the faults.
    pub(super) fn begin(&self) {
        let mut work = self.open();
        work.longest_gap = Duration::ZERO;
        work.last_answer = Instant::now();
    }

    /// Waits until clients have received `more` more answers.
    pub(super) fn wait_for_answers(&self, more: u64) -> Result<()> {
        let wanted = self.open().answers + more;
        let deadline = Instant::now() + RECOVERY_MAX;
        while self.open().answers < wanted {
            if Instant::now() > deadline {
                return Err(wrong(format!(
                    "clients received fewer than {more} answers in {RECOVERY_MAX:?}"
                )));
            }
            thread::sleep(RETRY);
        }
        Ok(())
    }

    /// Records that a client held a lock.
    pub(super) fn held(&self, hold: Hold) {
        self.open().holds.push(hold);
    }

    fn answered(&self) {
        let mut work = self.open();
        work.answers += 1;
        work.longest_gap = work.longest_gap.max(work.last_answer.elapsed());
        work.last_answer = Instant::now();
    }
}

impl Clients {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            seed: options.seed,
            clients: options.nodes * CLIENTS,
            nodes: options.nodes,
            calls: AtomicU64::new(0),
            numbers: AtomicU64::new(0),
            values: AtomicU64::new(1),
            rounds: AtomicU64::new(0),
            counts: Mutex::default(),
        }
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<u32, Count>> {
        open(&self.counts)
    }

    fn next(number: &AtomicU64) -> u64 {
        number.fetch_add(1, Ordering::Relaxed)
    }

    /// Runs the clients during `during`, and checks their results. If a check fails, the history is
    /// written to the log.
    pub(super) fn work<T>(
        &self,
        group: &Group,
        during: impl FnOnce(&Book<'_>) -> Result<T>,
    ) -> Result<(T, Work)> {
        let (done, work) = self.work_while(group, during);
        let judged = done.and_then(|done| self.judge(group, &work).map(|()| done));
        if judged.is_err() {
            work.history.to_string().lines().for_each(|line| group.note(line));
        }
        judged.map(|done| (done, work))
    }

    fn work_while<T>(
        &self,
        group: &Group,
        during: impl FnOnce(&Book<'_>) -> Result<T>,
    ) -> (Result<T>, Work) {
        // Registers of earlier rounds are not used again.
        let first = self.calls.load(Ordering::Relaxed).next_multiple_of(CALLS_MAX * REGISTERS);
        self.calls.store(first, Ordering::Relaxed);
        let round = Self::next(&self.rounds);
        let work = Mutex::new(Work {
            history: History::default(),
            registers: (first / CALLS_MAX, 0),
            answers: 0,
            unknown: 0,
            longest_gap: Duration::ZERO,
            last_answer: Instant::now(),
            holds: Vec::new(),
        });
        let stop = AtomicBool::new(false);
        let book = &Book(&work);
        let done = thread::scope(|scope| {
            let (stop, mut running) = (&stop, Vec::new());
            let random = |client: u32| Random::new(self.seed ^ (round << 16) ^ u64::from(client));
            for id in group.ids() {
                let random = random(self.clients + id);
                running.push(scope.spawn(move || locks::work(book, group, id, random, stop)));
                running.push(scope.spawn(move || group.commands.run_under_lock(group, id, stop)));
            }
            for client in 0..self.clients {
                let random = random(client);
                running.push(scope.spawn(move || {
                    let at = client % self.nodes + 1;
                    let number = self.number();
                    Client { all: self, group, client, at, number, random }.run(book, stop)
                }));
            }
            let done = during(book);
            stop.store(true, Ordering::Relaxed);
            running
                .into_iter()
                .map(|client| client.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .fold(done, |done, client| done.and_then(|done| client.map(|()| done)))
        });
        let mut work = work.into_inner().unwrap_or_else(PoisonError::into_inner);
        work.registers.1 = self.calls.load(Ordering::Relaxed).div_ceil(CALLS_MAX) + REGISTERS;
        (done, work)
    }

    fn number(&self) -> ClientNumber {
        ClientNumber(Self::next(&self.numbers))
    }

    /// Checks the results of a round, and that all replicas have the same state.
    fn judge(&self, group: &Group, work: &Work) -> Result<()> {
        locks::judge(&work.holds)?;
        group.commands.judge()?;
        if let Some(register) = work.history.wrong() {
            return Err(wrong(format!("the history of register r:{register} is not linearizable")));
        }
        let keys = (work.registers.0..=work.registers.1).map(|register| format!("r:{register}"));
        let mut keys: Vec<String> = keys.collect();
        let round = self.rounds.load(Ordering::Relaxed);
        let lasting = |round| format!("lasting:{round}");
        let rounds_before = (round.saturating_sub(LASTING_ROUNDS)..round).skip(1);
        let lasting_keys: Vec<String> = rounds_before.map(lasting).collect();
        let mut first: Option<Vec<Reply>> = None;
        for id in group.ids() {
            let mut kv = group
                .connect(Service::Kv, id)?
                .ok_or_else(|| wrong(format!("replica {id} does not accept connections")))?;
            let mut found = Vec::new();
            for key in &keys {
                found.push(asked(&mut kv, &format!("GET {key}"))?);
            }
            for key in &lasting_keys {
                let reply = asked(&mut kv, &format!("GET {key}"))?;
                if reply == Reply::Nil {
                    return Err(wrong(format!(
                        "{key} has expired an hour too early at replica {id}"
                    )));
                }
                found.push(reply);
            }
            for (client, count) in self.counts().iter() {
                let key = format!("count:{client}");
                let reply = asked(&mut kv, &format!("GET {key}"))?;
                let value = number_in(&reply).ok_or_else(|| wrong(format!("{key}: {reply:?}")))?;
                if !count.admits(value) {
                    return Err(wrong(format!(
                        "{key} is {value} at replica {id}, expected {count:?}"
                    )));
                }
                found.push(reply);
            }
            match &first {
                None => first = Some(found),
                Some(first) if *first == found => {}
                Some(first) => {
                    let texts = format!("replica 1 has {first:?}, replica {id} has {found:?}");
                    group.note(&texts);
                    return Err(wrong(format!("replica {id} and replica 1 have different states")));
                }
            }
        }
        let mut kv = group
            .connect(Service::Kv, 1)?
            .ok_or_else(|| wrong("replica 1 does not accept connections"))?;
        asked(&mut kv, &format!("SET {} here EX 3600", lasting(round)))?;
        keys.extend(leftover_keys());
        for keys in keys.chunks(50) {
            asked(&mut kv, &format!("DEL {}", keys.join(" ")))?;
        }
        Ok(())
    }
}

fn asked(kv: &mut NodeClient, command: &str) -> Result<Reply> {
    match kv.ask(command) {
        Ok(Reply::Error(error)) => {
            Err(wrong(format!("{command} failed in a healthy group: {error}")))
        }
        Ok(reply) => Ok(reply),
        Err(error) => Err(wrong(format!("{command} failed in a healthy group: {error}"))),
    }
}

/// Returns the number in an answer; a missing value is zero.
fn number_in(reply: &Reply) -> Option<u64> {
    match reply {
        Reply::Nil => Some(0),
        Reply::Text(text) => text.parse().ok(),
        Reply::Error(_) | Reply::Array(_) => None,
    }
}

/// The outcome of a call.
enum Outcome {
    Value(u64),
    Refused,
    Unknown,
}

struct Client<'a> {
    all: &'a Clients,
    group: &'a Group,
    client: u32,
    at: u32,
    number: ClientNumber,
    random: Random,
}

impl Client<'_> {
    fn run(mut self, book: &Book<'_>, stop: &AtomicBool) -> Result<()> {
        let mut connection = None;
        while !stop.load(Ordering::Relaxed) {
            let Some(mut kv) = self.connected(connection.take())? else {
                self.at = self.at % self.all.nodes + 1;
                thread::sleep(RETRY);
                continue;
            };
            let good = match self.random.below(4) {
                0 => self.count(&mut kv, book)?,
                _ => self.call(&mut kv, book)?,
            };
            if good {
                connection = Some(kv);
            } else {
                thread::sleep(RETRY);
            }
        }
        Ok(())
    }

    fn connected(&self, connection: Option<NodeClient>) -> rig::Result<Option<NodeClient>> {
        if connection.is_some() {
            return Ok(connection);
        }
        let connected = self.group.connect(Service::Kv, self.at)?;
        Ok(connected.filter(|kv| kv.set_patience(PATIENCE).is_ok()))
    }

    /// Increments the client's counter. Returns true if the connection can still be used.
    fn count(&mut self, kv: &mut NodeClient, book: &Book<'_>) -> Result<bool> {
        let asked = outcome(kv.ask(&format!("INCR count:{}", self.client)))?;
        let mut counts = self.all.counts();
        let count = counts.entry(self.client).or_default();
        match asked {
            Outcome::Value(value) => {
                count.acknowledged += 1;
                let count = *count;
                drop(counts);
                if !count.admits(value) {
                    let client = self.client;
                    return Err(wrong(format!(
                        "the counter of client {client} is {value}, expected {count:?}"
                    )));
                }
                book.answered();
                Ok(true)
            }
            Outcome::Refused => Ok(false),
            Outcome::Unknown => {
                count.unknown += 1;
                book.open().unknown += 1;
                Ok(false)
            }
        }
    }

    /// Reads or writes a register. Returns true if the connection can still be used.
    fn call(&mut self, kv: &mut NodeClient, book: &Book<'_>) -> Result<bool> {
        let call = Clients::next(&self.all.calls);
        let register = call / (CALLS_MAX * REGISTERS) * REGISTERS + self.random.below(REGISTERS);
        let access = if self.random.chance(500) {
            Access::Read { register }
        } else {
            Access::Write { register, value: Clients::next(&self.all.values) }
        };
        let words = match access.written() {
            None => format!("GET r:{register}"),
            Some(value) => format!("SET r:{register} {value} GET"),
        };
        book.open().history.called(self.number, access);
        let answer = match outcome(kv.ask(&words))? {
            Outcome::Value(value) => Answer::Output(value),
            Outcome::Refused => Answer::Refused,
            Outcome::Unknown => Answer::Unknown,
        };
        let (good, unknown) = (matches!(answer, Answer::Output(_)), answer == Answer::Unknown);
        book.open().history.answered(self.number, answer);
        if good {
            book.answered();
        }
        if unknown {
            book.open().unknown += 1;
            self.number = self.all.number();
        }
        Ok(good)
    }
}

/// Returns the outcome that an answer of kv implies.
fn outcome(reply: io::Result<Reply>) -> Result<Outcome> {
    Ok(match reply {
        Ok(Reply::Error(error)) if error.starts_with("UNKNOWN outcome") => Outcome::Unknown,
        Ok(Reply::Error(_)) => Outcome::Refused,
        Ok(reply) => Outcome::Value(
            number_in(&reply).ok_or_else(|| wrong(format!("unexpected answer {reply:?}")))?,
        ),
        Err(_) => Outcome::Unknown,
    })
}
