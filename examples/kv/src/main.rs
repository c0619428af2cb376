//! A replicated key-value store that speaks the Redis protocol. See `kv --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    kv::program::run()
}
