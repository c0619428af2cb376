//! A process beside a command, which stops it when the program that runs it cannot: it is dead,
//! or stands still.
//!
//! Without a controlling terminal the guard leads the process group that the command is started
//! in, so that a process group is never used again while the guard needs it. With one, both stay
//! in the program's group, as the terminal expects.
//!
//! The program tells it in lines until when the command may run (`until`, in milliseconds of the
//! monotonic clock), which process it is (`pid`), and by which connection its lock is held
//! (`connection`, with a descriptor). `stopping` tells it that the program stops the command, and by
//! when it is to be killed, so that the command gets no second SIGTERM. `heard` asks which signals came to the guard: what came to
//! the guard too was sent to all, and needs not to be passed on to the command. Where the lines
//! end, the program is dead.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, getpgrp, kill_process_group, pidfd_open};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::Signals;
use crate::lifeline::LifelineReader;
use crate::tether::Tether;

/// A program that is well stops its command by itself within that time.
const GRACE: Duration = Duration::from_millis(100);
/// How long after a question signals are gathered that were sent before it.
const SETTLE: Duration = Duration::from_millis(20);
/// For how long a signal counts as sent together with the same signal to the program.
const TOGETHER: Duration = Duration::from_secs(2);
/// How often processes that go on starting others are killed, and how long each round takes.
const KILL_ROUNDS: u32 = 40;
const KILL_ROUND: Duration = Duration::from_millis(50);

/// What a program tells its guard when it starts it. Its standard input is a Unix socket whose
/// other end the program has.
#[derive(Clone, Debug, clap::Args)]
pub struct GuardArguments {
    /// How long the command has to stop after SIGTERM, before SIGKILL.
    #[arg(long)]
    pub(crate) kill_after_ms: u64,
    /// Until when the command may run, if not put off.
    #[arg(long)]
    pub(crate) until_ms: Option<u64>,
    /// The lock's lease is renewed: what comes by the connection is not for the guard.
    #[arg(long)]
    pub(crate) renewed: bool,
    /// How long the program may take to hold its lock by another connection when one is lost.
    #[arg(long, default_value_t = 0)]
    pub(crate) move_within_ms: u64,
    /// The command is not in the guard's process group.
    #[arg(long)]
    pub(crate) elsewhere: bool,
}

/// Guards a command, as a process of its own. Ends with the command, or by the SIGKILL that it
/// sends to it.
///
/// # Errors
///
/// The system's.
pub async fn guard(arguments: GuardArguments) -> io::Result<()> {
    let signals = Signals::listen_to_all()?;
    let program = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    program.set_nonblocking(true)?;
    let mut program = UnixStream::from_std(program)?;
    let mut guard = Guard {
        until: arguments.until_ms.map(at),
        signals,
        heard: BTreeMap::new(),
        command: None,
        tether: None,
        connection: None,
        lost_at: None,
        kill_at: None,
        arguments,
    };
    program.write_all(b"ready\n").await?;
    guard.watch(&mut program).await?;
    guard.stop().await
}

struct Guard {
    arguments: GuardArguments,
    until: Option<Instant>,
    signals: Signals,
    /// When a signal came last, by its number.
    heard: BTreeMap<i32, Instant>,
    command: Option<Command>,
    tether: Option<Tether>,
    /// By which a lock is held; then the command outlives the program.
    connection: Option<AsyncFd<OwnedFd>>,
    /// When the connection was found to be lost.
    lost_at: Option<Instant>,
    /// The program is stopping the command, which is to be killed then.
    kill_at: Option<Instant>,
}

struct Command {
    pid: Pid,
    /// Readable when it has ended. One that cannot be opened has ended, and the program has
    /// waited for it.
    fd: Option<AsyncFd<OwnedFd>>,
}

impl Guard {
    /// Waits until the command has to be stopped.
    async fn watch(&mut self, program: &mut UnixStream) -> io::Result<()> {
        let mut lines = LifelineReader::new();
        let mut program_lives = true;
        loop {
            let limit = self.limit();
            let moves = program_lives && self.lost_at.is_some();
            tokio::select! {
                biased;
                signal = self.signals.next() => self.note(signal),
                line = lines.line(program), if program_lives => match line {
                    Ok(Some(line)) => match line.strip_prefix("heard ") {
                        Some(question) => self.answer(program, question).await,
                        None => self.hear(&line, &mut lines)?,
                    },
                    // A lock is still held. But whether a command was started is not known
                    // without its number.
                    Ok(None) | Err(_) if self.holds_a_lock() => program_lives = false,
                    Ok(None) | Err(_) => return Ok(()),
                },
                () = sleep_until(limit.unwrap_or_else(Instant::now)), if limit.is_some() => {
                    return Ok(());
                }
                lost = lost(self.connection.as_ref(), self.arguments.renewed), if !moves => {
                    lost?;
                    match program_lives {
                        true => self.lost_at = Some(Instant::now()),
                        false => return Ok(()),
                    }
                }
                // Otherwise the program sees to it.
                () = gone(self.command.as_ref(), self.tether.as_ref()), if !program_lives => {
                    return Ok(());
                }
            }
        }
    }

