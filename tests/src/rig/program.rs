use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};

use super::log::{Line, Log};
use super::{Error, Result, output};

/// Longer lines are cut into several.
const LINE_BYTES_MAX: u64 = 1 << 16;
/// How long the kernel may take to carry out a signal.
const SIGNAL_WITHIN: Duration = Duration::from_secs(10);
/// How often to look at what cannot be waited for.
pub(super) const LOOK: Duration = Duration::from_millis(5);

/// A program that runs in a node. What it prints goes to the cluster's log, line by line.
///
/// It is killed when this is dropped, or when the cluster is. Any thread may use it.
#[derive(Debug)]
pub struct Program {
    source: Arc<str>,
    id: u32,
    child: Mutex<Child>,
    /// One of each stream: whether it has ended.
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

    /// The process id, which is the same inside the node.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// How it ended; none while it runs, or is paused.
    pub fn status(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Kills it (SIGKILL), paused or not, and returns when it is dead. Nothing happens if it
    /// has ended already.
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

    /// Asks it to end (SIGTERM), and does not wait.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the signal cannot be sent.
    pub fn terminate(&self) -> Result<()> {
        self.signal(Signal::TERM, "terminate").map(drop)
    }

    /// Stops all its threads (SIGSTOP) and returns when they stand.
    ///
    /// # Errors
    ///
    /// [`Error::Never`] if it has ended, [`Error::Late`] if it does not stop.
    pub fn pause(&self) -> Result<()> {
        let what = format!("pause {}", self.source);
        let deadline = Instant::now() + SIGNAL_WITHIN;
        let mut alive = self.signal(Signal::STOP, "pause")?;
        while alive && !self.stands() {
            if Instant::now() > deadline {
                let last = "it still runs".into();
                let late = Error::Late { what, within: SIGNAL_WITHIN, last };
                return Err(self.log.trouble(late));
            }
            thread::sleep(LOOK);
            alive = self.status().is_none();
        }
        if alive { Ok(()) } else { Err(self.ended(what)) }
    }

    /// Lets it go on after [`Program::pause`] (SIGCONT).
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

    /// Lets it have only so many bytes of writable memory more than it has; without a number, as
    /// many as it wants. Nothing happens if it has ended.
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
        self.log.note(format!("{} may have {current:?} bytes of memory", self.source));
        let limit = Rlimit { current, maximum: None };
        match prlimit(Some(Pid::from_child(&child)), Resource::Data, limit) {
            Ok(_) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => {
                let failed = Error::system(format!("limit the memory of {}", self.source));
                Err(self.log.trouble(failed(error.into())))
            }
        }
    }

    /// Waits until it has ended and all that it printed is in the log.
    ///
    /// # Errors
    ///
    /// [`Error::Late`] if it goes on.
    pub fn wait_exit(&self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            // A process that it left behind may hold its streams for ever.
            let read = self.read_to_the_end() || Instant::now() >= deadline;
            if let Some(status) = self.status().filter(|_| read) {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                let what = format!("the end of {}", self.source);
                let last = "it goes on".into();
                return Err(self.log.trouble(Error::Late { what, within, last }));
            }
            thread::sleep(LOOK);
        }
    }

    /// Waits until it has printed a line that contains the text, on standard output or
    /// error, and returns the first such line since its start.
    ///
    /// # Errors
    ///
    /// [`Error::Late`]; [`Error::Never`] if it ends without.
    pub fn wait_for_line(&self, text: &str, within: Duration) -> Result<Line> {
        self.wait_for_line_from(0, text, within)
    }

    /// The same for lines that arrived after the [mark](super::Cluster::mark) was taken, for
    /// what is said more than once.
    ///
    /// # Errors
    ///
    /// As of [`Program::wait_for_line`].
    pub fn wait_for_line_from(&self, mark: u64, text: &str, within: Duration) -> Result<Line> {
        let what = format!("{text:?} from {}", self.source);
        let wanted = |line: &Line| self.wrote(line) && line.text.contains(text);
        self.log.wait_for(&what, mark, within, wanted, || {
            let status = self.status().filter(|_| self.read_to_the_end())?;
            Some(format!("it ended ({status})"))
        })
    }

    /// What it has printed so far.
    pub fn lines(&self) -> Vec<Line> {
        let mut lines = self.log.lines();
        lines.retain(|line| self.wrote(line));
        lines
    }

    /// Whether a line is its own, and not of another of the same name.
    fn wrote(&self, line: &Line) -> bool {
        Arc::ptr_eq(&line.source, &self.source)
    }

    /// Sends a signal, unless it has ended. Whether it was sent.
    fn signal(&self, signal: Signal, name: &str) -> Result<bool> {
        // Under the lock nobody else can reap it, so its id cannot be another's.
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

    /// Whether all its threads are stopped.
    fn stands(&self) -> bool {
        let Ok(threads) = std::fs::read_dir(format!("/proc/{}/task", self.id)) else {
            return false;
        };
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The state comes after the name, which is in parentheses and may have more.
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
        // Both do nothing if it has been waited for.
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
