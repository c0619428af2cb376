mod callers;
mod connection;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use cpg::{Connection, Member};
use crossbeam_channel::{Receiver, Sender, TrySendError};

pub(crate) use self::callers::Callers;
use super::apply::{ApplyCommand, ApplyEvent};
use super::clock::Clock;
use super::group_joiner::PendingJoin;
use super::log::{LogCommand, LogEvent};
use super::read_queue::ReadQueue;
use super::{
    AdminChange, AdminCommand, GroupCommand, GroupJoiner, Proposal, QueuedProposal, Shared,
    ThreadEvent, fail, forgo,
};
use crate::StateMachine;
use crate::engine::{
    AdminError, Config, Engine, Input, Now, Output, Recovered, RestartError, StopReason, TICK,
};
use crate::panics::panic_text;
use crate::pending::Caller;
use crate::read::{Read, ReadError};
use crate::snapshot::SnapshotCommand;
use crate::wire::codec::Frame;

/// Delay before the next send after the transport was busy.
const BUSY: Duration = Duration::from_millis(1);
/// Delay between two attempts to reconnect.
const RETRY: Duration = Duration::from_millis(500);
/// Maximum number of commands, and of reads, processed in one iteration.
const AT_ONCE: usize = 1024;

/// The channels of the group thread: from callers, operators and the other threads, and to the
/// other threads.
pub(crate) struct GroupChannels<M: StateMachine> {
    pub(crate) callers: Callers<M>,
    pub(super) thread_events: Receiver<ThreadEvent>,
    pub(crate) log_commands: Sender<LogCommand>,
    pub(crate) apply_commands: Sender<ApplyCommand<M>>,
    pub(crate) snapshot_commands: Sender<SnapshotCommand>,
}

/// The thread that owns the engine and the connection to the group. Never accesses the disk and
/// never runs code of the application.
pub(crate) struct GroupThread<M: StateMachine> {
    engine: Engine<Caller<M::Output>>,
    shared: Arc<Shared>,
    joiner: GroupJoiner,
    /// `None` while disconnected.
    connection: Option<Arc<Connection>>,
    callers: Callers<M>,
    reads: ReadQueue<Read<M>>,
    /// Waiting requests of operators, by ticket.
    requests: BTreeMap<u64, oneshot::Sender<Result<(), AdminError>>>,
    next_request: u64,
    thread_events: Receiver<ThreadEvent>,
    log_commands: Sender<LogCommand>,
    apply_commands: Sender<ApplyCommand<M>>,
    snapshot_commands: Sender<SnapshotCommand>,
    /// The time of the next attempt to reconnect.
    retry_at: Instant,
    /// The attempt to reconnect that is in progress.
    joining: Option<PendingJoin>,
    clock: Clock,
    /// The time at the beginning of this iteration, used for all its inputs.
    now: Now,
    ticked: Instant,
    out: Vec<Output<Caller<M::Output>>>,
    /// Frames to send, in the order of the engine. The transport may have rejected the first with
    /// `TryAgain`. The engine knows their number and bounds it (rule N12).
    unsent: VecDeque<Frame>,
    /// True if the last report to the engine said that frames are unsent.
    is_backed_up: bool,
    /// Members whose frames did not decode, each reported once.
    undecodable: BTreeSet<Member>,
    /// Set if another thread did not accept a command: the reason to stop.
    rejected: Option<StopReason>,
    running: bool,
}

/// Creates an engine from the recovered state, with a clock that starts now.
pub(crate) fn restart<O>(
    config: Config,
    recovered: Recovered,
) -> Result<Engine<Caller<O>>, RestartError> {
    Engine::restart(config, Clock::start().now(), recovered)
}

impl<M: StateMachine> GroupThread<M> {
    pub(crate) fn new(
        engine: Engine<Caller<M::Output>>,
        shared: Arc<Shared>,
        joiner: GroupJoiner,
        connection: Arc<Connection>,
        channels: GroupChannels<M>,
    ) -> Self {
        let GroupChannels {
            callers,
            thread_events,
            log_commands,
            apply_commands,
            snapshot_commands,
        } = channels;
        let start = Instant::now();
        Self {
            engine,
            shared,
            joiner,
            connection: Some(connection),
            callers,
            reads: ReadQueue::default(),
            requests: BTreeMap::new(),
            next_request: 0,
            thread_events,
            log_commands,
            apply_commands,
            snapshot_commands,
            retry_at: start,
            joining: None,
            clock: Clock::start(),
            now: Now::default(),
            ticked: start,
            out: Vec::new(),
            unsent: VecDeque::new(),
            is_backed_up: false,
            undecodable: BTreeSet::new(),
            rejected: None,
            running: true,
        }
    }

