use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use service::Start;
use service::arguments::{group_name, seconds};

const ABOUT: &str = "\
A replicated key-value store that speaks the Redis protocol.

Without a command it starts three replicas in this one process and shows what they do, so
there is something to try at once. `kv serve` runs a single replica, for a group of several
processes.

Every write that is answered is committed: a majority of the voters has it. A read sees every
write that was answered before, at any replica. The time by which keys expire is the log's.";

const EXAMPLES: &str = "\
Examples:
  kv
      three replicas on 127.0.0.1:7001, 7002 and 7003
  redis-cli -p 7001 SET greeting hello EX 60
  redis-cli -p 7003 GET greeting
  redis-cli -p 7002 INFO replication
  redis-benchmark -p 7002 -t set,get -P 16 -q

  kv serve --id 1 --voters 1,2,3 --listen 127.0.0.1:7001 --engine embedded:/tmp/kv.ring
  kv serve --id 2 --voters 1,2,3 --listen 127.0.0.1:7002 --engine embedded:/tmp/kv.ring
  kv serve --id 3 --voters 1,2,3 --listen 127.0.0.1:7003 --engine embedded:/tmp/kv.ring
      a group of three processes on one host; with --data FOLDER, another folder for each,
      it comes back with everything after all were stopped

  kv status --at 127.0.0.1:7001
  kv members --at 127.0.0.1:7001
  kv members add 4 --at 127.0.0.1:7001
  kv force-new-cluster --at 127.0.0.1:7001
      how a replica is; who is there and who votes; and what to do when a majority is lost for
      good. PLAINSONG_AT in the environment says the same as --at

Exit status: 0 after Ctrl-C or SIGTERM, 1 if it cannot start, 2 if the command line is wrong;
69 if no replica answers an operator or it refuses.
RUST_LOG chooses what is logged on stderr, e.g. RUST_LOG=debug.";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "kv",
    version,
    about = "A replicated key-value store that speaks the Redis protocol",
    long_about = ABOUT,
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) action: Option<Action>,
    #[command(flatten)]
    pub(super) demo: Demo,
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Runs one replica until Ctrl-C or SIGTERM.
    #[command(after_help = EXAMPLES)]
    Serve(Serve),
    #[command(flatten)]
    Operate(service::operator::Operate),
}

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// The first of three ports in a row on 127.0.0.1; 0 takes any that are free.
    #[arg(long, value_name = "PORT", default_value_t = 7001)]
    pub(super) port: u16,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) start: Start,
    /// Where to serve clients; port 0 takes any that is free.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7001")]
    pub(super) listen: SocketAddr,
    /// The name of the group: 1 to 120 printable ASCII characters.
    #[arg(long, value_name = "NAME", default_value = "kv", value_parser = group_name)]
    pub(super) group: String,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Clone, Debug, Args)]
pub(super) struct Common {
    /// How long a client waits for a command to be committed before it is told that there
    /// is no answer, in seconds. Above 0; a fraction is fine.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(super) timeout: Duration,
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
