use std::io::{self, BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

const FOLDER: &str = "PLAINSONG_FOLDER";
const NUMBERS: &str = "PLAINSONG_NUMBERS";

/// A test of this program, run by itself in a process of its own, and killed when dropped.
pub(crate) struct Running {
    process: Child,
    says: Lines<BufReader<ChildStdout>>,
}

impl Running {
    /// Runs the ignored test of that name with a folder and numbers, by another program that
    /// runs programs if one is given.
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

    /// The next number that it says; `None` when it has ended.
    pub(crate) fn hear(&mut self) -> Option<u64> {
        self.hear_text().map(|text| text.parse().unwrap())
    }

    /// The next text that it says; `None` when it has ended.
    pub(crate) fn hear_text(&mut self) -> Option<String> {
        let mut lines = self.says.by_ref().map(Result::unwrap);
        lines.find_map(|line| Some(line.split_once("said: ")?.1.to_owned()))
    }

    /// Kills it, and returns the last number that it said since. It must not have ended by
    /// itself.
    pub(crate) fn kill(&mut self) -> Option<u64> {
        assert_eq!(self.process.try_wait().unwrap(), None, "it ended by itself");
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::iter::from_fn(|| self.hear()).last()
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn finish(mut self) {
        while self.hear_text().is_some() {}
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// In the child: what it was given.
pub(crate) fn given() -> (PathBuf, Vec<u64>) {
    let folder = std::env::var_os(FOLDER).unwrap().into();
    let numbers = std::env::var(NUMBERS).unwrap();
    (folder, numbers.split_whitespace().map(|number| number.parse().unwrap()).collect())
}

/// In the child: says this, at once.
pub(crate) fn say(what: impl ToString) {
    // One write, so that it is said as a whole or not at all.
    let line = format!("said: {}\n", what.to_string());
    io::stdout().write_all(line.as_bytes()).unwrap();
    io::stdout().flush().unwrap();
}

/// `strace` with these arguments, its output in this file; `None`, and a word, where it is not.
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
