//! What the tests of the program share.
// Each test file uses a part of it.
#![allow(dead_code, unreachable_pub, unused_imports)]

mod client;
mod fake;
mod load;
mod local;
mod process;
mod redis;
mod tls;

use std::io::Write;
use std::process::Command;

pub use client::{TestClient, request, text};
pub use fake::{Fake, Test};
pub use load::{Load, Record, check, check_set, together};
pub use local::run;
pub use process::{Demo, PROGRAM, Serve, certificate, kv, ready};
pub use redis::Redis;
pub use service_lib::testing::{BOUND, until};
pub use tls::{TlsClient, tls, tls_over};

/// Whether a program is there. On a developer's machine a test without it says so and is
/// skipped; under `CI=true` it fails.
pub fn have(program: &str, package: &str) -> bool {
    if Command::new(program).arg("--version").output().is_ok() {
        return true;
    }
    skipped(&format!("{program} is missing: apt-get install {package}"));
    false
}

/// Says that a test is left out. Under `CI=true` none may be.
pub fn skipped(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
    // Not by a macro: the test harness keeps what those print of tests that pass.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}

/// Random numbers that a seed repeats (splitmix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}
