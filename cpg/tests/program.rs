//! The program `cpg` as a user meets it, on the embedded transport.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use common::Meeting;

/// The program, on a ring of the test's own.
fn program(meeting: &Meeting, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cpg"));
    command.env("CPG_ENGINE", format!("embedded:{}", meeting.path().display())).args(arguments);
    command
}

fn run(meeting: &Meeting, arguments: &[&str]) -> String {
    said_by(program(meeting, arguments).output().unwrap())
}

fn said_by(output: Output) -> String {
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// A program that listens, killed at the end.
struct Listener {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Listener {
    fn start(meeting: &Meeting, arguments: &[&str]) -> Self {
        let mut command = program(meeting, arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_one_sends_another_hears() {
    let meeting = Meeting::new();
    let mut listener = Listener::start(&meeting, &["listen", "demo", "--count", "4"]);
    let me = format!("1:{}", listener.child.id());
    assert_eq!(listener.line(), format!("{me} (this) joined (join)"));
    assert_eq!(listener.line(), format!("members {me}"));
    assert!(listener.line().starts_with("ring 1."));

    assert_eq!(run(&meeting, &["members", "demo"]), format!("{me}\n"));
    assert_eq!(run(&meeting, &["groups"]), format!("demo  {me}\n"));
    assert_eq!(run(&meeting, &["send", "demo", "hello", "again"]), "");
    let mut command = program(&meeting, &["send", "demo"]);
    let mut sender =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    sender.as_mut().unwrap().stdin.take().unwrap().write_all(b"lo\n\x1b[2J").unwrap();
    said_by(sender.unwrap().wait_with_output().unwrap());

    let mut heard = Vec::new();
    while heard.len() < 4 {
        let line = listener.line();
        assert!(!line.is_empty(), "it ended after {heard:?}");
        if line.starts_with("message from 1:") {
            heard.push(line.splitn(4, ' ').nth(3).unwrap().to_owned());
        }
    }
    assert_eq!(heard, ["hello", "again", "lo", r"\x1b[2J"]);
    assert!(listener.child.wait().unwrap().success(), "it ends after four");
}

#[test]
fn the_ring_of_one_host_has_no_quorum() {
    let said = run(&Meeting::new(), &["ring"]);
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with("ring    1."), "{said}");
    assert_eq!(lines[1], "nodes   1");
    assert!(lines[3].contains("not counted"), "{said}");
}

#[test]
fn errors_say_what_to_do() {
    let meeting = Meeting::new();
    for (arguments, wanted) in [
        (&["members", "gr\u{fc}n"][..], "a group name has 1 to 120 printable ASCII characters"),
        (&["--engine", "carrier-pigeon", "groups"], "use embedded, embedded:PATH or corosync"),
        (
            &["--engine", "embedded:/nowhere/ring", "groups"],
            "there is no directory /nowhere; create it",
        ),
        (&["--engine", "embedded:/", "groups"], "\"/\" cannot be a socket"),
        (&["--engine", "embedded:/etc/passwd", "groups"], "/etc/passwd is an ordinary file"),
        (&[], "Usage: cpg"),
    ] {
        let Output { status, stderr, .. } = program(&meeting, arguments).output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert!(!status.success());
        assert!(stderr.contains(wanted), "{arguments:?} says {stderr}");
    }
}
