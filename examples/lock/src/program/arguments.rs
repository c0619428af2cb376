use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand};
use service_lib::arguments::{group_name, seconds};
use service_lib::operator::At;
use service_lib::{GuardArguments, ListenAddress, Start};

use crate::Name;
use crate::limits::WAIT_MS_MAX;

/// With the rest of what a lost lock lingers, less than an hour.
const KILL_AFTER_SECONDS_MAX: u64 = 3000;

const ABOUT: &str = "\
A replicated lock service: flock(1) for several processes and hosts.

`lock serve` is a replica, which serves clients; three of them go on when any one dies.
`lock run` holds a lock while a command runs, and stops the command if the lock is lost.

Every grant has a fencing token, higher than all before it. What the command writes to should
refuse a token lower than the highest that it has seen: then not even a command that hangs on
after its lock was lost does harm. The command finds the token in LOCK_TOKEN, and the name of
the lock in LOCK_NAME.";

const EXAMPLES: &str = "\
Examples:
  lock serve --id 1 --voters 1,2,3 --engine embedded:$XDG_RUNTIME_DIR/lock.ring --socket $XDG_RUNTIME_DIR/lock1.sock
  lock serve --id 2 --voters 1,2,3 --engine embedded:$XDG_RUNTIME_DIR/lock.ring --socket $XDG_RUNTIME_DIR/lock2.sock
  lock serve --id 3 --voters 1,2,3 --engine embedded:$XDG_RUNTIME_DIR/lock.ring --socket $XDG_RUNTIME_DIR/lock3.sock
      a group of three processes on one host

  export PLAINSONG_AT=$XDG_RUNTIME_DIR/lock1.sock,$XDG_RUNTIME_DIR/lock2.sock,$XDG_RUNTIME_DIR/lock3.sock
  lock run backup -- sh -c 'echo \"I have the lock, with token $LOCK_TOKEN\"; sleep 60'
  lock run --shared --timeout 5 backup -- cat report
  lock try backup || echo taken
  lock ls
  lock break backup
  lock status
      any server of the group will do; --at says the same as PLAINSONG_AT

  redis-cli -s $XDG_RUNTIME_DIR/lock1.sock
      by hand: LOCK backup, LIST, UNLOCK backup, USAGE

Exit status: of `run` and `try` that of the command, 128 + N if signal N ended it; 1 if the
lock is not to be had (--conflict-exit-code); 75 if the lock was lost; 69 if no server
answers, or the command is not there; 64 if the command line is wrong; 71 if the system fails.
RUST_LOG chooses what `serve` logs on stderr, e.g. RUST_LOG=debug.";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "lock",
    version,
    about = "A replicated lock service: flock(1) for several processes and hosts",
    long_about = ABOUT,
    after_help = EXAMPLES
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) action: Action,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Runs one replica until Ctrl-C or SIGTERM.
    Serve(Serve),
    /// Runs a command under a lock, which it waits for.
    Run(Run),
    /// Runs a command under a lock if it is free; without a command, tells whether it is.
    Try(Try),
    /// Lists the locks that are held or waited for.
    Ls(Ls),
    /// Takes a lock from whoever holds it. Exit status 1 if nobody does.
    Break(Break),
    #[command(flatten)]
    Operate(service_lib::operator::Operate),
    /// Stops a command when the process that started it cannot.
    #[command(hide = true)]
    Guard(GuardArguments),
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("where").args(["socket", "listen"]).required(true).multiple(true)))]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) start: Start,
    /// The name of the group: 1 to 120 printable ASCII characters.
    #[arg(long, value_name = "NAME", default_value = "lock", value_parser = group_name)]
    pub(super) group: String,
    /// Serves clients of this host at a Unix socket, made for its owner only.
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// Serves clients at a TCP port; port 0 takes any that is free.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) listen: Option<ListenAddress>,
    /// Lets --listen be an address that other hosts reach. There are no passwords: whoever
    /// reaches it may lock, and break locks.
    #[arg(long, requires = "listen")]
    pub(super) allow_remote: bool,
    /// How long a client waits for a command to be committed before it is told that there
    /// is no answer, in seconds. The wait for a lock does not count.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(super) timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// How long to wait for the lock, in seconds: 0 is not at all, and 2592000 (30 days) the most.
    /// Without it, for as long as it takes.
    #[arg(short = 'w', long, value_name = "SECONDS", value_parser = wait)]
    pub(super) timeout: Option<Duration>,
    #[command(flatten)]
    pub(super) common: Common,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Try {
    #[command(flatten)]
    pub(super) common: Common,
    /// The command and its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Common {
    /// The lock: 1 to 200 printable ASCII characters without spaces.
    pub(super) name: Name,
    /// Together with others that share the lock.
    #[arg(short = 's', long)]
    pub(super) shared: bool,
    /// How long the command has to stop after SIGTERM, if the lock is lost, before SIGKILL,
    /// in seconds, up to 3000. Nobody else gets the lock meanwhile.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = kill_after)]
    pub(super) kill_after: Duration,
    /// Holds the lock for so many seconds at a time, from 3 to 86400, and renews that three times
    /// as often:
    /// then it is free after this time whatever happens to the network between here and the
    /// server. Without it the lock is held as long as the connection.
    #[arg(long, value_name = "SECONDS", value_parser = lease)]
    pub(super) lease: Option<Duration>,
    /// The exit status if the lock is not to be had.
    #[arg(short = 'E', long, value_name = "NUMBER", default_value_t = 1)]
    pub(super) conflict_exit_code: u8,
    #[command(flatten)]
    pub(super) at: At,
}

#[derive(Debug, Args)]
pub(super) struct Ls {
    #[command(flatten)]
    pub(super) at: At,
}

#[derive(Debug, Args)]
pub(super) struct Break {
    /// The lock.
    pub(super) name: Name,
    /// Gives the lock to the next at once, without waiting for the commands of its holders
    /// to stop. For holders that are certainly dead.
    #[arg(long)]
    pub(super) now: bool,
    #[command(flatten)]
    pub(super) at: At,
}

fn wait(text: &str) -> Result<Duration, String> {
    or_zero(text, WAIT_MS_MAX / 1000)
}

fn kill_after(text: &str) -> Result<Duration, String> {
    or_zero(text, KILL_AFTER_SECONDS_MAX)
}

fn or_zero(text: &str, max: u64) -> Result<Duration, String> {
    if text == "0" { Ok(Duration::ZERO) } else { within(text, 0.001, max as f64) }
}

fn lease(text: &str) -> Result<Duration, String> {
    within(text, 3.0, 86_400.0)
}

fn within(text: &str, min: f64, max: f64) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| (min..=max).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("give seconds from {min} to {max}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
