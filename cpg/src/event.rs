use std::fmt;

use bytes::Bytes;

use crate::{Member, NodeId};

/// An event delivered to a connection. Within one ring, all members receive the events of a group
/// in the same order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message sent to the group, by any member including this one.
    ///
    /// The sender need not be in the last configuration. On Corosync, the departure of a process
    /// can overtake messages that it had sent before.
    Deliver {
        /// The member that sent the message.
        sender: Member,
        /// Content of the message. Members within one process share it without a copy.
        message: Bytes,
    },
    /// Members joined or left the group (`cpg_confchg_fn_t`). The first event of a membership is
    /// the configuration in which this member joined.
    Configuration(Configuration),
    /// The ring below the groups was formed anew (`cpg_totem_confchg_fn_t`).
    ///
    /// Delivered to every connection, including those that are not members of a group, after the
    /// configurations that the new ring causes and even if it causes none. With
    /// [`Options::initial_ring`](crate::Options), a connection also receives the current ring once,
    /// right after its own join.
    Ring(Ring),
}

/// The members of a group after a change.
///
/// Different nodes can see different sequences of configurations, so their number is not a view
/// number. On Corosync, a node that was cut off may even return without a configuration event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// All members after the change, sorted.
    pub members: Vec<Member>,
    /// Members that joined, in no particular order.
    pub joined: Vec<Change>,
    /// Members that left, in no particular order.
    pub left: Vec<Change>,
}

/// A member that joined or left, with the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The member.
    pub member: Member,
    /// Reason for the change.
    pub reason: Reason,
}

/// Reason why a member joined or left (`cpg_reason_t`, `cpg_initialize(3)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The transport gave no reason.
    Undefined,
    /// The process joined the group.
    Join,
    /// The process left the group.
    Leave,
    /// The member's node left the ring: it crashed, stopped its daemon, or lost its network
    /// connection.
    NodeDown,
    /// The member's node came into the ring, and the member was already in the group on that node.
    NodeUp,
    /// The process died, or closed its connection without leaving the group.
    ProcessDown,
}

/// A ring: the set of nodes that order messages together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    /// Identifier of the ring.
    pub id: RingId,
    /// Nodes of the ring, sorted.
    pub nodes: Vec<NodeId>,
}

/// Identifier of a ring. Only the pair is unique: two partitions may form rings with the same
/// sequence and different representatives. Gaps in the sequence have no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingId {
    /// Node that represents the ring; on Corosync the one with the lowest id.
    pub representative: NodeId,
    /// Number that grows with each ring that this representative forms.
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
