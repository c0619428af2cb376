//! The program `cpg`: inspects closed process groups, receives and sends, on any transport.

mod show;

use std::error::Error as _;
use std::io::{self, BufRead as _, IoSlice, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use cpg::{
    Connection, Dispatch, Error, Event, GroupName, Guarantee, Iteration, Options, Ring, Transport,
    embedded,
};

/// Time that a ring may take to form before a command gives up.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pause before a request is repeated.
const PAUSE: Duration = Duration::from_millis(5);

/// Inspects closed process groups, receives and sends messages.
///
/// A closed process group is a set of processes that receive the same messages in the same order,
/// and learn at the same position which members join and leave. Only members can send.
#[derive(Parser)]
#[command(name = "cpg", version, after_help = EXAMPLES)]
struct Arguments {
    /// Transport: `embedded:PATH` for the processes of this user that meet at the Unix socket PATH,
    /// `embedded` for those at the default path in /run, or `corosync` for the daemon of this host,
    /// which is the default if the program was built with it.
    #[arg(
        long = "engine",
        short = 'e',
        global = true,
        value_name = "ENGINE",
        env = "CPG_ENGINE",
        value_parser = transport
    )]
    transport: Option<Transport>,

    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cpg listen demo                    print all events of a group
  cpg send demo 'hello'              send a message to it
  cpg groups                         list the groups and their members
  cpg ring                           list the nodes that order messages together
  cpg -e embedded groups             list the groups of the embedded transport";

