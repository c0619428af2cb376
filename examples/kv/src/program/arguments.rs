use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use service_lib::arguments::{group_name, seconds};
use service_lib::{ListenAddress, Start};

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

  kv serve --id 1 --voters 1,2,3 --listen 127.0.0.1:7001 --engine embedded
  kv serve --id 2 --voters 1,2,3 --listen 127.0.0.1:7002 --engine embedded
  kv serve --id 3 --voters 1,2,3 --listen 127.0.0.1:7003 --engine embedded
      a group of three processes on one host; with --data-dir DIR, a different one for each,
      it comes back with everything after all were stopped

  kv serve --id 1 --voters 1,2,3 --engine corosync --data-dir /var/lib/kv --listen 10.0.0.1:7001 \
      --socket /run/kv/kv.sock --requirepass-file /etc/kv/password --maxmemory 2gb \
      --tls-cert /etc/kv/cert.pem --tls-key /etc/kv/key.pem
      a node of a cluster, for clients of other hosts: redis-cli --tls -a PASSWORD -h 10.0.0.1

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
    Serve(Box<Serve>),
    #[command(flatten)]
    Operate(service_lib::operator::Operate),
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
    /// Where to serve clients: HOST:PORT, or *:PORT for all addresses of this host; port 0 takes
    /// any that is free. An address that other hosts reach needs --requirepass-file, --tls-client-ca or --allow-remote.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7001")]
    pub(super) listen: ListenAddress,
    /// Serves clients of this host at a Unix socket, too, made for its owner only. They need
    /// neither password nor TLS: the place for operators (`kv status --at PATH`).
    #[arg(long, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    #[command(flatten)]
    pub(super) guard: Guard,
    /// Refuses what could make the store larger while it holds more than this: bytes, or a
    /// number with k, kb, m, mb, g or gb behind it, as in Redis. 0 is no limit. Nothing is
    /// evicted. Each replica has its own limit, for what its clients write.
    #[arg(long, value_name = "BYTES", default_value = "0", value_parser = memory)]
    pub(super) maxmemory: u64,
    /// The name of the group: 1 to 120 printable ASCII characters.
    #[arg(long, value_name = "NAME", default_value = "kv", value_parser = group_name)]
    pub(super) group: String,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Who is served at the port.
#[derive(Clone, Debug, Args)]
pub(super) struct Guard {
    /// Clients at the port have to say the password that is the first line of this file
    /// (`AUTH`).
    #[arg(long, value_name = "FILE")]
    pub(super) requirepass_file: Option<PathBuf>,
    /// Encrypts the port with TLS: the certificate in PEM, and those it hangs on behind it.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(super) tls_cert: Option<PathBuf>,
    /// The key of the certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_key: Option<PathBuf>,
    /// Serves only clients with a certificate of one of these authorities, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(super) tls_client_ca: Option<PathBuf>,
    /// Lets --listen be an address that other hosts reach though neither password nor
    /// certificate is asked for: whoever reaches it may read and write everything.
    #[arg(long)]
    pub(super) allow_remote: bool,
}

/// Reads `--maxmemory`, by the units of Redis: k is 1,000 and kb is 1,024.
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
    bytes.filter(|_| unit > 0).ok_or_else(|| "give bytes, like 1000000, 512mb or 2gb".into())
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
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
