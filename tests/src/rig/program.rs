use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use super::log::{Line, Log};
use super::{Error, Result, output};

/// Maximum length of a line. Longer lines are split.
const LINE_BYTES_MAX: u64 = 1 << 16;
/// Maximum time until a signal takes effect.
const SIGNAL_WITHIN: Duration = Duration::from_secs(10);
/// Polling interval for conditions without an event.
pub(super) const POLL: Duration = Duration::from_millis(5);

/// A program that runs in a node. Its output is written to the cluster's log, line by line.
///
/// It is killed when this value or the cluster is dropped. Can be shared by threads.
#[derive(Debug)]
pub struct Program {
    source: Arc<str>,
    id: u32,
    child: Mutex<Child>,
    /// For the standard output and the standard error: true once the stream has ended.
    read: [Arc<AtomicBool>; 2],
    log: Arc<Log>,
}

impl Program {
    pub(super) fn spawn(source: &str, mut command: Command, log: &Arc<Log>) -> Result<Self> {
        let source: Arc<str> = source.into();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = Error::system(format!("start `{}`", output::shown(&command)));
        let mut child = command.spawn().map_err(failed)?;
        let id = child.id();
        log.note(format!("{source} is process {id}"));
        let read = [
            follow(child.stdout.take(), source.clone(), log.clone()),
            follow(child.stderr.take(), source.clone(), log.clone()),
        ];
        Ok(Self { source, id, child: Mutex::new(child), read, log: log.clone() })
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the process id, which is the same inside the node.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Returns the exit status; `None` while it is running or paused.
    pub fn status(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Kills it (SIGKILL), even if it is paused, and waits until it is dead. Does nothing if it has
    /// already ended.
    ///
    /// # Errors
    ///
    /// [`Error::Late`] if it does not die.
    pub fn kill(&self) -> Result<()> {
        if self.signal(Signal::KILL, "kill")? {
            self.wait_exit(SIGNAL_WITHIN)?;
        }
        Ok(())
    }

    /// Asks it to end (SIGTERM). Does not wait.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the signal cannot be sent.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM, "terminate").map(drop)
    }

    /// Pauses all its threads (SIGSTOP) and waits until they have stopped.
    ///
    /// # Errors
    ///
    /// [`Error::Never`] if it has ended, [`Error::Late`] if it does not stop.
    pub fn pause(&self) -> Result<()> {
        let what = format!("pause {}", self.source);
        let deadline = Instant::now() + SIGNAL_WITHIN;
        let mut alive = self.signal(Signal::STOP, "pause")?;
        while alive && !self.is_stopped() {
            if Instant::now() > deadline {
                let last = "it is still running".into();
                let late = Error::Late { what, within: SIGNAL_WITHIN, last };
                return Err(self.log.trouble(late));
            }
            thread::sleep(POLL);
            alive = self.status().is_none();
        }
        if alive { Ok(()) } else { Err(self.ended(what)) }
    }

    /// Resumes it after [`Program::pause`] (SIGCONT).
    ///
    /// # Errors
    ///
    /// [`Error::Never`] if it has ended.
    pub fn resume(&self) -> Result<()> {
        if self.signal(Signal::CONT, "resume")? {
            return Ok(());
        }
        Err(self.ended(format!("resume {}", self.source)))
    }

    /// Limits its writable memory to `more` bytes beyond its current use, or removes the limit if
    /// `more` is `None`. Does nothing if it has ended.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the system refuses.
    pub fn limit_memory(&self, more: Option<u64>) -> Result<()> {
        let child = self.child();
        let pages = || {
            let sizes = std::fs::read_to_string(format!("/proc/{}/statm", self.id)).ok()?;
            sizes.split(' ').nth(5)?.parse::<u64>().ok()
        };
        let current = match (more, pages()) {
            (None, _) => None,
            (Some(more), Some(pages)) => Some(pages * rustix::param::page_size() as u64 + more),
            (Some(_), None) => return Ok(()),
        };
        self.log.note(format!("{} is limited to {current:?} bytes of memory", self.source));
        let limit = Rlimit { current, maximum: None };
        match prlimit(Some(Pid::from_child(&child)), Resource::Data, limit) {
            Ok(_) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => {
                let failed = Error::system(format!("limit the memory of {}", self.source));
                Err(self.log.trouble(failed(error.into())))
            }
        }
    }

    /// Waits until it has ended and all its output is in the log.
    ///
    /// # Errors
    ///
    /// [`Error::Late`] if it keeps running.
    pub fn wait_exit(&self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            // A process that it left behind may keep its streams open forever.
            let read = self.read_to_the_end() || Instant::now() >= deadline;
            if let Some(status) = self.status().filter(|_| read) {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                let what = format!("the end of {}", self.source);
                let last = "it is still running".into();
                return Err(self.log.trouble(Error::Late { what, within, last }));
            }
            thread::sleep(POLL);
        }
    }

