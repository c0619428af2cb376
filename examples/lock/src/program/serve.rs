//! One replica.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use plainsong::{Replica, ReplicaId};
use rustix::fs::Mode;
use rustix::process::umask;
use service::arguments::{check_engine, check_voters};
use service::{Line, Stop, watch};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;

use super::arguments::Serve;
use super::failure::Failure;
use crate::Machine;
use crate::command::Event;
use crate::limits::EVENTS_MAX;
use crate::node::Node;
use crate::server::{Config, Listener, Server};

/// How long the replica may be without a majority before its clients are told that they
/// have lost their locks. A ring that is formed anew takes a part of that.
const GRACE: Duration = Duration::from_secs(1);

/// How long an orderly stop waits for holders to stop.
const STOP_BOUND: Duration = Duration::from_secs(10);

pub(super) fn run(arguments: Serve) -> Result<ExitCode, Failure> {
    check_voters(arguments.id, &arguments.voters)?;
    check_engine(&arguments.engine)?;
    if let Some(address) = arguments.listen
        && !address.ip().is_loopback()
        && !arguments.allow_remote
    {
        return Err(Failure::Remote(address));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::System)?;
    let listeners = runtime.block_on(listen(arguments.socket, arguments.listen))?;
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let id = arguments.id;
    let mut builder = Replica::builder(ReplicaId(id), Machine::new(sender))
        .engine(arguments.engine)
        .group(arguments.group.as_str());
    if !arguments.voters.is_empty() {
        builder = builder.bootstrap(arguments.voters.into_iter().map(ReplicaId));
    }
    let replica = builder.start().map_err(|error| Failure::Start { id, why: error.to_string() })?;
    let node = Node::new(replica);
    let config = Config { timeout: arguments.timeout, grace: GRACE };
    let served = runtime.block_on(serve(listeners, &node, events, config));
    // What is left of the connections holds handles on the replica.
    runtime.shutdown_timeout(Duration::from_millis(100));
    node.stop();
    served?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

async fn listen(
    socket: Option<PathBuf>,
    address: Option<SocketAddr>,
) -> Result<Vec<Listener>, Failure> {
    let mut listeners = Vec::new();
    if let Some(path) = socket {
        listeners.push(listen_at(path)?);
    }
    if let Some(address) = address {
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|why| Failure::Listen { address, why })?;
        listeners.push(Listener::Tcp(listener));
    }
    Ok(listeners)
}

/// Makes the socket. One that a dead process has left is removed.
fn listen_at(path: PathBuf) -> Result<Listener, Failure> {
    let bound = match bind(&path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if UnixStream::connect(&path).is_ok() {
                return Err(Failure::SocketTaken(path));
            }
            std::fs::remove_file(&path).and_then(|()| bind(&path))
        }
        bound => bound,
    };
    match bound {
        Ok(listener) => Ok(Listener::Unix(listener, path)),
        Err(why) => Err(Failure::Socket { path, why }),
    }
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    let before = umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let listener = UnixListener::bind(path);
    umask(before);
    listener
}

async fn serve(
    listeners: Vec<Listener>,
    node: &Node,
    events: mpsc::Receiver<Event>,
    config: Config,
) -> Result<(), Failure> {
    let stop = Stop::listen().map_err(Failure::System)?;
    let addresses: Vec<String> = listeners.iter().map(told).collect();
    let server = Server::start(listeners, node.clone(), events, config);
    // The one line on stdout, for scripts that wait for it.
    let mut out = io::stdout();
    let _ = writeln!(out, "replica {}: {}", node.situation().id, addresses.join(" "));
    let _ = out.flush();
    let log = |line| match line {
        Line::Change(line) => tracing::info!("{line}"),
        Line::Progress(line) => tracing::debug!("{line}"),
    };
    watch(stop, vec![node.subscribe()], || vec![node.situation()], log).await;
    tracing::info!("stopping; a second signal ends it at once");
    server.stop(STOP_BOUND).await;
    Ok(())
}

fn told(listener: &Listener) -> String {
    match listener {
        Listener::Unix(_, path) => path.display().to_string(),
        Listener::Tcp(listener) => {
            listener.local_addr().map_or_else(|error| error.to_string(), |a| a.to_string())
        }
    }
}
