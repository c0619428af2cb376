use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::connection;
use crate::backend::Backend;
use crate::limits::CONNECTIONS_MAX;

/// How a server serves.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How long a client waits for the outcome of a command before it is told that there
    /// is none.
    pub timeout: Duration,
}

/// A running server. Dropping it stops it at once; [`Server::stop`] stops it in order.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// What the connections of a server share.
pub(super) struct Shared<B> {
    pub(super) backend: B,
    pub(super) config: Config,
    pub(super) counters: Counters,
    pub(super) stop: watch::Sender<bool>,
}

/// What `INFO` counts.
#[derive(Debug)]
pub(crate) struct Counters {
    started: Instant,
    port: u16,
    connected: AtomicUsize,
}

impl Counters {
    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }
}

impl Server {
    /// Starts to serve on a listener, on the runtime this is called in.
    ///
    /// # Errors
    ///
    /// The listener does not know its own address.
    pub fn start<B: Backend>(
        listener: TcpListener,
        backend: B,
        config: Config,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (stop, _) = watch::channel(false);
        let counters = Counters {
            started: Instant::now(),
            port: address.port(),
            connected: AtomicUsize::new(0),
        };
        let shared = Arc::new(Shared { backend, config, counters, stop: stop.clone() });
        let task = tokio::spawn(accept(listener, shared));
        Ok(Self { address, stop, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops in order: accepts and reads nothing more, answers what was read, and closes
    /// the connections; those that take longer than `bound` are cut.
    pub async fn stop(mut self, bound: Duration) {
        self.stop.send_replace(true);
        if timeout(bound, &mut self.task).await.is_err() {
            tracing::warn!(address = %self.address, ?bound, "cut connections that did not end");
        }
        // Dropping ends what is left.
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept<B: Backend>(listener: TcpListener, shared: Arc<Shared<B>>) {
    let mut stop = shared.stop.subscribe();
    let mut connections = JoinSet::new();
    let mut id = 0;
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() >= CONNECTIONS_MAX => refuse(stream).await,
                Ok((stream, peer)) => {
                    id += 1;
                    tracing::debug!(client = id, %peer, "connected");
                    connections.spawn(counted(stream, id, Arc::clone(&shared)));
                }
                // Out of descriptors, most likely; it may pass.
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
        shared.counters.connected.store(connections.len(), Ordering::Relaxed);
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Waits until the server stops.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the server is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn counted<B: Backend>(stream: TcpStream, id: u64, shared: Arc<Shared<B>>) {
    connection::serve(stream, id, shared).await;
    tracing::debug!(client = id, "disconnected");
}

async fn refuse(mut stream: TcpStream) {
    let said = stream.write_all(b"-ERR max number of clients reached\r\n");
    let _ = timeout(Duration::from_millis(10), said).await;
}
