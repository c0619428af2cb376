use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use super::until;

/// A `lock` process. It is killed when this is dropped, also by a failing test.
pub struct Process {
    child: Child,
    out: Lines,
    err: Lines,
}

/// What a process has printed so far.
#[derive(Clone, Default)]
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
    pub fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lock"))
            .args(arguments)
            .env_remove("RUST_LOG")
            .env_remove("PLAINSONG_AT")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the lock binary");
        let out = Lines::collect(child.stdout.take().unwrap());
        let err = Lines::collect(child.stderr.take().unwrap());
        Self { child, out, err }
    }

    pub fn out(&self) -> Vec<String> {
        self.out.all()
    }

    pub fn err(&self) -> Vec<String> {
        self.err.all()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        kill_process(pid, signal).expect("a process to signal");
    }

    /// Kills it as the power does.
    pub fn kill(&mut self) {
        self.child.kill().expect("a process to kill");
        self.child.wait().expect("its end");
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        until("the end of the process", || self.child.try_wait().unwrap())
    }

    /// Waits until it has said that on stderr.
    #[track_caller]
    pub fn says(&self, part: &str) {
        until(part, || self.err().iter().any(|line| line.contains(part)).then_some(()));
    }

    /// Its exit status, told together with what it said.
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
            eprintln!("--- a lock process printed:");
            for line in self.out().iter().chain(&self.err()) {
                eprintln!("{line}");
            }
        }
    }
}
