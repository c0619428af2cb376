use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until};

use crate::Signals;

/// A command while it runs.
#[derive(Debug)]
pub struct Job {
    child: Child,
    pid: Pid,
    /// It has a process group of its own, which gets the signals. At a terminal it has not,
    /// or it could not use it; then the terminal signals it by itself.
    own_group: bool,
}

impl Job {
    /// Starts a command with these variables in its environment.
    ///
    /// # Errors
    ///
    /// The system's, and where there is no command.
    pub fn start(command: &[String], variables: &[(&str, String)]) -> io::Result<Self> {
        let (program, arguments) = command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let own_group = !io::stdin().is_terminal();
        let mut builder = Command::new(program);
        builder.args(arguments).envs(variables.iter().map(|(name, value)| (name, value)));
        if own_group {
            builder.process_group(0);
        }
        let child = builder.spawn()?;
        let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
        let pid = pid.ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { child, pid, own_group })
    }

    /// Waits for the end of the command, and passes signals on.
    ///
    /// # Errors
    ///
    /// The system's.
    pub async fn ended(&mut self, signals: &mut Signals) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                status = self.child.wait() => return status,
                signal = signals.next() => {
                    let by_terminal = signal == Signal::INT || signal == Signal::QUIT;
                    if self.own_group || !by_terminal {
                        self.signal(signal);
                    }
                }
            }
        }
    }

    /// Stops the command: by SIGTERM, and then by SIGKILL.
    ///
    /// # Errors
    ///
    /// The system's.
    pub async fn stop(&mut self, kill_after: Duration, signals: &mut Signals) -> io::Result<()> {
        self.signal(Signal::TERM);
        let kill_at = Instant::now() + kill_after;
        let ended = tokio::select! {
            status = self.ended(signals) => status.map(|_| true)?,
            () = sleep_until(kill_at) => false,
        };
        // What the command has left behind in its group had its time too.
        self.signal(Signal::KILL);
        if !ended {
            self.child.wait().await?;
        }
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        // What has ended by itself needs no signal.
        let _ = if self.own_group {
            kill_process_group(self.pid, signal)
        } else if self.child.id().is_some() {
            kill_process(self.pid, signal)
        } else {
            Ok(())
        };
    }
}

/// How a command ended, as a shell tells it.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
