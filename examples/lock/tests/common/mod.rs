//! What the tests of the program share.
// Each test file uses a part of it.
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
