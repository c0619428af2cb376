use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand};
use service_lib::arguments::{group_name, seconds};
use service_lib::operator::At;
use service_lib::{GuardArguments, ListenAddress, Start};

use crate::Name;
use crate::limits::WAIT_MS_MAX;

/// Maximum of `--kill-after`. Together with the other parts of the linger time it stays below
/// [`LINGER_MS_MAX`](crate::limits::LINGER_MS_MAX).
const KILL_AFTER_SECONDS_MAX: u64 = 3000;

const ABOUT: &str = "\
A replicated lock service: flock(1) for several processes and hosts.

`lock serve` runs a server. A group of three servers keeps working when one of them dies.
`lock run` holds a lock while a command runs, and stops the command if the lock is lost.

The command gets these environment variables:
  LOCK_TOKEN  fencing token: higher than the token of every lock granted before
  LOCK_NAME   the name of the lock

Storage that the command writes to should reject a token lower than the highest one it has seen.
Then even a command that keeps running after its lock was lost does no harm.";

const EXAMPLES: &str = "\
Examples:
  lock serve --id 1 --voters 1,2,3 --engine embedded:$XDG_RUNTIME_DIR/lock.ring --socket $XDG_RUNTIME_DIR/lock1.sock
  lock serve --id 2 --voters 1,2,3 --engine embedded:$XDG_RUNTIME_DIR/lock.ring --socket $XDG_RUNTIME_DIR/lock2.sock
  lock serve --id 3 --voters 1,2,3 --engine embedded:$XDG_RUNTIME_DIR/lock.ring --socket $XDG_RUNTIME_DIR/lock3.sock
      Starts a group of three servers on one host.

  export PLAINSONG_AT=$XDG_RUNTIME_DIR/lock1.sock,$XDG_RUNTIME_DIR/lock2.sock,$XDG_RUNTIME_DIR/lock3.sock
      Tells the commands below where the servers are; they try the addresses in order. --at does
      the same for one command.
  lock run backup -- sh -c 'echo \"I have the lock, with token $LOCK_TOKEN\"; sleep 60'
      Waits for the lock `backup`, then runs the command.
  lock run --shared --timeout 5 backup -- cat report
      Shares the lock with others, and waits at most 5 seconds for it.
  lock try backup || echo taken
      Tests whether the lock is free.
  lock ls
      Lists the locks that are held or waited for.
  lock break backup
      Takes the lock from its holders and stops their commands.
  lock status
      Shows the state of the server that answers.

  redis-cli -s $XDG_RUNTIME_DIR/lock1.sock
      Speaks to a server directly: LOCK backup, LIST, UNLOCK backup, USAGE.

Exit status:
  `run` and `try` exit with the status of the command, or with 128 + N if signal N ended it.
  Otherwise:
  1   the lock is taken (see --conflict-exit-code), or the request failed
  64  wrong arguments
  69  no server answered, a server rejected the request, or the command could not be started
  71  an operating system error
  75  the lock was lost while the command ran, so the command was stopped

Environment:
  PLAINSONG_AT  default of --at: addresses of servers, separated by commas
  RUST_LOG      log level of `serve` on stderr, for example RUST_LOG=debug (default: info)";

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
    /// Runs a server: one replica of the lock service, until Ctrl-C or SIGTERM.
    Serve(Serve),
    /// Waits for a lock, then runs a command while holding it.
    Run(Run),
    /// Runs a command while holding a lock, if the lock is free. Without a command, tests whether
    /// the lock is free.
    Try(Try),
    /// Lists the locks that are held or waited for.
    Ls(Ls),
    /// Takes a lock from its holders, whose commands are stopped. Exits with 1 if it has no holder.
    Break(Break),
    #[command(flatten)]
    Operate(service_lib::operator::Operate),
    /// Stops a command if the process that started it no longer can. Used internally.
    #[command(hide = true)]
    Guard(GuardArguments),
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("where").args(["socket", "listen"]).required(true).multiple(true)))]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) start: Start,
    /// Name of the group: 1 to 120 printable ASCII characters, the same for all servers.
    #[arg(long, value_name = "NAME", default_value = "lock", value_parser = group_name)]
    pub(super) group: String,
    /// Unix socket to serve clients and operators of this host at. Only its owner and root may use
    /// it.
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// TCP address to serve clients at, for example 127.0.0.1:7001. Port 0 picks a free port.
    /// Operator commands that change something, such as `break`, are accepted at the socket only;
    /// without --socket, a private one is created, which commands on this host find by themselves.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) listen: Option<ListenAddress>,
    /// Allows an address for --listen that other hosts can reach. There is no authentication:
    /// anyone who can connect may take and hold locks. Do not expose it to untrusted networks.
    #[arg(long, requires = "listen")]
    pub(super) allow_remote: bool,
    /// Time in seconds that the group has to commit a request before the client gets an error. The
    /// wait for a lock does not count.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(super) timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Maximum time in seconds to wait for the lock, from 0 (do not wait) to 2592000 (30 days).
    /// Default: no limit.
    #[arg(short = 'w', long, value_name = "SECONDS", value_parser = wait)]
    pub(super) timeout: Option<Duration>,
    #[command(flatten)]
    pub(super) common: Common,
    /// The command and its arguments, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Try {
    #[command(flatten)]
    pub(super) common: Common,
    /// The command and its arguments, after `--`.
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct Common {
    /// Name of the lock: 1 to 200 printable ASCII characters without spaces.
    pub(super) name: Name,
    /// Shares the lock with other --shared holders. Default: exclusive.
    #[arg(short = 's', long)]
    pub(super) shared: bool,
    /// If the lock is lost: time in seconds that the command has to stop after SIGTERM, before it
    /// gets SIGKILL; up to 3000. The lock is not granted to others meanwhile.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = kill_after)]
    pub(super) kill_after: Duration,
    /// Holds the lock under a lease of this many seconds, from 3 to 86400, and renews it three
    /// times per lease. If it cannot be renewed, for example because the network fails, the lock is
    /// lost when the lease expires. Default: no lease; the lock is held as long as the connection
    /// lives.
    #[arg(long, value_name = "SECONDS", value_parser = lease)]
    pub(super) lease: Option<Duration>,
    /// Exit status if the lock could not be acquired.
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
    /// Name of the lock.
    pub(super) name: Name,
    /// Releases the lock at once, without waiting for the commands of its holders to stop. Use it
    /// only if the holders are certainly dead, because commands may overlap otherwise.
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
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    within(text, 0.001, max as f64).map_err(|range| format!("{range}, or 0"))
}

fn lease(text: &str) -> Result<Duration, String> {
    within(text, 3.0, 86_400.0)
}

fn within(text: &str, min: f64, max: f64) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds: &f64| (min..=max).contains(seconds));
    seconds
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("give a number of seconds from {min} to {max}"))
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
