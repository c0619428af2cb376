//! Helpers for the tests of kv.
// Each test file uses only some of them.
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

/// Returns true if a program is installed. If not, the test is reported as skipped, or fails under
/// `CI=true`.
pub fn have(program: &str, package: &str) -> bool {
    if Command::new(program).arg("--version").output().is_ok() {
        return true;
    }
    skipped(&format!("{program} is missing: apt-get install {package}"));
    false
}

/// Reports a test as skipped. Panics under `CI=true`, where no test may be skipped.
pub fn skipped(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{why}");
    // Written directly, because the test harness captures the output of `println!` in passing
    // tests.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {why}");
}
