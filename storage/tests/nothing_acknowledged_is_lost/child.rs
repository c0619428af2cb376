use std::io::{self, BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

const FOLDER: &str = "PLAINSONG_FOLDER";
const NUMBERS: &str = "PLAINSONG_NUMBERS";

/// A test of this program that runs alone in a child process. Killed when dropped.
pub(crate) struct Running {
    process: Child,
    says: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// Runs the ignored test of this name with a folder and numbers; under the program `by`, if
    /// given.
    pub(crate) fn start(test: &str, folder: &Path, numbers: &[u64], by: Option<Command>) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = match by {
            Some(mut by) => {
                by.arg(program);
                by
            }
            None => Command::new(program),
        };
        let numbers: Vec<String> = numbers.iter().map(ToString::to_string).collect();
        let mut process = command
            .args(["--ignored", "--exact", "--nocapture", "--test-threads=1", test])
            .env(FOLDER, folder)
            .env(NUMBERS, numbers.join(" "))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let says = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, says }
    }

    /// Returns the next number that the child prints; `None` at its end.
    pub(crate) fn next_number(&mut self) -> Option<u64> {
        self.next_text().map(|text| text.parse().unwrap())
    }

    /// Returns the next text that the child prints; `None` at its end.
    pub(crate) fn next_text(&mut self) -> Option<String> {
        let mut lines = self.says.by_ref().map(Result::unwrap);
        lines.find_map(|line| Some(line.split_once("said: ")?.1.to_owned()))
    }

    /// Kills the child, which must still run. Returns the last number that it has printed since.
    pub(crate) fn kill(&mut self) -> Option<u64> {
        assert_eq!(self.process.try_wait().unwrap(), None, "it ended by itself");
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::iter::from_fn(|| self.next_number()).last()
    }

    /// Waits until the child exits, which must be with success.
    pub(crate) fn finish(mut self) {
        while self.next_text().is_some() {}
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the arguments. Called in the child.
pub(crate) fn given() -> (PathBuf, Vec<u64>) {
    let folder = std::env::var_os(FOLDER).unwrap().into();
    let numbers = std::env::var(NUMBERS).unwrap();
    (folder, numbers.split_whitespace().map(|number| number.parse().unwrap()).collect())
}

/// Prints a line without buffering. Called in the child.
pub(crate) fn print(what: impl ToString) {
    // A single write, so that the line is printed as a whole or not at all.
    let line = format!("said: {}\n", what.to_string());
    io::stdout().write_all(line.as_bytes()).unwrap();
    io::stdout().flush().unwrap();
}

/// Returns `strace` with these arguments, writing to this file. If it is not installed, prints a
/// message and returns `None`.
pub(crate) fn strace(output: &Path, arguments: &[&str]) -> Option<Command> {
    let works = Command::new("strace").args(["-o", "/dev/null", "true"]).status();
    if !works.is_ok_and(|status| status.success()) {
        eprintln!("NOT RUN: strace is not here, or may not trace");
        return None;
    }
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-o"]).arg(output).args(arguments);
    Some(command)
}
