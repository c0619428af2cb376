use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use service_lib::{Listener, connections_max};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{interval, sleep, timeout};

use super::connection::Connection;
use super::sessions::{SessionNotice, Sessions};
use crate::command::SessionEvent;
use crate::limits::CONNECTIONS_MAX;
use crate::node::Node;

/// Interval at which the server checks that its replica still sees a majority.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Configuration of a server.
#[derive(Clone, Copy, Debug)]
pub struct ServerConfig {
    /// Timeout of a command, after which its client gets an error. The wait for a lock does not
    /// count.
    pub timeout: Duration,
    /// Time that the replica may be without a majority before the holders of locks at this server
    /// lose them.
    pub grace: Duration,
}

/// State shared by the connections of a server.
pub(super) struct Shared {
    pub(super) node: Node,
    pub(super) config: ServerConfig,
    pub(super) sessions: Sessions,
    /// Number of clients at all listeners.
    connected: AtomicUsize,
}

/// A permit for one connected client; dropping it releases the permit.
struct Admitted(Arc<Shared>);

impl Shared {
    /// Admits one more client; returns `None` if the limit of connections is reached.
    fn admit(self: Arc<Self>) -> Option<Admitted> {
        let connected = self.connected.fetch_add(1, Ordering::Relaxed);
        let admitted = Admitted(self);
        (connected < connections_max(CONNECTIONS_MAX)).then_some(admitted)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.connected.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A running server. Dropping it stops it at once; [`Server::stop`] stops it gracefully.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    accepting: Vec<JoinHandle<()>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts a server on the current Tokio runtime. `events` comes from the node's state machine.
    pub fn start(
        listeners: Vec<Listener>,
        node: Node,
        events: mpsc::Receiver<SessionEvent>,
        config: ServerConfig,
    ) -> Self {
        let sessions = Sessions::new(node.incarnation());
        let shared = Arc::new(Shared { node, config, sessions, connected: AtomicUsize::new(0) });
        let (stop, _) = watch::channel(false);
        let accepting = listeners
            .into_iter()
            .map(|listener| tokio::spawn(accept(listener, Arc::clone(&shared), stop.subscribe())));
        let accepting = accepting.collect();
        let tasks = vec![
            tokio::spawn(dispatch(events, Arc::clone(&shared))),
            tokio::spawn(watch_majority(Arc::clone(&shared), stop.subscribe())),
        ];
        Self { stop, accepting, tasks }
    }

    /// Stops gracefully: accepts no more connections, takes the locks from their holders, and waits
    /// at most `bound` for the holders to stop.
    pub async fn stop(mut self, bound: Duration) {
        self.stop.send_replace(true);
        let ended = async {
            for task in &mut self.accepting {
                let _ = task.await;
            }
        };
        if timeout(bound, ended).await.is_err() {
            tracing::warn!(
                ?bound,
                "some clients did not close their connections in time; disconnecting them"
            );
        }
        // Dropping `self` ends the remaining connections.
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for task in self.accepting.iter().chain(&self.tasks) {
            task.abort();
        }
    }
}

async fn dispatch(mut events: mpsc::Receiver<SessionEvent>, shared: Arc<Shared>) {
    while let Some(event) = events.recv().await {
        shared.sessions.dispatch(event);
    }
}

/// Ends sessions when the replica loses its majority: there may be a majority elsewhere that grants
/// their locks to others.
async fn watch_majority(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval(LOOK_INTERVAL);
    let mut seen = Instant::now();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => {
                return shared.sessions.notify_all(&SessionNotice::Over("the server is stopping"));
            }
            _ = ticks.tick() => {}
        }
        let status = shared.node.replica_status();
        if status.stopped.is_some() {
            shared
                .sessions
                .notify_all(&SessionNotice::Over("the replica of this server has stopped"));
        } else if status.majority {
            seen = Instant::now();
        } else if seen.elapsed() > shared.config.grace {
            shared.sessions.notify_all(&SessionNotice::InDoubt(
                "this server does not see a majority of the group, which may continue without it",
            ));
        }
    }
}

async fn accept(mut listener: Listener, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok(stream) => match Arc::clone(&shared).admit() {
                    Some(admitted) => {
                        let connection = Connection::new(Arc::clone(&shared), stream);
                        connections.spawn(async move {
                            connection.serve().await;
                            drop(admitted);
                        });
                    }
                    None => stream.refuse().await,
                },
                // Most likely out of file descriptors, which may pass.
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
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the server was dropped.
    let _ = stop.wait_for(|stop| *stop).await;
}
