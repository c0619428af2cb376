//! The protocol, sans I/O: events and the time come in as [`Input`], what to do goes out
//! as [`Output`]. No clock, no thread, no randomness, no I/O inside, so a simulator is a
//! loop around it, and the runtime is another.
//!
//! Rules are cited as in `docs/protocol.md`.

mod catching_up;
mod clock;
mod coordinator;
mod disk;
mod election;
mod entry;
mod log;
mod members;
mod opening;
mod ordering;
mod origin;
mod pool;
mod progress;
mod status;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use cpg::Member;

use self::clock::LogClock;
use self::disk::Disk;
use self::election::Election;
pub use self::entry::{Batch, Content, Entry};
pub(crate) use self::entry::{BatchHead, Commands, EntryHead};
use self::log::Log;
use self::members::Members;
use self::origin::Proposals;
use self::pool::Pool;
use self::progress::Pace;
pub use self::status::{MemberStatus, Role, Status};
use crate::Timestamp;
use crate::message::{Mark, Message, Open};
use crate::types::{Ballot, ClusterId, Digest, Incarnation, Index, ReplicaId, StoreId, Voter};

/// The time, as an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Since some moment before the replica started; never goes back.
    pub monotonic: Duration,
    /// The wall clock, which may jump.
    pub wall: Timestamp,
}

/// What an engine is told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This run of the replica.
    pub incarnation: Incarnation,
    /// Its store.
    pub store: StoreId,
    /// The replicas that form the group at its very first start (rule V3); empty for a
    /// replica that comes later.
    pub bootstrap: Vec<ReplicaId>,
    /// How long commits may stand still, with work to do, before a new epoch is tried.
    /// Too low: epochs change for nothing under load. Too high: a sequencer that hangs
    /// without leaving the configuration stops the group for so long.
    pub election_timeout: Duration,
    /// After this time without an effect something is sent again.
    pub resend_timeout: Duration,
    /// Own batches that may be under way at once. Too low: the ring idles between
    /// batches. Too high: batches stay small under load, and each costs as much as a
    /// large one.
    pub batches_in_flight_max: usize,
    /// Commands are gathered into a batch up to this size in bytes; a single larger one
    /// is a batch of its own.
    pub batch_bytes_max: usize,
    /// Entries handed out to be applied and not yet applied.
    pub applying_max: u64,
    /// Applied entries that are kept for whoever comes late, when every voter has them.
    pub kept_entries_max: usize,
    /// Bytes of applied entries that are kept for voters that do not have them. Too low: a
    /// voter that was away for a while cannot catch up. Too high: that much memory while
    /// one is away.
    pub kept_bytes_max: usize,
}

impl Config {
    /// The usual values.
    pub fn new(incarnation: Incarnation, store: StoreId, bootstrap: Vec<ReplicaId>) -> Self {
        Self {
            incarnation,
            store,
            bootstrap,
            election_timeout: Duration::from_secs(1),
            resend_timeout: Duration::from_millis(250),
            batches_in_flight_max: 4,
            batch_bytes_max: 64 << 10,
            applying_max: 1024,
            kept_entries_max: 8192,
            kept_bytes_max: 256 << 20,
        }
    }
}

/// What happens to an engine. `T` is how callers are answered; the engine only carries
/// it.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "moved once, into the engine")]
pub enum Input<T> {
    /// A message from the group, in its order.
    Delivered {
        /// The CPG member that sent it.
        from: Member,
        /// The cluster id on its frame.
        cluster: Option<ClusterId>,
        /// The message.
        message: Message,
    },
    /// The members of the group after a change, in the group's order.
    Configuration {
        /// Oneself.
        local: Member,
        /// All members.
        members: Vec<Member>,
        /// Who of them is new.
        joined: Vec<Member>,
    },
    /// The group engine is gone; a `Configuration` follows when it is back.
    Disconnected {
        /// Why, for people.
        reason: String,
    },
    /// A command of a caller.
    Propose {
        /// To answer by.
        ticket: T,
        /// The command as bytes.
        command: Bytes,
    },
    /// The log thread has done this write, and all before it, durably.
    Written {
        /// Of [`Output::Write`].
        ticket: u64,
    },
    /// The log thread could not write; nothing later will be written.
    WriteFailed {
        /// Why.
        reason: String,
    },
    /// The apply thread has applied all entries up to here.
    Applied {
        /// The last.
        index: Index,
    },
    /// Time passed; wanted a few times per election timeout.
    Tick,
    /// No more input is at hand: what was gathered goes out now.
    Drained,
}

