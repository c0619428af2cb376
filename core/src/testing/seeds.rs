use std::env;

use super::{Parameters, Report, Simulation, Workload};

/// Environment variable with the number of seeds to run.
const SEEDS: &str = "PLAINSONG_SEEDS";
/// Environment variable with the one seed to run, with a trace.
const SEED: &str = "PLAINSONG_SEED";

/// Runs one simulated group for each seed in `0..count`, each with a workload of its own, and
/// returns the reports in the order of the seeds. Meant for the tests of an application.
///
/// `PLAINSONG_SEEDS` in the environment overrides `count`. With `PLAINSONG_SEED`, only that seed
/// runs, and a trace of the run is printed to the standard error.
///
/// # Panics
///
/// Panics on the first violation; the message names the seed and how to run it again.
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
    Some(number.unwrap_or_else(|_| panic!("{variable} must be a number, not {text:?}")))
}

/// Prints how to run the seed again if the thread panics, also when the state machine itself does.
struct Again(u64);

impl Drop for Again {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "seed {0} failed; to run it again with a trace: {SEED}={0} cargo test ..",
                self.0
            );
        }
    }
}
