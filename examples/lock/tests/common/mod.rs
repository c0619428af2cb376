//! What the tests of the program share.
// Each test file uses a part of it.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod client;
mod group;
mod process;

use std::time::{Duration, Instant};

pub use client::{Client, text};
pub use group::{Group, Serve};
pub use process::Process;

/// How long things may take on a busy machine.
pub const BOUND: Duration = Duration::from_secs(40);

/// Waits until something is there, and fails with its name when the deadline passes.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + BOUND;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {BOUND:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
