use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use service_lib::arguments::{group_name, seconds};
use service_lib::operator::At;
use service_lib::{GuardArguments, ListenAddress, Start};

const ABOUT: &str = "\
Runs a command at exactly one member of a group: when that member dies, is cut off or stops,
another takes over.

Each member is an `election run`, with the same group and voters. While a majority of the
voters is there, one of them runs the command. Before another begins, the command of the one
before has stopped, or had the time to (--lease and --kill-after).

The command finds a fencing token in ELECTION_TOKEN, higher than all before it. What it writes
to should refuse a token lower than the highest that it has seen: then not even a command on a
host that stood still does harm. ELECTION_GROUP and ELECTION_ID tell where it runs.";

const EXAMPLES: &str = "\
Examples:
  export PLAINSONG_AT=$XDG_RUNTIME_DIR/e1.sock,$XDG_RUNTIME_DIR/e2.sock,$XDG_RUNTIME_DIR/e3.sock
  election run reports --id 1 --voters 1,2,3 --engine embedded:$XDG_RUNTIME_DIR/reports.ring \\
      --socket $XDG_RUNTIME_DIR/e1.sock -- sh -c 'echo \"I lead, with token $ELECTION_TOKEN\"; sleep 1000'
      and the same with 2 and 3
  election status
  election resign
      any member will do; --at says the same as PLAINSONG_AT

Exit status: of `run` that of the command, 128 + N if signal N ended it, and 0 if it was asked
to stop; 69 if no member answers, or the command is not there; 64 if the command line is wrong;
71 if the system fails. RUST_LOG chooses what `run` logs on stderr, e.g. RUST_LOG=debug.";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "election",
    version,
    about = "Runs a command at exactly one member of a group",
    long_about = ABOUT,
    after_help = EXAMPLES
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) action: Action,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Is a member of a group, and runs the command while it leads.
    Run(Box<Run>),
    /// Has the leader stop its command and another take over.
    Resign(At),
    #[command(flatten)]
    Operate(service_lib::operator::Operate),
    /// Stops a command when the process that started it cannot.
    #[command(hide = true)]
    Guard(GuardArguments),
}

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The name of the group: 1 to 120 printable ASCII characters.
    #[arg(value_parser = group_name)]
    pub(super) group: String,
    #[command(flatten)]
    pub(super) start: Start,
    /// Answers operators of this host at a Unix socket, made for its owner only.
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// Answers operators at a TCP port.
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) listen: Option<ListenAddress>,
    /// Lets --listen be an address that other hosts reach. There are no passwords: whoever
    /// reaches it may have the leader resign.
    #[arg(long, requires = "listen")]
    pub(super) allow_remote: bool,
    /// When there is no leader, the first of the highest priority is elected.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_hyphen_values = true)]
    pub(super) priority: i32,
    /// A leader that has not heard from the group for so many seconds stops its command.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub(super) lease: Duration,
    /// How long the command has to stop after SIGTERM, before SIGKILL, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub(super) kill_after: Duration,
    /// The command and its arguments.
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
