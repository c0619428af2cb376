mod threads;
mod view;

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use cpg::Event;
use cpg::sim::ConnectionId;

use self::view::View;
use super::checker::{Checked, ProposalId, Violation, check};
use super::clock::Clock;
use super::disk::Digests;
use super::log_time::KnownTime;
use super::trace::brief;
use super::watched::Watched;
use super::world::World;
use super::{Answer, Random, Workload};
use crate::StateMachine;
use crate::engine::{Committed, Engine, EntryPayload, Input, Op, Output, StopReason, TICK};
use crate::machine::Applier;
use crate::runtime::ReadQueue;
use crate::snapshot::{SnapshotCommand, SnapshotHead, SnapshotName};
use crate::wire::codec::{self, Frame};
use crate::wire::message::Message;
use crate::wire::types::{ApplicationId, Ballot, ClusterId, Incarnation, Index, Origin};

/// Interval of attempts to reconnect to the transport.
const RETRY: Duration = Duration::from_millis(100);

/// A task of the apply thread.
enum Work {
    Apply(Vec<Committed<ProposalId>>),
    Reads(Vec<ProposalId>),
    Capture(Box<SnapshotHead>),
    Restore(SnapshotName),
}

/// One incarnation of a replica: the engine, and the work of the threads around it.
pub(super) struct Process<M: StateMachine> {
    pub(super) incarnation: Incarnation,
    pid: cpg::Pid,
    node: cpg::NodeId,
    connection: Option<ConnectionId>,
    join_at: Duration,
    refusals: u32,
    /// Number of messages sent.
    pub(super) sent: u64,
    pub(super) engine: Engine<ProposalId>,
    /// Frames to send, in the engine's order. The group may have rejected the first one already.
    unsent: VecDeque<Bytes>,
    /// The log in memory, derived from the write commands.
    log: Digests,
    /// The log thread: waiting writes, and the ticket and end of the current sync.
    writes: VecDeque<(u64, Vec<Op>)>,
    syncing: Option<(u64, Duration)>,
    /// Pending reads of the log: first entry and maximum number of bytes.
    to_read: VecDeque<(Index, usize)>,
    /// Number of writes in the current sync.
    in_sync: usize,
    /// Time since which the engine withholds entries because too many writes are in progress.
    full_since: Option<Duration>,
    /// The apply thread: waiting tasks, and the time until which it works on the first.
    to_apply: VecDeque<Work>,
    applying_until: Option<Duration>,
    pub(super) reads: ReadQueue<ProposalId>,
    /// Waiting local reads.
    pub(super) local_reads: Vec<ProposalId>,
    /// Proposals of this process that it does not know to be applied.
    pub(super) proposed: BTreeSet<ProposalId>,
    /// The snapshot thread: waiting commands.
    snapshot_commands: VecDeque<SnapshotCommand>,
    /// Time until which the snapshot thread works on the first command.
    shelving_until: Option<Duration>,
    /// The snapshot that is being written, and the time at which it is complete.
    capturing: Option<(Box<SnapshotHead>, M::Snapshot, Duration)>,
    applier: Applier<Watched<M>>,
    pub(super) applied: Index,
    /// Index of the last entry handed to the apply thread.
    handed_out: Index,
    /// Lower bound for the log time that this incarnation knows.
    pub(super) known_time: KnownTime,
    ticked_at: Duration,
    /// The process does not run before this time.
    pub(super) runs_at: Duration,
    /// The group accepts no messages from the process before this time.
    pub(super) sends_at: Duration,
    /// Own batches that were sent in the open epoch.
    sent_in_epoch: BTreeSet<(Origin, u64)>,
    /// The epoch that its engine last opened.
    epoch: Ballot,
    /// The highest promise of its engine.
    promised: Ballot,
    /// Time of the last commit that it learned.
    committed_at: Duration,
    view: View,
    /// True if it has opened an epoch in its turn.
    pub(super) opened: bool,
    /// The first epoch opened since the last write.
    opened_since_write: Option<Ballot>,
    /// True if it is to be killed at the end of its turn.
    pub(super) dies: bool,
    /// True if the network is to split at the end of its turn.
    pub(super) splits: bool,
    /// True if the network is to heal at the end of its turn.
    pub(super) heals: bool,
    /// True once its engine has stopped.
    pub(super) stopped: bool,
    /// Time until which a stopped process stays for inspection.
    pub(super) buried_at: Duration,
}

