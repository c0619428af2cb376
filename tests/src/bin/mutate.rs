//! Breaks one rule at a time and runs the check that must detect it (`tests/mutate`).

#![allow(missing_docs, reason = "a program")]

use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use plainsong_tests::mutation::{Mutation, Outcome, Scratch, run, with_table};

/// Path of the document with the table, relative to the repository.
const DOCUMENT: &str = "docs/simulation.md";

/// Applies mutations, the patches in tests/mutations, one at a time to a copy of the repository,
/// and runs the check that each names. Fails if one is not detected.
#[derive(Parser)]
#[command(name = "tests/mutate", arg_required_else_help = true)]
struct Arguments {
    /// Names of mutations.
    names: Vec<String>,
    /// Run all, and rewrite the table in docs/simulation.md.
    #[arg(long, conflicts_with_all = ["names", "sample", "check"])]
    all: bool,
    /// Run N mutations, different ones each day.
    #[arg(long, value_name = "N", conflicts_with_all = ["names", "check"])]
    sample: Option<usize>,
    /// Days since 1970, to repeat a sample [default: today].
    #[arg(long, requires = "sample")]
    day: Option<u64>,
    /// Only check that all patches apply.
    #[arg(long)]
    check: bool,
    /// Maximum number of seeds of the simulation for each mutation.
    #[arg(long, default_value_t = 600)]
    seeds: u64,
}

fn main() -> io::Result<ExitCode> {
    let arguments = Arguments::parse();
    let root = Path::new(".");
    let all = Mutation::all(root)?;
    if arguments.check {
        return Ok(check(root, &all));
    }
    let chosen = match arguments.sample {
        Some(count) => sample(&all, count, arguments.day.unwrap_or_else(today)),
        None if arguments.all => all,
        None => named(all, &arguments.names)?,
    };
    let scratch = Scratch::new(root)?;
    let mut outcomes = Vec::new();
    for mutation in chosen {
        let began = Instant::now();
        let outcome = run(&scratch, &mutation, arguments.seeds)?;
        let (name, seconds) = (&mutation.name, began.elapsed().as_secs());
        match &outcome {
            Outcome::Caught { by, what } => {
                println!("{name}: caught by {by} in {seconds} s: {what}")
            }
            Outcome::Missed => println!("{name}: NOT caught in {seconds} s"),
            Outcome::Broken(why) => println!("{name}: does not build\n{why}"),
        }
        outcomes.push((mutation, outcome));
    }
    let is_caught = |(_, outcome): &&(_, Outcome)| matches!(outcome, Outcome::Caught { .. });
    let caught = outcomes.iter().filter(is_caught).count();
    println!("{caught} of {} mutations caught", outcomes.len());
    if arguments.all {
        let document = fs::read_to_string(root.join(DOCUMENT))?;
        let document = with_table(&document, &outcomes).map_err(io::Error::other)?;
        fs::write(root.join(DOCUMENT), document)?;
    }
    Ok(if caught == outcomes.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(root: &Path, all: &[Mutation]) -> ExitCode {
    let mut is_well = true;
    for mutation in all {
        if let Err(error) = mutation.applies(root) {
            println!("{} does not apply: {error}", mutation.path());
            is_well = false;
        }
    }
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn named(all: Vec<Mutation>, names: &[String]) -> io::Result<Vec<Mutation>> {
    let is_known = |name: &&String| all.iter().any(|mutation| mutation.name == **name);
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        return Err(io::Error::other(format!("there is no mutation {unknown}")));
    }
    Ok(all.into_iter().filter(|mutation| names.contains(&mutation.name)).collect())
}

/// Returns `count` mutations, from a different place of the list each day.
fn sample(all: &[Mutation], count: usize, day: u64) -> Vec<Mutation> {
    println!("sample of day {day}");
    let count = count.min(all.len());
    let skipped = (day as usize).wrapping_mul(count).checked_rem(all.len()).unwrap_or(0);
    all.iter().cycle().skip(skipped).take(count).cloned().collect()
}

fn today() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.as_secs() / (24 * 60 * 60)
}
