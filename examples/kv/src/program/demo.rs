//! Runs three replicas in one process, to try kv without any setup.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use cpg::embedded::LocalRing;
use plainsong::{Replica, ReplicaId};
use service_lib::{Line, Listener, Stop, watch};
use tokio::net::TcpListener;

use super::arguments::Demo;
use super::failure::Failure;
use super::runtime;
use crate::backend::Backend;
use crate::node::Node;
use crate::server::{Server, ServerConfig};
use crate::{KvStore, STOP_BOUND};

const IDS: [u32; 3] = [1, 2, 3];

pub(super) fn run(arguments: &Demo) -> Result<(), Failure> {
    let runtime = runtime()?;
    let listeners = runtime.block_on(listen(arguments.port))?;
    let ring = LocalRing::new();
    let mut nodes = Vec::new();
    for id in IDS {
        let store = KvStore::default();
        let view = store.view();
        let replica = Replica::builder(ReplicaId(id), store)
            .transport(ring.node())
            .group("kv")
            .bootstrap(IDS.map(ReplicaId))
            .start()
            .map_err(|error| Failure::Start { id, why: error.to_string() })?;
        nodes.push(Node::new(replica, view));
    }
    let served = runtime.block_on(serve(listeners, &nodes, arguments.common.timeout));
    // Connections hold handles on the replicas, which would keep them from stopping.
    runtime.shutdown_timeout(Duration::from_millis(100));
    for node in nodes {
        node.stop();
    }
    served?;
    say("Stopped.");
    Ok(())
}

async fn listen(first: u16) -> Result<Vec<TcpListener>, Failure> {
    let mut listeners = Vec::new();
    for offset in 0..3 {
        let port = match first {
            0 => 0,
            first => first.checked_add(offset).ok_or(Failure::Port(first))?,
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(address).await;
        listeners.push(listener.map_err(|why| Failure::listen(&address, why, "--port"))?);
    }
    Ok(listeners)
}

async fn serve(
    listeners: Vec<TcpListener>,
    nodes: &[Node],
    timeout: Duration,
) -> Result<(), Failure> {
    let mut stop = Stop::listen().map_err(Failure::Signals)?;
    let mut servers = Vec::new();
    for (listener, node) in listeners.into_iter().zip(nodes) {
        let port = listener.local_addr().map_err(Failure::Runtime)?.port();
        let others = Listener::beside(port, None).await?.into_iter().collect();
        let server = Server::start(listener, others, node.clone(), ServerConfig::new(timeout));
        servers.push(server.map_err(Failure::Runtime)?);
    }
    welcome(&servers);
    let statuses = || nodes.iter().map(Backend::replica_status).collect();
    let report = |(Line::Change(line) | Line::Progress(line)): Line| say(&line);
    watch(stop.asked(), nodes.iter().map(Node::subscribe).collect(), statuses, report).await;
    stop.insist();
    say("Stopping. Press Ctrl-C again to stop at once.");
    let ends: Vec<_> = servers.into_iter().map(|s| tokio::spawn(s.stop(STOP_BOUND))).collect();
    for end in ends {
        let _ = end.await;
    }
    Ok(())
}

fn welcome(servers: &[Server]) {
    say("Running three replicas in this process. Redis clients can connect to any of them:\n");
    for (id, server) in IDS.into_iter().zip(servers) {
        say(&format!("  replica {id}: {}", server.address()));
    }
    let port = |at: usize| servers.get(at).map_or(0, |server| server.address().port());
    let (first, second, third) = (port(0), port(1), port(2));
    say(&format!(
        "
In another terminal, try

  redis-cli -p {first} SET greeting hello
  redis-cli -p {third} GET greeting
  redis-benchmark -p {second} -t set,get -P 16 -q

All data is in memory, and is lost when this process ends. Press Ctrl-C to stop.
"
    ));
}

/// Prints a line. Errors are ignored: the replicas must go on even if stdout is closed.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
