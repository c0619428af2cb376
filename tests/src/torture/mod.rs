//! Real groups that fail: replicas of kv on Corosync daemons, clients that write down all they
//! do and hear, and faults drawn from a seed.
//!
//! A run is rounds. In each, clients work while a fault or two happen; then all is healed, and
//! every replica must vote and answer again within [`RECOVERY_MAX`]. Then
//!
//! - what clients read and wrote must be linearizable,
//! - what they counted must be what was acknowledged, and no more than that and what may have
//!   taken effect besides,
//! - all replicas must answer the same for every key,
//! - no replica may have stopped by itself or panicked, nor hold more descriptors or memory than
//!   its limit.
//!
//! Everything that happens, and all that daemons and replicas print, is in one log by time,
//! which is kept when something is wrong, with what clients called and heard at its end.

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

/// How long after the last fault every replica may take to vote and answer again.
pub const RECOVERY_MAX: Duration = Duration::from_secs(60);
/// Corosync takes a node for dead after this long, and has a ring without it after 1.2 times as
/// long again.
pub const TOKEN_MS: u32 = 1000;
/// In so many of a thousand rounds a second fault happens on top of the first.
const TWO_PER_MILLE: u32 = 300;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Options {
    /// New rounds are begun for so long.
    pub time: Duration,
    /// How many nodes, all of them voters.
    pub nodes: u32,
    /// Draws all faults.
    pub seed: u64,
    /// Only these; empty for all.
    pub only: Vec<Fault>,
}

/// The command that does it.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { time, nodes, seed, only } = self;
        let minutes = time.as_secs_f64() / 60.0;
        write!(f, "tests/torture --nodes {nodes} --minutes {minutes} --seed {seed}")?;
        only.iter().try_for_each(|fault| write!(f, " --only {}", fault.name()))
    }
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The rig could not do what it should.
    #[error(transparent)]
    Rig(#[from] rig::Error),
    /// What must never be, and was.
    #[error("{0}")]
    Wrong(String),
}

type Result<T> = std::result::Result<T, Failure>;

fn wrong(what: impl Into<String>) -> Failure {
    Failure::Wrong(what.into())
}

/// A program that is built beside this one.
fn program(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe();
    let this = this.map_err(|error| wrong(format!("where this program is: {error}")))?;
    Ok(this.with_file_name(name))
}

/// What a thread that panicked held is looked at like any other.
fn open<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs until the time is over and tells each round in a line on standard output.
///
/// # Errors
///
/// The first thing that is wrong.
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
            group.keep(&format!("wrong: {error}; again: {options}"));
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
        // Two lost stores are more than three voters bear.
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
        group.wait_until_well()?;
        let recovery = healed.elapsed();
        book.wait_for_answers(50)?;
        Ok(recovery)
    })?;
    // Two may hide each other.
    if let [fault] = faults
        && let Some(words) = fault.told()
        && !group.was_told(mark, words)
    {
        return Err(wrong(format!("nobody said of {} \"{words}\"", fault.name())));
    }
    let (descriptors, memory_kib) = group.check_processes()?;
    Ok(report::Round { faults: faults.to_vec(), recovery, work, descriptors, memory_kib })
}
