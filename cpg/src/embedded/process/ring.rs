use std::fmt;

use super::node::Node;
use super::ring_state::SharedRing;

/// A ring within this process: members on virtual nodes, ordered by a lock. Clones are the same
/// ring.
///
/// For tests and for single-process use. It is the fastest transport: a message is copied once,
/// when it is sent, and shared from then on.
///
/// ```
/// use cpg::{Options, embedded::LocalRing};
///
/// # fn main() -> Result<(), cpg::Error> {
/// let ring = LocalRing::new();
/// let (first, second) = (ring.node(), ring.node());
/// let connection = second.connect(Options::default())?;
/// assert_eq!(connection.local_node(), second.id());
/// first.stop();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct LocalRing(SharedRing);

impl LocalRing {
    /// Creates a ring without nodes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a running node. Nodes are numbered 1, 2, 3 and so on. This forms a new ring: all
    /// existing connections receive [`Event::Ring`](crate::Event::Ring).
    pub fn node(&self) -> Node {
        let id = self.0.lock().add_node();
        Node::new(self.0.clone(), id)
    }
}

impl fmt::Debug for LocalRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalRing").field("ring", &self.0.lock().ring()).finish_non_exhaustive()
    }
}