    /// Runs until the replica has stopped and its handle is dropped. A failed assertion stops the
    /// replica and not the process: the replica leaves the group, and its status has the reason.
    pub(crate) fn run_guarded(self) {
        let (shared, connection) = (Arc::clone(&self.shared), self.connection.clone());
        let callers = self.callers.clone();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run())) {
            let text = panic_text(&*panic);
            tracing::error!(%text, "the group thread panicked");
            let mut status = shared.status().clone();
            status.fail(StopReason::Invariant(text));
            shared.publish(status.clone());
            // If the connection is dead too, the group learns of it without a message.
            connection.map(|connection| connection.leave());
            callers.reject(&status);
        }
    }

    fn run(mut self) {
        while self.running {
            self.now = self.clock.now();
            let idle = !(self.take_events()
                | self.take_thread_events()
                | self.take_proposals()
                | self.take_reads());
            self.stop_if_a_command_was_rejected();
            self.take_requests();
            self.tick();
            self.step(Input::Drained);
            self.send();
            let made_room = self.report_unsent();
            if idle && !made_room && self.running {
                self.wait();
            }
            if self.shared.is_asked_to_stop() {
                self.shut_down(StopReason::Asked);
            }
        }
        self.leave();
        self.publish();
        // Operators that still wait receive `AdminError::Stopped`.
        self.requests.clear();
        self.callers.reject(&self.engine.status());
    }

    fn step(&mut self, input: Input<Caller<M::Output>>) {
        self.engine.step(self.now, input, &mut self.out);
        self.carry_out();
    }

    fn shut_down(&mut self, reason: StopReason) {
        self.engine.shut_down(reason, &mut self.out);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        for output in out.drain(..) {
            match output {
                Output::Send(message) => {
                    let (application, cluster) = (self.engine.application(), self.engine.cluster());
                    self.unsent.push_back(Frame::new(application, cluster, &message));
                }
                // The contents of a store in memory are never read again.
                Output::Write { .. } if self.engine.config().volatile => {}
                Output::Write { ticket, ops } => {
                    let command = LogCommand::Write { ticket, ops };
                    send_or_fail("log", &self.log_commands, command, &mut self.rejected);
                }
                Output::ReadLog { first, bytes_max } => {
                    let command = LogCommand::Read { first, bytes_max };
                    send_or_fail("log", &self.log_commands, command, &mut self.rejected);
                }
                Output::Apply(entries) => {
                    let command = ApplyCommand::Entries(entries);
                    send_or_fail("apply", &self.apply_commands, command, &mut self.rejected);
                }
                Output::Read { tickets } => self.reads.are_ready(&tickets),
                Output::FailReads { tickets } => {
                    let error = self.read_error();
                    let given_up = self.reads.give_up(&tickets);
                    given_up.into_iter().for_each(|read| read(Err(error.clone())));
                }
                Output::Capture(head) => {
                    let command = ApplyCommand::Capture(head);
                    send_or_fail("apply", &self.apply_commands, command, &mut self.rejected);
                }
                Output::Restore(name) => {
                    let command = ApplyCommand::Restore(name);
                    send_or_fail("apply", &self.apply_commands, command, &mut self.rejected);
                }
                Output::Snapshot(op) => {
                    send_or_fail("snapshot", &self.snapshot_commands, op, &mut self.rejected);
                }
                Output::Forgo { tickets } => forgo(tickets),
                Output::Fail { tickets, may_take_effect } => {
                    let status = self.engine.status();
                    fail(tickets, may_take_effect, &status);
                }
                Output::Answer { ticket, result } => {
                    // Publish first, so that the caller finds the change in the status.
                    self.publish();
                    if let Some(caller) = self.requests.remove(&ticket) {
                        // Fails if the caller has dropped its `Request`.
                        let _ = caller.send(result);
                    }
                }
                Output::Stop => self.running = false,
            }
        }
        // Reuse the allocation.
        self.out = out;
        if let Some(reads) = self.reads.hand_out() {
            send_or_fail(
                "apply",
                &self.apply_commands,
                ApplyCommand::Reads(reads),
                &mut self.rejected,
            );
        }
    }

    /// Stops the replica if another thread did not accept a command, because that work would never
    /// be done. If the thread has failed and reported a reason, that reason takes precedence.
    fn stop_if_a_command_was_rejected(&mut self) {
        if let Some(reason) = self.rejected.take() {
            // The thread may have reported its failure after the events were last processed.
            self.take_thread_events();
            self.shut_down(reason);
            self.rejected = None;
        }
    }

    /// Returns the error for reads that cannot run.
    fn read_error(&self) -> ReadError {
        let status = self.engine.status();
        match status.stopped {
            Some(reason) => ReadError::Stopped(reason),
            None => ReadError::NoMajority(status.waits_for()),
        }
    }

    fn take_thread_events(&mut self) -> bool {
        let mut any = false;
        while let Ok(event) = self.thread_events.try_recv() {
            any = true;
            match event {
                ThreadEvent::Log(LogEvent::Written(ticket)) => self.step(Input::Written { ticket }),
                ThreadEvent::Log(LogEvent::WriteFailed(reason)) => {
                    self.step(Input::WriteFailed { reason });
                }
                ThreadEvent::Log(LogEvent::Read(entries)) => self.step(Input::LogRead { entries }),
                ThreadEvent::Log(LogEvent::Unreadable(reason)) => {
                    self.step(Input::ReadFailed { reason });
                }
                ThreadEvent::Apply(ApplyEvent::Applied { index, wake_at }) => {
                    self.step(Input::Applied { index, wake_at });
                }
                ThreadEvent::Apply(ApplyEvent::ReadsDone) => self.reads.done(),
                ThreadEvent::Apply(ApplyEvent::Failed(text)) => {
                    self.shut_down(StopReason::ApplyPanicked(text));
                }
                ThreadEvent::Snapshot(event) => self.step(Input::Snapshot(event)),
                ThreadEvent::SnapshotFailed(text)
                | ThreadEvent::Apply(ApplyEvent::SnapshotFailed(text)) => {
                    self.shut_down(StopReason::SnapshotFailed(text));
                }
                ThreadEvent::Panicked(text) => self.shut_down(StopReason::Invariant(text)),
            }
        }
        any
    }

    fn take_proposals(&mut self) -> bool {
        let mut any = false;
        for _ in 0..AT_ONCE {
            if !self.engine.has_room() || !self.reads.has_room() {
                break;
            }
            let Ok(next) = self.callers.proposals.try_recv() else { break };
            any = true;
            match next {
                GroupCommand::Propose(QueuedProposal(
                    Proposal { caller, command, deadline },
                    _,
                )) => {
                    let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
                    let deadline = left.map(|left| self.now.monotonic + left);
                    self.step(Input::Propose { ticket: caller, command, deadline });
                }
                GroupCommand::Read(read) => self.reads.gather(read, true),
            }
        }
        any
    }

    fn take_reads(&mut self) -> bool {
        let mut any = false;
        for _ in 0..AT_ONCE {
            if !self.reads.has_room() {
                break;
            }
            let Ok(read) = self.callers.to_read.try_recv() else { break };
            any = true;
            self.reads.gather(read, false);
        }
        while let Some((ticket, after_proposals)) = self.reads.next_ticket() {
            self.step(Input::Read { ticket, after_proposals });
        }
        any
    }

    fn take_requests(&mut self) {
        while let Ok(AdminCommand { change, caller }) = self.callers.admin_commands.try_recv() {
            let ticket = self.next_request;
            self.next_request += 1;
            self.requests.insert(ticket, caller);
            self.step(match change {
                AdminChange::Voters(change) => Input::ChangeVoters { ticket, change },
                AdminChange::NewCluster => Input::ForceNewCluster { ticket },
            });
        }
    }

    fn tick(&mut self) {
        if self.ticked.elapsed() >= TICK {
            self.ticked = Instant::now();
            self.step(Input::Tick);
            self.publish();
        }
    }

    fn wait(&mut self) {
        let until_tick = TICK.saturating_sub(self.ticked.elapsed());
        let timeout = if self.unsent.is_empty() { until_tick } else { BUSY };
        let Some(connection) = &self.connection else {
            // Without a connection nothing can wake this thread, so it polls its channels.
            thread::sleep(timeout);
            return;
        };
        if let Err(error) = connection.wait(Some(timeout)) {
            self.lose(error);
        }
    }

    fn publish(&self) {
        self.shared.log_time.set(self.engine.log_time());
        self.shared.publish(self.engine.status());
    }
}

