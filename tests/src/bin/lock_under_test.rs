//! The program `lock` with the Corosync transport built in, for the tests of this package.

use std::process::ExitCode;

fn main() -> ExitCode {
    lock::program::run()
}
