//! A short run of `tests/torture` on three Corosync nodes. `PLAINSONG_TORTURE_MINUTES` in the
//! environment sets its length in minutes; the seed is the current time.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::SystemTime;

use plainsong_tests::rig;

#[test]
fn random_faults_lose_nothing_and_apply_nothing_twice() {
    if !rig::usable() {
        return;
    }
    let minutes = std::env::var("PLAINSONG_TORTURE_MINUTES").unwrap_or_else(|_| "3".into());
    let since = SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970");
    let seed = since.as_secs().to_string();
    let status = Command::new(env!("CARGO_BIN_EXE_torture"))
        .args(["--minutes", &minutes, "--seed", &seed])
        .status()
        .expect("the program runs");
    assert!(status.success(), "its output is above, its log is in tests/out");
}
