use std::sync::Arc;
use std::thread;

use cpg::{Connection, GroupName, Options};
use crossbeam_channel::{Receiver, bounded};

/// Connects a replica to its group, at the start and after the transport has died.
#[derive(Clone)]
pub(crate) struct GroupJoiner(Arc<dyn Fn() -> cpg::Result<Connection> + Send + Sync>);

/// The result of a join that runs on its own thread.
pub(crate) type PendingJoin = Receiver<cpg::Result<Connection>>;

impl GroupJoiner {
    pub(crate) fn new(transport: cpg::Transport, group: GroupName) -> Self {
        Self::from_fn(move || {
            let connection = transport.connect(Options::default())?;
            connection.join(&group)?;
            Ok(connection)
        })
    }

    /// Creates a joiner that calls `join`.
    pub(super) fn from_fn(
        join: impl Fn() -> cpg::Result<Connection> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(join))
    }

    /// Connects and joins as a new member. Blocks until the transport answers.
    pub(crate) fn join(&self) -> cpg::Result<Arc<Connection>> {
        (self.0)().map(Arc::new)
    }

    /// Joins on a thread of its own, because the transport may take long to answer. If the
    /// result is dropped, the connection is closed.
    pub(crate) fn start_to_join(&self, name: String) -> std::io::Result<PendingJoin> {
        let (result, joining) = bounded(1);
        let join = Arc::clone(&self.0);
        thread::Builder::new().name(name).spawn(move || drop(result.send(join())))?;
        Ok(joining)
    }
}