#[derive(Subcommand)]
enum Command {
    /// Lists all groups, each with its members as node:process.
    Groups,
    /// Lists the members of a group as node:process, one per line.
    Members {
        /// The group.
        #[arg(value_parser = group_name)]
        group: GroupName,
    },
    /// Joins a group and prints each event: messages, members that join and leave, new rings.
    ///
    /// Other members see this process as a member while it listens.
    Listen {
        /// The group.
        #[arg(value_parser = group_name)]
        group: GroupName,
        /// Exits after this number of messages.
        #[arg(long, short, value_name = "NUMBER")]
        count: Option<u64>,
    },
    /// Joins a group, sends messages, waits until they have been ordered, and leaves.
    Send {
        /// The group.
        #[arg(value_parser = group_name)]
        group: GroupName,
        /// Messages, one per argument. Without any, each line of standard input is a message.
        messages: Vec<String>,
    },
    /// Prints the ring: the nodes that order messages together, and the quorum if the transport has
    /// one.
    ///
    /// If the quorum service does not report the ring, joins a group of its own for a moment.
    Ring,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of the output has closed it.
        Err(Failure::Print(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprint!("cpg: {failure}");
            let mut cause = failure.source();
            while let Some(error) = cause {
                eprint!(": {error}");
                cause = error.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}

/// Reason why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no transport is given: use --engine embedded, or rebuild with the feature `corosync`")]
    NoTransport,
    #[error("cannot connect to the transport")]
    Socket(#[source] embedded::SocketError),
    #[error("cannot {0}")]
    Group(&'static str, #[source] Error),
    #[error("timed out after {PATIENCE:?} waiting for {0}")]
    Late(&'static str),
    #[error("cannot print")]
    Print(#[from] io::Error),
    #[error("cannot read standard input")]
    Read(#[source] io::Error),
}

/// For `map_err`: adds the operation that failed to an error.
fn to(what: &'static str) -> impl FnOnce(Error) -> Failure {
    move |error| Failure::Group(what, error)
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let transport =
        arguments.transport.clone().or_else(default_transport).ok_or(Failure::NoTransport)?;
    let connect = |options| {
        insist(|| transport.connect(options)).map_err(|error| match transport.check() {
            Err(why) => Failure::Socket(why),
            Ok(()) => Failure::Group("connect to the transport", error),
        })
    };
    match &arguments.command {
        Command::Groups => {
            let connection = connect(Options::default())?;
            let rows = insist(|| connection.groups(&Iteration::All));
            show::groups(rows.map_err(to("list the groups"))?)?;
        }
        Command::Members { group } => {
            let connection = connect(Options::default())?;
            let members = insist(|| connection.members(group)).map_err(to("list the members"))?;
            show::members(&members)?;
        }
        Command::Listen { group, count } => {
            listen(&connect(Options { initial_ring: true })?, group, *count)?;
        }
        Command::Send { group, messages } => {
            let connection = connect(Options::default())?;
            join(&connection, group)?;
            send(&connection, messages)?;
            connection.leave().map_err(to("leave the group"))?;
        }
        Command::Ring => ring(&connect(Options { initial_ring: true })?)?,
    }
    Ok(())
}

fn transport(text: &str) -> Result<Transport, String> {
    text.parse().map_err(|error| match error {
        cpg::ParseTransportError::NoCorosync => {
            format!("{error}: cargo build --release -p cpg-rs-bindings --features cli,corosync")
        }
        error => error.to_string(),
    })
}

fn group_name(text: &str) -> Result<GroupName, String> {
    text.parse().map_err(|_| {
        format!("a group name has 1 to {} printable ASCII characters", GroupName::LENGTH_MAX)
    })
}

/// Returns the daemon of this host if this program was built with Corosync support.
fn default_transport() -> Option<Transport> {
    "corosync".parse().ok()
}

/// Repeats a call while its error is retryable, up to [`PATIENCE`].
fn insist<T>(mut call: impl FnMut() -> cpg::Result<T>) -> cpg::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match call() {
            Err(error) if error.is_retryable() && Instant::now() < deadline => {
                std::thread::sleep(PAUSE);
            }
            outcome => return outcome,
        }
    }
}

fn join(connection: &Connection, group: &GroupName) -> Result<(), Failure> {
    insist(|| connection.join(group)).map_err(to("join the group"))
}

fn listen(connection: &Connection, group: &GroupName, count: Option<u64>) -> Result<(), Failure> {
    join(connection, group)?;
    let (mut received, mut printed) = (0, Ok(()));
    while printed.is_ok() && count.is_none_or(|count| received < count) {
        let dispatched = connection.dispatch(Dispatch::One, |event| {
            received += u64::from(matches!(event, Event::Deliver { .. }));
            printed = show::event(&event, connection.local_member());
        });
        dispatched.map_err(to("listen"))?;
    }
    Ok(printed?)
}

fn send(connection: &Connection, messages: &[String]) -> Result<(), Failure> {
    let (mut sent, mut received) = (0_u64, 0);
    if messages.is_empty() {
        for line in io::stdin().lock().split(b'\n') {
            send_one(connection, &line.map_err(Failure::Read)?, &mut received)?;
            sent += 1;
        }
    }
    for message in messages {
        send_one(connection, message.as_bytes(), &mut received)?;
        sent += 1;
    }
    let deadline = Instant::now() + PATIENCE;
    while received < sent {
        if Instant::now() > deadline {
            return Err(Failure::Late("the sent messages"));
        }
        connection.wait(Some(PAUSE)).map_err(to("receive the sent messages"))?;
        count_own(connection, &mut received)?;
    }
    Ok(())
}

/// Sends one message, and counts those that come back meanwhile.
fn send_one(connection: &Connection, message: &[u8], received: &mut u64) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        count_own(connection, received)?;
        match connection.multicast(Guarantee::Agreed, &[IoSlice::new(message)]) {
            Err(Error::TryAgain) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            outcome => return outcome.map_err(to("send")),
        }
    }
}

/// Counts this process's messages that have been ordered.
fn count_own(connection: &Connection, received: &mut u64) -> Result<(), Failure> {
    let me = connection.local_member();
    let own = |event: &Event| matches!(event, Event::Deliver { sender, .. } if *sender == me);
    let received = connection.dispatch(Dispatch::All, |event| *received += u64::from(own(&event)));
    received.map(drop).map_err(to("receive the sent messages"))
}

fn ring(connection: &Connection) -> Result<(), Failure> {
    match insist(|| connection.quorum()) {
        Ok(quorum) => {
            let ring = Ring { id: quorum.ring, nodes: quorum.nodes };
            show::ring(&ring, connection.local_node(), Some(quorum.quorate))?;
        }
        Err(Error::NotSupported) => {
            let ring = ring_of_a_member(connection)?;
            show::ring(&ring, connection.local_node(), None)?;
        }
        Err(error) => return Err(Failure::Group("ask the quorum service", error)),
    }
    io::stdout().flush()?;
    Ok(())
}

/// Returns the ring that a new member of a group receives.
fn ring_of_a_member(connection: &Connection) -> Result<Ring, Failure> {
    let name = format!("cpg-ring-{}", std::process::id());
    join(connection, &GroupName::new(&name).map_err(to("make a group"))?)?;
    let deadline = Instant::now() + PATIENCE;
    let mut ring = None;
    while ring.is_none() {
        if Instant::now() > deadline {
            return Err(Failure::Late("the ring"));
        }
        connection.wait(Some(PATIENCE)).map_err(to("receive the ring"))?;
        let received = connection.dispatch(Dispatch::All, |event| {
            if let Event::Ring(latest) = event {
                ring = Some(latest);
            }
        });
        received.map_err(to("receive the ring"))?;
    }
    ring.ok_or(Failure::Late("the ring"))
}
