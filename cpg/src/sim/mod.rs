//! A simulated group on several nodes, which does on purpose all that Corosync may do.
//!
//! For tests of what is built on CPG. Nothing here has a thread, a clock or I/O: time is what
//! [`Sim::advance`] says, and one seed draws everything, so a run repeats. With
//! [`Faults::default`] it is a faultless ring that breaks only on request; with
//! [`Faults::drawn`] it is an adversary. [`Sim::observed`] counts which of the following
//! happened, [`Sim::on_trace`] reports how.
//!
//! ```
//! use std::time::Duration;
//! use cpg::sim::{Faults, Sim};
//! use cpg::{Event, NodeId, Pid};
//!
//! # fn main() -> Result<(), cpg::Error> {
//! let (here, there) = (NodeId(1), NodeId(2));
//! let mut sim = Sim::new(7, [here, there], Faults::default());
//! let connection = sim.join(here, Pid(100))?;
//! sim.advance(Duration::from_millis(1));
//! sim.part(&[&[here], &[there]]);
//! sim.multicast(connection, "plainsong".into())?;
//! sim.advance(Duration::from_millis(1));
//! let mut heard = Vec::new();
//! while let Some(event) = sim.poll(connection)? {
//!     heard.push(event);
//! }
//! let [Event::Configuration(_), Event::Ring(_), Event::Ring(alone), Event::Deliver { .. }] =
//!     heard.as_slice()
//! else {
//!     panic!("{heard:?}");
//! };
//! assert_eq!(alone.nodes, [here]);
//! # Ok(())
//! # }
//! ```
//!
//! # Behaviours
//!
//! The simulation does not draw these behaviours one by one. It has daemons with queues, rings
//! with one order each, packets that are lost and sent again, and the membership code of Corosync
//! (`exec/cpg.c`, `exec/sync.c`), from which they follow, alone and in mixtures. *On demand*
//! means by a method of [`Sim`], at once and for certain.
//!
//! | | behaviour | where it comes from | on demand |
//! | --- | --- | --- | --- |
//! | S1 | one order in a ring, that of each sender within it; own join first, joins and departures at one place of the order | `ring`, `group_service` | |
//! | S2 | a message is taken over with `Ok` and lost | `swallowed`, `undrained`, dead daemons | [`swallow_next`](Sim::swallow_next) |
//! | S3 | `TryAgain` at any time, always while a ring agrees on its members; taken over while it is broken, and delivered in a later one | `refusals`, `sync_max`, `detection_max` | [`refuse_next`](Sim::refuse_next), [`part`](Sim::part) |
//! | S4 | who parts delivers different ends of a ring; who goes on together the same, with holes | `loss`, `bursts`, `last_words`; `SimRing::recover` | [`lose_next`](Sim::lose_next) |
//! | S5 | a message that is delivered at its sender and nowhere else | the same | the same |
//! | S6 | minorities go on | nothing asks for a majority here | [`part`](Sim::part) |
//! | S7 | each side of a merge is told of the other; a paused node that all left and joined; lists not sorted; rings of one sequence | `Daemon::activate` | [`pause_daemon`](Sim::pause_daemon), [`heal`](Sim::heal) |
//! | S8 | a silent gap: who was away hears of no change | `aborted_syncs`, `split_rings` | [`stall_next_sync`](Sim::stall_next_sync) |
//! | S9 | a message that straddles a ring change is lost at nodes that merge | `straddles` | [`straddle_next`](Sim::straddle_next) |
//! | S10 | a departure overtakes what was sent before; then it is heard only if another process of that node is a member | `Daemon::close` in a sync | [`stall_next_sync`](Sim::stall_next_sync), [`close`](Sim::close) |
//! | S11 | dead members are listed; members that vanished unseen are told as dead processes; a known member is not told again | `listed_dead`; `Daemon::activate` | [`stall_next_sync`](Sim::stall_next_sync), [`kill_daemon`](Sim::kill_daemon) |
//! | S12 | large messages go a way of their own | refused with `TooBig`, as everywhere in this crate | |
//! | S13 | rings are told without a change of the group, before the own join, and twice | `token_losses`; `Daemon::activate` | [`lose_token`](Sim::lose_token) |
//! | S14 | a connection that has left cannot join again | `Exist` until it is closed | |
//! | S15 | a daemon dies: `Library` for ever, events not polled are lost | `daemon_deaths` | [`kill_daemon`](Sim::kill_daemon) |
//! | S16 | who does not listen holds up nobody and hears everything late | do not poll | |
//! | S17 | a process stops and wakes up among views long gone | do not poll | |
//!
//! # Limits
//!
//! Links break for both sides and for all alike. A join or a departure never straddles a ring
//! change. Memory has no end, so a daemon does not die of those who do not listen. There is
//! one group, and no quorum service.

