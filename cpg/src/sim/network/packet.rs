use bytes::Bytes;

use super::node_set::NodeSet;
use crate::{Member, Reason};

/// One place in a ring's order.
pub(in crate::sim) struct Packet {
    /// The node that sent it.
    pub(in crate::sim) origin: usize,
    pub(in crate::sim) payload: Payload,
    /// Begun in an earlier ring: means nothing to those who were not in it.
    pub(in crate::sim) straddles: bool,
    /// Nodes that have not received it.
    pub(in crate::sim) missing: NodeSet,
    /// Nodes that have delivered it.
    pub(in crate::sim) delivered: NodeSet,
    /// Set if nodes that miss it now will not get it in this ring.
    pub(in crate::sim) is_lost: bool,
}

pub(in crate::sim) enum Payload {
    Message {
        sender: Member,
        content: Bytes,
    },
    Join {
        member: Member,
    },
    Leave {
        member: Member,
        reason: Reason,
    },
    /// The processes of the node that sends it.
    Joinlist {
        members: Vec<Member>,
    },
    /// All joinlists are there.
    Barrier,
}
