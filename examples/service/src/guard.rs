//! A process beside a command, which stops it when the program that runs it cannot: it is dead,
//! or stands still.
//!
//! The guard leads the process group that the command is started in, so the command never runs
//! without it. The program tells it in lines until when the command may run (`until`, in
//! milliseconds of the monotonic clock) and which process it is (`pid`). Where the lines end, the
//! program is dead.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use rustix::process::{
    Pid, PidfdFlags, Signal, getpgrp, kill_process_group, pidfd_open, pidfd_send_signal,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Interest, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, sleep, sleep_until};

use crate::Signals;

/// A program that is well stops its command by itself within that time.
const GRACE: Duration = Duration::from_millis(100);

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
    /// Standard output is a connection by which a lock is held, as long as it lasts; then the
    /// command outlives the program. Without a time, whatever comes by it means a loss.
    #[arg(long)]
    pub(crate) connection: bool,
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
    // Those for the command are for its whole group.
    let _ignored = Signals::listen()?;
    let program = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    program.set_nonblocking(true)?;
    let (input, mut output) = UnixStream::from_std(program)?.into_split();
    let connection = match arguments.connection {
        true => Some(watch(io::stdout().as_fd().try_clone_to_owned()?)?),
        false => None,
    };
    let mut guard = Guard { until: arguments.until_ms.map(at), command: None, arguments };
    output.write_all(b"ready\n").await?;
    guard.watch(BufReader::new(input).lines(), connection).await?;
    guard.stop().await
}

struct Guard {
    arguments: GuardArguments,
    until: Option<Instant>,
    /// Readable when the command has ended.
    command: Option<AsyncFd<OwnedFd>>,
}

impl Guard {
    /// Waits until the command has to be stopped.
    async fn watch(
        &mut self,
        mut lines: Lines<BufReader<OwnedReadHalf>>,
        connection: Option<AsyncFd<OwnedFd>>,
    ) -> io::Result<()> {
        let mut program_lives = true;
        loop {
            let limit = self.until.map(|until| until + GRACE);
            tokio::select! {
                biased;
                line = lines.next_line(), if program_lives => match line {
                    Ok(Some(line)) => self.hear(&line)?,
                    // A lock is still held. But whether a command was started is not known
                    // without its number.
                    Ok(None) | Err(_) if connection.is_some() && self.command.is_some() => {
                        program_lives = false;
                    }
                    Ok(None) | Err(_) => return Ok(()),
                },
                () = sleep_until(limit.unwrap_or_else(Instant::now)), if limit.is_some() => {
                    return Ok(());
                }
                lost = lost(connection.as_ref(), self.until.is_some()) => return lost,
                // Otherwise the program sees to it.
                () = ended(self.command.as_ref()), if !program_lives => return Ok(()),
            }
        }
    }

    fn hear(&mut self, line: &str) -> io::Result<()> {
        match line.split_once(' ') {
            Some(("until", ms)) => self.until = ms.parse().ok().map(at).or(self.until),
            Some(("pid", pid)) => {
                let pid = pid.parse().ok().and_then(Pid::from_raw);
                let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
                // One that is not there has ended, and been waited for by the program.
                self.command = pidfd_open(pid, PidfdFlags::empty()).ok().map(watch).transpose()?;
            }
            _ => {}
        }
        Ok(())
    }

    async fn stop(&self) -> io::Result<()> {
        tokio::select! {
            () = sleep(GRACE) => {}
            () = ended(self.command.as_ref()) => {}
        }
        self.signal(Signal::TERM);
        tokio::select! {
            () = sleep(Duration::from_millis(self.arguments.kill_after_ms)) => {}
            () = ended(self.command.as_ref()) => {}
        }
        // With what the command has left behind, if it has a group.
        self.signal(Signal::KILL);
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        // What has ended needs none.
        let _ = match &self.command {
            Some(command) if self.arguments.elsewhere => pidfd_send_signal(command, signal),
            None if self.arguments.elsewhere => Ok(()),
            _ => kill_process_group(getpgrp(), signal),
        };
    }
}

#[allow(deprecated, reason = "an `OwnedFd` is what the safety of its successor asks for")]
fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

async fn ended(command: Option<&AsyncFd<OwnedFd>>) {
    match command {
        Some(command) => {
            let _ = command.readable().await;
        }
        None => std::future::pending().await,
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

/// What a program tells the guard of its command. The guard stops the command when this is
/// dropped, unless a lock is still held.
#[derive(Debug)]
pub struct Lifeline(pub(crate) OwnedWriteHalf);

impl Lifeline {
    /// The command may run until then.
    pub async fn extend(&mut self, until: Instant) {
        self.tell(format!("until {}\n", ms(until))).await;
    }

    pub(crate) async fn tell(&mut self, line: String) {
        // A guard that is gone is noticed by its end.
        let _ = self.0.write_all(line.as_bytes()).await;
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
