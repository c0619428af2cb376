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
pub use plainsong::testing::Random;
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
