use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::Signals;
use crate::guard::ms;
use crate::lifeline::Lifeline;
use crate::orphans::is_own;
use crate::terminal::has_controlling_terminal;
use crate::tether::Tether;

/// This program's executable, even if its file has been replaced since the start.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// Maximum time for a signal to all processes of a service to reach every one of them.
const TOGETHER: Duration = Duration::from_millis(200);
/// Maximum time to wait for a guard's answer.
const ANSWER_BOUND: Duration = Duration::from_secs(1);
/// Number of SIGKILL rounds. One is not enough if processes keep starting others.
const KILL_ROUNDS: u32 = 40;
/// Duration of each round.
const KILL_ROUND: Duration = Duration::from_millis(50);

/// A running command and its [guard](crate::guard()). The guard is a process of this same program,
/// started with the hidden subcommand `guard`.
#[derive(Debug)]
pub struct Job {
    child: Child,
    pid: Pid,
    guard: Guard,
    /// Held open by the command and by every process that it has left behind.
    tether: Tether,
    /// The command's own process group, which receives the signals. `None` at a terminal: a command
    /// in a group of its own could not use the terminal, which signals the shared group itself.
    group: Option<Pid>,
    kill_after: Duration,
}

/// The program's end of its guard.
#[derive(Debug)]
struct Guard {
    child: Child,
    lifeline: Lifeline,
    answers: BufReader<UnixStream>,
    /// Number of questions asked so far.
    asked: u64,
}

/// Conditions under which a command may run.
#[derive(Debug)]
pub struct Guarding {
    /// Time from SIGTERM to SIGKILL.
    pub kill_after: Duration,
    /// Time until which the command may run unless [`Lifeline::extend`] extends it. `None` for no
    /// limit.
    pub until: Option<Instant>,
    /// Connection that holds the command's lock. With one, the command may outlive the program and
    /// inherits its standard input; without one, its standard input is empty.
    pub connection: Option<OwnedFd>,
    /// Time that the program has to [move](Lifeline::move_to) the lock to another connection after
    /// losing this one.
    pub move_within: Duration,
}

/// The process that ended first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The command, with its exit status.
    Command(ExitStatus),
    /// The guard, before the command.
    Guard,
}

impl Job {
    /// Starts the guard and then the command, with these variables added to its environment.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error, [`io::ErrorKind::InvalidInput`] if `command` is empty,
    /// and [`io::ErrorKind::TimedOut`] if `guarding.until` has passed before the guard was ready.
    /// The command has not been started then.
    pub async fn start(
        command: &[String],
        variables: &[(&str, String)],
        guarding: Guarding,
    ) -> io::Result<(Self, Lifeline)> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let own_group = !has_controlling_terminal();
        let mut guard = Guard::start(&guarding, own_group).await?;
        let Guarding { kill_after, until, connection, .. } = guarding;
        let (tether, held) = Tether::new()?;
        let id = guard.child.id();
        let group = id.and_then(|id| Pid::from_raw(id.cast_signed())).filter(|_| own_group);
        let mut builder = Command::new(program);
        builder.args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
        if let Some(group) = group {
            builder.process_group(group.as_raw_nonzero().get());
        }
        if connection.is_none() {
            builder.stdin(Stdio::null());
        }
        let mut spawn = || {
            guard.lifeline.send("tether", Some(tether.fd()))?;
            if let Some(connection) = &connection {
                guard.lifeline.move_to(connection.as_fd())?;
            }
            // The command inherits both, so if this process is killed, the lock is held until the
            // command ends.
            for inherited in connection.iter().chain([&held]) {
                fcntl_setfd(inherited, FdFlags::empty())?;
            }
            let is_late = until.is_some_and(|until| Instant::now() >= until);
            if is_late { Err(io::ErrorKind::TimedOut.into()) } else { builder.spawn() }
        };
        let child = match spawn() {
            Ok(child) => child,
            Err(why) => {
                let _ = guard.child.kill().await;
                return Err(why);
            }
        };
        is_own(child.id());
        drop((held, connection));
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pid = pid.ok_or(io::ErrorKind::NotFound)?;
        guard.lifeline.send(&format!("pid {}", pid.as_raw_nonzero()), None)?;
        let lifeline = guard.lifeline.clone();
        Ok((Self { child, pid, guard, tether, group, kill_after }, lifeline))
    }

    /// Waits until the command or its guard ends. Meanwhile passes signals on to the command,
    /// unless they were sent to the command as well.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub async fn ended(&mut self, signals: &mut Signals) -> io::Result<Ended> {
        loop {
            let signal = tokio::select! {
                biased;
                status = self.child.wait() => return status.map(Ended::Command),
                _ = self.guard.child.wait() => return Ok(Ended::Guard),
                signal = signals.next() => signal,
            };
            tokio::select! {
                biased;
                status = self.child.wait() => return status.map(Ended::Command),
                was_sent = self.guard.was_sent(signal) => if was_sent { continue },
            }
            self.signal(signal);
            tokio::select! {
                biased;
                status = self.child.wait() => return status.map(Ended::Command),
                () = self.guard.forget() => {}
            }
        }
    }

    /// Returns true if the command, or a process that it has left behind, is still running.
    pub fn has_left_some(&self) -> bool {
        self.tether.is_held()
    }

    /// Waits until every process that the command has left behind has ended, or the guard has.
    /// Meanwhile passes signals on.
    ///
    /// # Errors
    ///
    /// Currently none.
    pub async fn all_ended(&mut self, signals: &mut Signals) -> io::Result<()> {
        loop {
            let signal = tokio::select! {
                biased;
                () = self.tether.released() => return Ok(()),
                _ = self.guard.child.wait() => return Ok(()),
                signal = signals.next() => signal,
            };
            if !self.guard.was_sent(signal).await {
                self.signal(signal);
                self.guard.forget().await;
            }
        }
    }

    /// Stops the command and the processes that it has left behind: with SIGTERM, and with SIGKILL
    /// after `kill_after`. `because_of` is the signal that asked this program to stop. If that was
    /// a SIGTERM that the command received as well, it gets no second one; if it was another signal
    /// (Ctrl-C), the command gets half of `kill_after` to react to it before SIGTERM.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    pub async fn stop(mut self, because_of: Option<Signal>) -> io::Result<()> {
        let kill_at = Instant::now() + self.kill_after;
        // If this fails because the guard is frozen, the guard stops the command itself once it
        // continues.
        let _ = self.guard.lifeline.send(&format!("stopping {}", ms(kill_at)), None);
        let was_sent = match because_of {
            Some(signal) => self.guard.was_sent(signal).await,
            None => false,
        };
        // A command may ignore SIGINT but not SIGTERM, so SIGTERM follows later.
        let term_at = match because_of {
            Some(Signal::TERM) if was_sent => kill_at,
            Some(_) if was_sent => Instant::now() + self.kill_after / 2,
            _ => Instant::now(),
        };
        if !self.has_ended_by(term_at).await? {
            self.signal(Signal::TERM);
        }
        self.has_ended_by(kill_at).await?;
        for _ in 0..KILL_ROUNDS {
            self.signal(Signal::KILL);
            if self.has_ended_by(Instant::now() + KILL_ROUND).await? {
                break;
            }
        }
        self.child.wait().await?;
        self.dismiss().await;
        Ok(())
    }

    /// Waits until `moment`, or until the command and the processes that it has left behind have
    /// ended. Returns true if they have ended.
    async fn has_ended_by(&mut self, moment: Instant) -> io::Result<bool> {
        let ended = async {
            self.child.wait().await?;
            self.tether.released().await;
            io::Result::Ok(())
        };
        tokio::select! {
            biased;
            ended = ended => ended.map(|()| true),
            () = sleep_until(moment) => Ok(false),
        }
    }

    /// Ends the guard. Call this once the command has ended.
    pub async fn dismiss(mut self) {
        let _ = self.guard.child.kill().await;
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.id().map(|_| self.pid);
        self.tether.signal(self.group, child, signal);
    }
}

