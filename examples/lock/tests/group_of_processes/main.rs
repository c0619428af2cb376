//! Three servers and their clients: locks when processes die, freeze or stop.

#![allow(clippy::expect_used, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod leases;
mod processes_die;
mod requests;
mod stopping;
mod waiting;

use std::path::Path;

use rustix::process::Pid;

use common::until;

/// Waits until a file has at least `count` lines, and returns them.
#[track_caller]
fn lines(path: &Path, count: usize) -> Vec<String> {
    until("lines in a file", || {
        let text = std::fs::read_to_string(path).ok()?;
        let lines: Vec<String> = text.lines().map(String::from).collect();
        (lines.len() >= count && text.ends_with('\n')).then_some(lines)
    })
}

/// Checks that the lines `in TOKEN` and `out TOKEN` of a file never overlap and that tokens grow,
/// and returns the tokens.
#[track_caller]
fn tokens_of_turns(path: &Path, turns: usize) -> Vec<u64> {
    let lines = lines(path, 2 * turns);
    assert_eq!(lines.len(), 2 * turns, "{lines:?}");
    let mut tokens: Vec<u64> = Vec::new();
    for turn in lines.chunks(2) {
        let token = turn[0].strip_prefix("in ").unwrap_or_else(|| panic!("{lines:?}"));
        assert_eq!(turn[1], format!("out {token}"), "{lines:?}");
        tokens.push(token.parse().unwrap());
    }
    assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]), "{tokens:?}");
    tokens
}

/// Returns the process id that a command has written to a file.
#[track_caller]
fn pid(path: &Path) -> Pid {
    Pid::from_raw(lines(path, 1)[0].parse().unwrap()).unwrap()
}

fn is_alive(pid: Pid) -> bool {
    // A zombie counts as dead.
    let status = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    status.is_ok_and(|status| !status.contains(") Z "))
}

/// Returns a script that records its start and end in a file, and ends a while after SIGTERM.
fn endless_turn(file: &Path) -> String {
    let file = file.display();
    format!(
        "trap 'sleep 0.5; echo out $LOCK_TOKEN >>{file}; exit' TERM; echo in $LOCK_TOKEN >>{file}; \
         while :; do sleep 0.1; done"
    )
}
