use std::fmt;
use std::sync::Arc;

use super::connection::LocalConnection;
use super::ring_state::SharedRing;
use crate::mailbox::Mailbox;
use crate::{Connection, Member, NodeId, Options, Pid, Result};

/// A node of a [`LocalRing`](super::LocalRing), which stands for a host and its daemon. A clone is the same node.
///
/// All connections of one node are one process to the others: two of them cannot be in
/// the same group. Members of one group within a process need a node each.
#[derive(Clone)]
pub struct Node {
    ring: SharedRing,
    id: NodeId,
}

impl Node {
    pub(super) fn new(ring: SharedRing, id: NodeId) -> Self {
        Self { ring, id }
    }

    /// The number of the node.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Opens a connection, which is a member of no group yet.
    ///
    /// # Errors
    ///
    /// [`Error::Library`](crate::Error::Library) when the node is stopped.
    pub fn connect(&self, options: Options) -> Result<Connection> {
        let member = Member { node: self.id, pid: Pid(std::process::id()) };
        let mailbox = Arc::new(Mailbox::new(member));
        let id = self.ring.lock().connect(mailbox.clone(), options.initial_ring)?;
        Ok(Connection::new(LocalConnection::new(self.ring.clone(), id, mailbox)))
    }

    /// Stops the node, as if its daemon died. Each of its connections gets
    /// [`Error::Library`](crate::Error::Library) after what it had received. The other
    /// nodes see [`Reason::NodeDown`](crate::Reason::NodeDown) for its members, one
    /// configuration a group, then [`Event::Ring`](crate::Event::Ring). Does nothing when
    /// it is stopped.
    pub fn stop(&self) {
        self.ring.lock().stop(self.id);
    }

    /// Starts the node again, without connections; all others hear
    /// [`Event::Ring`](crate::Event::Ring). Does nothing when it runs.
    pub fn start(&self) {
        self.ring.lock().start(self.id);
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_up = self.ring.lock().is_up(self.id);
        f.debug_struct("Node").field("id", &self.id).field("up", &is_up).finish()
    }
}
