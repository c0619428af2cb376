use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::{Member, NodeId, Reason, RingId};

use super::connection::{ConnectionId, Progress, Request, SimConnection};
use super::node_set::NodeSet;
use super::packet::Payload;
use crate::sim::observed::Journal;

/// Maximum number of bytes that a daemon queues for the next rings before it rejects messages
/// (Corosync: 75 % of 4 MB).
const WAITING_BYTES_MAX: usize = 3 << 20;
/// Maximum number of bytes that one process may have sent and its daemon not read (libqb's ring, 1
/// MB).
const UNREAD_BYTES_MAX: usize = 1 << 20;
/// Bytes that a message counts on top of its content.
const MESSAGE_OVERHEAD: usize = 184;

/// A node: its Corosync daemon and the processes connected to it.
///
/// Its use of the ring's order is in `group_service`; the order itself is made in `ring` and
/// `ring_formation`.
pub(in crate::sim) struct Daemon {
    pub(in crate::sim) id: NodeId,
    pub(in crate::sim) place: usize,
    pub(in crate::sim) ids: Arc<[NodeId]>,
    pub(in crate::sim) connections: BTreeMap<ConnectionId, SimConnection>,
    /// Requests of its connections that it has not read.
    pub(in crate::sim) unread: usize,

    pub(in crate::sim) is_up: bool,
    pub(in crate::sim) is_paused: bool,
    /// When it is started again, or goes on, without being told.
    pub(in crate::sim) starts_at: Option<Duration>,
    pub(in crate::sim) wakes_at: Option<Duration>,
    /// Until then nearly every packet to it is lost at first.
    pub(in crate::sim) is_deaf_until: Duration,
    /// With whom it exchanges packets, itself included; nobody while it does not run.
    pub(in crate::sim) hears: NodeSet,

    /// Items that wait for their place in the order, of this ring or of a later one.
    pub(in crate::sim) waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// Items that are ordered before those that wait (Corosync's queue for the time of a sync).
    pub(in crate::sim) urgent: VecDeque<Payload>,
    /// Number of waiting items that were begun in an earlier ring.
    pub(in crate::sim) straddling: usize,
    /// Sends nothing until the next ring, where its next message straddles the change.
    pub(in crate::sim) is_to_straddle: bool,
    /// Of its next messages, who does not get each.
    pub(in crate::sim) to_lose: VecDeque<NodeSet>,
    pub(in crate::sim) refuse_next: usize,
    pub(in crate::sim) swallow_next: usize,

    pub(in crate::sim) ring: Option<RingId>,
    pub(in crate::sim) ring_members: NodeSet,
    /// Position in the ring's order up to which it has delivered.
    pub(in crate::sim) position: u64,
    /// The highest ring sequence it knows; survives its death.
    pub(in crate::sim) sequence: u64,
    /// The ring has agreed on its members, as far as this node knows.
    pub(in crate::sim) is_synced: bool,
    /// Nodes that came into this ring from the same ring.
    pub(in crate::sim) transitional: NodeSet,
    /// Nodes that have been with it in every ring since the last one whose members were agreed on.
    pub(in crate::sim) together: NodeSet,

    /// The members of the group as it knows them.
    pub(in crate::sim) processes: BTreeSet<Member>,
    /// The processes that the nodes of the new ring listed, newest first.
    pub(in crate::sim) joinlists: Vec<Member>,
    /// They are kept should the sync be aborted.
    pub(in crate::sim) keeps_joinlists: bool,
    /// Members that left while those lists were exchanged.
    pub(in crate::sim) buried: Vec<Member>,
    /// The members of the last ring that was agreed on.
    pub(in crate::sim) activated: NodeSet,
}

/// Something that waits for its place in the order.
pub(in crate::sim) struct Waiting {
    pub(in crate::sim) payload: Payload,
    /// The ring in which it was taken over.
    pub(in crate::sim) since: Option<RingId>,
}

