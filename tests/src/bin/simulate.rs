//! Runs simulated groups, one for each seed, and prints a summary in one line.

#![allow(missing_docs, reason = "a program")]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use plainsong::testing::Report;
use plainsong_tests::simulation::{Failure, run_seed, trace_seed};

/// Simulates groups of replicas with random faults, one world per seed.
#[derive(Parser)]
#[command(name = "tests/simulate")]
struct Arguments {
    /// Number of seeds.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// First seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Print a trace of every event.
    #[arg(long)]
    trace: bool,
    /// Continue after a failure, and print more statistics.
    #[arg(long)]
    keep_going: bool,
}

#[derive(Default)]
struct Sum {
    seeds: u64,
    commits: u64,
    acknowledged: u64,
    messages: u64,
    epochs: u64,
    simulated: Duration,
    slowest: (Duration, u64),
    longest: (Duration, u64),
    /// Combined hash of all reports; their order does not matter.
    fingerprint: u64,
    failures: Vec<(u64, Failure)>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    std::panic::set_hook(Box::new(|_| {}));
    let sum = run(&arguments);
    for (seed, Failure(what)) in &sum.failures {
        println!("seed {seed}: {what}");
        println!("  to trace it: tests/simulate --first {seed} --trace");
    }
    println!(
        "{} seeds, {} commits, {} violations, {:.2} simulated hours, fingerprint {:016x}",
        sum.seeds,
        sum.commits,
        sum.failures.len(),
        sum.simulated.as_secs_f64() / 3600.0,
        sum.fingerprint
    );
    if arguments.keep_going {
        println!(
            "{} acknowledged, {} messages, {} epochs, slowest to converge {:?} (seed {}), longest {:?} (seed {})",
            sum.acknowledged,
            sum.messages,
            sum.epochs,
            sum.slowest.0,
            sum.slowest.1,
            sum.longest.0,
            sum.longest.1
        );
    }
    if sum.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns a hash of a seed's report: its commits, messages, epochs, duration and network faults.
fn fingerprint(seed: u64, report: &Report) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, report).hash(&mut hasher);
    hasher.finish()
}

/// Runs the seeds on all cores. After a failure, only smaller seeds still run.
fn run(arguments: &Arguments) -> Sum {
    let last = arguments.first.saturating_add(arguments.seeds);
    let next = AtomicU64::new(arguments.first);
    let end = AtomicU64::new(last);
    let sum = Mutex::new(Sum::default());
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    thread::scope(|scope| {
        for _ in 0..cores.min(arguments.seeds as usize) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end.load(Ordering::Relaxed) {
                        return;
                    }
                    let began = Instant::now();
                    let result = if arguments.trace {
                        trace_seed(seed, |line| println!("{line}"))
                    } else {
                        run_seed(seed)
                    };
                    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                    sum.seeds += 1;
                    sum.longest = sum.longest.max((began.elapsed(), seed));
                    match result {
                        Ok(report) => {
                            sum.fingerprint ^= fingerprint(seed, &report);
                            sum.commits += report.commits;
                            sum.acknowledged += report.acknowledged;
                            sum.messages += report.messages;
                            sum.epochs += report.epochs;
                            sum.simulated += report.simulated;
                            sum.slowest = sum.slowest.max((report.converged_after, seed));
                        }
                        Err(failure) => {
                            if !arguments.keep_going {
                                end.fetch_min(seed, Ordering::Relaxed);
                            }
                            sum.failures.push((seed, failure));
                        }
                    }
                }
            });
        }
    });
    let mut sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    sum.failures.sort_by_key(|(seed, _)| *seed);
    sum
}
