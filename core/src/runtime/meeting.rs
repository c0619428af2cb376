use std::sync::Arc;
use std::thread;

use cpg::{Connection, GroupName, Options};
use crossbeam_channel::{Receiver, bounded};

/// How a replica gets to its group, at the start and after the transport has died.
#[derive(Clone)]
pub(crate) struct Meeting(Arc<dyn Fn() -> cpg::Result<Connection> + Send + Sync>);

/// A join on its way.
pub(crate) type Joining = Receiver<cpg::Result<Connection>>;

impl Meeting {
    pub(crate) fn new(transport: cpg::Transport, group: GroupName) -> Self {
        Self::by(move || {
            let connection = transport.connect(Options::default())?;
            connection.join(&group)?;
            Ok(connection)
        })
    }

    /// Joins by that function.
    pub(super) fn by(join: impl Fn() -> cpg::Result<Connection> + Send + Sync + 'static) -> Self {
        Self(Arc::new(join))
    }

    /// Connects and joins, as a new member, however long that takes.
    pub(crate) fn join(&self) -> cpg::Result<Arc<Connection>> {
        (self.0)().map(Arc::new)
    }

    /// The same on a thread of its own, because a transport may not answer for long. Where
    /// nobody waits for the result any more, the connection is closed.
    pub(crate) fn start_to_join(&self, name: String) -> std::io::Result<Joining> {
        let (result, joining) = bounded(1);
        let join = Arc::clone(&self.0);
        thread::Builder::new().name(name).spawn(move || drop(result.send(join())))?;
        Ok(joining)
    }
}
