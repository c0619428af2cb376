use std::fmt;

use bytes::Bytes;

use crate::{Member, NodeId};

/// What a connection hears, in the order of the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message of the group, one's own included.
    ///
    /// The sender need not be in the last configuration heard: on Corosync a departure
    /// can overtake messages sent before it.
    Deliver {
        /// Who sent it.
        sender: Member,
        /// Its content. Shared, not copied, among the members of one process.
        message: Bytes,
    },
    /// Members came or went. The first event of a membership is the configuration in
    /// which oneself joined.
    Configuration(Configuration),
    /// The ring below the groups was formed anew. Comes after the configurations that
    /// the change caused, to every connection, a member of a group or not, and also
    /// when no group changed. With [`Options::initial_ring`](crate::Options) the ring of
    /// the moment comes once as well, right after one's own join.
    Ring(Ring),
}

/// The members of a group after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// All members after the change, sorted.
    pub members: Vec<Member>,
    /// Who came. Not sorted.
    pub joined: Vec<Change>,
    /// Who went. Not sorted.
    pub left: Vec<Change>,
}

/// A member that came or went, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Who.
    pub member: Member,
    /// Why.
    pub reason: Reason,
}

/// Why a member came or went (`cpg_reason_t` of `cpg_initialize(3)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Not told.
    Undefined,
    /// The process joined.
    Join,
    /// The process left.
    Leave,
    /// Its node is no longer in the ring: it died, or the network between broke.
    NodeDown,
    /// Its node came into the ring, with this member already on it.
    NodeUp,
    /// The process died, or closed its connection without leaving.
    ProcessDown,
}

/// A ring: the nodes that order messages together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Which ring.
    pub id: RingId,
    /// Its nodes, sorted.
    pub nodes: Vec<NodeId>,
}

/// The name of a ring. Two rings may have the same sequence with different
/// representatives, so only the pair is unique. Gaps in the sequence mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingId {
    /// The node that represents the ring.
    pub representative: NodeId,
    /// Grows with each ring that this representative forms.
    pub sequence: u64,
}

impl fmt::Display for RingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.representative, self.sequence)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Undefined => "undefined",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::NodeDown => "node down",
            Self::NodeUp => "node up",
            Self::ProcessDown => "process down",
        })
    }
}
