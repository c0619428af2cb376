use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use super::until;

/// A process of a program under test. Killed on drop; if the test is failing, its output is
/// printed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    out: Lines,
    err: Lines,
}

/// The lines that a process has printed so far.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn collect(from: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let shared = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                shared.0.lock().unwrap().push(line);
            }
        });
        lines
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Process {
    /// Starts a program.
    pub fn start(program: &str, arguments: &[impl AsRef<str>]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments.iter().map(AsRef::as_ref));
        Self::by(command)
    }

    /// Creates a command that runs a program with its stderr on a full disk.
    pub fn without_room_for_its_log(program: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 2>/dev/full", program]);
        command
    }

    /// Starts a prepared command. If it is a shell, it must `exec` the program.
    pub fn by(mut command: Command) -> Self {
        let mut child = command
            .env_remove("RUST_LOG")
            .env_remove("PLAINSONG_AT")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let out = Lines::collect(child.stdout.take().unwrap());
        let err = Lines::collect(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    /// Returns the lines printed on stdout so far.
    pub fn out(&self) -> Vec<String> {
        self.out.all()
    }

    /// Returns the lines printed on stderr so far.
    pub fn err(&self) -> Vec<String> {
        self.err.all()
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to this process only.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).expect("a process to signal");
    }

    /// Kills the process with SIGKILL and waits for its end.
    pub fn kill(&mut self) {
        self.child.kill().expect("a process to kill");
        self.child.wait().expect("its end");
    }

    /// Returns the exit status if the process has ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits until the process ends, and returns its exit status.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        until("the end of the process", || self.status())
    }

    /// Waits until a line on stderr contains `part`.
    #[track_caller]
    pub fn says(&self, part: &str) {
        until(part, || self.err().iter().any(|line| line.contains(part)).then_some(()));
    }

    /// Waits until the process ends, and asserts its exit status. Prints its output on failure.
    #[track_caller]
    pub fn exits_with(&mut self, code: i32) {
        let status = self.ended();
        assert_eq!(status.code(), Some(code), "{:?} {:?}", self.out(), self.err());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- process {} printed:", self.pid());
            for line in self.out().iter().chain(&self.err()) {
                eprintln!("{line}");
            }
        }
    }
}