impl<M: StateMachine<Output: Clone + PartialEq + fmt::Debug>> Process<M> {
    pub(super) fn new(
        incarnation: Incarnation,
        node: cpg::NodeId,
        pid: cpg::Pid,
        engine: Engine<ProposalId>,
        log: Digests,
        applier: Applier<Watched<M>>,
        now: Duration,
    ) -> Self {
        Self {
            incarnation,
            pid,
            node,
            connection: None,
            join_at: now,
            refusals: 0,
            sent: 0,
            engine,
            unsent: VecDeque::new(),
            log,
            writes: VecDeque::new(),
            syncing: None,
            to_read: VecDeque::new(),
            in_sync: 0,
            full_since: None,
            to_apply: VecDeque::new(),
            applying_until: None,
            reads: ReadQueue::default(),
            local_reads: Vec::new(),
            proposed: BTreeSet::new(),
            snapshot_commands: VecDeque::new(),
            shelving_until: None,
            capturing: None,
            applier,
            applied: Index(0),
            handed_out: Index(0),
            known_time: KnownTime::default(),
            ticked_at: now,
            runs_at: now,
            sends_at: now,
            sent_in_epoch: BTreeSet::new(),
            epoch: Ballot::default(),
            promised: Ballot::default(),
            committed_at: Duration::ZERO,
            view: View::default(),
            opened: false,
            opened_since_write: None,
            dies: false,
            splits: false,
            heals: false,
            stopped: false,
            buried_at: Duration::ZERO,
        }
    }

    /// Returns the process as its group lists it.
    pub(super) fn member(&self) -> cpg::Member {
        cpg::Member { node: self.node, pid: self.pid }
    }

    /// Returns the state machine.
    pub(super) fn machine(&self) -> &M {
        &self.applier.machine().machine
    }

