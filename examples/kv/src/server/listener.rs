use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use service_lib::{Listener, Stream, connections_max};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::client_list::ClientList;
use super::statistics::Statistics;
use super::{ServerConfig, connection};
use crate::backend::Backend;
use crate::limits::CONNECTIONS_MAX;

/// A running server. [`Server::stop`] stops it in an orderly way; dropping it stops it at once.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// State shared by the connections of a server.
pub(super) struct Shared<B> {
    pub(super) backend: B,
    pub(super) config: Arc<ServerConfig>,
    pub(super) counters: Counters,
    pub(super) clients: Arc<ClientList>,
    pub(super) statistics: Statistics,
    pub(super) stop: watch::Sender<bool>,
}

/// Counters for `INFO`.
#[derive(Debug)]
pub(crate) struct Counters {
    started: Instant,
    port: u16,
    /// Number of clients that have connected since the start.
    clients: AtomicU64,
    connected: AtomicUsize,
}

impl Counters {
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the number of clients that have connected since the start.
    pub(crate) fn clients(&self) -> u64 {
        self.clients.load(Ordering::Relaxed)
    }

    pub(crate) fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }
}

impl Server {
    /// Starts a server on a TCP port and on other listeners. Must be called within a Tokio runtime.
    ///
    /// # Errors
    ///
    /// Returns an error if the port's own address cannot be determined.
    pub fn start<B: Backend>(
        port: TcpListener,
        others: Vec<Listener>,
        backend: B,
        config: ServerConfig,
    ) -> io::Result<Self> {
        let address = port.local_addr()?;
        let (stop, _) = watch::channel(false);
        let counters = Counters {
            started: Instant::now(),
            port: address.port(),
            clients: AtomicU64::new(0),
            connected: AtomicUsize::new(0),
        };
        let (config, stop_all) = (Arc::new(config), stop.clone());
        let clients = Arc::default();
        let statistics = Statistics::new();
        let shared =
            Arc::new(Shared { backend, config, counters, clients, statistics, stop: stop_all });
        let listeners = std::iter::once(Listener::Tcp(port)).chain(others);
        let tasks = listeners.map(|listener| tokio::spawn(accept(listener, Arc::clone(&shared))));
        Ok(Self { address, stop, tasks: tasks.collect() })
    }

    /// Returns the address of its TCP port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops in an orderly way: accepts no connections and reads no requests any more, answers the
    /// requests already read, and closes the connections. After `bound` the remaining connections
    /// are closed without waiting.
    pub async fn stop(mut self, bound: Duration) {
        self.stop.send_replace(true);
        let ended = async {
            for task in &mut self.tasks {
                let _ = task.await;
            }
        };
        if timeout(bound, ended).await.is_err() {
            tracing::warn!(
                address = %self.address, ?bound,
                "closed connections whose clients did not read their replies in time"
            );
        }
        // Dropping aborts the tasks that are left.
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn accept<B: Backend>(mut listener: Listener, shared: Arc<Shared<B>>) {
    let mut stop = shared.stop.subscribe();
    let mut connections = JoinSet::new();
    let connected = &shared.counters.connected;
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok(stream) if connected.load(Ordering::Relaxed) >= connections_max(CONNECTIONS_MAX) => {
                    shared.statistics.rejected.fetch_add(1, Ordering::Relaxed);
                    stream.refuse().await;
                }
                Ok(stream) => {
                    connected.fetch_add(1, Ordering::Relaxed);
                    connections.spawn(counted(stream, Arc::clone(&shared)));
                }
                // Most likely there are no free descriptors at the moment.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
    if let Listener::Unix(_, path) = &listener {
        Listener::remove(Some(path));
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Waits until the server stops.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the server has been dropped.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn counted<B: Backend>(stream: Stream, shared: Arc<Shared<B>>) {
    let id = shared.counters.clients.fetch_add(1, Ordering::Relaxed) + 1;
    tracing::debug!(client = id, "connected");
    // The file permissions of a Unix socket decide who may connect.
    let is_trusted = matches!(stream, Stream::Unix(_));
    let (local, peer) = stream.ends();
    let client = shared.clients.enter(id, is_trusted, stream.rights(), peer, local);
    let halves = match (stream, &shared.config.tls) {
        (Stream::Tcp(stream), Some(tls)) => tls.accept(stream).await,
        (stream, _) => Ok(stream.split()),
    };
    match halves {
        Ok(halves) => connection::serve(halves, Arc::clone(&client), Arc::clone(&shared)).await,
        Err(error) => tracing::debug!(client = id, %error, "TLS handshake failed"),
    }
    shared.counters.connected.fetch_sub(1, Ordering::Relaxed);
    tracing::debug!(client = id, "disconnected");
}
