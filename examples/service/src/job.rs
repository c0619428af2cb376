use std::io::{self, IsTerminal};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until};

use crate::Signals;
use crate::guard::{Lifeline, ms};

/// A command while it runs, beside its [guard](crate::guard()), which is the program's own
/// subcommand `guard`.
#[derive(Debug)]
pub struct Job {
    child: Child,
    pid: Pid,
    guard: Child,
    /// The process group that gets the signals. At a terminal it has none of its own, or it
    /// could not use the terminal, which signals it by itself.
    group: Option<Pid>,
    kill_after: Duration,
}

/// How a command runs.
#[derive(Debug)]
pub struct Guarding {
    /// How long it has to stop after SIGTERM, before SIGKILL.
    pub kill_after: Duration,
    /// Until when it may run, if [`Lifeline::extend`] does not put that off.
    pub until: Option<Instant>,
    /// What it holds a lock by. It may outlive the program then, and has its standard input.
    pub connection: Option<OwnedFd>,
}

/// What has come to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The command.
    Command(ExitStatus),
    /// The guard, before the command.
    Guard,
}

impl Job {
    /// Starts a command with these variables in its environment, when its guard is there.
    ///
    /// # Errors
    ///
    /// The system's, and where there is no command; [`io::ErrorKind::TimedOut`] where it may not
    /// run any more by the time that its guard is there.
    pub async fn start(
        command: &[String],
        variables: &[(&str, String)],
        guarding: Guarding,
    ) -> io::Result<(Self, Lifeline)> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let Guarding { kill_after, until, .. } = guarding;
        let has_input = guarding.connection.is_some();
        let own_group = !has_input || !io::stdin().is_terminal();
        let (mut guard, mut lifeline) = start_guard(guarding, own_group).await?;
        let group = guard.id().and_then(|id| Pid::from_raw(id.cast_signed())).filter(|_| own_group);
        let mut builder = Command::new(program);
        builder.args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
        if let Some(group) = group {
            builder.process_group(group.as_raw_nonzero().get());
        }
        if !has_input {
            builder.stdin(Stdio::null());
        }
        let is_late = until.is_some_and(|until| Instant::now() >= until);
        let spawned = if is_late { Err(io::ErrorKind::TimedOut.into()) } else { builder.spawn() };
        let child = match spawned {
            Ok(child) => child,
            Err(why) => {
                let _ = guard.kill().await;
                return Err(why);
            }
        };
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pid = pid.ok_or(io::ErrorKind::NotFound)?;
        lifeline.tell(format!("pid {}\n", pid.as_raw_nonzero())).await;
        Ok((Self { child, pid, guard, group, kill_after }, lifeline))
    }

    /// Waits for the end of the command, or of its guard, and passes signals on.
    ///
    /// # Errors
    ///
    /// The system's.
    pub async fn ended(&mut self, signals: &mut Signals) -> io::Result<Ended> {
        loop {
            tokio::select! {
                biased;
                status = self.child.wait() => return status.map(Ended::Command),
                _ = self.guard.wait() => return Ok(Ended::Guard),
                signal = signals.next() => self.pass_on(signal),
            }
        }
    }

    /// Stops the command: by SIGTERM, and then by SIGKILL. What it has left behind in its process
    /// group is killed too.
    ///
    /// # Errors
    ///
    /// The system's.
    pub async fn stop(mut self, signals: &mut Signals) -> io::Result<()> {
        self.signal(Signal::TERM);
        let kill_at = Instant::now() + self.kill_after;
        let ended = loop {
            tokio::select! {
                status = self.child.wait() => break status.map(|_| true)?,
                () = sleep_until(kill_at) => break false,
                signal = signals.next() => self.pass_on(signal),
            }
        };
        self.signal(Signal::KILL);
        if !ended {
            self.child.wait().await?;
        }
        self.dismiss().await;
        Ok(())
    }

    /// The command has ended, and needs no guard any more.
    pub async fn dismiss(mut self) {
        let _ = self.guard.kill().await;
    }

    fn pass_on(&self, signal: Signal) {
        let by_terminal = signal == Signal::INT || signal == Signal::QUIT;
        if self.group.is_some() || !by_terminal {
            self.signal(signal);
        }
    }

    fn signal(&self, signal: Signal) {
        // What has ended by itself needs no signal.
        let _ = match self.group {
            Some(group) => kill_process_group(group, signal),
            None if self.child.id().is_some() => kill_process(self.pid, signal),
            None => Ok(()),
        };
    }
}

/// Starts the guard, and waits until it is ready.
async fn start_guard(guarding: Guarding, own_group: bool) -> io::Result<(Child, Lifeline)> {
    let (here, there) = StdUnixStream::pair()?;
    here.set_nonblocking(true)?;
    let mut builder = Command::new(std::env::current_exe()?);
    builder.args(["guard", "--kill-after-ms", &guarding.kill_after.as_millis().to_string()]);
    if let Some(until) = guarding.until {
        builder.args(["--until-ms", &ms(until).to_string()]);
    }
    if !own_group {
        builder.arg("--elsewhere");
    }
    match guarding.connection {
        Some(connection) => builder.arg("--connection").stdout(connection),
        None => builder.stdout(Stdio::null()),
    };
    let mut guard = builder.stdin(OwnedFd::from(there)).process_group(0).spawn()?;
    drop(builder);
    let (input, output) = UnixStream::from_std(here)?.into_split();
    let mut line = String::new();
    BufReader::new(input).read_line(&mut line).await?;
    if line != "ready\n" {
        let _ = guard.kill().await;
        return Err(io::Error::other("the process that is to guard it does not start"));
    }
    Ok((guard, Lifeline(output)))
}

/// How a command ended, as a shell tells it.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