impl Guard {
    /// Starts the guard, and waits until it is ready.
    async fn start(guarding: &Guarding, own_group: bool) -> io::Result<Self> {
        let (here, there) = StdUnixStream::pair()?;
        here.set_nonblocking(true)?;
        let mut builder = Command::new(THIS_PROGRAM);
        if let Some(name) = std::env::args_os().next() {
            builder.arg0(name);
        }
        let ms_of = |duration: Duration| duration.as_millis().to_string();
        builder.args(["guard", "--kill-after-ms", &ms_of(guarding.kill_after)]);
        builder.args(["--move-within-ms", &ms_of(guarding.move_within)]);
        if let Some(until) = guarding.until {
            builder.args(["--renewed", "--until-ms", &ms(until).to_string()]);
        }
        match own_group {
            true => builder.process_group(0),
            false => builder.arg("--elsewhere"),
        };
        builder.stdin(OwnedFd::from(there)).stdout(Stdio::null());
        let child = builder.spawn()?;
        is_own(child.id());
        drop(builder);
        let answers = BufReader::new(UnixStream::from_std(here.try_clone()?)?);
        let mut guard = Self { child, lifeline: Lifeline::new(here), answers, asked: 0 };
        if guard.answer().await? != "ready" {
            let _ = guard.child.kill().await;
            return Err(io::Error::other("the guard process for the command did not start"));
        }
        Ok(guard)
    }

    async fn answer(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches('\n').to_owned())
    }

    /// Returns true if the guard has received this signal as well. Then it was sent to all
    /// processes of a service, or of a terminal's process group, and so to the command. Takes at
    /// least 200 ms, because signals to several processes do not arrive at the same instant.
    async fn was_sent(&mut self, signal: Signal) -> bool {
        sleep(TOGETHER).await;
        let heard = timeout(ANSWER_BOUND, self.heard()).await.ok().and_then(Result::ok);
        let number = signal.as_raw().to_string();
        heard.unwrap_or_default().split(' ').any(|heard| heard == number)
    }

    /// Clears the signals that the guard has received. Called after this process has signaled the
    /// command's process group: the guard is in it, and must not report that signal later as one
    /// that was sent to all.
    async fn forget(&mut self) {
        let _ = timeout(ANSWER_BOUND, self.heard()).await;
    }

    /// Returns the numbers of the signals that the guard has received since the last question,
    /// separated by spaces.
    async fn heard(&mut self) -> io::Result<String> {
        self.asked += 1;
        self.lifeline.send(&format!("heard {}", self.asked), None)?;
        let start = format!("heard {} ", self.asked);
        loop {
            // Skips late answers to earlier questions that timed out.
            if let Some(heard) = self.answer().await?.strip_prefix(&start) {
                return Ok(heard.to_owned());
            }
        }
    }
}

/// Returns a command's exit status as a shell reports it: its exit code, or 128 plus the number of
/// the signal that ended it.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
