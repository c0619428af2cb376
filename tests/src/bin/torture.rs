//! Real groups that fail, for as long as wanted.

#![allow(missing_docs, reason = "a program")]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use plainsong_tests::torture::{self, Fault, Options, hostile};

/// Replicas of kv on real Corosync daemons, each on a node of its own, with clients, while
/// faults happen that are drawn from a seed. Needs root, and corosync, iproute2 and nftables.
///
/// Each round is told in a line; a table comes at the end. Fails when something was lost,
/// applied twice, read stale, different at two replicas, or did not recover; then the log of
/// all that happened stays in tests/out. Faults are drawn the same for the same seed, but the
/// processes and the network are real: the same seed need not find the same again.
#[derive(Parser)]
#[command(name = "tests/torture")]
struct Arguments {
    /// How many minutes.
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=7))]
    nodes: u32,
    /// Draws the faults. Drawn itself if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Only these faults; may be given several times.
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
            eprintln!("again: {options}");
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