    /// Runs the process once: takes events, advances its threads, and sends messages.
    pub(super) fn turn<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
        clock: &Clock,
    ) -> Checked {
        let now = world.now();
        if now < self.runs_at || self.stopped {
            return Ok(());
        }
        let mut any = self.take_events(world, clock)?;
        any |= self.log_thread(world, clock)?;
        any |= self.apply_thread(world, clock)?;
        any |= self.writer_thread(world, clock)?;
        any |= self.snapshot_thread(world, clock)?;
        if now.saturating_sub(self.ticked_at) >= TICK {
            self.ticked_at = now;
            any = true;
            let had_sent_all = self.unsent.is_empty();
            self.input(world, clock, Input::Tick)?;
            self.check_resent(had_sent_all)?;
        }
        if any {
            self.drain(world, clock)?;
        }
        self.send(world, clock)?;
        self.report_unsent(world, clock)?;
        let pause = world.parameters.turn_max;
        if !world.is_calm && !pause.is_zero() {
            self.runs_at = now + world.random.up_to(pause);
        }
        Ok(())
    }

    pub(super) fn drain<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
        clock: &Clock,
    ) -> Checked {
        self.input(world, clock, Input::Drained)
    }

    pub(super) fn input<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
        clock: &Clock,
        input: Input<ProposalId>,
    ) -> Checked {
        let mut out = Vec::new();
        let had_stopped = self.stopped;
        let (epoch, last) = (self.engine.last_epoch(), self.engine.last());
        self.engine.step(clock.now(world.now()), input, &mut out);
        let only_refuses = out.iter().all(|output| match output {
            Output::Fail { may_take_effect, .. } => !may_take_effect,
            Output::Answer { result, .. } => result.is_err(),
            Output::FailReads { .. } => true,
            _ => false,
        });
        check(!had_stopped || only_refuses, || {
            format!("{} acts after it has stopped: {out:?}", self.incarnation.replica)
        })?;
        self.check_ordered(epoch, last, world.now())?;
        self.carry_out(world, out)?;
        self.check_bounds(world)
    }

    /// Checks rule N1: batches that an epoch change left unordered are sent again at once.
    fn check_resent(&self, had_sent_all: bool) -> Checked {
        let left = self.engine.unordered().into_iter();
        let mut left = left.filter(|batch| !self.sent_in_epoch.contains(batch));
        let next = left.next().filter(|_| had_sent_all && !self.stopped);
        check(next.is_none(), || {
            format!("N1: {} does not send {next:?} again in a new epoch", self.incarnation.replica)
        })
    }

    /// Checks that nothing exceeds its bounds, and that entries leave memory only when they are
    /// durable.
    fn check_bounds<W: Workload<Machine = M>>(&self, world: &World<W>) -> Checked {
        let replica = self.incarnation.replica;
        let exceeds = self.engine.exceeds();
        check(exceeds.is_none(), || {
            format!("bounds: {replica} has {}", exceeds.unwrap_or_default())
        })?;
        let Some(store) = world.stores.get(&replica) else { return Ok(()) };
        let (last, digest) = self.engine.before_memory();
        let is_kept = store.digests.holds(last, digest) || last <= store.snapshot_index();
        check(is_kept || self.engine.config().volatile, || {
            format!("L3: {replica} has dropped entry {last} from memory before it is durable")
        })
    }

    /// Checks the entries that it has ordered as the sequencer in this step. Before the step its
    /// log ended at `last` and in `epoch`.
    fn check_ordered(&self, epoch: Ballot, last: Index, now: Duration) -> Checked {
        if !self.engine.is_sequencer() {
            return Ok(());
        }
        let goes_on = self.engine.last_epoch() == epoch;
        let base = self.engine.open().map_or(last, |open| open.base.index);
        let mut news = self.engine.entries_after(if goes_on { last } else { base });
        news.try_for_each(|entry| self.view.check_ordered(&self.engine, entry, now))
    }

    /// Forces a new cluster, as an operator does (rule V4).
    pub(super) fn force<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
        clock: &Clock,
        ticket: u64,
    ) -> Checked {
        world.act_as(self.engine.cluster());
        let before = self.engine.cluster();
        let mut out = Vec::new();
        let input = Input::ForceNewCluster { ticket };
        self.engine.step(clock.now(world.now()), input, &mut out);
        let forced = self.engine.cluster().filter(|id| Some(*id) != before);
        if let Some((id, open)) = forced.zip(self.engine.open()) {
            let kept = self.engine.log().filter(|entry| entry.position.epoch < open.ballot);
            world.force(id, open, &Digests::of(self.engine.first_in_memory(), kept))?;
            if let Some(store) = world.stores.get_mut(&self.incarnation.replica) {
                store.forget_commits(open.base.index);
            }
        }
        self.carry_out(world, out)
    }

    /// Shuts down in order: pending writes are written.
    pub(super) fn stop<W: Workload<Machine = M>>(&mut self, world: &mut World<W>) -> Checked {
        let mut out = Vec::new();
        self.engine.shut_down(StopReason::Asked, &mut out);
        self.carry_out(world, out)?;
        let store = world.stores.get_mut(&self.incarnation.replica);
        let Some(store) = store else { return Ok(()) };
        for (_, ops) in self.writes.drain(..) {
            store.submit(ops)?;
        }
        store.sync()
    }

    /// Stops the process because a snapshot is damaged.
    fn fail<W: Workload<Machine = M>>(&mut self, world: &mut World<W>, reason: String) -> Checked {
        let mut out = Vec::new();
        self.engine.shut_down(StopReason::SnapshotFailed(reason), &mut out);
        self.carry_out(world, out)
    }

    /// Gives up the connection; the caller closes it or leaves the group.
    pub(super) fn disconnect(&mut self) -> Option<ConnectionId> {
        self.connection.take()
    }

    fn carry_out<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
        out: Vec<Output<ProposalId>>,
    ) -> Checked {
        let replica = self.incarnation.replica;
        world.act_as(self.engine.cluster());
        let (commit, epoch) = (self.engine.commit(), self.engine.last_epoch());
        let store = world.stores.get_mut(&replica);
        if store.is_some_and(|store| store.committed(commit, epoch)) {
            world.checker.commits(commit, epoch)?;
            self.committed_at = world.now();
            self.view.advanced();
        }
        let p = &world.parameters;
        let strikes = |rate: u32, random: &mut Random| rate > 0 && random.chance(rate);
        if epoch != self.epoch {
            self.opened = true;
            self.opened_since_write.get_or_insert(epoch);
            self.view.advanced();
            self.sent_in_epoch.clear();
        }
        if !world.is_calm && !world.in_staged_fault {
            let changes =
                world.checker.voters(epoch).is_some_and(|voters| !voters.is_settled(commit));
            let splits = p.splits_at_open * if changes { 4 } else { 1 };
            self.splits |= epoch != self.epoch && strikes(splits, &mut world.random);
            self.heals |= epoch != self.epoch && strikes(p.heals_at_open, &mut world.random);
            self.dies |= epoch != self.epoch && strikes(p.kills_at_open, &mut world.random);
            self.dies |= self.engine.promised() != self.promised
                && strikes(p.kills_at_promise, &mut world.random);
        }
        (self.epoch, self.promised) = (epoch, self.engine.promised());
        for output in out {
            match output {
                Output::Send(message) => {
                    world.note(|| format!("{replica} sends {}", brief(&message)));
                    world.check_message(replica, &self.log, &message)?;
                    self.check_acks(&message)?;
                    if let Message::Report(report) = &message {
                        self.known_time.check_report(report, world.now())?;
                    }
                    if let Message::Begin(ballot) = message {
                        self.view.check_ballot(&self.engine, ballot, world.now())?;
                    }
                    self.check_entries(&message)?;
                    if let Message::Batch(batch, _) = &message {
                        self.sent_in_epoch.insert((batch.origin, batch.number));
                    }
                    let (application, cluster) = (self.engine.application(), self.engine.cluster());
                    self.unsent.push_back(encode(application, cluster, &message));
                }
                Output::Write { ticket, ops } => {
                    self.note_log(world, &ops)?;
                    self.opened_since_write = None;
                    if self.engine.config().volatile {
                        if let Some(store) = world.stores.get_mut(&replica) {
                            store.submit(ops)?;
                            store.sync()?;
                        }
                    } else {
                        self.writes.push_back((ticket, ops));
                        let is_full = self.writes.len() + self.in_sync >= 2;
                        self.full_since = is_full.then(|| world.now());
                    }
                }
                Output::ReadLog { first, bytes_max } => {
                    self.to_read.push_back((first, bytes_max));
                }
                Output::Apply(entries) => {
                    for committed in &entries {
                        self.check_committed(world, committed)?;
                    }
                    self.to_apply.push_back(Work::Apply(entries));
                }
                Output::Capture(head) => self.to_apply.push_back(Work::Capture(head)),
                Output::Restore(name) => {
                    world.note(|| format!("{replica} installs {name}"));
                    if name.index() < self.handed_out {
                        return Err(Violation(format!("L6: {replica} installs the older {name}")));
                    }
                    let p = &world.parameters;
                    let is_fresh = self.handed_out == Index(0);
                    self.dies |= !world.is_calm
                        && !is_fresh
                        && p.kills_at_restore > 0
                        && world.random.chance(p.kills_at_restore);
                    self.handed_out = name.index();
                    // The entries in a snapshot were committed long ago.
                    self.committed_at = Duration::ZERO;
                    self.to_apply.push_back(Work::Restore(name));
                }
                Output::Snapshot(op) => self.snapshot_commands.push_back(op),
                Output::Forgo { tickets } => {
                    for id in tickets {
                        world.checker.forgone(id)?;
                        world.answer(id, Answer::Unknown);
                    }
                }
                Output::Fail { tickets, may_take_effect } => {
                    for id in tickets {
                        if !may_take_effect {
                            world.checker.refused(id)?;
                        }
                        let answer =
                            if may_take_effect { Answer::Unknown } else { Answer::Refused };
                        world.answer(id, answer);
                    }
                }
                Output::Answer { ticket, result } => {
                    world.requests.remove(&ticket);
                    world.note(|| format!("request {ticket} at {replica}: {result:?}"));
                }
                Output::Read { tickets } => self.reads.are_ready(&tickets),
                Output::FailReads { tickets } => {
                    for id in self.reads.give_up(&tickets) {
                        world.show(id, None);
                    }
                }
                Output::Stop => self.on_stop(world)?,
            }
        }
        if let Some(reads) = self.reads.hand_out() {
            self.to_apply.push_back(Work::Reads(reads));
        }
        Ok(())
    }

    /// Checks rule L3: entries sent to a lagging replica are those in the log.
    fn check_entries(&self, message: &Message) -> Checked {
        let Message::Entries(piece) = message else { return Ok(()) };
        let last = Index(piece.first.0 + piece.entries.len() as u64 - 1);
        let holds = self.engine.digest_at(last).is_none_or(|digest| digest == piece.digest);
        check(holds, || {
            format!(
                "L3: {} sends entries up to {last} that it does not hold",
                self.incarnation.replica
            )
        })
    }

    /// Checks rule L4: nothing is acked before the log ends in the epoch.
    fn check_acks(&self, message: &Message) -> Checked {
        let (Message::Progress(sent) | Message::Batch(_, Some(sent))) = message else {
            return Ok(());
        };
        let ends_in = self.engine.ends_in();
        check(sent.acked == Index(0) || ends_in == sent.epoch, || {
            let (replica, acked, epoch) = (self.incarnation.replica, sent.acked, sent.epoch);
            format!("L4: {replica} acks {acked} in epoch {epoch}, but its log ends in {ends_in}")
        })
    }

    /// Checks the reason of a stop: an orderly shutdown, a failed write, or a snapshot that was
    /// damaged by a fault.
    fn on_stop<W: Workload<Machine = M>>(&mut self, world: &World<W>) -> Checked {
        self.stopped = true;
        self.buried_at = world.now() + world.parameters.restart_max;
        let damaged =
            world.stores.get(&self.incarnation.replica).is_some_and(|s| s.damage.is_some());
        let replica = self.incarnation.replica;
        match self.engine.status().stopped {
            Some(StopReason::Asked | StopReason::WriteFailed(_)) => Ok(()),
            Some(StopReason::SnapshotFailed(_)) if damaged => Ok(()),
            reason => {
                world.note(|| format!("{replica} stops: {reason:?}"));
                Err(Violation(format!("replica {replica} stops: {reason:?}")))
            }
        }
    }

    fn note_log<W: Workload<Machine = M>>(&mut self, world: &mut World<W>, ops: &[Op]) -> Checked {
        let now = world.now();
        let since = self.full_since.take().unwrap_or(now)..now;
        for op in ops {
            if let Op::Append(entry) = op {
                let before = self.log.at(Index(entry.position.index.0 - 1));
                if self.log.last().next() != entry.position.index {
                    return Err(Violation(format!(
                        "{} appends {} to a log that ends at {}",
                        self.incarnation.replica,
                        entry.position,
                        self.log.last()
                    )));
                }
                let by = self.incarnation;
                world.checker.appended(entry, before, by, &self.known_time, &since)?;
                self.known_time.saw(entry.time, now);
                if let EntryPayload::Notice(notice) = &entry.payload {
                    self.known_time.has_joined |= notice.joined.contains(&by);
                }
            }
            if let Op::Compact(through) = op {
                check(*through <= self.engine.handed_out(), || {
                    let replica = self.incarnation.replica;
                    format!("L6: {replica} compacts through {through}, which it has not handed out")
                })?;
            }
            if let Op::Truncate(after) | Op::Reset(after) = op {
                let epoch = self.opened_since_write.unwrap_or_else(|| self.engine.last_epoch());
                world.checker.cut(*after, &self.log, epoch)?;
            }
            self.log.apply(op);
        }
        Ok(())
    }

    /// Checks a committed entry that is handed to the state machine: indices follow each other
    /// without gaps.
    fn check_committed<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
        committed: &Committed<ProposalId>,
    ) -> Checked {
        let index = committed.entry.position.index;
        let replica = self.incarnation.replica;
        if index != self.handed_out.next() {
            return Err(Violation(format!("N8: {replica} hands out {index} out of order")));
        }
        self.handed_out = index;
        world.check_committed(replica, committed)
    }

    fn take_events<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
        clock: &Clock,
    ) -> Checked<bool> {
        let Some(connection) = self.connection else {
            return Ok(self.connect(world));
        };
        let mut any = false;
        let at_once = if world.is_calm { 1000 } else { world.parameters.events_at_once };
        for _ in 0..at_once {
            if self.stopped {
                break;
            }
            match world.network.poll(connection) {
                Ok(None) => break,
                Ok(Some(event)) => {
                    any = true;
                    self.take_event(world, clock, connection, event)?;
                }
                Err(error) => {
                    self.lose(world, clock, error)?;
                    return Ok(true);
                }
            }
        }
        Ok(any)
    }

    fn take_event<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
        clock: &Clock,
        connection: ConnectionId,
        event: Event,
    ) -> Checked {
        let replica = self.incarnation.replica;
        match event {
            Event::Deliver { sender, message } => {
                let frame = codec::decode_frame(&message)
                    .map_err(|error| Violation(format!("a frame is damaged: {error}")))?;
                let message = &frame.message;
                world.note(|| format!("{replica} receives from {sender}: {}", brief(message)));
                let begun = if let Message::Begin(ballot) = message { Some(*ballot) } else { None };
                let before = self.engine.promised();
                let healthy = begun.is_some_and(|ballot| self.is_healthy(world, ballot));
                let (cluster, from) = (frame.cluster, sender);
                self.view.hear(&self.engine, from, cluster, message, world.now());
                let input = self.engine.delivered(sender, frame);
                self.input(world, clock, input)?;
                check(!healthy || self.engine.promised() == before, || {
                    format!("E3: {replica} promises {begun:?} although its epoch is healthy")
                })
            }
            Event::Configuration(configuration) => {
                world.note(|| {
                    format!(
                        "{replica} receives a configuration with members {:?}",
                        configuration.members
                    )
                });
                let joined: Vec<_> =
                    configuration.joined.iter().map(|change| change.member).collect();
                let local = world.network.member(connection);
                let members = configuration.members;
                self.view.configure(&self.engine, &members, &joined, world.now());
                let saw_sequencer = self.engine.sees_sequencer();
                self.input(world, clock, Input::Configuration { local, members, joined })?;
                if saw_sequencer && self.engine.sees_sequencer() {
                    self.view.sequencer_stayed(world.now());
                }
                Ok(())
            }
            Event::Ring(_) => Ok(()),
        }
    }

    /// Returns true if rule E3 demands that this replica ignores the ballot: the sequencer is in
    /// the configuration, and commits have advanced or the configuration has changed recently. The
    /// times have a margin, because clocks differ.
    fn is_healthy<W: Workload<Machine = M>>(&self, world: &World<W>, ballot: Ballot) -> bool {
        let timeout = world.parameters.election_timeout;
        let recent = world.now().saturating_sub(self.committed_at);
        let sequencer = world.checker.sequencer(self.engine.last_epoch());
        self.engine.promised() == self.engine.last_epoch()
            && (recent < timeout.mul_f64(0.4) || self.view.has_just_changed(world.now(), timeout))
            && self.engine.sees_sequencer()
            && sequencer
                .is_some_and(|run| (run.replica.0, run.nonce) != (ballot.replica, ballot.nonce))
    }

    fn connect<W: Workload<Machine = M>>(&mut self, world: &mut World<W>) -> bool {
        let now = world.now();
        if now < self.join_at {
            return false;
        }
        match world.network.join(self.node, self.pid) {
            Ok(connection) => self.connection = Some(connection),
            Err(_) => {
                self.join_at = now + RETRY;
                self.refusals += 1;
            }
        }
        // Another process with this id may be dead, but still listed.
        if self.refusals > 20 {
            self.refusals = 0;
            self.pid = world.new_pid(None);
        }
        self.connection.is_some()
    }

    fn lose<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
        clock: &Clock,
        error: cpg::Error,
    ) -> Checked {
        world.note(|| format!("{} loses its transport: {error}", self.incarnation.replica));
        if let Some(connection) = self.connection.take() {
            world.network.close(connection);
        }
        self.unsent.clear();
        self.view.lose();
        self.join_at = world.now() + RETRY;
        self.input(world, clock, Input::Disconnected { reason: error.to_string() })
    }

    /// Queues a message that did not come from the engine.
    pub(super) fn push(&mut self, message: &Message) {
        let (application, cluster) = (self.engine.application(), self.engine.cluster());
        self.unsent.push_back(encode(application, cluster, message));
    }

    /// Reports the unsent frames to the engine. They are bounded, however long the group accepts no
    /// messages.
    fn report_unsent<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
        clock: &Clock,
    ) -> Checked {
        let frames = self.unsent.len();
        let bytes = self.unsent.iter().map(Bytes::len).sum();
        let most = UNSENT_MAX + 2 * world.parameters.batches_in_flight_max;
        check(frames <= most && bytes <= UNSENT_BYTES_MAX, || {
            format!(
                "N12: {} has {frames} unsent frames, at most {most} are allowed",
                self.incarnation.replica
            )
        })?;
        self.input(world, clock, Input::Unsent { frames, bytes })
    }

    /// Sends frames in order, until the group rejects one; that one is sent later.
    fn send<W: Workload<Machine = M>>(&mut self, world: &mut World<W>, clock: &Clock) -> Checked {
        let Some(connection) = self.connection else {
            self.unsent.clear();
            return Ok(());
        };
        if world.now() < self.sends_at && !world.is_calm {
            return Ok(());
        }
        while let Some(frame) = self.unsent.front() {
            match world.network.multicast(connection, frame.clone()) {
                Ok(()) => {
                    world.messages += 1;
                    self.sent += 1;
                    self.unsent.pop_front();
                }
                Err(error) if error.is_retryable() => break,
                Err(error) => return self.lose(world, clock, error),
            }
        }
        Ok(())
    }
}

/// Limits of the frames that may wait while the group accepts no messages (rule N12), besides the
/// batches in flight: the latest message of each kind, the chunks of two snapshots, and answers.
const UNSENT_MAX: usize = 128;
const UNSENT_BYTES_MAX: usize = 8 << 20;

fn encode(application: ApplicationId, cluster: Option<ClusterId>, message: &Message) -> Bytes {
    let frame = Frame::new(application, cluster, message);
    let [head, commands] = frame.slices();
    let mut bytes = Vec::with_capacity(head.len() + commands.len());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(&commands);
    bytes.into()
}
