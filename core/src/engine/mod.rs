//! The protocol, sans I/O: events and the time come in as [`Input`], and what has to be done goes
//! out as [`Output`]. There is no clock, thread, randomness or I/O inside, so a simulator is a loop
//! around the engine, and the runtime is another.
//!
//! Rule labels refer to `docs/protocol.md`.

mod config;
mod epoch;
#[cfg(test)]
mod hostile;
#[cfg(feature = "testing")]
mod inspect;
mod io;
mod log;
mod membership;
mod plausible;
mod replication;
mod snapshot_io;
#[cfg(test)]
mod solo;
mod status;
mod stop;
mod transfer;
mod waiting;

use std::time::Duration;

use cpg::Member;

pub use self::config::Config;
use self::epoch::election::Election;
pub use self::io::{Committed, HardState, Input, Now, Op, Output};
use self::log::Log;
pub use self::log::recovery::{Recovered, RestartError};
pub use self::log::snapshots::SnapshotHead;
use self::log::write_queue::WriteQueue;
use self::membership::peers::Peers;
use self::membership::voters::Requests;
pub use self::membership::voters::{AdminError, VOTERS_MAX, VoterChange};
use self::replication::clock::LogClock;
use self::replication::commit::Commit;
use self::replication::ordering::Ordering;
use self::replication::outbox::Outbox;
use self::replication::progress::ProgressGate;
use self::replication::proposals::Proposals;
#[cfg(feature = "testing")]
pub(crate) use self::replication::proposals::put_command;
use self::replication::reads::Reads;
pub use self::snapshot_io::{SnapshotCommand, SnapshotEvent};
pub use self::status::{MemberStatus, Role, Status, TransferStatus};
pub use self::stop::StopReason;
use self::transfer::Transfer;
use crate::Timestamp;
pub use crate::wire::entry::{Batch, Entry, EntryPayload, MembersChanged};
use crate::wire::message::{Message, Open};
use crate::wire::types::{Ballot, ClusterId, Incarnation, Voter};

/// An epoch that is open here.
#[derive(Debug)]
struct Epoch {
    open: Open,
    /// Set once the log's last entry is of this epoch: this replica confirms, acks and proposes.
    in_sync: bool,
    /// Set if this incarnation orders (rule B7).
    sequencing: bool,
    /// Set if the log is known to be a part of the epoch's log (rule B6).
    shares: bool,
}

/// One replica's part of the protocol, without I/O, threads, clocks or randomness.
///
/// The caller passes each event and the current time to [`step`](Self::step), in the order in which
/// events happen, and executes the [`Output`]s in the order in which they are returned. There are
/// three kinds of inputs:
///
/// - *Events*: configurations and messages of the group, and results of earlier outputs (`Written`,
///   `Applied`, `Snapshot`, …). They change state, and answer what cannot wait.
/// - [`Input::Tick`], every few dozen milliseconds: whatever depends on time (resending, fetching,
///   expiry, flow control).
/// - [`Input::Drained`], when no more events are at hand: ballots, batches, writes, progress and
///   entries to apply are put out here, so that events that came together leave together.
///
/// Each directory beside this file holds the rules of one part of `docs/protocol.md`:
///
/// | directory | rules | state |
/// | --- | --- | --- |
/// | `log` | P1 to P4: what is kept, written, compacted and recovered | `log`, `write_queue` |
/// | `epoch` | E1 to E3, B1 to B10: ballots, reports, `Open` | `epoch`, `election` |
/// | `membership` | V1 to V5, N9: who is here, who votes, which cluster | `peers`, `requests` |
/// | `replication` | N1 to N8, N10 to N12, R1, R2: batches, marks, acks, commit, time, reads | `proposals`, `ordering`, `commit`, `progress`, `clock`, `reads`, `outbox` |
/// | `transfer` | L1 to L7: fetched entries, snapshots, flow control | `transfer` |
///
/// `plausible` rejects impossible messages (B10, N13) before any of these see them.
#[derive(Debug)]
pub struct Engine<T> {
    config: Config,
    now: Now,
    /// The cluster that this replica belongs to, once it is known (rule V4).
    cluster: Option<ClusterId>,
    /// The highest ballot that this replica has promised (rule B2).
    promised: Ballot,
    /// Members of the group, and the replica behind each.
    peers: Peers,
    log: Log,
    write_queue: WriteQueue,
    clock: LogClock,
    /// The epoch that was opened last; frozen if a higher ballot was promised.
    epoch: Option<Epoch>,
    election: Election,
    /// Operators' requests that wait for an answer.
    requests: Requests,
    proposals: Proposals<T>,
    ordering: Ordering,
    commit: Commit,
    reads: Reads,
    progress: ProgressGate,
    transfer: Transfer,
    /// Frames that the transport has not taken yet (rule N12).
    outbox: Outbox,
    /// Reason why the replica stopped, once it has.
    stopped: Option<StopReason>,
}

/// Time between two [`Input::Tick`]s.
pub const TICK: Duration = Duration::from_millis(50);

