//! The guard: a process beside a command that stops the command if the program that runs it is dead
//! or frozen.
//!
//! Without a controlling terminal, the guard leads the process group in which the command is
//! started, so the kernel cannot reuse the group's id while the guard needs it. With a controlling
//! terminal, guard and command stay in the program's group, as the terminal expects.
//!
//! The program sends lines to the guard over a Unix socket. The end of the stream means that the
//! program is dead.
//!
//! | line | meaning |
//! | --- | --- |
//! | `until MS` | the command may run until then, in milliseconds of the monotonic clock |
//! | `tether`, with a descriptor | the pipe that shows which processes the command has started |
//! | `pid PID` | the process id of the command |
//! | `connection`, with a descriptor | the connection that holds the command's lock |
//! | `stopping MS` | the program is stopping the command and will kill it then; the guard sends no second SIGTERM |
//! | `heard N` | question number N: which signals has the guard received? |
//!
//! A signal that the guard has received as well was sent to all processes of the service or
//! terminal, so the program need not pass it on to the command.

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

/// Time that a working program has to stop its command itself before the guard does.
const GRACE: Duration = Duration::from_millis(100);
/// Time for which the guard collects signals before it answers which ones it has received.
const SETTLE: Duration = Duration::from_millis(20);
/// Maximum age of a received signal to count as sent together with the program's.
const TOGETHER: Duration = Duration::from_secs(2);
/// Number of SIGKILL rounds. One is not enough if processes keep starting others.
const KILL_ROUNDS: u32 = 40;
/// Duration of each round.
const KILL_ROUND: Duration = Duration::from_millis(50);

/// Command line of the guard. Its standard input is a Unix socket whose other end the program has.
#[derive(Clone, Debug, clap::Args)]
pub struct GuardArguments {
    /// Milliseconds from SIGTERM to SIGKILL.
    #[arg(long)]
    pub(crate) kill_after_ms: u64,
    /// Time until which the command may run unless extended, in milliseconds of the monotonic
    /// clock.
    #[arg(long)]
    pub(crate) until_ms: Option<u64>,
    /// The program renews the lock's lease and reads the connection's replies, so incoming data is
    /// not a sign that the lock is lost.
    #[arg(long)]
    pub(crate) renewed: bool,
    /// Milliseconds that the program has to move its lock to another connection after losing one.
    #[arg(long, default_value_t = 0)]
    pub(crate) move_within_ms: u64,
    /// The command is not in the guard's process group.
    #[arg(long)]
    pub(crate) elsewhere: bool,
}

/// Guards a command; the entry point of the guard process. Returns when the command has ended, or
/// ends with it by the SIGKILL that the guard sends to its process group.
///
/// # Errors
///
/// Returns the operating system's error.
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
    /// Time at which each signal was last received, by signal number.
    heard: BTreeMap<i32, Instant>,
    command: Option<Command>,
    tether: Option<Tether>,
    /// The connection that holds the lock. While it does, the command may outlive the program.
    connection: Option<AsyncFd<OwnedFd>>,
    /// Time at which the connection was found lost.
    lost_at: Option<Instant>,
    /// Set while the program is stopping the command: the time at which it will kill it.
    kill_at: Option<Instant>,
}

struct Command {
    pid: Pid,
    /// Pidfd, readable once the command has ended. `None` if it could not be opened, because the
    /// command has ended and the program has waited for it.
    fd: Option<AsyncFd<OwnedFd>>,
}

impl Guard {
    /// Waits until the command must be stopped or has ended.
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
                        None => self.handle(&line, &mut lines)?,
                    },
                    // The program is dead. While a lock is held, the command may go on; that
                    // needs its process id, or it is not known whether it was started at all.
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
                // While the program lives, it waits for the command itself.
                () = gone(self.command.as_ref(), self.tether.as_ref()), if !program_lives => {
                    return Ok(());
                }
            }
        }
    }

    /// Returns the time at which the command must be stopped unless the program sends a later one.
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

    fn handle(&mut self, line: &str, lines: &mut LifelineReader) -> io::Result<()> {
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

    /// Sends the program the signals that this process has received, and clears them.
    async fn answer(&mut self, program: &mut UnixStream, question: &str) {
        let settled = Instant::now() + SETTLE;
        while let Ok(signal) = timeout_at(settled, self.signals.next()).await {
            self.note(signal);
        }
        let heard = std::mem::take(&mut self.heard);
        let heard = heard.into_iter().filter(|(_, at)| at.elapsed() < TOGETHER);
        let heard: Vec<String> = heard.map(|(signal, _)| signal.to_string()).collect();
        let line = format!("heard {question} {}\n", heard.join(" "));
        // A dead program is noticed when its stream of lines ends.
        let _ = program.write_all(line.as_bytes()).await;
    }

    async fn stop(&self) -> io::Result<()> {
        let gone = async |bound| {
            timeout(bound, gone(self.command.as_ref(), self.tether.as_ref())).await.is_ok()
        };
        match self.kill_at {
            // The program has sent SIGTERM already, if it was needed.
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
        // Kills whatever the command has left in its group, and this process.
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

/// Waits until the command and all processes that it has left behind have ended.
async fn gone(command: Option<&Command>, tether: Option<&Tether>) {
    ended(command).await;
    if let Some(tether) = tether {
        tether.released().await;
    }
}

/// Waits until the connection that holds the lock is lost: closed by the server or, unless the
/// program renews the lease on it, readable for any reason.
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

/// Converts an instant to milliseconds of the monotonic clock, which all processes of a host share.
/// If this process is suspended during the conversion, the result is too early, never too late.
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
