//! Log engines at the shape of a replica's records, side by side.
//!
//! `peers append FOLDER` and `peers reopen FOLDER`; see docs/benchmarks.md.

mod append;
mod peer;
mod reopen;

use std::path::Path;

fn main() -> peer::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["append", folder] => append::compare(Path::new(folder)),
        ["reopen", folder] => reopen::compare(Path::new(folder)),
        ["fill", name, folder] => reopen::fill(name, Path::new(folder)),
        ["open", name, folder] => reopen::open(name, Path::new(folder)),
        _ => Err("usage: peers append|reopen FOLDER".into()),
    }
}