/// A result whose error stops the replica.
type StepResult<V = ()> = Result<V, StopReason>;

/// Checks an invariant, in release builds too. A broken one stops the replica, not the process.
fn ensure(holds: bool, what: impl FnOnce() -> String) -> StepResult {
    if holds { Ok(()) } else { Err(StopReason::Invariant(what())) }
}

impl<T> Engine<T> {
    /// Returns an engine with an empty store.
    pub fn new(config: Config, now: Now) -> Self {
        Self {
            election: Election::new(config.incarnation.nonce, now.monotonic),
            now,
            cluster: None,
            promised: Ballot::default(),
            peers: Peers::default(),
            log: Log::default(),
            write_queue: WriteQueue::default(),
            clock: LogClock::default(),
            epoch: None,
            requests: Requests::default(),
            proposals: Proposals::default(),
            ordering: Ordering::default(),
            commit: Commit::default(),
            reads: Reads::default(),
            progress: ProgressGate::default(),
            transfer: Transfer::default(),
            outbox: Outbox::default(),
            stopped: None,
            config,
        }
    }

    /// Handles one input, and appends the resulting outputs to `out`.
    pub fn step(&mut self, now: Now, input: Input<T>, out: &mut Vec<Output<T>>) {
        self.now = now;
        if let Some(reason) = &self.stopped {
            match input {
                Input::Propose { ticket, .. } => {
                    out.push(Output::Fail { tickets: vec![ticket], may_take_effect: false });
                }
                Input::ChangeVoters { ticket, .. } | Input::ForceNewCluster { ticket } => {
                    let result = Err(AdminError::Stopped(reason.clone()));
                    out.push(Output::Answer { ticket, result });
                }
                Input::Read { ticket, .. } => {
                    out.push(Output::FailReads { tickets: vec![ticket] });
                }
                _ => {}
            }
            return;
        }
        let before = out.len();
        if let Err(reason) = self.handle(input, out) {
            self.stop(reason, out);
        }
        self.note_sent(out.get(before..).unwrap_or_default());
    }

    fn handle(&mut self, input: Input<T>, out: &mut Vec<Output<T>>) -> StepResult {
        match input {
            Input::Delivered { from, cluster, message } => {
                if !self.is_refused(from, &message)
                    && self.is_of_this_cluster(from, cluster, &message)
                {
                    self.on_message(from, cluster, message, out)?;
                }
                Ok(())
            }
            Input::OtherApplication { from, announce } => {
                self.on_other_application(from, announce);
                Ok(())
            }
            Input::Configuration { local, members, joined } => {
                let was_alone = !self.log.is_empty() && !self.sees_majority();
                let saw_sequencer = self.sees_sequencer();
                self.peers.configure(local, &members, &joined, self.now.monotonic);
                self.peers.implausible.retain(|member| members.contains(member));
                if saw_sequencer && self.sees_sequencer() {
                    self.election.sequencer_stayed(self.now.monotonic);
                }
                if was_alone && !joined.is_empty() {
                    let until = self.now.monotonic + self.config.election_timeout / 2;
                    self.election.met_others(until);
                }
                Ok(())
            }
            Input::Disconnected { reason } => {
                self.peers.disconnect(reason);
                Ok(())
            }
            Input::Propose { ticket, deadline: Some(at), .. } if at <= self.now.monotonic => {
                out.push(Output::Fail { tickets: vec![ticket], may_take_effect: false });
                Ok(())
            }
            Input::Propose { ticket, command, deadline } => {
                self.proposals.queue(ticket, command, deadline);
                Ok(())
            }
            Input::ChangeVoters { ticket, change } => {
                self.on_voter_change(ticket, change, out);
                Ok(())
            }
            Input::ForceNewCluster { ticket } => self.force_new_cluster(ticket, out),
            Input::Read { ticket, after_proposals } => {
                self.queue_read(ticket, after_proposals);
                Ok(())
            }
            Input::Written { ticket } => self.on_written(ticket, out),
            Input::WriteFailed { reason } => Err(StopReason::WriteFailed(reason)),
            Input::LogRead { entries } => self.on_log_read(entries, out),
            Input::ReadFailed { reason } => Err(StopReason::ReadFailed(reason)),
            Input::Applied { index, wake_at } => {
                self.commit.applied = self.commit.applied.max(index);
                self.clock.wake_at = wake_at;
                self.compact();
                self.fetch_refused(out);
                Ok(())
            }
            Input::Snapshot(event) => self.on_snapshot_event(event, out),
            Input::Unsent { frames, bytes } => {
                self.outbox.report(frames, bytes, self.now.monotonic);
                Ok(())
            }
            Input::Tick => self.on_tick(out),
            Input::Drained => self.on_drained(out),
        }
    }

