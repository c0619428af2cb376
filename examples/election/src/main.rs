//! Runs a command at exactly one member of a group. See `election --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    election::program::run()
}
