use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use service_lib::arguments::{group_name, seconds};
use service_lib::operator::At;
use service_lib::{GuardArguments, ListenAddress, Start};

const ABOUT: &str = "\
Runs a command on exactly one member of a group. If that member dies, loses the network or is
stopped, another member takes over.

Start `election run` on each member, with the same GROUP and --voters. While a majority of the
voters is running, one member runs the command. A new leader starts the command only after the
former leader's command has stopped, or has had enough time to stop (see --lease and
--kill-after).

The command gets these environment variables:
  ELECTION_TOKEN  fencing token: higher than the token of every command started before
  ELECTION_GROUP  the name of the group
  ELECTION_ID     the id of the member that runs the command

Storage that the command writes to should reject a token lower than the highest one it has seen.
Then even a command on a host that was suspended and resumed does no harm.";

const EXAMPLES: &str = "\
Examples:
  export PLAINSONG_AT=$XDG_RUNTIME_DIR/e1.sock,$XDG_RUNTIME_DIR/e2.sock,$XDG_RUNTIME_DIR/e3.sock
  election run reports --id 1 --voters 1,2,3 --engine embedded:$XDG_RUNTIME_DIR/reports.ring \\
      --socket $XDG_RUNTIME_DIR/e1.sock -- sh -c 'echo \"I lead, with token $ELECTION_TOKEN\"; sleep 1000'
      Starts member 1. Start members 2 and 3 the same way, each with its own --id and --socket.
  election status
      Shows the leader, the candidates and the state of the member that answers.
  election resign
      Stops the leader's command and lets another member take over.
  election members
      Lists the members and voters; `election members --help` shows how to change them.
  The last three commands may ask any member: they try the addresses in PLAINSONG_AT, or --at, in
  order.

Exit status:
  `run` exits with the status of the command, with 128 + N if signal N ended the command, or with 0
  if `run` was asked to stop. Otherwise:
  1   the request failed; the message says why
  64  wrong arguments
  69  no member answered, a member rejected the request, or the command could not be started
  71  an operating system error, or the guard process of the command was killed

Environment:
  PLAINSONG_AT  default of --at: addresses of members, separated by commas
  RUST_LOG      log level of `run` on stderr, for example RUST_LOG=debug (default: info)";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "election",
    version,
    about = "Runs a command on exactly one member of a group",
    long_about = ABOUT,
    after_help = EXAMPLES
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) action: Action,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Runs a member of a group, which runs the command while it is the leader.
    Run(Box<Run>),
    /// Stops the leader's command and lets another member take over.
    Resign(At),
    #[command(flatten)]
    Operate(service_lib::operator::Operate),
    /// Stops a command if the process that started it no longer can. Used internally.
    #[command(hide = true)]
    Guard(GuardArguments),
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// Name of the group: 1 to 120 printable ASCII characters, the same for all members.
    #[arg(value_parser = group_name)]
    pub(super) group: String,
    #[command(flatten)]
    pub(super) start: Start,
    /// Unix socket to create for `status`, `resign` and the other operator commands on this host.
    /// Only its owner and root may use it. Without --socket and --listen, this member answers no
    /// operator commands.
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// TCP address to serve `status` and other read-only operator commands on, for example
    /// 127.0.0.1:7001. Commands that change something are accepted at the socket only; without
    /// --socket, a private one is created, which commands on this host find by themselves.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) listen: Option<ListenAddress>,
    /// Allows an address for --listen that other hosts can reach. There is no authentication: do
    /// not expose it to untrusted networks.
    #[arg(long, requires = "listen")]
    pub(super) allow_remote: bool,
    /// Priority of this member: when there is no leader, the candidate with the highest priority is
    /// elected, and among equals the one that has been a candidate for longest. May be negative.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_hyphen_values = true)]
    pub(super) priority: i32,
    /// Lease in seconds: a leader that could not reach the group for this long stops its command. A
    /// shorter lease means a faster takeover, but a busy host may lose its leadership without need.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub(super) lease: Duration,
    /// Time in seconds that the command has to stop after SIGTERM, before it gets SIGKILL.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(super) kill_after: Duration,
    /// The command and its arguments, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
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