    fn on_message(
        &mut self,
        from: Member,
        cluster: Option<ClusterId>,
        message: Message,
        out: &mut Vec<Output<T>>,
    ) -> StepResult {
        match message {
            Message::Announce(announce) => self.on_announce(from, &announce),
            Message::Begin(ballot) => {
                self.on_begin(ballot, out);
                Ok(())
            }
            Message::Report(report) => {
                self.on_report(from, cluster, report, out);
                Ok(())
            }
            Message::Open(open) => {
                self.on_open(open)?;
                self.install(out)
            }
            Message::Batch(batch, progress) => self.on_batch(from, batch, progress),
            Message::Progress(progress) => self.on_progress(from, progress, true),
            Message::Read(read) => {
                self.on_read(&read);
                Ok(())
            }
            Message::Fetch(fetch) => {
                self.on_fetch(&fetch, out);
                self.order_pool()
            }
            Message::Entries(entries) => self.on_entries(entries, out),
            Message::Offer(offer) => {
                self.on_offer(from, &offer, out);
                Ok(())
            }
            Message::Chunk(chunk) => {
                self.on_chunk(chunk, out);
                Ok(())
            }
            Message::Received(received) => {
                self.on_received(&received, out);
                self.order_pool()
            }
        }
    }

    fn on_tick(&mut self, out: &mut Vec<Output<T>>) -> StepResult {
        self.give_way_to_other_application()?;
        self.expire_proposals(out);
        self.resend_batches(out)?;
        self.resend_marks();
        self.fetch_missing(out);
        self.order_time();
        self.warn_of_wall_clock();
        self.tend_snapshot_receiver(out);
        self.tend_snapshot_sender(out);
        self.tend_flow_control();
        self.tend_reads(out);
        self.heartbeat();
        Ok(())
    }

    fn on_drained(&mut self, out: &mut Vec<Output<T>>) -> StepResult {
        self.announce(out);
        self.ask_for_open(out);
        self.consider_ballot(out);
        self.order_notice();
        self.order_pool()?;
        self.send_batches(out)?;
        self.confirm()?;
        self.persist_commit();
        self.write(out)?;
        self.report_when_sent(out);
        self.begin_round(out);
        self.send_progress(out);
        self.acknowledge_chunks(out);
        self.hand_out(out)?;
        self.hand_out_reads(out);
        self.answer_requests(out);
        Ok(())
    }

    /// Stops for good: leaves the group, answers everyone who waits, and stays inspectable.
    fn stop(&mut self, reason: StopReason, out: &mut Vec<Output<T>>) {
        if reason == StopReason::Asked {
            tracing::info!(replica = %self.me(), "replica stops on request");
        } else {
            tracing::error!(replica = %self.me(), %reason, "replica stops");
        }
        let (unsent, sent) = self.proposals.abandon();
        out.push(Output::Fail { tickets: unsent, may_take_effect: false });
        out.push(Output::Fail { tickets: sent, may_take_effect: true });
        self.abandon_requests(&reason, out);
        self.abandon_reads(out);
        self.stopped = Some(reason);
        out.push(Output::Stop);
    }

    /// Stops the replica from outside: on request, or because the runtime failed.
    pub fn shut_down(&mut self, reason: StopReason, out: &mut Vec<Output<T>>) {
        if self.stopped.is_none() {
            self.stop(reason, out);
        }
    }

    /// Returns true if more proposals should be taken in now.
    pub fn has_room(&self) -> bool {
        self.proposals.queued_bytes() < self.config.batch_bytes_max * 2
    }

    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns the time that has passed since `at`.
    fn ago(&self, at: Duration) -> Duration {
        self.now.monotonic.saturating_sub(at)
    }

    fn me(&self) -> Incarnation {
        self.config.incarnation
    }

    fn voter(&self) -> Voter {
        Voter { replica: self.me().replica, store: self.config.store }
    }

    /// Returns the epoch open here; `None` if there is none, or a higher ballot was promised (rule
    /// B3).
    fn live(&self) -> Option<&Epoch> {
        self.epoch.as_ref().filter(|epoch| epoch.open.ballot == self.promised)
    }

    /// Returns the ballot of the epoch open here; the zero ballot if there is none.
    fn open_epoch(&self) -> Ballot {
        self.live().map_or(Ballot::default(), |epoch| epoch.open.ballot)
    }

    fn is_in_sync(&self) -> bool {
        self.live().is_some_and(|epoch| epoch.in_sync)
    }

    fn is_sequencing(&self) -> bool {
        self.live().is_some_and(|epoch| epoch.sequencing)
    }

    /// Appends an entry to the log, and adds it to the next write.
    fn append(&mut self, epoch: Ballot, time: Timestamp, payload: EntryPayload) {
        let is_notice = matches!(payload, EntryPayload::Notice(_));
        let entry = self.log.append(epoch, time, payload).clone();
        if let EntryPayload::Batch(batch) = &entry.payload {
            self.ordering.pool.reached(&self.log, batch.origin, batch.number);
        }
        self.see_time(is_notice);
        if epoch == self.promised {
            self.clock.saw_in_epoch(time, self.now.monotonic);
        }
        self.write_queue.append(entry);
    }
}
