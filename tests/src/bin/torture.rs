//! Runs real groups under random faults (`tests/torture`).

#![allow(missing_docs, reason = "a program")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use plainsong_tests::torture::{self, Fault, Options, hostile};

/// Runs replicas of kv, lock and election on real Corosync daemons, each node in a network of its
/// own, with clients, while random faults happen. Needs root, and what `tests/run --prepare`
/// installs.
///
/// Prints a line for each round and a table at the end. Fails if a command was lost or applied
/// twice, a read was stale, replicas differ, or the group did not recover; then the log of all
/// events stays in tests/out. The same seed draws the same faults, but processes and networks are
/// real, so a failure may not repeat.
#[derive(Parser)]
#[command(name = "tests/torture")]
struct Arguments {
    /// Duration in minutes.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// Number of nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=7))]
    nodes: u32,
    /// Seed of the faults [default: the process id].
    #[arg(long)]
    seed: Option<u64>,
    /// Draw only this fault; may be repeated.
    #[arg(long, value_enum)]
    only: Vec<Fault>,
    #[arg(long, hide = true)]
    become_flood: bool,
    #[arg(long, hide = true)]
    become_uninvited: bool,
    #[arg(long, hide = true)]
    become_noise: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.become_flood {
        return ended(hostile::be_flood());
    }
    if arguments.become_uninvited {
        return ended(hostile::be_uninvited());
    }
    if let Some(seed) = arguments.become_noise {
        return ended(hostile::be_noise(seed));
    }
    let seed = arguments.seed.unwrap_or_else(|| u64::from(std::process::id()));
    let Arguments { minutes, nodes, only, .. } = arguments;
    let options = Options { time: Duration::from_secs_f64(minutes * 60.0), nodes, seed, only };
    println!("{nodes} nodes, {minutes} minutes, seed {seed}");
    match torture::run(&options) {
        Ok(report) => {
            println!("\n{report}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            eprintln!("to repeat: {options}");
            ExitCode::FAILURE
        }
    }
}

fn ended(result: Result<(), Box<dyn std::error::Error>>) -> ExitCode {
    result.map_or_else(
        |error| {
            eprintln!("{error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}
