//! Runs every example of the crate to its end, and checks what it prints.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

/// The built example. Cargo builds the examples together with the tests, beside their folder.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let path: PathBuf = test.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is not built: run `cargo build --examples`", path.display());
    Command::new(path)
}

/// Runs an example without arguments and compares its output.
fn prints(name: &str, expected: &[&str]) {
    let run = example(name).output().unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{name}: {}: {errors}", run.status);
    let output = String::from_utf8(run.stdout).unwrap();
    assert_eq!(output.lines().collect::<Vec<_>>(), expected, "{name}: {errors}");
}

#[test]
fn counter_runs_three_replicas_in_one_process() {
    let expected = [
        "replica 1 adds 5: 5",
        "replica 2 adds 2: 7",
        "replica 3 reads 7",
        "replica 2 adds 1 without replica 1: 8",
    ];
    prints("counter", &expected);
}

/// One process of the counter, with a person at its terminal.
struct Terminal {
    process: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Terminal {
    fn open(id: u32, socket: &str) -> Self {
        let mut command = example("counter");
        command.args([&id.to_string(), socket]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// Types a line and returns the answer.
    fn types(&mut self, line: &str) -> String {
        writeln!(self.process.stdin.as_mut().unwrap(), "{line}").unwrap();
        self.lines.next().unwrap().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[test]
fn counter_runs_in_three_processes_and_continues_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("counter.sock");
    let socket = socket.to_str().unwrap();
    let [mut first, mut second, mut third] = [1, 2, 3].map(|id| Terminal::open(id, socket));
    assert_eq!(first.types("5"), "total 5");
    assert_eq!(second.types("2"), "total 7");
    assert_eq!(third.types(""), "total 7");
    drop(first);
    assert_eq!(third.types("-1"), "total 6");
    assert_eq!(second.types(""), "total 6");
}

#[test]
fn bank_answers_errors_as_outputs() {
    let expected = [
        r#"Deposit { to: "ann", cents: 100 }: the balance is 100"#,
        r#"Transfer { from: "ann", to: "bob", cents: 30 }: the balance is 30"#,
        r#"Transfer { from: "ann", to: "bob", cents: 90 }: rejected: ann has 70 cents, and 90 are needed"#,
        r#"Transfer { from: "zoe", to: "bob", cents: 1 }: rejected: there is no account zoe"#,
        r#"Deposit { to: "bob", cents: 18446744073709551615 }: rejected: the balance of bob would be too large"#,
        "all accounts together: 100",
    ];
    prints("bank", &expected);
}

#[test]
fn http_service_refuses_requests_when_its_queue_is_full() {
    let expected = [
        "add 5: 200 5",
        "add x: 400 the body must be a number",
        "total: 200 5",
        "add 5 without a majority: 503",
    ];
    prints("http_service", &expected);
}

#[test]
fn leases_expire_in_an_idle_group() {
    let expected = [
        "ann has the printer",
        "bob has to wait for ann",
        "the lease of the printer has expired",
        "the lease of the printer has expired",
        "the lease of the printer has expired",
        "bob has the printer, with a higher token: true",
        "leases: 1",
    ];
    prints("leases", &expected);
}

#[test]
fn change_feed_resumes_at_another_replica() {
    let expected = ["light=on", "light=off", "resuming at replica 2", "light=dim", "light=on"];
    prints("change_feed", &expected);
}

#[test]
fn exactly_once_applies_a_repeated_command_once() {
    let expected = [
        "5 is added: Some(5)",
        "replica 1 is gone, and the answer with it",
        "2 is added: Some(7)",
        "total: 7",
    ];
    prints("exactly_once", &expected);
}

#[test]
fn custom_store_finds_its_log_again() {
    prints("custom_store", &["start 1: adding 5 gives 5", "start 2: adding 5 gives 10"]);
}

#[test]
fn large_state_is_cloned_and_given_to_a_late_replica() {
    let expected = [
        "200000 items are added",
        "replica 2 has a snapshot: true",
        "200000 items are cloned",
        "replica 4 joined and has 200000 items",
        "replica 4 has a snapshot: true",
    ];
    prints("large_state", &expected);
}