    /// Waits until it has printed a line that contains the text, on standard output or standard
    /// error, and returns the first such line since its start.
    ///
    /// # Errors
    ///
    /// [`Error::Late`] after `within`, [`Error::Never`] if it ends without such a line.
    pub fn wait_for_line(&self, text: &str, within: Duration) -> Result<Line> {
        self.wait_for_line_from(0, text, within)
    }

    /// Waits as [`Program::wait_for_line`] does, but only for lines after `mark`, which
    /// [`Cluster::mark`](super::Cluster::mark) returns. For texts that are printed more than once.
    ///
    /// # Errors
    ///
    /// As for [`Program::wait_for_line`].
    pub fn wait_for_line_from(&self, mark: u64, text: &str, within: Duration) -> Result<Line> {
        let what = format!("{text:?} from {}", self.source);
        let wanted = |line: &Line| self.wrote(line) && line.text.contains(text);
        self.log.wait_for(&what, mark, within, wanted, || {
            let status = self.status().filter(|_| self.read_to_the_end())?;
            Some(format!("it ended ({status})"))
        })
    }

    /// Returns its output so far.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = self.log.lines();
        lines.retain(|line| self.wrote(line));
        lines
    }

    /// Returns true if this program wrote the line, and not another program of the same name.
    fn wrote(&self, line: &Line) -> bool {
        Arc::ptr_eq(&line.source, &self.source)
    }

    /// Sends a signal unless it has ended. Returns true if the signal was sent.
    fn signal(&self, signal: Signal, name: &str) -> Result<bool> {
        // Under the lock no other thread can reap it, so its id cannot have been reused.
        let mut child = self.child();
        if child.try_wait().ok().flatten().is_some() {
            return Ok(false);
        }
        self.log.note(format!("{name} {}", self.source));
        let failed = Error::system(format!("{name} {}", self.source));
        kill_process(Pid::from_child(&child), signal)
            .map_err(|error| self.log.trouble(failed(error.into())))?;
        Ok(true)
    }

    /// Returns true if all its threads are stopped.
    fn is_stopped(&self) -> bool {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.id)) else {
            return false;
        };
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The state follows the name, which is in parentheses and may contain parentheses.
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        })
    }

    fn read_to_the_end(&self) -> bool {
        self.read.iter().all(|ended| ended.load(Ordering::Acquire))
    }

    fn ended(&self, what: String) -> Error {
        let why =
            self.status().map_or_else(|| "it has ended".into(), |s| format!("it ended ({s})"));
        self.log.trouble(Error::Never { what, why })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        // Both calls do nothing if it has been waited for.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Copies a stream to the log, in a thread that ends with the stream.
fn follow(
    stream: Option<impl Read + Send + 'static>,
    source: Arc<str>,
    log: Arc<Log>,
) -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(stream.is_none()));
    let Some(stream) = stream else { return ended };
    let tell = ended.clone();
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut bytes = Vec::new();
        while let Ok(1..) = stream.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes) {
            let text = String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_owned();
            log.write(&source, text);
            bytes.clear();
        }
        tell.store(true, Ordering::Release);
    });
    ended
}
