//! Helpers shared by the tests of the program.
// Each test binary uses only some of them.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod client;
mod group;

pub use client::{TestClient, text};
pub use group::{Group, Serve};
use service_lib::testing::Process;
pub use service_lib::testing::{BOUND, until};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_lock");

pub fn lock(arguments: &[&str]) -> Process {
    Process::start(PROGRAM, arguments)
}