impl Daemon {
    pub(in crate::sim) fn new(ids: &Arc<[NodeId]>, place: usize) -> Self {
        Self {
            id: ids[place],
            place,
            ids: Arc::clone(ids),
            connections: BTreeMap::new(),
            unread: 0,
            is_up: true,
            is_paused: false,
            starts_at: None,
            wakes_at: None,
            is_deaf_until: Duration::ZERO,
            hears: NodeSet::default(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            urgent: VecDeque::new(),
            straddling: 0,
            is_to_straddle: false,
            to_lose: VecDeque::new(),
            refuse_next: 0,
            swallow_next: 0,
            ring: None,
            ring_members: NodeSet::default(),
            position: 0,
            sequence: 0,
            is_synced: false,
            transitional: NodeSet::default(),
            together: NodeSet::default(),
            processes: BTreeSet::new(),
            joinlists: Vec::new(),
            keeps_joinlists: false,
            buried: Vec::new(),
            activated: NodeSet::default(),
        }
    }

    pub(in crate::sim) fn runs(&self) -> bool {
        self.is_up && !self.is_paused
    }

    /// The daemon dies: its connections are lost, and so is all that it held except the sequence of
    /// its last ring, which is on disk.
    pub(in crate::sim) fn die(&mut self, journal: &mut Journal) {
        let mut connections = std::mem::take(&mut self.connections);
        for connection in connections.values_mut().filter(|connection| !connection.is_lost) {
            connection.lose();
            journal.observed.lost_connections += 1;
        }
        let lost = self.waiting.len();
        journal.observed.lost_messages += lost as u64;
        *self = Self {
            connections,
            sequence: self.sequence,
            is_up: false,
            ..Self::new(&Arc::clone(&self.ids), self.place)
        };
        journal.note(format_args!("{}: the daemon dies", self.id));
    }

    /// Returns true if it rejects messages of this connection for now.
    pub(in crate::sim) fn is_full(&self, connection: &SimConnection) -> bool {
        self.waiting_bytes > WAITING_BYTES_MAX || connection.unread_bytes > UNREAD_BYTES_MAX
    }

    /// Reads what its connections ask for. A daemon in the middle of a sync, or with full queues,
    /// leaves it where it is.
    pub(in crate::sim) fn read_requests(&mut self) {
        if self.unread == 0 || !self.runs() || !self.is_synced {
            return;
        }
        for connection in self.connections.values_mut() {
            while self.waiting_bytes <= WAITING_BYTES_MAX
                && let Some(request) = connection.requests.pop_front()
            {
                self.unread -= 1;
                let (waiting, bytes) = read(connection, request);
                self.waiting_bytes += bytes;
                self.waiting.push_back(waiting);
            }
        }
    }

    /// Takes the first of what waits, and whether it straddles the last ring change.
    pub(in crate::sim) fn next_waiting(&mut self) -> Option<(Waiting, bool)> {
        let waiting = self.waiting.pop_front()?;
        if let Payload::Message { content, .. } = &waiting.payload {
            self.waiting_bytes -= content.len() + MESSAGE_OVERHEAD;
        }
        let straddles = self.straddling > 0;
        self.straddling = self.straddling.saturating_sub(1);
        Some((waiting, straddles))
    }

    /// A connection ends without having left: the process died, or closed it.
    pub(in crate::sim) fn close(
        &mut self,
        id: ConnectionId,
        is_undrained: bool,
        journal: &mut Journal,
    ) {
        if self.connections.get(&id).is_some_and(|connection| !connection.is_lost) && !is_undrained
        {
            self.read_requests();
        }
        let Some(connection) =
            self.connections.remove(&id).filter(|connection| !connection.is_lost)
        else {
            return;
        };
        self.unread -= connection.requests.len();
        let messages =
            connection.requests.iter().filter(|request| matches!(request, Request::Message(..)));
        journal.observed.lost_messages += messages.count() as u64;
        if connection.is_leaving || connection.progress == Progress::New {
            return;
        }
        let payload = Payload::Leave { member: connection.member, reason: Reason::ProcessDown };
        if self.is_synced {
            self.waiting.push_back(Waiting { payload, since: self.ring });
        } else {
            if connection.progress == Progress::Joining {
                // Its departure overtakes its join, which nobody will ever take back.
                journal.observed.listed_dead += 1;
            }
            self.urgent.push_back(payload);
        }
    }
}

fn read(connection: &mut SimConnection, request: Request) -> (Waiting, usize) {
    let member = connection.member;
    let (payload, since, bytes) = match request {
        Request::Join => {
            connection.progress = Progress::Joining;
            (Payload::Join { member }, None, 0)
        }
        Request::Leave => {
            connection.is_leaving = true;
            (Payload::Leave { member, reason: Reason::Leave }, None, 0)
        }
        Request::Message(content, since) => {
            let bytes = content.len() + MESSAGE_OVERHEAD;
            connection.unread_bytes -= bytes;
            (Payload::Message { sender: member, content }, since, bytes)
        }
    };
    (Waiting { payload, since }, bytes)
}

/// Bytes that a message counts among those that wait.
pub(in crate::sim) fn cost(content: &[u8]) -> usize {
    content.len() + MESSAGE_OVERHEAD
}