mod faults;
mod network;
mod observed;
mod random;
mod random_faults;
mod scripted_faults;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::limits::MESSAGE_BYTES_MAX;
use crate::{Error, Event, Member, NodeId, Pid, Result, RingId};

use network::connection::{Progress, Request, SimConnection};
use network::daemon::{self, Daemon};
use network::node_set::NodeSet;
use network::ring::{Network, SimRing};
use observed::Journal;

pub use faults::Faults;
pub use network::connection::ConnectionId;
pub use observed::Observed;
pub use random::Random;

/// Time of one rotation of the token. Deliveries and ring changes happen at its multiples.
const ROTATION: Duration = Duration::from_micros(500);

/// A simulated group; see the [module](self).
pub struct Sim {
    random: Random,
    faults: Faults,
    journal: Journal,
    daemons: Vec<Daemon>,
    rings: BTreeMap<RingId, SimRing>,
    /// Parts of the network. Each node is in exactly one, and connected to the others in it.
    parts: Vec<NodeSet>,
    /// End of a randomly drawn partition.
    heals_at: Option<Duration>,
    /// Nodes that are about to form a ring, and when.
    forming: BTreeMap<NodeSet, Duration>,
    is_next_sync_stalled: bool,
    next_rotation: Duration,
    next_moment: Duration,
    last_connection: u64,
}

impl Sim {
    /// Maximum number of nodes of a simulated group.
    pub const NODES_MAX: usize = NodeSet::COUNT_MAX;

    /// Creates a simulation in which all daemons run, in one ring.
    ///
    /// # Panics
    ///
    /// Panics if there are no nodes or more than [`NODES_MAX`](Self::NODES_MAX).
    pub fn new(seed: u64, nodes: impl IntoIterator<Item = NodeId>, faults: Faults) -> Self {
        let ids: BTreeSet<_> = nodes.into_iter().collect();
        assert!((1..=Self::NODES_MAX).contains(&ids.len()), "1 to {} nodes", Self::NODES_MAX);
        let ids: Arc<[NodeId]> = ids.into_iter().collect();
        let mut sim = Self {
            random: Random::new(seed),
            faults: Faults::default(),
            journal: Journal::default(),
            daemons: (0..ids.len()).map(|place| Daemon::new(&ids, place)).collect(),
            rings: BTreeMap::new(),
            parts: vec![NodeSet::first(ids.len())],
            heals_at: None,
            forming: BTreeMap::new(),
            is_next_sync_stalled: false,
            next_rotation: ROTATION,
            next_moment: Duration::ZERO,
            last_connection: 0,
        };
        sim.settle();
        sim.rotate();
        sim.faults = faults;
        sim.journal.observed = Observed::default();
        sim
    }

    /// Returns the simulated time since the start.
    pub fn now(&self) -> Duration {
        self.journal.now
    }

    /// Returns the counters of faults and their consequences so far.
    pub fn observed(&self) -> Observed {
        self.journal.observed
    }

    /// Sets the faults that occur by themselves from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Passes a trace of the network and the daemons to `reader`, in lines that begin with the time
    /// in milliseconds.
    pub fn on_trace(&mut self, reader: impl FnMut(&str) + Send + 'static) {
        self.journal.reader = Some(Box::new(reader));
    }

