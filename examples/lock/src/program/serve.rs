//! `lock serve`: one replica and its server.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use service_lib::arguments::check_listen;
use service_lib::{Line, Listener, Stop, metrics, watch};
use tokio::sync::mpsc;

use super::arguments::Serve;
use super::failure::Failure;
use crate::LockMachine;
use crate::command::SessionEvent;
use crate::limits::EVENTS_MAX;
use crate::node::Node;
use crate::server::{Server, ServerConfig};

/// Time that the replica may be without a majority before its clients lose their locks. It covers
/// the time that a new ring takes to form.
const GRACE: Duration = Duration::from_secs(1);

/// Time that an orderly stop waits for the holders of locks to stop.
const STOP_BOUND: Duration = Duration::from_secs(10);

pub(super) fn run(arguments: Serve) -> Result<ExitCode, Failure> {
    service_lib::raise_limit();
    arguments.start.check()?;
    check_listen(arguments.listen.as_ref(), arguments.allow_remote)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::System)?;
    let listeners =
        runtime.block_on(Listener::bind(arguments.socket, arguments.listen.as_ref()))?;
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    let metrics = arguments.start.metrics.as_ref();
    let metrics = metrics.map(|address| runtime.block_on(metrics::listen(address)));
    let metrics = metrics.transpose()?;
    let replica = arguments.start.replica(&arguments.group, LockMachine::new(sender))?;
    let node = Node::new(replica);
    if let Some(listeners) = metrics {
        let node = node.clone();
        runtime.spawn(metrics::serve(listeners, move || node.status()));
    }
    let config = ServerConfig { timeout: arguments.timeout, grace: GRACE };
    let served = runtime.block_on(serve(listeners, &node, events, config));
    // Connections that have not ended hold handles on the replica.
    runtime.shutdown_timeout(Duration::from_millis(100));
    node.stop();
    served?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

async fn serve(
    listeners: Vec<Listener>,
    node: &Node,
    events: mpsc::Receiver<SessionEvent>,
    config: ServerConfig,
) -> Result<(), Failure> {
    let mut stop = Stop::listen().map_err(Failure::System)?;
    let addresses: Vec<String> =
        listeners.iter().filter(|listener| !listener.is_control()).map(Listener::address).collect();
    let server = Server::start(listeners, node.clone(), events, config);
    // The only line on stdout. Scripts may wait for it.
    let mut out = io::stdout();
    let _ = writeln!(out, "replica {}: {}", node.replica_status().id, addresses.join(" "));
    let _ = out.flush();
    watch(stop.asked(), vec![node.subscribe()], || vec![node.replica_status()], Line::log).await;
    stop.insist();
    tracing::info!("stopping; a second signal stops this server at once");
    server.stop(STOP_BOUND).await;
    Ok(())
}
