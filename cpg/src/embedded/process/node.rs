use std::fmt;
use std::sync::Arc;

use super::connection::LocalConnection;
use super::ring_state::SharedRing;
use crate::mailbox::Mailbox;
use crate::{Connection, Member, NodeId, Options, Pid, Result};

/// A node of a [`LocalRing`](super::LocalRing), standing for a host and its daemon. Clones are the
/// same node.
///
/// All connections of a node appear as one process, so two of them cannot be in the same group.
/// Members of one group within a process need a node each.
#[derive(Clone)]
pub struct Node {
    ring: SharedRing,
    id: NodeId,
}

impl Node {
    pub(super) fn new(ring: SharedRing, id: NodeId) -> Self {
        Self { ring, id }
    }

    /// Returns the id of the node.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Opens a connection that is not yet a member of a group.
    ///
    /// # Errors
    ///
    /// [`Error::Library`](crate::Error::Library) if the node is stopped.
    pub fn connect(&self, options: Options) -> Result<Connection> {
        let member = Member { node: self.id, pid: Pid(std::process::id()) };
        let mailbox = Arc::new(Mailbox::new(member));
        let id = self.ring.lock().connect(mailbox.clone(), options.initial_ring)?;
        Ok(Connection::new(LocalConnection::new(self.ring.clone(), id, mailbox)))
    }

    /// Stops the node, as if its daemon died. Has no effect if it is stopped.
    ///
    /// Its connections get [`Error::Library`](crate::Error::Library) after the events that they had
    /// received. The members on other nodes see [`Reason::NodeDown`](crate::Reason::NodeDown) for
    /// its members, in one configuration per group, and then [`Event::Ring`](crate::Event::Ring).
    pub fn stop(&self) {
        self.ring.lock().stop(self.id);
    }

    /// Starts a stopped node again, without connections. All other connections receive
    /// [`Event::Ring`](crate::Event::Ring). Has no effect if the node runs.
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
