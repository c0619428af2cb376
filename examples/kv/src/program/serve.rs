//! Runs one replica.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::time::Duration;

use service_lib::{Line, Listener, Stop, metrics, watch};
use tokio::net::TcpListener;

use super::arguments::{Guard, Serve};
use super::failure::Failure;
use super::runtime;
use crate::backend::Backend;
use crate::node::Node;
use crate::server::{Password, Server, ServerConfig, Tls};
use crate::{KvStore, STOP_BOUND};

/// Maximum number of bytes read from the password file.
const PASSWORD_FILE_BYTES_MAX: u64 = 4096;

pub(super) fn run(arguments: Serve) -> Result<(), Failure> {
    service_lib::raise_limit();
    arguments.start.check()?;
    let config = config(&arguments)?;
    let runtime = runtime()?;
    let listeners = runtime
        .block_on(arguments.listen.bind())
        .map_err(|why| Failure::listen(&arguments.listen, why, "--listen"))?;
    let first = listeners.first().ok_or_else(|| Failure::Runtime(ErrorKind::NotFound.into()))?;
    let port = first.local_addr().map_err(Failure::Runtime)?.port();
    let others = runtime.block_on(Listener::beside(port, arguments.socket.clone()))?;
    let others = others.into_iter().collect();
    let metrics = arguments.start.metrics.as_ref();
    let metrics = metrics.map(|address| runtime.block_on(metrics::listen(address)));
    let metrics = metrics.transpose()?;
    let store = KvStore::default();
    let view = store.view();
    let replica = arguments.start.replica(&arguments.group, store)?;
    let node = Node::new(replica, view);
    if let Some(listeners) = metrics {
        let node = node.clone();
        runtime.spawn(metrics::serve(listeners, move || node.status()));
    }
    let served = runtime.block_on(serve(listeners, others, &node, config));
    // Connections hold handles on the replica, which would keep it from stopping.
    runtime.shutdown_timeout(Duration::from_millis(100));
    node.stop();
    served?;
    tracing::info!("stopped");
    Ok(())
}

/// Builds the server's configuration. An address that other hosts can reach requires a password or
/// client certificates, or the explicit consent of `--allow-remote`.
fn config(arguments: &Serve) -> Result<ServerConfig, Failure> {
    let Guard { requirepass_file, tls_cert, tls_key, tls_client_ca, allow_remote } =
        &arguments.guard;
    let is_remote = !arguments.listen.is_loopback();
    let is_guarded = requirepass_file.is_some() || tls_client_ca.is_some();
    if is_remote && !is_guarded && !allow_remote {
        return Err(Failure::Remote(arguments.listen.to_string()));
    }
    let password = requirepass_file.as_deref().map(password).transpose()?;
    let tls = match (tls_cert, tls_key) {
        (Some(cert), Some(key)) => Some(Tls::from_files(cert, key, tls_client_ca.as_deref())?),
        _ => None,
    };
    if is_remote && tls.is_none() {
        tracing::warn!(
            "data and passwords cross the network unencrypted; add --tls-cert and --tls-key"
        );
    }
    let memory_bytes_max = Some(arguments.maxmemory).filter(|max| *max > 0);
    Ok(ServerConfig {
        password,
        tls,
        memory_bytes_max,
        ..ServerConfig::new(arguments.common.timeout)
    })
}

fn password(path: &Path) -> Result<Password, Failure> {
    let shown = path.display().to_string();
    let read = |file: File| {
        let mut text = Vec::new();
        file.take(PASSWORD_FILE_BYTES_MAX).read_to_end(&mut text).map(|_| text)
    };
    match File::open(path).and_then(read) {
        Ok(text) => Password::from_file_text(&text).ok_or(Failure::Password { path: shown }),
        Err(why) => Err(Failure::PasswordFile { path: shown, why }),
    }
}

async fn serve(
    listeners: Vec<TcpListener>,
    others: Vec<Listener>,
    node: &Node,
    config: ServerConfig,
) -> Result<(), Failure> {
    let mut stop = Stop::listen().map_err(Failure::Signals)?;
    let mut listeners = listeners.into_iter();
    let first = listeners.next().ok_or_else(|| Failure::Runtime(ErrorKind::NotFound.into()))?;
    let others = others.into_iter().chain(listeners.map(Listener::Tcp)).collect();
    let server = Server::start(first, others, node.clone(), config).map_err(Failure::Runtime)?;
    // The only line on stdout, for scripts that wait until the replica serves clients.
    let mut out = std::io::stdout();
    let _ = writeln!(out, "replica {}: {}", node.replica_status().id, server.address());
    let _ = out.flush();
    watch(stop.asked(), vec![node.subscribe()], || vec![node.replica_status()], Line::log).await;
    stop.insist();
    tracing::info!("stopping; send a second signal to stop at once");
    server.stop(STOP_BOUND).await;
    Ok(())
}