    /// Advances the time: messages are ordered and delivered, rings break and form, faults begin
    /// and end. The token rotates every half millisecond, so a shorter time may have no effect.
    pub fn advance(&mut self, by: Duration) {
        let until = self.journal.now + by;
        while self.next_rotation <= until {
            self.journal.now = self.next_rotation;
            self.rotate();
            let is_idle = self.rings.values().all(|ring| ring.is_idle(&self.daemons));
            let next = self.journal.now + ROTATION;
            let wanted = if is_idle { self.next_alarm().unwrap_or(until + ROTATION) } else { next };
            let wanted = wanted.clamp(next, until.max(self.journal.now) + ROTATION);
            self.next_rotation = ceil_to_rotation(wanted);
        }
        self.journal.now = until;
    }

    /// Returns true if nothing more will happen without a call: no ring is forming, and everything
    /// has been delivered. Ignores random faults.
    pub fn is_settled(&self) -> bool {
        let is_done = |daemon: &Daemon| !daemon.runs() || daemon.is_synced;
        self.forming.is_empty()
            && self.daemons.iter().all(is_done)
            && self.rings.values().all(|ring| !ring.is_intact || ring.is_idle(&self.daemons))
    }

    /// Returns true if all daemons are in one ring that has agreed on its members.
    pub fn has_one_ring(&self) -> bool {
        let ring = self.daemons.first().and_then(|daemon| daemon.ring);
        ring.is_some()
            && self
                .daemons
                .iter()
                .all(|daemon| daemon.runs() && daemon.is_synced && daemon.ring == ring)
    }

    fn rotate(&mut self) {
        self.apply_random_faults();
        self.form_rings();
        self.daemons.iter_mut().for_each(Daemon::read_requests);
        let mut net = Network {
            daemons: &mut self.daemons,
            random: &mut self.random,
            faults: &self.faults,
            journal: &mut self.journal,
        };
        self.rings.values_mut().for_each(|ring| ring.rotate(&mut net));
    }

    /// Connects a process to the daemon of its node and asks to join the group. As with
    /// [`Connection::join`](crate::Connection::join) that may be carried out later, and
    /// messages may be sent at once.
    ///
    /// # Errors
    ///
    /// [`Error::Library`] while the daemon is dead; [`Error::TryAgain`] while it stands still
    /// or its ring is agreeing on its members, while an earlier membership of this process is
    /// being ended, and now and then; [`Error::Exist`] while another connection of this
    /// process is open.
    pub fn join(&mut self, node: NodeId, pid: Pid) -> Result<ConnectionId> {
        let place = self.place(node);
        let daemon = &mut self.daemons[place];
        let member = Member { node, pid };
        if !daemon.is_up {
            return Err(Error::Library);
        }
        let is_open =
            |connection: &SimConnection| connection.member == member && !connection.is_lost;
        if daemon.connections.values().any(is_open) {
            return Err(Error::Exist);
        }
        let is_leaving = daemon.processes.contains(&member);
        if daemon.is_paused || !daemon.is_synced || is_leaving || self.is_refused() {
            self.journal.observed.refusals += 1;
            return Err(Error::TryAgain);
        }
        self.last_connection += 1;
        let id = ConnectionId { number: self.last_connection, place, member };
        let daemon = &mut self.daemons[place];
        daemon.unread += 1;
        daemon.connections.insert(id, SimConnection::new(member));
        Ok(id)
    }

    /// Leaves the group, after all that was sent before. One's own departure is the last
    /// event.
    ///
    /// # Errors
    ///
    /// [`Error::NotExist`] after having left, [`Error::Library`] once the daemon died,
    /// [`Error::TryAgain`] as for [`join`](Self::join).
    pub fn leave(&mut self, connection: ConnectionId) -> Result<()> {
        let is_refused = self.is_refused();
        let daemon = &mut self.daemons[connection.place];
        let connection = open(&mut daemon.connections, connection)?;
        if is_refused || !daemon.is_synced || daemon.is_paused {
            self.journal.observed.refusals += 1;
            return Err(Error::TryAgain);
        }
        connection.has_asked_to_leave = true;
        connection.requests.push_back(Request::Leave);
        daemon.unread += 1;
        Ok(())
    }

