//! Compares parts of Plainsong with other projects: log engines with the records of a replica, and
//! three replicas in one process.
//!
//! `peers append FOLDER`, `peers reopen FOLDER`, `peers replicate [ROUNDS]`; see
//! docs/benchmarks.md.

mod append;
mod peer;
mod reopen;
mod replicate;

use std::path::Path;

fn main() -> peer::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["replicate"] => replicate::compare(5),
        ["replicate", rounds] => replicate::compare(rounds.parse()?),
        ["append", folder] => append::compare(Path::new(folder)),
        ["reopen", folder] => reopen::compare(Path::new(folder)),
        ["fill", name, folder] => reopen::fill(name, Path::new(folder)),
        ["open", name, folder] => reopen::open(name, Path::new(folder)),
        _ => Err("usage: peers append|reopen FOLDER, peers replicate [ROUNDS]".into()),
    }
}
