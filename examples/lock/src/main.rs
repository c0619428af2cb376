//! A replicated lock service. See `lock --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    lock::program::run()
}
