use std::env;

use super::{Parameters, Report, Simulation, Workload};

/// Another number of seeds.
const SEEDS: &str = "PLAINSONG_SEEDS";
/// One seed, told line by line.
const SEED: &str = "PLAINSONG_SEED";

/// Runs simulated groups with the seeds from 0, so many of them, each with a workload of its
/// own: what a test of an application does. What they were like, by seed.
///
/// With `PLAINSONG_SEEDS` in the environment it is another number; with `PLAINSONG_SEED` only
/// that seed is run, and what happens is told on the standard error, line by line.
///
/// # Panics
///
/// When something is that must never be; the seed is named, and how to run it again.
pub fn run_seeds<W: Workload>(count: u64, workload: impl Fn(&Parameters) -> W) -> Vec<Report> {
    if let Some(seed) = number(SEED) {
        let parameters = Parameters::drawn(seed);
        let workload = workload(&parameters);
        return vec![run(
            seed,
            Simulation::traced(parameters, workload, |line| eprintln!("{line}")),
        )];
    }
    let seeds = 0..number(SEEDS).unwrap_or(count);
    seeds
        .map(|seed| {
            let parameters = Parameters::drawn(seed);
            let workload = workload(&parameters);
            run(seed, Simulation::new(parameters, workload))
        })
        .collect()
}

fn run<W: Workload>(seed: u64, mut simulation: Simulation<W>) -> Report {
    let _again = Again(seed);
    match simulation.run() {
        Ok(report) => report,
        Err(violation) => panic!("seed {seed}: {violation}"),
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} must be a number, and is {text:?}")))
}

/// Tells how to run a seed again when it fails, and when the state machine panics.
struct Again(u64);

impl Drop for Again {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "seed {0} failed; again, told line by line: {SEED}={0} cargo test ..",
                self.0
            );
        }
    }
}
