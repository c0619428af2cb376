use std::collections::VecDeque;
use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Error, Result};

/// Maximum number of lines in memory. Older ones are dropped; the file still has them.
const LINES_MAX: usize = 200_000;
/// Maximum size of the file.
const FILE_BYTES_MAX: usize = 64 << 20;

/// One line that a program or the rig wrote.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its number in the cluster's log, from 0.
    pub number: u64,
    /// Time of arrival, since the cluster's start.
    pub at: Duration,
    /// The writer, for example `node 1 corosync` or `rig`.
    pub source: Arc<str>,
    /// The line, without its end.
    pub text: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, micros) = (self.at.as_secs(), self.at.subsec_micros());
        write!(f, "{at:4}.{micros:06} {:<16} | {}", self.source, self.text)
    }
}

/// The output of all processes of a cluster, in the order of arrival: in memory for the test, and
/// in a file that is kept if the test fails.
#[derive(Debug)]
pub(super) struct Log {
    directory: PathBuf,
    began: Instant,
    state: Mutex<State>,
    changed: Condvar,
    troubled: AtomicBool,
}

#[derive(Debug)]
struct State {
    lines: VecDeque<Line>,
    next: u64,
    file: File,
    file_bytes: usize,
}

impl Log {
    /// Creates an empty log in a directory of its own, replacing that of an earlier run.
    pub(super) fn new(directory: &Path) -> Result<Self> {
        let failed = || Error::system(format!("make {}", directory.display()));
        fs::create_dir_all(directory).map_err(failed())?;
        let file = File::create(directory.join("log")).map_err(failed())?;
        Ok(Self {
            directory: directory.to_owned(),
            began: Instant::now(),
            state: Mutex::new(State { lines: VecDeque::new(), next: 0, file, file_bytes: 0 }),
            changed: Condvar::new(),
            troubled: AtomicBool::new(false),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self, source: &Arc<str>, text: String) {
        let mut state = self.state();
        // Read under the lock, so that numbers and times have the same order.
        let at = self.began.elapsed();
        let line = Line { number: state.next, at, source: source.clone(), text };
        let mut shown = format!("{line}\n");
        if state.file_bytes < FILE_BYTES_MAX {
            state.file_bytes += shown.len();
            if state.file_bytes >= FILE_BYTES_MAX {
                shown.push_str("(truncated)\n");
            }
            // A full disk does not fail a test.
            let _ = state.file.write_all(shown.as_bytes());
        }
        state.next += 1;
        state.lines.push_back(line);
        if state.lines.len() > LINES_MAX {
            state.lines.pop_front();
        }
        self.changed.notify_all();
    }

    /// Adds a line about an action of the rig.
    pub(super) fn note(&self, text: impl Into<String>) {
        self.write(&"rig".into(), text.into());
    }

    /// Adds an error to the log, keeps the log, and returns the error.
    pub(super) fn trouble(&self, error: Error) -> Error {
        self.keep(&format!("ERROR: {error}"));
        error
    }

    /// Adds the reason why the log is kept.
    pub(super) fn keep(&self, why: &str) {
        self.troubled.store(true, Ordering::Relaxed);
        self.note(why);
    }

    /// Returns the number of the next line.
    pub(super) fn mark(&self) -> u64 {
        self.state().next
    }

    pub(super) fn lines(&self) -> Vec<Line> {
        self.state().lines.iter().cloned().collect()
    }

    /// Waits for a line with a number from `mark` on, and returns the first. `over` returns a
    /// reason if no such line can arrive any more; it is called before each search.
    pub(super) fn wait_for(
        &self,
        what: &str,
        mark: u64,
        within: Duration,
        wanted: impl Fn(&Line) -> bool,
        over: impl Fn() -> Option<String>,
    ) -> Result<Line> {
        let deadline = Instant::now() + within;
        let mut from = mark;
        loop {
            let why = over();
            let mut state = self.state();
            let known = state.lines.front().map_or(state.next, |line| line.number);
            let skip = usize::try_from(from.saturating_sub(known)).unwrap_or(usize::MAX);
            if let Some(line) = state.lines.iter().skip(skip).find(|line| wanted(line)) {
                return Ok(line.clone());
            }
            from = state.next;
            if let Some(why) = why {
                drop(state);
                return Err(self.trouble(Error::Never { what: what.into(), why }));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                drop(state);
                let last = "there is no such line".into();
                return Err(self.trouble(Error::Late { what: what.into(), within, last }));
            }
            // Short, because the end of a program does not wake this thread.
            let pause = left.min(Duration::from_millis(20));
            state =
                self.changed.wait_timeout(state, pause).map_or_else(|e| e.into_inner().0, |x| x.0);
            drop(state);
        }
    }

    /// Removes the file at the end of the cluster, or prints its path if the test fails.
    pub(super) fn finish(&self) {
        if std::thread::panicking() || self.troubled.load(Ordering::Relaxed) {
            eprintln!("log of the cluster: {}/log", self.directory.display());
        } else {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}
