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

/// The program itself, also when its file was replaced while it runs.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// How long a signal that is sent to all processes of a service takes to reach them, at most.
const TOGETHER: Duration = Duration::from_millis(200);
/// How long to wait for a guard's answer.
const ANSWER_BOUND: Duration = Duration::from_secs(1);
/// How often processes that go on starting others are killed, and how long each round takes.
const KILL_ROUNDS: u32 = 40;
const KILL_ROUND: Duration = Duration::from_millis(50);

/// A command while it runs, beside its [guard](crate::guard()), which is the program's own
/// subcommand `guard`.
#[derive(Debug)]
pub struct Job {
    child: Child,
    pid: Pid,
    guard: Guard,
    /// Held by the command, and by what it has left behind.
    tether: Tether,
    /// The process group that gets the signals. At a terminal it has none of its own, or it
    /// could not use the terminal, which signals it by itself.
    group: Option<Pid>,
    kill_after: Duration,
}

/// The guard, as the program sees it.
#[derive(Debug)]
struct Guard {
    child: Child,
    lifeline: Lifeline,
    answers: BufReader<UnixStream>,
    /// How many questions were asked.
    asked: u64,
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
    /// How long the program may take to [move](Lifeline::move_to) the lock to another connection
    /// when this one is lost.
    pub move_within: Duration,
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
            guard.lifeline.tell("tether", Some(tether.fd()))?;
            if let Some(connection) = &connection {
                guard.lifeline.move_to(connection.as_fd())?;
            }
            // Should this process be killed, the command keeps the lock until it ends.
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
        guard.lifeline.tell(&format!("pid {}", pid.as_raw_nonzero()), None)?;
        let lifeline = guard.lifeline.clone();
        Ok((Self { child, pid, guard, tether, group, kill_after }, lifeline))
    }

    /// Waits for the end of the command, or of its guard, and passes signals on.
    ///
    /// # Errors
    ///
    /// The system's.
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

    /// Returns whether the command has left processes behind.
    pub fn has_left_some(&self) -> bool {
        self.tether.is_held()
    }

    /// Waits for the end of what the command has left behind, or of the guard, and passes signals
    /// on.
    ///
    /// # Errors
    ///
    /// The system's.
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

    /// Stops the command and what it has left behind: by SIGTERM, and then by SIGKILL. If that is
    /// because of a signal that was sent to the command too, it gets no SIGTERM besides.
    ///
    /// # Errors
    ///
    /// The system's.
    pub async fn stop(mut self, because_of: Option<Signal>) -> io::Result<()> {
        let kill_at = Instant::now() + self.kill_after;
        // One that stands still stops the command by itself, should it go on.
        let _ = self.guard.lifeline.tell(&format!("stopping {}", ms(kill_at)), None);
        let was_sent = match because_of {
            Some(signal) => self.guard.was_sent(signal).await,
            None => false,
        };
        // Ctrl-C may be ignored where SIGTERM is not.
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

    /// Whether the command and what it has left behind have ended by then.
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

    /// The command has ended, and needs no guard any more.
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
            return Err(io::Error::other("the process that is to guard it does not start"));
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

    /// Whether a signal that came to this process came to the guard too: then it was sent to all
    /// processes of a service, or of a terminal's group, and so to the command. Takes a moment,
    /// since signals to several processes do not arrive at once.
    async fn was_sent(&mut self, signal: Signal) -> bool {
        sleep(TOGETHER).await;
        let heard = timeout(ANSWER_BOUND, self.heard()).await.ok().and_then(Result::ok);
        let number = signal.as_raw().to_string();
        heard.unwrap_or_default().split(' ').any(|heard| heard == number)
    }

    /// The guard may be in the group that was sent a signal, and is not to take it for one that
    /// was sent to all.
    async fn forget(&mut self) {
        let _ = timeout(ANSWER_BOUND, self.heard()).await;
    }

    /// The signals that came to the guard since it was asked last.
    async fn heard(&mut self) -> io::Result<String> {
        self.asked += 1;
        self.lifeline.tell(&format!("heard {}", self.asked), None)?;
        let start = format!("heard {} ", self.asked);
        loop {
            // There may be a late answer to another question.
            if let Some(heard) = self.answer().await?.strip_prefix(&start) {
                return Ok(heard.to_owned());
            }
        }
    }
}

/// How a command ended, as a shell tells it.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