/// What an engine wants done, in order.
#[derive(Debug)]
pub enum Output<T> {
    /// Multicast it, first in, first out. `TryAgain` is the runtime's business.
    Send(Message),
    /// Write these to the log, in order, with one sync, behind all earlier writes.
    Write {
        /// To be named by [`Input::Written`].
        ticket: u64,
        /// What.
        ops: Vec<Op>,
    },
    /// Apply these committed entries, in order.
    Apply(Vec<Committed<T>>),
    /// Answer these callers: their commands will not be answered from the log.
    Fail {
        /// The callers.
        tickets: Vec<T>,
        /// Whether the commands may still take effect.
        may_take_effect: bool,
    },
    /// Leave the group for good; the reason is in the status.
    Stop,
}

/// A committed entry and who waits for it here.
#[derive(Debug)]
pub struct Committed<T> {
    /// The entry.
    pub entry: Entry,
    /// One for each command of the batch, in order, if it was proposed here; else none.
    pub callers: Vec<T>,
}

/// One step of a write to the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The durable facts, as a whole.
    Facts(Facts),
    /// One more entry.
    Append(Entry),
    /// No entry after this index.
    Cut(Index),
    /// No entry up to this index.
    Compact(Index),
}

/// What a replica must not forget besides its log (protocol §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Facts {
    /// The highest ballot answered (rule P1).
    pub promised: Ballot,
    /// The group that the log belongs to.
    pub cluster: Option<ClusterId>,
}

/// Why a replica stopped for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StopReason {
    /// Another live process has the same replica id and announced itself earlier.
    #[error(
        "replica {replica} runs already, as process {other} of the group (this is process \
         {mine}): stop one of the two, or give this one another id"
    )]
    Duplicate {
        /// The replica id.
        replica: ReplicaId,
        /// The other process.
        other: Member,
        /// This process.
        mine: Member,
    },
    /// Something that cannot be was seen: a bug or damaged memory. The replica stops
    /// before it does harm.
    #[error("{0}; this replica stopped before it could do harm: keep its logs and report this")]
    Invariant(String),
    /// The log could not be written.
    #[error("the log could not be written: {0}; mend the cause and start the replica again")]
    WriteFailed(String),
    /// `apply` of the application panicked.
    #[error("the state machine panicked: {0}; every replica will meet the same command")]
    ApplyPanicked(String),
    /// The group engine refuses what this replica does.
    #[error("the group engine refused: {0}")]
    Group(cpg::Error),
    /// Asked to.
    #[error("stopped as asked")]
    Asked,
}

/// An epoch that is open here.
#[derive(Debug)]
struct Epoch {
    open: Open,
    /// The log's last entry is of this epoch: this replica confirms, acks and proposes.
    in_step: bool,
    /// This incarnation orders (rule B7).
    sequencing: bool,
}

/// One replica's part of the protocol.
///
/// Feed it every event by [`step`](Self::step), then [`Input::Drained`] when no more are
/// at hand, and do what comes out in order.
#[derive(Debug)]
pub struct Engine<T> {
    config: Config,
    now: Now,
    cluster: Option<ClusterId>,
    members: Members,
    promised: Ballot,
    log: Log,
    disk: Disk,
    clock: LogClock,
    epoch: Option<Epoch>,
    election: Election,
    proposals: Proposals<T>,
    /// Batches delivered and not yet in the log (rule N5).
    pool: Pool,
    /// Marks after the end of the log, in order, without gaps.
    marks: VecDeque<Mark>,
    /// Digests that the sequencer told for indices after the end of the log.
    expected: BTreeMap<Index, Digest>,
    /// What each store has acked in this epoch (rule N8).
    acks: BTreeMap<Voter, Index>,
    /// What this replica has acked in this epoch.
    acked: Index,
    commit: Index,
    handed_out: Index,
    applied: Index,
    pace: Pace,
    stopped: Option<StopReason>,
}

/// A result whose error stops the replica.
type Checked<V = ()> = Result<V, StopReason>;

/// An invariant, asserted in release: broken, it stops the replica and not the process.
fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(StopReason::Invariant(what())) }
}

