//! Real groups under random faults: replicas of kv, lock and election on Corosync daemons, clients
//! that record all their calls and answers, and faults drawn from a seed.
//!
//! A run consists of rounds. In each round, clients work while one or two faults happen. Then all
//! faults are healed, and every replica must vote and answer again within [`RECOVERY_MAX`]. After
//! each round,
//!
//! - the clients' history must be linearizable,
//! - each counter must include every acknowledged increment, and beyond those only increments of
//!   unknown outcome,
//! - all replicas must return the same value for every key,
//! - no replica may have stopped by itself or panicked, or exceed its limits of descriptors and
//!   memory.
//!
//! All events, and the output of all daemons and replicas, are written to one log in the order of
//! time. The log is kept if a check fails, with the clients' history at its end.

mod clients;
mod commands;
mod embedded;
mod faults;
mod group;
pub mod hostile;
mod locks;
mod report;
mod service;

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use plainsong::testing::Random;

use crate::rig;
use clients::Clients;
pub use faults::Fault;
use group::Group;
pub use report::Report;

/// Maximum time after the last fault until every replica votes and answers again.
pub const RECOVERY_MAX: Duration = Duration::from_secs(60);
/// Corosync's token timeout. A ring without a silent node forms after about 2.2 times this time.
pub const TOKEN_MS: u32 = 1000;
/// Rounds with two faults, per thousand.
const TWO_PER_MILLE: u32 = 300;

/// Options of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Time during which new rounds begin.
    pub time: Duration,
    /// Number of nodes. All of them are voters.
    pub nodes: u32,
    /// Seed of the faults.
    pub seed: u64,
    /// Faults to draw from; all if empty.
    pub only: Vec<Fault>,
}

/// Formats the command that repeats the run.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time, nodes, seed, only } = self;
        let minutes = time.as_secs_f64() / 60.0;
        write!(f, "tests/torture --nodes {nodes} --minutes {minutes} --seed {seed}")?;
        only.iter().try_for_each(|fault| write!(f, " --only {}", fault.name()))
    }
}

/// The reason why a run failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// An operation of the rig failed.
    #[error(transparent)]
    Rig(#[from] rig::Error),
    /// A check failed.
    #[error("{0}")]
    Wrong(String),
}

type Result<T> = std::result::Result<T, Failure>;

fn wrong(what: impl Into<String>) -> Failure {
    Failure::Wrong(what.into())
}

/// Returns the path of a program that is built next to this one.
fn program(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe();
    let this =
        this.map_err(|error| wrong(format!("cannot find the path of this program: {error}")))?;
    Ok(this.with_file_name(name))
}

/// Locks a mutex, even if a thread has panicked while it held it.
fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs rounds until the time is over, and prints a line for each of them on the standard output.
///
/// # Errors
///
/// The first failed check.
pub fn run(options: &Options) -> Result<Report> {
    let mut random = Random::new(options.seed);
    let group = Group::start(options)?;
    let clients = Clients::new(options);
    let mut report = Report::default();
    let began = Instant::now();
    while began.elapsed() < options.time {
        let faults = draw(&mut random, &options.only);
        let done = round(&group, &clients, &faults, &mut random);
        let done = done.inspect_err(|error| {
            group.keep(&format!("failed: {error}; to repeat: {options}"));
        })?;
        println!("{:>5} s  {done}", began.elapsed().as_secs());
        report.add(done);
    }
    Ok(report)
}

fn draw(random: &mut Random, only: &[Fault]) -> Vec<Fault> {
    let all = if only.is_empty() { Fault::ALL } else { only };
    let mut faults = vec![random.pick(all)];
    if random.chance(TWO_PER_MILLE) {
        let second = random.pick(all);
        // Three voters do not tolerate the loss of two stores.
        if !(second == Fault::StoreWiped && faults.contains(&second)) {
            faults.push(second);
        }
    }
    faults
}

fn round(
    group: &Group,
    clients: &Clients,
    faults: &[Fault],
    random: &mut Random,
) -> Result<report::Round> {
    let mark = group.mark();
    let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
    group.note(&format!("round: {}", names.join(" and ")));
    let (recovery, work) = clients.work(group, |book| {
        book.wait_for_answers(50)?;
        book.begin();
        for fault in faults {
            fault.inject(group, random)?;
        }
        group.heal()?;
        let healed = Instant::now();
        group.wait_until_healthy()?;
        let recovery = healed.elapsed();
        book.wait_for_answers(50)?;
        Ok(recovery)
    })?;
    // Two faults may hide each other.
    if let [fault] = faults
        && let Some(words) = fault.expected_log()
        && !group.has_logged(mark, words)
    {
        return Err(wrong(format!(
            "no program has logged \"{words}\" for the fault {}",
            fault.name()
        )));
    }
    let (descriptors, memory_kib) = group.check_processes()?;
    Ok(report::Round { faults: faults.to_vec(), recovery, work, descriptors, memory_kib })
}
