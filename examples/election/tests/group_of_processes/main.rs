//! Three member processes on the embedded transport: one of them runs the command, while members
//! are killed, frozen and stopped. The command holds a file lock, so that an overlap is detected.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod command_line;
mod operators;
mod takeovers;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use service_lib::testing::{Process, until};

/// Holds a lock while it runs, so that a second instance is detected. It takes a moment to stop.
const WORK: &str = "
    exec 9>guard
    flock -n 9 || echo \"OVERLAP $ELECTION_ID $ELECTION_TOKEN\" >> log
    echo \"begin $ELECTION_ID $ELECTION_TOKEN $ELECTION_GROUP\" >> log
    trap 'sleep 0.2; exit' TERM
    while :; do sleep 0.05; done";

struct Group {
    directory: tempfile::TempDir,
    /// The process that carries the ring, if that is none of the members.
    ring: Option<Process>,
    members: Vec<Process>,
}

impl Group {
    fn start(script: &str, options: &[&[&str]; 3]) -> Self {
        let mut group = Self::empty();
        group.start_members(script, options);
        group
    }

    fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { directory, ring: None, members: Vec::new() }
    }

    /// Starts a separate process that carries the ring, so that any member may be frozen.
    fn start_beside_the_ring() -> Self {
        let mut group = Self::empty();
        let mut command = election();
        command.args(["run", "ring", "--id", "1", "--voters", "1", "--engine"]);
        command.arg(format!("embedded:{}", group.path("ring").display()));
        command.args(["--", "sleep", "1000"]);
        let ring = Process::by(command);
        ring.says("this process is the hub");
        group.ring = Some(ring);
        group.start_members(WORK, &[&[]; 3]);
        group
    }

    fn start_members(&mut self, script: &str, options: &[&[&str]; 3]) {
        for (id, options) in (1..).zip(options) {
            let member = self.member(id, script, options);
            self.members.push(member);
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn member(&self, id: u32, script: &str, options: &[&str]) -> Process {
        let directory = self.directory.path();
        let mut command = election();
        command
            .args(["run", "work", "--id", &id.to_string()])
            // A member that joins an existing group names no voters.
            .args(if id <= 3 { &["--voters", "1,2,3"][..] } else { &[] })
            .args(["--engine", &format!("embedded:{}", self.path("ring").display())])
            .arg("--socket")
            .arg(self.socket(id))
            .arg("--data-dir")
            .arg(self.path(&format!("data{id}")))
            .args(["--lease", "1.5", "--kill-after", "1"])
            .args(options)
            .args(["--", "sh", "-c", script])
            .current_dir(directory);
        Process::by(command)
    }

    fn socket(&self, id: u32) -> PathBuf {
        self.path(&format!("{id}.sock"))
    }

    fn ask(&self, id: u32, verb: &str) -> Output {
        election().arg(verb).arg("--at").arg(self.socket(id)).output().unwrap()
    }

    /// Returns the member id and token of each command that has begun, in order.
    #[track_caller]
    fn begun(&self) -> Vec<(u32, u64)> {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let begun: Vec<_> = log
            .lines()
            .map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
                ["begin", id, token, "work"] => (id.parse().unwrap(), token.parse().unwrap()),
                _ => panic!("{log}{}", self.said()),
            })
            .collect();
        assert!(begun.is_sorted_by(|a, b| a.1 < b.1), "tokens do not grow: {log}");
        begun
    }

    /// Waits until a command has begun with a higher token, and returns the first of these.
    #[track_caller]
    fn leader_after(&self, token: u64) -> (u32, u64) {
        until("a leader", || self.begun().into_iter().find(|(_, begun)| *begun > token))
    }

    fn said(&self) -> String {
        self.members.iter().flat_map(Process::err).collect::<Vec<_>>().join("\n")
    }

    fn replace(&mut self, id: u32, script: &str) {
        let member = self.member(id, script, &[]);
        self.members[id as usize - 1] = member;
    }

    /// Waits until the member has caught up with the others.
    #[track_caller]
    fn is_ready(&self, id: u32) {
        until("a member that has caught up", || {
            let status = self.ask(id, "status");
            let status = String::from_utf8_lossy(&status.stdout).into_owned();
            let caught_up = status.contains("role: voter") || status.contains("role: sequencer");
            caught_up.then_some(())
        });
    }
}

fn election() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_election"));
    command.env_remove("RUST_LOG").env_remove("PLAINSONG_AT");
    command
}
