use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use service_lib::arguments::{group_name, seconds};
use service_lib::{ListenAddress, Start};

const ABOUT: &str = "\
A replicated key-value store that speaks the Redis protocol.

Without a subcommand, kv runs three replicas in this one process, to try it without any setup.
`kv serve` runs a single replica, as one process of a group.

A reply to a write means that a majority of the voters has it. A read sees every write that was
acknowledged before it, at any replica. Keys expire by the time of the replicated log, at the
same point for all replicas.";

const ABOUT_SERVE: &str = "\
Runs one replica until Ctrl-C or SIGTERM.

A new group forms once all replicas listed in --voters are running; then it serves clients as
long as a majority of them is running. Prints `replica ID: ADDRESS` on stdout once it accepts
clients, and logs on stderr.";

const EXAMPLES: &str = "\
Examples:
  Run three replicas on 127.0.0.1:7001, 7002 and 7003, and use them from another terminal:
      kv
      redis-cli -p 7001 SET greeting hello EX 60
      redis-cli -p 7003 GET greeting

  Run a group of three processes on this host (see `kv serve --help`):
      kv serve --id 1 --voters 1,2,3 --listen 127.0.0.1:7001 --engine embedded
      kv serve --id 2 --voters 1,2,3 --listen 127.0.0.1:7002 --engine embedded
      kv serve --id 3 --voters 1,2,3 --listen 127.0.0.1:7003 --engine embedded

  Ask a replica for its status, and change the voters:
      kv status --at 127.0.0.1:7001
      kv members --at 127.0.0.1:7001
      kv members add 4 --at 127.0.0.1:7001

Environment:
  RUST_LOG       What to log on stderr, e.g. RUST_LOG=debug
                 [default: info for `kv serve`, otherwise warn]
  PLAINSONG_AT   Default of --at

Exit status:
  0    success, or stopped by Ctrl-C or SIGTERM
  1    cannot start, or the operator did not confirm
  2    invalid command line
  64   operator subcommands: --at is missing, or options contradict each other
  69   operator subcommands: no replica answers, or the replica rejected the request
  75   `kv members --wait-safe` timed out
  130  stopped by a second Ctrl-C or SIGTERM while stopping";

const EXAMPLES_SERVE: &str = "\
Examples:
  Three processes on one host, with data in memory. Run each command in a terminal of its own:
      kv serve --id 1 --voters 1,2,3 --listen 127.0.0.1:7001 --engine embedded
      kv serve --id 2 --voters 1,2,3 --listen 127.0.0.1:7002 --engine embedded
      kv serve --id 3 --voters 1,2,3 --listen 127.0.0.1:7003 --engine embedded

  The same with data on disk, which survives restarts and power failures. Each replica needs a
  directory of its own:
      kv serve --id 1 --voters 1,2,3 --listen 127.0.0.1:7001 --engine embedded \\
          --durability disk --data-dir ./kv1

  A fourth replica for that group. It follows as a learner until it is added as a voter:
      kv serve --id 4 --listen 127.0.0.1:7004 --engine embedded
      kv members add 4 --at 127.0.0.1:7001

  One of several hosts, with Corosync, TLS, a password and a memory limit:
      kv serve --id 1 --voters 1,2,3 --engine corosync --durability disk \\
          --data-dir /var/lib/kv/1 --listen 10.0.0.1:7001 --socket /run/kv/kv.sock \\
          --requirepass-file /etc/kv/password --tls-cert /etc/kv/cert.pem \\
          --tls-key /etc/kv/key.pem --maxmemory 2gb
      redis-cli --tls -a PASSWORD -h 10.0.0.1 -p 7001";

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
    #[command(long_about = ABOUT_SERVE, after_help = EXAMPLES_SERVE)]
    Serve(Box<Serve>),
    #[command(flatten)]
    Operate(service_lib::operator::Operate),
}

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// First of three consecutive ports on 127.0.0.1. 0 picks free ports.
    #[arg(long, value_name = "PORT", default_value_t = 7001)]
    pub(super) port: u16,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    pub(super) start: Start,
    /// Address for clients: HOST:PORT, or *:PORT for all addresses of this host.
    ///
    /// Port 0 picks a free port. An address that other hosts can reach requires --requirepass-file,
    /// --tls-client-ca or --allow-remote.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7001")]
    pub(super) listen: ListenAddress,
    /// Also listens on this Unix socket (mode 0600), without password and TLS.
    ///
    /// Operator requests that change the group are accepted here only. Without this option kv
    /// creates a socket in the private directory of its user, which the operator subcommands find
    /// by themselves.
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    #[command(flatten)]
    pub(super) guard: Guard,
    /// Memory limit: rejects commands that could make the store larger while its keys and values
    /// take more than this.
    ///
    /// A number of bytes, or a number with the unit k, m or g (powers of 1000) or kb, mb or gb
    /// (powers of 1024). 0 means no limit. No keys are evicted. Each replica applies its own limit
    /// to its own clients, so use the same at all replicas.
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = memory)]
    pub(super) maxmemory: u64,
    /// Name of the group: 1 to 120 printable ASCII characters.
    ///
    /// Replicas with the same name on the same transport form one group.
    #[arg(long, value_name = "NAME", default_value = "kv", value_parser = group_name)]
    pub(super) group: String,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Options that restrict who may connect to the TCP port.
