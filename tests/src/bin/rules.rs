//! Checks that code, tests, scenarios and mutations name the rules of the protocol (`tests/rules`).

#![allow(missing_docs, reason = "a program")]

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use plainsong_tests::rules::{Rules, TABLE};

/// Checks that each rule of docs/protocol.md is named in the code and by a test, a scenario or a
/// mutation, and that paths in the documentation exist.
#[derive(Parser)]
#[command(name = "tests/rules")]
struct Arguments {
    /// Write docs/rules.md.
    #[arg(long)]
    write: bool,
}

fn main() -> std::io::Result<ExitCode> {
    let arguments = Arguments::parse();
    let root = Path::new(".");
    let rules = Rules::read(root)?;
    if arguments.write {
        fs::write(root.join(TABLE), rules.table())?;
    }
    for problem in rules.problems() {
        println!("{problem}");
    }
    let is_up_to_date =
        fs::read_to_string(root.join(TABLE)).is_ok_and(|text| text == rules.table());
    if !is_up_to_date {
        println!("{TABLE} is not up to date: run tests/rules --write");
    }
    let is_well = rules.problems().is_empty() && is_up_to_date;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
