//! The threads around the engine. They communicate over bounded channels.
//!
//! | thread | owns | may block on |
//! | --- | --- | --- |
//! | group | the connection and the engine | only the wait for the next event |
//! | log | the `LogStore` | the disk |
//! | apply | changes of the state machine | the application's `apply` and reads |
//! | writer | a view of the state | the application's `Snapshot::write` |
//! | snapshot | the `SnapshotStore` | the disk |

mod apply;
mod byte_semaphore;
mod clock;
mod group;
mod group_joiner;
mod log;
mod read_queue;
mod shared_machine;
mod snapshot;
#[cfg(test)]
mod tests;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cpg::Connection;
use crossbeam_channel::{Sender, TrySendError, bounded};
use plainsong_storage::LogStore;

use self::apply::ApplyEvent;
use self::byte_semaphore::{ByteSemaphore, Permit};
use self::clock::LastLogTime;
use self::log::LogEvent;
use self::shared_machine::SharedMachine;
use crate::engine::{AdminError, Engine, Status, VoterChange};
use crate::event::changes;
use crate::panics::panic_text;
use crate::pending::{Caller, ProposeError};
use crate::read::{Consistency, Read};
use crate::snapshot::{SnapshotEvent, SnapshotManager};
use crate::{Event, Feed, StateMachine, Timestamp};

pub(crate) use self::group::restart;
pub(crate) use self::group_joiner::GroupJoiner;
#[cfg(feature = "testing")]
pub(crate) use self::read_queue::ReadQueue;

/// Maximum number of commands queued for the group thread. Beyond it `propose` blocks.
const PROPOSALS_MAX: usize = 4096;
/// Maximum total size in bytes of the queued commands. Beyond it `propose` blocks.
const PROPOSALS_BYTES_MAX: usize = 16 << 20;
/// Maximum number of queued reads. Beyond it `read` blocks.
const READS_MAX: usize = 4096;
/// Maximum number of queued requests of operators.
const REQUESTS_MAX: usize = 16;
/// Maximum number of snapshot commands in flight; the engine issues fewer.
const SNAPSHOT_COMMANDS_MAX: usize = 256;
/// Maximum number of chunks of the replica's own state queued for the snapshot thread.
const CHUNKS_MAX: usize = 8;
/// Maximum number of status events kept for subscribers.
const EVENTS_MAX: usize = 1024;
/// Maximum time that an orderly stop waits for the group to confirm that this replica has left.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// A command that a caller proposed.
pub(crate) struct Proposal<O> {
    pub(crate) caller: Caller<O>,
    pub(crate) command: Bytes,
    /// The time until which the caller waits for an answer.
    pub(crate) deadline: Option<Instant>,
}