impl<T> Engine<T> {
    /// An engine with an empty store.
    pub fn new(config: Config, now: Now) -> Self {
        Self {
            election: Election::new(config.incarnation.nonce, now.monotonic),
            now,
            cluster: None,
            members: Members::default(),
            promised: Ballot::default(),
            log: Log::default(),
            disk: Disk::default(),
            clock: LogClock::default(),
            epoch: None,
            proposals: Proposals::default(),
            pool: Pool::default(),
            marks: VecDeque::new(),
            expected: BTreeMap::new(),
            acks: BTreeMap::new(),
            acked: Index(0),
            commit: Index(0),
            handed_out: Index(0),
            applied: Index(0),
            pace: Pace::default(),
            stopped: None,
            config,
        }
    }

    /// Takes one event in and adds what is to be done to `out`.
    pub fn step(&mut self, now: Now, input: Input<T>, out: &mut Vec<Output<T>>) {
        self.now = now;
        if self.stopped.is_some() {
            if let Input::Propose { ticket, .. } = input {
                out.push(Output::Fail { tickets: vec![ticket], may_take_effect: false });
            }
            return;
        }
        if let Err(reason) = self.handle(input, out) {
            self.stop(reason, out);
        }
    }

    fn handle(&mut self, input: Input<T>, out: &mut Vec<Output<T>>) -> Checked {
        match input {
            Input::Delivered { from, cluster, message } => {
                if self.is_of_this_cluster(from, cluster, &message) {
                    self.on_message(from, message, out)?;
                }
                Ok(())
            }
            Input::Configuration { local, members, joined } => {
                self.members.configure(local, &members, &joined);
                Ok(())
            }
            Input::Disconnected { reason } => {
                self.members.disconnect(reason);
                Ok(())
            }
            Input::Propose { ticket, command } => {
                self.proposals.queue(ticket, command);
                Ok(())
            }
            Input::Written { ticket } => self.on_written(ticket, out),
            Input::WriteFailed { reason } => Err(StopReason::WriteFailed(reason)),
            Input::Applied { index } => {
                self.applied = self.applied.max(index);
                self.compact();
                Ok(())
            }
            Input::Tick => {
                self.on_tick(out);
                Ok(())
            }
            Input::Drained => self.on_drained(out),
        }
    }

    fn on_message(&mut self, from: Member, message: Message, out: &mut Vec<Output<T>>) -> Checked {
        match message {
            Message::Announce(announce) => self.on_announce(from, &announce),
            Message::Begin(ballot) => {
                self.on_begin(ballot, out);
                Ok(())
            }
            Message::Report(report) => {
                self.on_report(from, report, out);
                Ok(())
            }
            Message::Open(open) => self.on_open(open),
            Message::Batch(batch, progress) => self.on_batch(from, batch, progress),
            Message::Progress(progress) => self.on_progress(from, progress, true),
            Message::Fetch(fetch) => {
                self.on_fetch(&fetch, out);
                Ok(())
            }
            Message::Entries(entries) => self.on_entries(entries, out),
        }
    }

    /// Rule V4: messages of another cluster are ignored and reported.
    fn is_of_this_cluster(
        &mut self,
        from: Member,
        cluster: Option<ClusterId>,
        message: &Message,
    ) -> bool {
        match (self.cluster, cluster) {
            (Some(mine), Some(theirs)) if mine != theirs => {
                if self.members.foreign(from, theirs) {
                    tracing::warn!(
                        %from, %mine, %theirs,
                        "a member of this CPG group belongs to another cluster and is ignored: \
                         give one of the two another group name"
                    );
                }
                false
            }
            // A replica that knows no cluster belongs to the first that takes it in.
            (None, Some(theirs)) if matches!(message, Message::Open(_)) => {
                self.cluster = Some(theirs);
                true
            }
            _ => true,
        }
    }

    fn on_tick(&mut self, out: &mut Vec<Output<T>>) {
        self.resend_batches(out);
        self.resend_marks();
        self.fetch_missing(out);
        self.heartbeat();
    }

    fn on_drained(&mut self, out: &mut Vec<Output<T>>) -> Checked {
        self.announce(out);
        self.ask_for_open(out);
        self.consider_ballot(out);
        self.send_batches(out);
        self.order_pool()?;
        self.disk.flush(out);
        self.send_progress(out);
        self.hand_out(out)
    }