    /// The process dies, or drops its connection: the group hears of it in some order with
    /// what it had sent (S10), some of which may be lost (S2).
    pub fn close(&mut self, connection: ConnectionId) {
        let is_undrained = self.random.chance(self.faults.undrained);
        self.daemons[connection.place].close(connection, is_undrained, &mut self.journal);
    }

    /// Sends a message to all members. `Ok` promises nothing.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::multicast`](crate::Connection::multicast), and
    /// [`Error::Library`] once the daemon died.
    pub fn multicast(&mut self, connection: ConnectionId, message: Bytes) -> Result<()> {
        let is_refused = self.is_refused();
        let daemon = &mut self.daemons[connection.place];
        open(&mut daemon.connections, connection)?;
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(Error::TooBig);
        }
        let is_full = daemon
            .connections
            .get(&connection)
            .is_some_and(|connection| daemon.is_full(connection));
        if is_refused || !daemon.is_synced || is_full || take_one(&mut daemon.refuse_next) {
            self.journal.observed.refusals += 1;
            return Err(Error::TryAgain);
        }
        if take_one(&mut daemon.swallow_next) || self.random.chance(self.faults.swallowed) {
            self.journal.observed.lost_messages += 1;
            return Ok(());
        }
        let connection = open(&mut daemon.connections, connection)?;
        connection.unread_bytes += daemon::cost(&message);
        connection.requests.push_back(Request::Message(message, daemon.ring));
        daemon.unread += 1;
        Ok(())
    }

    /// The next event of this connection.
    ///
    /// # Errors
    ///
    /// [`Error::Library`] once its daemon died, for ever; what had not been polled is lost.
    /// [`Error::BadHandle`] after [`close`](Self::close).
    pub fn poll(&mut self, connection: ConnectionId) -> Result<Option<Event>> {
        let connection = self.daemons[connection.place].connections.get_mut(&connection);
        let connection = connection.ok_or(Error::BadHandle)?;
        if connection.is_lost { Err(Error::Library) } else { Ok(connection.next_event()) }
    }

    /// Returns true if [`poll`](Self::poll) would return an event or an error.
    pub fn has_events(&self, connection: ConnectionId) -> bool {
        self.daemons[connection.place]
            .connections
            .get(&connection)
            .is_none_or(SimConnection::has_events)
    }

    /// Returns the member as which this connection is, or was, listed.
    pub fn member(&self, connection: ConnectionId) -> Member {
        connection.member
    }

    /// The members of the group as the daemon of that node knows them now, sorted; none while
    /// it is dead.
    pub fn members(&self, node: NodeId) -> Vec<Member> {
        self.daemons[self.place(node)].processes.iter().copied().collect()
    }

    fn is_refused(&mut self) -> bool {
        self.random.chance(self.faults.refusals)
    }

    #[track_caller]
    fn place(&self, node: NodeId) -> usize {
        let place = self.daemons.binary_search_by_key(&node, |daemon| daemon.id);
        place.unwrap_or_else(|_| panic!("there is no node {node}"))
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sim")
            .field("now", &self.now())
            .field("rings", &self.rings.keys())
            .finish_non_exhaustive()
    }
}

/// A connection whose daemon lives and that has not asked to leave.
fn open(
    connections: &mut BTreeMap<ConnectionId, SimConnection>,
    connection: ConnectionId,
) -> Result<&mut SimConnection> {
    let connection = connections.get_mut(&connection).ok_or(Error::BadHandle)?;
    if connection.is_lost {
        return Err(Error::Library);
    }
    let has_left = connection.has_asked_to_leave || connection.progress == Progress::Left;
    if has_left { Err(Error::NotExist) } else { Ok(connection) }
}

fn take_one(left: &mut usize) -> bool {
    let is_left = *left > 0;
    *left = left.saturating_sub(1);
    is_left
}

fn ceil_to_rotation(time: Duration) -> Duration {
    let (time, rotation) = (time.as_nanos() as u64, ROTATION.as_nanos() as u64);
    Duration::from_nanos(time.div_ceil(rotation) * rotation)
}