/// A proposal in the queue of the group thread, with the permit for its bytes.
pub(crate) struct QueuedProposal<O>(Proposal<O>, #[allow(dead_code, reason = "held")] Permit);

/// A command of an operator for the group thread.
pub(crate) struct AdminCommand {
    pub(crate) change: AdminChange,
    pub(crate) caller: oneshot::Sender<Result<(), AdminError>>,
}

/// A change that an operator requests.
pub(crate) enum AdminChange {
    Voters(VoterChange),
    NewCluster,
}

/// A command of a caller for the group thread. Commands are taken in order.
pub(crate) enum GroupCommand<M: StateMachine> {
    Propose(QueuedProposal<M::Output>),
    /// A read that must see every command proposed before it.
    Read(Read<M>),
}

/// A report of another thread to the group thread.
enum ThreadEvent {
    Log(LogEvent),
    Apply(ApplyEvent),
    Snapshot(SnapshotEvent),
    /// The snapshot or the writer thread failed.
    SnapshotFailed(String),
    /// A thread of the replica panicked.
    Panicked(String),
}

/// The state shared by the threads and the handle.
pub(crate) struct Shared {
    /// Used to wake the group thread. Replaced when the replica has connected again.
    connection: RwLock<Arc<Connection>>,
    status: Mutex<Status>,
    log_time: LastLogTime,
    /// Changes of the status.
    pub(crate) events: Feed<Event>,
    stop: AtomicBool,
}

impl Shared {
    /// Wakes the group thread, so that it checks its channels.
    pub(crate) fn wake(&self) {
        self.connection.read().unwrap_or_else(PoisonError::into_inner).wake();
    }

    fn replace(&self, connection: Arc<Connection>) {
        *self.connection.write().unwrap_or_else(PoisonError::into_inner) = connection;
    }

    pub(crate) fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns an estimate of the log's time now.
    pub(crate) fn log_time(&self) -> Timestamp {
        self.log_time.by_now()
    }

    /// Stores the current status and publishes the changes as events.
    fn publish(&self, now: Status) {
        let mut status = self.status();
        for event in changes(&status, &now) {
            self.events.push(now.committed, event);
        }
        *status = now;
    }

    pub(crate) fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    fn is_asked_to_stop(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// The threads of a running replica.
pub(crate) struct Runtime<M: StateMachine> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) admin_commands: Sender<AdminCommand>,
    /// Dropped before the threads are joined: the group thread answers callers until then.
    inboxes: Option<Inboxes<M>>,
    machine: Arc<SharedMachine<M>>,
    threads: Vec<JoinHandle<()>>,
}

/// The channels from callers to the threads.
struct Inboxes<M: StateMachine> {
    commands: Sender<GroupCommand<M>>,
    /// Bounds the bytes of the proposals in `commands`.
    proposal_bytes: Arc<ByteSemaphore>,
    /// Linearizable reads.
    reads: Sender<Read<M>>,
    /// Local reads that could not run at once.
    local_reads: Sender<Read<M>>,
}

impl<M: StateMachine> Runtime<M> {
    /// Starts the threads. The connection has joined the group already.
    pub(crate) fn start(
        machine: M,
        engine: Engine<Caller<M::Output>>,
        joiner: GroupJoiner,
        connection: Arc<Connection>,
        store: Box<dyn LogStore>,
        manager: SnapshotManager,
    ) -> std::io::Result<Self> {
        let config = engine.config();
        let name = format!("replica-{}", config.incarnation.replica);
        let (commands, group_commands) = bounded(PROPOSALS_MAX);
        let (reads, to_read) = bounded(READS_MAX);
        let (local_reads, to_read_locally) = bounded(READS_MAX);
        let (admin_commands, admin_inbox) = bounded(REQUESTS_MAX);
        // These hold all commands that the engine has in flight, so the group thread never waits.
        let (log_commands, log_inbox) = bounded(4);
        let (apply_commands, apply_inbox) =
            bounded(config.applying_max as usize + 8 + read_queue::HANDED_OUT_MAX);
        let (events, thread_events) = bounded(
            config.applying_max as usize + SNAPSHOT_COMMANDS_MAX + read_queue::HANDED_OUT_MAX,
        );
        let (snapshot_commands, snapshot_inbox) = bounded(SNAPSHOT_COMMANDS_MAX);
        let (requests, snapshot_requests) = bounded(CHUNKS_MAX);
        let (lives, ended) = bounded(0);
        let snapshots = snapshot::SnapshotClient { requests, ended };
        // One snapshot is taken at a time.
        let (to_writer, views) = bounded(1);
        let shared = Arc::new(Shared {
            connection: RwLock::new(Arc::clone(&connection)),
            status: Mutex::new(engine.status()),
            log_time: LastLogTime::new(engine.log_time()),
            events: Feed::new(EVENTS_MAX),
            stop: AtomicBool::new(false),
        });
        let machine = Arc::new(SharedMachine::new(machine));
        let proposal_bytes = ByteSemaphore::new(PROPOSALS_BYTES_MAX);
        let inboxes = Inboxes { commands, proposal_bytes, reads, local_reads };
        let mut runtime = Self {
            shared: Arc::clone(&shared),
            admin_commands,
            inboxes: Some(inboxes),
            machine: Arc::clone(&machine),
            threads: Vec::new(),
        };
        let log = log::LogThread::new(store, log_inbox, events.clone(), Arc::clone(&shared));
        let watch = Watch { events: events.clone(), shared: Arc::clone(&shared) };
        runtime.spawn_watched(format!("{name}-log"), &watch, move || log.run())?;
        let snapshot_thread = snapshot::SnapshotThread::new(
            manager,
            snapshot_inbox,
            snapshot_requests,
            lives,
            events.clone(),
            Arc::clone(&shared),
        );
        runtime.spawn_watched(format!("{name}-snapshot"), &watch, move || snapshot_thread.run())?;
        let writer = snapshot::WriterThread {
            views,
            snapshots: snapshots.clone(),
            check: M::check_snapshot,
        };
        runtime.spawn_watched(format!("{name}-writer"), &watch, move || writer.run())?;
        let apply = apply::ApplyThread::new(
            machine,
            apply_inbox,
            to_read_locally,
            to_writer,
            snapshots,
            events,
            Arc::clone(&shared),
        );
        runtime.spawn_watched(format!("{name}-apply"), &watch, move || apply.run())?;
        drop(watch);
        let channels = group::GroupChannels {
            callers: group::Callers {
                proposals: group_commands,
                to_read,
                admin_commands: admin_inbox,
            },
            thread_events,
            log_commands,
            apply_commands,
            snapshot_commands,
        };
        let group = group::GroupThread::new(engine, shared, joiner, connection, channels);
        runtime.spawn(format!("{name}-group"), move || group.run_guarded())?;
        Ok(runtime)
    }

    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads.push(thread::Builder::new().name(name).spawn(run)?);
        Ok(())
    }

    /// Starts a thread whose panic stops the replica, because no other thread would do its work.
    fn spawn_watched(
        &mut self,
        name: String,
        watch: &Watch,
        run: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        let Watch { events, shared } = watch;
        let (events, shared, thread) = (events.clone(), Arc::clone(shared), name.clone());
        self.spawn(name, move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
                let text = format!("thread {thread} panicked: {}", panic_text(&*panic));
                // The group thread has ended only if the replica has stopped.
                if events.send(ThreadEvent::Panicked(text)).is_ok() {
                    shared.wake();
                }
            }
        })
    }

    /// Queues a proposal for the group thread. Blocks while the queue is full if `wait` is true.
    pub(crate) fn propose(
        &self,
        proposal: Proposal<M::Output>,
        wait: bool,
    ) -> Result<(), TrySendError<()>> {
        let Some(inboxes) = &self.inboxes else { return Err(TrySendError::Disconnected(())) };
        let bytes = proposal.command.len();
        let permit = match wait {
            true => inboxes.proposal_bytes.acquire(bytes),
            false => inboxes.proposal_bytes.try_acquire(bytes).ok_or(TrySendError::Full(()))?,
        };
        send(&inboxes.commands, GroupCommand::Propose(QueuedProposal(proposal, permit)), wait)?;
        self.shared.wake();
        Ok(())
    }

    /// Queues a read for the thread that knows when it may run. A local read runs at once if
    /// possible. Blocks while the queue is full if `wait` is true.
    pub(crate) fn read(
        &self,
        read: Read<M>,
        consistency: Consistency,
        wait: bool,
    ) -> Result<(), TrySendError<()>> {
        let Some(inboxes) = &self.inboxes else { return Err(TrySendError::Disconnected(())) };
        match consistency {
            Consistency::Local => {
                let Err(read) = self.machine.try_read(read) else { return Ok(()) };
                let sent = send(&inboxes.local_reads, read, wait);
                return sent.inspect_err(|_| self.machine.read_finished());
            }
            Consistency::Linearizable => send(&inboxes.reads, read, wait)?,
            Consistency::ReadYourWrites => send(&inboxes.commands, GroupCommand::Read(read), wait)?,
        }
        self.shared.wake();
        Ok(())
    }
}