    /// Hands committed entries out to be applied (rule N8).
    fn hand_out(&mut self, out: &mut Vec<Output<T>>) -> Checked {
        let until = Index((self.applied.0 + self.config.applying_max).min(self.commit.0));
        if self.handed_out >= until {
            return Ok(());
        }
        let mut committed = Vec::with_capacity((until.0 - self.handed_out.0) as usize);
        for entry in self.log.from(self.handed_out.next()).take_while(|e| e.index() <= until) {
            let callers = match &entry.content {
                Content::Batch(batch) => self.proposals.committed(batch)?,
                Content::EpochStart(_) => Vec::new(),
            };
            committed.push(Committed { entry: entry.clone(), callers });
        }
        ensure(committed.len() as u64 == until.0 - self.handed_out.0, || {
            format!("committed entries up to {until} are not in the log")
        })?;
        self.handed_out = until;
        out.push(Output::Apply(committed));
        Ok(())
    }

    /// Forgets old entries that are applied here. With the log in memory the state
    /// machine itself is what they are kept in.
    fn compact(&mut self) {
        let Config { kept_entries_max, kept_bytes_max, .. } = self.config;
        let acked = |voter: &Voter| self.acks.get(voter).copied().unwrap_or_default();
        let by_all = self.log.voters().now.iter().map(acked).min().unwrap_or_default();
        let spare = self.log.last().index.0.saturating_sub(kept_entries_max as u64);
        let through = Index(spare).min(by_all).min(self.applied);
        // In steps, so that it is not done for every entry.
        let worth_it = through.0 > self.log.first_kept().0 + kept_entries_max as u64 / 4;
        let through = if self.log.bytes() > kept_bytes_max {
            self.log.first_within(kept_bytes_max / 4 * 3).min(self.applied)
        } else if worth_it {
            through
        } else {
            return;
        };
        self.log.compact(through);
        self.disk.push(Op::Compact(through));
    }

    /// Stops for good: leaves the group, answers who waits, stays inspectable.
    fn stop(&mut self, reason: StopReason, out: &mut Vec<Output<T>>) {
        tracing::error!(replica = %self.me(), %reason, "replica stops");
        self.stopped = Some(reason);
        let (unsent, sent) = self.proposals.abandon();
        out.push(Output::Fail { tickets: unsent, may_take_effect: false });
        out.push(Output::Fail { tickets: sent, may_take_effect: true });
        out.push(Output::Stop);
    }

    /// Stops from outside: asked to, or the runtime failed.
    pub fn shut_down(&mut self, reason: StopReason, out: &mut Vec<Output<T>>) {
        if self.stopped.is_none() {
            if reason == StopReason::Asked {
                tracing::info!(replica = %self.me(), "replica stops as asked");
                let (unsent, sent) = self.proposals.abandon();
                self.stopped = Some(reason);
                out.push(Output::Fail { tickets: unsent, may_take_effect: false });
                out.push(Output::Fail { tickets: sent, may_take_effect: true });
                out.push(Output::Stop);
            } else {
                self.stop(reason, out);
            }
        }
    }

    /// Whether more proposals should be taken in now.
    pub fn has_room(&self) -> bool {
        self.proposals.queued_bytes() < self.config.batch_bytes_max * 2
    }

    /// The cluster that this replica belongs to, for the frames it sends.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.cluster
    }

    fn me(&self) -> Incarnation {
        self.config.incarnation
    }

    fn voter(&self) -> Voter {
        Voter { replica: self.me().replica, store: self.config.store }
    }

    /// The epoch open here, if no higher ballot was promised (rule B3).
    fn live(&self) -> Option<&Epoch> {
        self.epoch.as_ref().filter(|epoch| epoch.open.ballot == self.promised)
    }

    fn is_in_step(&self) -> bool {
        self.live().is_some_and(|epoch| epoch.in_step)
    }

    fn is_sequencing(&self) -> bool {
        self.live().is_some_and(|epoch| epoch.sequencing)
    }

    /// Adds an entry to the log and to what is to be written.
    fn append(&mut self, epoch: Ballot, time: Timestamp, content: Content) {
        let entry = self.log.append(epoch, time, content).clone();
        self.clock.seen(time, self.now.monotonic);
        self.disk.append(entry);
    }
}