    /// When the command has to be stopped, unless the program tells otherwise before.
    fn limit(&self) -> Option<Instant> {
        if let Some(kill_at) = self.kill_at {
            return Some(kill_at + GRACE);
        }
        let move_within = Duration::from_millis(self.arguments.move_within_ms);
        let moved_by = self.lost_at.map(|lost_at| lost_at + move_within);
        let limit = self.until.into_iter().chain(moved_by).min();
        limit.map(|limit| limit + GRACE)
    }

    fn holds_a_lock(&self) -> bool {
        self.connection.is_some() && self.command.is_some() && self.lost_at.is_none()
    }

    fn hear(&mut self, line: &str, lines: &mut LifelineReader) -> io::Result<()> {
        match line.split_once(' ').unwrap_or((line, "")) {
            ("until", ms) => self.until = ms.parse().ok().map(at).or(self.until),
            ("stopping", ms) => self.kill_at = ms.parse().ok().map(at),
            ("pid", pid) => {
                let pid = pid.parse().ok().and_then(Pid::from_raw);
                let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
                let fd = pidfd_open(pid, PidfdFlags::empty()).ok().map(watch).transpose()?;
                self.command = Some(Command { pid, fd });
            }
            ("tether", _) => {
                self.tether = lines.fd().map(Tether::from_fd).transpose()?;
            }
            ("connection", _) => {
                self.connection = lines.fd().map(watch).transpose()?;
                self.lost_at = None;
            }
            _ => {}
        }
        Ok(())
    }

    fn note(&mut self, signal: Signal) {
        self.heard.insert(signal.as_raw(), Instant::now());
    }

    /// Tells the program which signals came to this process, and forgets them.
    async fn answer(&mut self, program: &mut UnixStream, question: &str) {
        let settled = Instant::now() + SETTLE;
        while let Ok(signal) = timeout_at(settled, self.signals.next()).await {
            self.note(signal);
        }
        let heard = std::mem::take(&mut self.heard);
        let heard = heard.into_iter().filter(|(_, at)| at.elapsed() < TOGETHER);
        let heard: Vec<String> = heard.map(|(signal, _)| signal.to_string()).collect();
        let line = format!("heard {question} {}\n", heard.join(" "));
        // A program that is gone is noticed by the end of its lines.
        let _ = program.write_all(line.as_bytes()).await;
    }

    async fn stop(&self) -> io::Result<()> {
        let gone = async |bound| {
            timeout(bound, gone(self.command.as_ref(), self.tether.as_ref())).await.is_ok()
        };
        match self.kill_at {
            // The program has sent what was to be sent.
            Some(kill_at) => {
                gone(kill_at.saturating_duration_since(Instant::now())).await;
            }
            None => {
                gone(GRACE).await;
                self.signal(Signal::TERM, self.group()).await;
                gone(Duration::from_millis(self.arguments.kill_after_ms)).await;
            }
        }
        for _ in 0..KILL_ROUNDS {
            self.signal(Signal::KILL, None).await;
            if gone(KILL_ROUND).await {
                break;
            }
        }
        // With what the command has left behind in its group, and this process.
        if let Some(group) = self.group() {
            let _ = kill_process_group(group, Signal::KILL);
        }
        Ok(())
    }

    fn group(&self) -> Option<Pid> {
        (!self.arguments.elsewhere).then(getpgrp)
    }

    async fn signal(&self, signal: Signal, group: Option<Pid>) {
        let command = self.command.as_ref();
        let ended = timeout(Duration::ZERO, ended(command)).await.is_ok();
        let pid = command.filter(|_| !ended).map(|command| command.pid);
        if let Some(tether) = &self.tether {
            tether.signal(group, pid, signal);
        }
    }
}

#[allow(deprecated, reason = "an `OwnedFd` is what the safety of its successor asks for")]
fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

async fn ended(command: Option<&Command>) {
    match command {
        Some(Command { fd: Some(fd), .. }) => {
            let _ = fd.readable().await;
        }
        Some(Command { fd: None, .. }) => {}
        None => std::future::pending().await,
    }
}

/// Waits until the command has ended, and all that it has left behind.
async fn gone(command: Option<&Command>, tether: Option<&Tether>) {
    ended(command).await;
    if let Some(tether) = tether {
        tether.released().await;
    }
}

/// Waits until the connection is gone; if nothing renews what is held by it, also until anything
/// comes.
async fn lost(connection: Option<&AsyncFd<OwnedFd>>, renewed: bool) -> io::Result<()> {
    let Some(connection) = connection else { std::future::pending().await };
    loop {
        let mut ready = connection.readable().await?;
        if !renewed || ready.ready().is_read_closed() {
            return Ok(());
        }
        ready.clear_ready();
    }
}

/// By the clock that all processes of a host share. If the process stands still in between, it is
/// too early.
pub(crate) fn ms(until: Instant) -> u64 {
    let now = monotonic_ms();
    now + u64::try_from(until.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(0)
}

fn at(ms: u64) -> Instant {
    let now = Instant::now();
    now + Duration::from_millis(ms.saturating_sub(monotonic_ms()))
}

fn monotonic_ms() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let ms = now.tv_sec * 1000 + now.tv_nsec / 1_000_000;
    u64::try_from(ms).unwrap_or(0)
}