/// The means by which a thread reports its own panic.
struct Watch {
    events: Sender<ThreadEvent>,
    shared: Arc<Shared>,
}

fn send<V>(to: &Sender<V>, value: V, wait: bool) -> Result<(), TrySendError<()>> {
    if wait {
        return to.send(value).map_err(|_| TrySendError::Disconnected(()));
    }
    to.try_send(value).map_err(|error| match error {
        TrySendError::Full(_) => TrySendError::Full(()),
        TrySendError::Disconnected(_) => TrySendError::Disconnected(()),
    })
}

impl<M: StateMachine> Drop for Runtime<M> {
    /// Stops the replica and joins its threads.
    fn drop(&mut self) {
        self.inboxes = None;
        self.shared.ask_to_stop();
        for thread in self.threads.drain(..).rev() {
            if thread.join().is_err() {
                tracing::error!("a thread of the replica had panicked");
            }
        }
    }
}

/// Answers callers whose commands took effect, but whose outputs are unknown here (rule N10).
fn forgo<O>(callers: Vec<Caller<O>>) {
    for caller in callers {
        // Fails if the caller has dropped its `Pending`.
        let _ = caller.send(Err(ProposeError::OutputLost));
    }
}

/// Answers callers whose commands will not be answered by an output.
fn fail<O>(callers: Vec<Caller<O>>, may_take_effect: bool, status: &Status) {
    for caller in callers {
        let error = match &status.stopped {
            _ if may_take_effect => ProposeError::OutcomeUnknown,
            Some(reason) => ProposeError::Stopped(reason.clone()),
            None => ProposeError::Withdrawn(status.waits_for()),
        };
        // Fails if the caller has dropped its `Pending`.
        let _ = caller.send(Err(error));
    }
}
