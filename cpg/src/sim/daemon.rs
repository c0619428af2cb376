use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::{Member, NodeId, Reason, RingId};

use super::client::{Client, ClientId, Progress, Request};
use super::journal::Journal;
use super::nodes::Nodes;
use super::ring::What;

/// What a daemon takes in for the next rings before it refuses (Corosync: 75 % of 4 MB).
const WAITING_BYTES_MAX: usize = 3 << 20;
/// What one process hands over before its daemon has read it (libqb's ring, 1 MB).
const UNREAD_BYTES_MAX: usize = 1 << 20;
/// What a message costs on top of its content.
const MESSAGE_OVERHEAD: usize = 184;

/// A node: its Corosync daemon and the processes connected to it.
///
/// What it does with the ring's order is in `membership.rs`; how that order comes about, in
/// `ring.rs` and `formation.rs`.
pub(super) struct Daemon {
    pub(super) id: NodeId,
    pub(super) place: usize,
    pub(super) ids: Arc<[NodeId]>,
    pub(super) clients: BTreeMap<ClientId, Client>,
    /// Requests of its clients that it has not read.
    pub(super) unread: usize,

    pub(super) is_up: bool,
    pub(super) is_paused: bool,
    /// When it is started again, or goes on, without being told.
    pub(super) starts_at: Option<Duration>,
    pub(super) wakes_at: Option<Duration>,
    /// Until then nearly every packet to it is lost at first.
    pub(super) is_deaf_until: Duration,
    /// With whom it exchanges packets, itself included; nobody while it does not run.
    pub(super) hears: Nodes,

    /// What waits for its place in the order, of this ring or of a later one.
    pub(super) waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// What goes before all that waits (Corosync's queue for the time of a sync).
    pub(super) urgent: VecDeque<What>,
    /// How many of those that wait were begun in an earlier ring.
    pub(super) straddling: usize,
    /// Sends nothing until the next ring, where its next message straddles the change.
    pub(super) is_to_straddle: bool,
    /// Of its next messages, who does not get each.
    pub(super) to_lose: VecDeque<Nodes>,
    pub(super) refuse_next: usize,
    pub(super) swallow_next: usize,

    pub(super) ring: Option<RingId>,
    pub(super) ring_members: Nodes,
    /// How much of the ring's order it has delivered.
    pub(super) position: u64,
    /// The highest ring sequence it knows; survives its death.
    pub(super) sequence: u64,
    /// The ring has agreed on its members, as far as this node knows.
    pub(super) is_synced: bool,
    /// Who came into this ring from the same ring as it.
    pub(super) transitional: Nodes,
    /// Who has been with it in every ring since the last one whose members were agreed on.
    pub(super) together: Nodes,

    /// The members of the group as it knows them.
    pub(super) processes: BTreeSet<Member>,
    /// What the nodes of the new ring said of their processes, newest first.
    pub(super) joinlists: Vec<Member>,
    /// They are kept should the sync be aborted.
    pub(super) keeps_joinlists: bool,
    /// Who left while those lists went round.
    pub(super) buried: Vec<Member>,
    /// The members of the last ring that was agreed on.
    pub(super) activated: Nodes,
}

/// Something that waits for its place in the order.
pub(super) struct Waiting {
    pub(super) what: What,
    /// The ring in which it was taken over.
    pub(super) since: Option<RingId>,
}