#[derive(Clone, Debug, Args)]
pub(super) struct Guard {
    /// Requires a password from clients on the TCP port (`AUTH`): the first line of this file.
    ///
    /// The file is read once, at the start.
    #[arg(long, value_name = "FILE")]
    pub(super) requirepass_file: Option<PathBuf>,
    /// Encrypts the TCP port with TLS 1.2 or 1.3.
    ///
    /// The file contains the server's certificate in PEM, followed by its intermediate
    /// certificates.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(super) tls_cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_key: Option<PathBuf>,
    /// Accepts only clients with a certificate of one of these certification authorities, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_client_ca: Option<PathBuf>,
    /// Allows --listen with an address that other hosts can reach, without a password or client
    /// certificates.
    ///
    /// Anyone who can reach the address may read and write everything.
    #[arg(long)]
    pub(super) allow_remote: bool,
}

/// Parses `--maxmemory`, with the units of Redis: k is 1,000 and kb is 1,024.
fn memory(text: &str) -> Result<u64, String> {
    let small = text.to_ascii_lowercase();
    let digits = small.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &small[digits.len()..] {
        "" | "b" => 1,
        "k" => 1_000,
        "kb" => 1 << 10,
        "m" => 1_000_000,
        "mb" => 1 << 20,
        "g" => 1_000_000_000,
        "gb" => 1 << 30,
        _ => 0_u64,
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    bytes
        .filter(|_| unit > 0)
        .ok_or_else(|| "give a number of bytes, like 1000000, 512mb or 2gb".into())
}

#[derive(Clone, Debug, Args)]
pub(super) struct Common {
    /// Maximum time that a client waits for a command, in seconds from 0.001 to 86400.
    ///
    /// After that the client gets an error, which says whether the command may still take effect.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(super) timeout: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn memory_has_the_units_of_redis() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("1000", Some(1000)),
            ("10k", Some(10_000)),
            ("10KB", Some(10_240)),
            ("2mb", Some(2 << 20)),
            ("3g", Some(3_000_000_000)),
            ("3Gb", Some(3 << 30)),
            ("", None),
            ("mb", None),
            ("-1", None),
            ("1tb", None),
            ("99999999999gb", None),
        ] {
            assert_eq!(memory(text).ok(), bytes, "{text}");
        }
    }

    #[test]
    fn the_command_line_definition_is_valid() {
        Arguments::command().debug_assert();
    }
}
