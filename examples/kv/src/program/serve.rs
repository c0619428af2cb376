//! One replica.

use std::io::Write;
use std::time::Duration;

use service::{Line, Stop, metrics, watch};
use tokio::net::TcpListener;

use super::arguments::Serve;
use super::failure::Failure;
use super::runtime;
use crate::backend::Backend;
use crate::node::Node;
use crate::server::{Config, Server};
use crate::{STOP_BOUND, Store};

pub(super) fn run(arguments: Serve) -> Result<(), Failure> {
    arguments.start.check()?;
    let runtime = runtime()?;
    let address = arguments.listen;
    let listener = runtime
        .block_on(TcpListener::bind(address))
        .map_err(|why| Failure::listen(address, why, "--listen"))?;
    let metrics = arguments.start.metrics.map(|address| runtime.block_on(metrics::listen(address)));
    let metrics = metrics.transpose()?;
    let store = Store::default();
    let view = store.view();
    let replica = arguments.start.replica(&arguments.group, store)?;
    let node = Node::new(replica, view);
    if let Some(listener) = metrics {
        let node = node.clone();
        runtime.spawn(metrics::serve(listener, move || node.status()));
    }
    let served = runtime.block_on(serve(listener, &node, arguments.common.timeout));
    // What is left of the connections holds handles on the replica.
    runtime.shutdown_timeout(Duration::from_millis(100));
    node.stop();
    served?;
    tracing::info!("stopped");
    Ok(())
}

async fn serve(listener: TcpListener, node: &Node, timeout: Duration) -> Result<(), Failure> {
    let mut stop = Stop::listen().map_err(Failure::Signals)?;
    let server = Server::start(listener, Vec::new(), node.clone(), Config::new(timeout))
        .map_err(Failure::Runtime)?;
    // The one line on stdout, for scripts that wait for it.
    let mut out = std::io::stdout();
    let _ = writeln!(out, "replica {}: {}", node.situation().id, server.address());
    let _ = out.flush();
    watch(stop.asked(), vec![node.subscribe()], || vec![node.situation()], Line::log).await;
    stop.insist();
    tracing::info!("stopping; a second signal ends it at once");
    server.stop(STOP_BOUND).await;
    Ok(())
}