/// Sends a command to another thread without blocking. A queue is never full, because the engine
/// bounds the number of commands in flight and the queues hold as many; a queue closes only if its
/// thread has failed. In both cases the command would not be carried out, so `failed` is set to the
/// reason to stop, unless it is set already.
fn send_or_fail<W>(thread: &str, to: &Sender<W>, work: W, failed: &mut Option<StopReason>) {
    let how = match to.try_send(work) {
        Ok(()) => return,
        Err(TrySendError::Full(_)) => "takes no more work, although the engine bounds it",
        Err(TrySendError::Disconnected(_)) => "has ended",
    };
    failed.get_or_insert_with(|| StopReason::Invariant(format!("the {thread} thread {how}")));
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::bounded;

    use super::*;

    #[test]
    fn the_first_rejected_command_is_reported() {
        let (to, inbox) = bounded(1);
        let mut failed = None;
        send_or_fail("log", &to, 1, &mut failed);
        assert_eq!(failed, None);
        send_or_fail("log", &to, 2, &mut failed);
        let reason = failed.take().unwrap().to_string();
        assert!(reason.contains("the log thread takes no more work"), "{reason}");
        drop(inbox);
        send_or_fail("log", &to, 3, &mut failed);
        send_or_fail("apply", &to, 4, &mut failed);
        let reason = failed.take().unwrap().to_string();
        assert!(reason.contains("the log thread has ended"), "{reason}");
    }
}