impl Daemon {
    pub(super) fn new(ids: &Arc<[NodeId]>, place: usize) -> Self {
        Self {
            id: ids[place],
            place,
            ids: Arc::clone(ids),
            clients: BTreeMap::new(),
            unread: 0,
            is_up: true,
            is_paused: false,
            starts_at: None,
            wakes_at: None,
            is_deaf_until: Duration::ZERO,
            hears: Nodes::default(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            urgent: VecDeque::new(),
            straddling: 0,
            is_to_straddle: false,
            to_lose: VecDeque::new(),
            refuse_next: 0,
            swallow_next: 0,
            ring: None,
            ring_members: Nodes::default(),
            position: 0,
            sequence: 0,
            is_synced: false,
            transitional: Nodes::default(),
            together: Nodes::default(),
            processes: BTreeSet::new(),
            joinlists: Vec::new(),
            keeps_joinlists: false,
            buried: Vec::new(),
            activated: Nodes::default(),
        }
    }

    pub(super) fn runs(&self) -> bool {
        self.is_up && !self.is_paused
    }

    /// The daemon dies: its clients lose their connections, and all that it held is gone. What
    /// it wrote down is the sequence of its last ring.
    pub(super) fn die(&mut self, journal: &mut Journal) {
        let mut clients = std::mem::take(&mut self.clients);
        for client in clients.values_mut().filter(|client| !client.is_lost) {
            client.lose();
            journal.seen.lost_connections += 1;
        }
        let lost = self.waiting.len();
        journal.seen.lost_messages += lost as u64;
        *self = Self {
            clients,
            sequence: self.sequence,
            is_up: false,
            ..Self::new(&Arc::clone(&self.ids), self.place)
        };
        journal.note(format_args!("{}: the daemon dies", self.id));
    }

    /// Whether it takes nothing more of that client for now.
    pub(super) fn is_full(&self, client: &Client) -> bool {
        self.waiting_bytes > WAITING_BYTES_MAX || client.unread_bytes > UNREAD_BYTES_MAX
    }

    /// Reads what its clients ask for. A daemon in the middle of a sync, or with full queues,
    /// leaves it where it is.
    pub(super) fn read_requests(&mut self) {
        if self.unread == 0 || !self.runs() || !self.is_synced {
            return;
        }
        for client in self.clients.values_mut() {
            while self.waiting_bytes <= WAITING_BYTES_MAX
                && let Some(request) = client.requests.pop_front()
            {
                self.unread -= 1;
                let (waiting, bytes) = read(client, request);
                self.waiting_bytes += bytes;
                self.waiting.push_back(waiting);
            }
        }
    }

    /// Takes the first of what waits, and whether it straddles the last ring change.
    pub(super) fn next_waiting(&mut self) -> Option<(Waiting, bool)> {
        let waiting = self.waiting.pop_front()?;
        if let What::Message { content, .. } = &waiting.what {
            self.waiting_bytes -= content.len() + MESSAGE_OVERHEAD;
        }
        let straddles = self.straddling > 0;
        self.straddling = self.straddling.saturating_sub(1);
        Some((waiting, straddles))
    }

    /// A connection ends without having left: the process died, or closed it.
    pub(super) fn close(&mut self, id: ClientId, is_undrained: bool, journal: &mut Journal) {
        if self.clients.get(&id).is_some_and(|client| !client.is_lost) && !is_undrained {
            self.read_requests();
        }
        let Some(client) = self.clients.remove(&id).filter(|client| !client.is_lost) else {
            return;
        };
        self.unread -= client.requests.len();
        let messages = client.requests.iter().filter(|what| matches!(what, Request::Message(..)));
        journal.seen.lost_messages += messages.count() as u64;
        if client.is_leaving || client.progress == Progress::New {
            return;
        }
        let what = What::Leave { member: client.member, reason: Reason::ProcessDown };
        if self.is_synced {
            self.waiting.push_back(Waiting { what, since: self.ring });
        } else {
            if client.progress == Progress::Joining {
                // Its departure overtakes its join, which nobody will ever take back.
                journal.seen.ghosts += 1;
            }
            self.urgent.push_back(what);
        }
    }
}

fn read(client: &mut Client, request: Request) -> (Waiting, usize) {
    let member = client.member;
    let (what, since, bytes) = match request {
        Request::Join => {
            client.progress = Progress::Joining;
            (What::Join { member }, None, 0)
        }
        Request::Leave => {
            client.is_leaving = true;
            (What::Leave { member, reason: Reason::Leave }, None, 0)
        }
        Request::Message(content, since) => {
            let bytes = content.len() + MESSAGE_OVERHEAD;
            client.unread_bytes -= bytes;
            (What::Message { sender: member, content }, since, bytes)
        }
    };
    (Waiting { what, since }, bytes)
}

/// What a message counts for among those that wait.
pub(super) fn cost(content: &[u8]) -> usize {
    content.len() + MESSAGE_OVERHEAD
}
