//! A short run of `tests/torture`: kv on three nodes of Corosync while faults happen.
//! `PLAINSONG_TORTURE_MINUTES` in the environment makes it longer; the seed is the time.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::process::Command;
use std::time::SystemTime;

use plainsong_tests::rig;

#[test]
fn nothing_is_lost_or_done_twice_while_everything_fails() {
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
    assert!(status.success(), "its words are above, and its log is in tests/out");
}
