//! The program `election` with the Corosync transport built in, for the tests of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    election::program::run()
}
