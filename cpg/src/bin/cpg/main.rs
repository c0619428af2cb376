//! `cpg`: looks at closed process groups, listens and speaks, on either transport.

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

/// How long a ring may take to form before a command gives up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait before what may succeed is tried again.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks at closed process groups, listens and speaks.
///
/// A closed process group is a set of processes that receive the same messages in the same
/// order, and learn in that order who comes and goes. Only members can send.
#[derive(Parser)]
#[command(name = "cpg", version, after_help = EXAMPLES)]
struct Arguments {
    /// What gives the order: `embedded:PATH` for the processes of this user that meet at the
    /// Unix socket PATH, `embedded` for those at the default path in /run, or `corosync` for this
    /// host's daemon, which is the default where this program was built with it.
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
    command: What,
}

const EXAMPLES: &str = "\
Examples:
  cpg listen demo                    print all events of a group
  cpg send demo 'hello'              send a message to it
  cpg groups                         which groups there are, and their members
  cpg ring                           which nodes order messages together
  cpg -e embedded groups             the same without Corosync";

#[derive(Subcommand)]
enum What {
    /// Lists all groups, each with its members as node:process.
    Groups,
    /// Lists the members of a group as node:process, one a line.
    Members {
        /// The group.
        #[arg(value_parser = group_name)]
        group: GroupName,
    },
    /// Joins a group and prints each event: messages, who comes and goes, new rings.
    ///
    /// Others see this process as a member as long as it listens.
    Listen {
        /// The group.
        #[arg(value_parser = group_name)]
        group: GroupName,
        /// Ends after that many messages.
        #[arg(long, short, value_name = "NUMBER")]
        count: Option<u64>,
    },
    /// Joins a group, sends messages, waits until they are in order, and leaves.
    Send {
        /// The group.
        #[arg(value_parser = group_name)]
        group: GroupName,
        /// The messages, each argument one. Without any, each line of standard input is one.
        messages: Vec<String>,
    },
    /// Prints the ring: the nodes that order messages together, and the quorum if the transport
    /// counts one.
    ///
    /// Where the quorum service does not tell it, it joins a group of its own for a moment.
    Ring,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        // Who reads has had enough.
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

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no transport is named: --engine embedded, or build with the feature `corosync`")]
    NoTransport,
    #[error("cannot connect to the transport")]
    Socket(#[source] embedded::SocketError),
    #[error("cannot {0}")]
    Group(&'static str, #[source] Error),
    #[error("nothing came within {PATIENCE:?} while waiting for {0}")]
    Late(&'static str),
    #[error("cannot print")]
    Print(#[from] io::Error),
    #[error("cannot read standard input")]
    Read(#[source] io::Error),
}

/// For `map_err`: what was tried.
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
        What::Groups => {
            let connection = connect(Options::default())?;
            let rows = insist(|| connection.groups(&Iteration::All));
            show::groups(rows.map_err(to("list the groups"))?)?;
        }
        What::Members { group } => {
            let connection = connect(Options::default())?;
            let members = insist(|| connection.members(group)).map_err(to("list the members"))?;
            show::members(&members)?;
        }
        What::Listen { group, count } => {
            listen(&connect(Options { initial_ring: true })?, group, *count)?;
        }
        What::Send { group, messages } => {
            let connection = connect(Options::default())?;
            join(&connection, group)?;
            send(&connection, messages)?;
            connection.leave().map_err(to("leave the group"))?;
        }
        What::Ring => ring(&connect(Options { initial_ring: true })?)?,
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

/// The daemon of this host, where this program was built with it.
fn default_transport() -> Option<Transport> {
    "corosync".parse().ok()
}

/// Asks again while that may help.
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
    let (mut heard, mut printed) = (0, Ok(()));
    while printed.is_ok() && count.is_none_or(|count| heard < count) {
        let dispatched = connection.dispatch(Dispatch::One, |event| {
            heard += u64::from(matches!(event, Event::Deliver { .. }));
            printed = show::event(&event, connection.local_member());
        });
        dispatched.map_err(to("listen"))?;
    }
    Ok(printed?)
}

fn send(connection: &Connection, messages: &[String]) -> Result<(), Failure> {
    let (mut sent, mut heard) = (0_u64, 0);
    if messages.is_empty() {
        for line in io::stdin().lock().split(b'\n') {
            say(connection, &line.map_err(Failure::Read)?, &mut heard)?;
            sent += 1;
        }
    }
    for message in messages {
        say(connection, message.as_bytes(), &mut heard)?;
        sent += 1;
    }
    let deadline = Instant::now() + PATIENCE;
    while heard < sent {
        if Instant::now() > deadline {
            return Err(Failure::Late("one's own messages"));
        }
        connection.wait(Some(PAUSE)).map_err(to("hear one's own messages"))?;
        hear(connection, &mut heard)?;
    }
    Ok(())
}

/// Sends one message, and hears meanwhile what was sent before.
fn say(connection: &Connection, message: &[u8], heard: &mut u64) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        hear(connection, heard)?;
        match connection.multicast(Guarantee::Agreed, &[IoSlice::new(message)]) {
            Err(Error::TryAgain) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            outcome => return outcome.map_err(to("send")),
        }
    }
}

/// Counts one's own messages that are in order now.
fn hear(connection: &Connection, heard: &mut u64) -> Result<(), Failure> {
    let me = connection.local_member();
    let own = |event: &Event| matches!(event, Event::Deliver { sender, .. } if *sender == me);
    let heard = connection.dispatch(Dispatch::All, |event| *heard += u64::from(own(&event)));
    heard.map(drop).map_err(to("hear one's own messages"))
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

/// The ring as a new member of a group is told it.
fn ring_of_a_member(connection: &Connection) -> Result<Ring, Failure> {
    let name = format!("cpg-ring-{}", std::process::id());
    join(connection, &GroupName::new(&name).map_err(to("make a group"))?)?;
    let deadline = Instant::now() + PATIENCE;
    let mut ring = None;
    while ring.is_none() {
        if Instant::now() > deadline {
            return Err(Failure::Late("the ring"));
        }
        connection.wait(Some(PATIENCE)).map_err(to("hear of the ring"))?;
        let heard = connection.dispatch(Dispatch::All, |event| {
            if let Event::Ring(latest) = event {
                ring = Some(latest);
            }
        });
        heard.map_err(to("hear of the ring"))?;
    }
    ring.ok_or(Failure::Late("the ring"))
}
