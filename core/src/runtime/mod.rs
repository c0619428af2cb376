//! The threads around the engine, joined by bounded channels.
//!
//! | thread | owns | blocks on |
//! | --- | --- | --- |
//! | group | the connection and the engine | nothing but the wait for the next event |
//! | log | the `LogStore` | the disk |
//! | apply | the changes of the state machine | the application's `apply`, and what it reads |
//! | writer | a view of the state | the application's `Snapshot::write` |
//! | shelf | the `SnapshotStore` | the disk |

mod apply;
mod clock;
mod group;
mod home;
mod log;
mod meeting;
mod reads;
mod room;
mod shelf;
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

use self::clock::LastLogTime;
use self::home::Home;
use self::room::{Place, Room};
use crate::engine::{AdminError, Committed, Engine, Entry, SnapshotHead, Status, VoterChange};
use crate::event::changes;
use crate::pending::{Caller, ProposeError};
use crate::read::{Consistency, Read};
use crate::snapshot::{Shelf, ShelfNews, SnapshotName};
use crate::types::Index;
use crate::{Event, Feed, StateMachine, Timestamp};

pub(crate) use self::group::restart;
pub(crate) use self::meeting::Meeting;
#[cfg(feature = "testing")]
pub(crate) use self::reads::Reads;

/// Commands that may wait to be taken in by the group thread, and the bytes that they have
/// together. Beyond either `propose` waits.
const PROPOSALS_MAX: usize = 4096;
const PROPOSALS_BYTES_MAX: usize = 16 << 20;
/// Reads that may wait to be taken in. Beyond it `read` waits.
const READS_MAX: usize = 4096;
/// Requests of operators that may wait to be taken in.
const REQUESTS_MAX: usize = 16;
/// What the engine may want done with snapshots at once, and more.
const SHELF_OPS_MAX: usize = 256;
/// Chunks of the own state on their way to the shelf.
const CHUNKS_MAX: usize = 8;
/// Events that are kept for those who do not take them at once.
const EVENTS_MAX: usize = 1024;
/// How long an orderly stop waits to hear its own departure.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(2);

/// A command on its way to the group thread.
pub(crate) struct Proposal<O> {
    pub(crate) caller: Caller<O>,
    pub(crate) command: Bytes,
    /// When its caller wants to be answered.
    pub(crate) deadline: Option<Instant>,
}

/// A proposal that waits to be taken in, with the room that it takes meanwhile.
pub(crate) struct Queued<O>(Proposal<O>, #[allow(dead_code, reason = "held")] Place);

/// An operator's request on its way to the group thread.
pub(crate) struct Asked {
    pub(crate) what: AskedFor,
    pub(crate) caller: oneshot::Sender<Result<(), AdminError>>,
}

/// What operators ask for.
pub(crate) enum AskedFor {
    Voters(VoterChange),
    NewCluster,
}

/// What is taken in by the group thread in the order in which it came.
pub(crate) enum InOrder<M: StateMachine> {
    Propose(Queued<M::Output>),
    /// A read that has to see what was proposed before it.
    Read(Read<M>),
}

/// What the other threads tell the group thread.
enum Feedback {
    Written(u64),
    WriteFailed(String),
    /// Of the store, from the entry on that was asked for.
    LogRead(Vec<Entry>),
    LogUnreadable(String),
    Applied {
        index: Index,
        wake_at: Option<Timestamp>,
    },
    ApplyPanicked(String),
    /// A thread of the replica ended by a panic that it did not expect.
    Panicked(String),
    /// The reads that were handed out first are done.
    Read,
    Shelf(ShelfNews),
    SnapshotFailed(String),
}

/// What the apply thread does, in order.
enum ToApply<M: StateMachine> {
    Entries(Vec<Committed<Caller<M::Output>>>),
    Reads(Vec<Read<M>>),
    Capture(Box<SnapshotHead>),
    Restore(SnapshotName),
}

/// What the threads and the handle share.
pub(crate) struct Shared {
    /// For waking the group thread. Replaced when the transport died and came back.
    connection: RwLock<Arc<Connection>>,
    status: Mutex<Status>,
    log_time: LastLogTime,
    /// What changes about the status.
    pub(crate) events: Feed<Event>,
    stop: AtomicBool,
}

impl Shared {
    /// Makes the group thread look at its channels.
    pub(crate) fn wake(&self) {
        self.connection.read().unwrap_or_else(PoisonError::into_inner).wake();
    }

    fn replace(&self, connection: Arc<Connection>) {
        *self.connection.write().unwrap_or_else(PoisonError::into_inner) = connection;
    }

    pub(crate) fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the log's time is about now.
    pub(crate) fn log_time(&self) -> Timestamp {
        self.log_time.by_now()
    }

    /// Takes over how things are now, and tells what has changed.
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
    pub(crate) asked: Sender<Asked>,
    /// Given up before the threads are joined: the group thread answers until then.
    inboxes: Option<Inboxes<M>>,
    home: Arc<Home<M>>,
    threads: Vec<JoinHandle<()>>,
}

/// Where callers put what they want.
struct Inboxes<M: StateMachine> {
    in_order: Sender<InOrder<M>>,
    /// For the commands in there.
    room: Arc<Room>,
    /// Linearizable.
    reads: Sender<Read<M>>,
    /// Of the state as it is, while it is being changed.
    local_reads: Sender<Read<M>>,
}

impl<M: StateMachine> Runtime<M> {
    /// Starts the threads. The connection has joined the group already.
    pub(crate) fn start(
        machine: M,
        engine: Engine<Caller<M::Output>>,
        meeting: Meeting,
        connection: Arc<Connection>,
        store: Box<dyn LogStore>,
        shelf: Shelf,
    ) -> std::io::Result<Self> {
        let config = engine.config();
        let name = format!("replica-{}", config.incarnation.replica);
        let (in_order, proposed) = bounded(PROPOSALS_MAX);
        let (reads, to_read) = bounded(READS_MAX);
        let (local_reads, to_read_locally) = bounded(READS_MAX);
        let (asked, requests) = bounded(REQUESTS_MAX);
        // As many as the engine hands out at once, so that the group thread never waits.
        let (to_log, log_inbox) = bounded(4);
        let (to_apply, apply_inbox) =
            bounded(config.applying_max as usize + 8 + reads::HANDED_OUT_MAX);
        let (feedback, news) =
            bounded(config.applying_max as usize + SHELF_OPS_MAX + reads::HANDED_OUT_MAX);
        let (to_shelf, ops) = bounded(SHELF_OPS_MAX);
        let (chunks, kept) = bounded(CHUNKS_MAX);
        let (lives, ended) = bounded(0);
        let to_keep = shelf::ToShelf { requests: chunks, ended };
        // One at a time is taken.
        let (to_writer, views) = bounded(1);
        let shared = Arc::new(Shared {
            connection: RwLock::new(Arc::clone(&connection)),
            status: Mutex::new(engine.status()),
            log_time: LastLogTime::new(engine.log_time()),
            events: Feed::new(EVENTS_MAX),
            stop: AtomicBool::new(false),
        });
        let home = Arc::new(Home::new(machine));
        let room = Room::new(PROPOSALS_BYTES_MAX);
        let inboxes = Inboxes { in_order, room, reads, local_reads };
        let mut runtime = Self {
            shared: Arc::clone(&shared),
            asked,
            inboxes: Some(inboxes),
            home: Arc::clone(&home),
            threads: Vec::new(),
        };
        let log = log::LogThread::new(store, log_inbox, feedback.clone(), Arc::clone(&shared));
        let watch = Watch { feedback: feedback.clone(), shared: Arc::clone(&shared) };
        runtime.spawn_watched(format!("{name}-log"), &watch, move || log.run())?;
        let keeper =
            shelf::ShelfThread::new(shelf, ops, kept, lives, feedback.clone(), Arc::clone(&shared));
        runtime.spawn_watched(format!("{name}-shelf"), &watch, move || keeper.run())?;
        let writer =
            shelf::WriterThread { views, shelf: to_keep.clone(), check: M::check_snapshot };
        runtime.spawn_watched(format!("{name}-writer"), &watch, move || writer.run())?;
        let apply = apply::ApplyThread::new(
            home,
            apply_inbox,
            to_read_locally,
            to_writer,
            to_keep,
            feedback,
            Arc::clone(&shared),
        );
        runtime.spawn_watched(format!("{name}-apply"), &watch, move || apply.run())?;
        drop(watch);
        let group = group::GroupThread::new(
            engine, shared, meeting, connection, proposed, to_read, requests, news, to_log,
            to_apply, to_shelf,
        );
        runtime.spawn(format!("{name}-group"), move || group.run_guarded())?;
        Ok(runtime)
    }

    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads.push(thread::Builder::new().name(name).spawn(run)?);
        Ok(())
    }

    /// Starts a thread whose panic stops the replica: nobody else would do its work.
    fn spawn_watched(
        &mut self,
        name: String,
        watch: &Watch,
        run: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        let Watch { feedback, shared } = watch;
        let (feedback, shared, thread) = (feedback.clone(), Arc::clone(shared), name.clone());
        self.spawn(name, move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
                let text = format!("thread {thread} panicked: {}", panic_text(&*panic));
                // The group thread is gone only when the replica has stopped.
                if feedback.send(Feedback::Panicked(text)).is_ok() {
                    shared.wake();
                }
            }
        })
    }

    /// Hands a proposal to the group thread, waiting for room if `wait` says so.
    pub(crate) fn propose(
        &self,
        proposal: Proposal<M::Output>,
        wait: bool,
    ) -> Result<(), TrySendError<()>> {
        let Some(inboxes) = &self.inboxes else { return Err(TrySendError::Disconnected(())) };
        let bytes = proposal.command.len();
        let place = match wait {
            true => inboxes.room.take(bytes),
            false => inboxes.room.try_take(bytes).ok_or(TrySendError::Full(()))?,
        };
        send(&inboxes.in_order, InOrder::Propose(Queued(proposal, place)), wait)?;
        self.shared.wake();
        Ok(())
    }

    /// Hands a read to the thread that knows when it may run; a local one runs at once if it can.
    pub(crate) fn read(
        &self,
        read: Read<M>,
        consistency: Consistency,
        wait: bool,
    ) -> Result<(), TrySendError<()>> {
        let Some(inboxes) = &self.inboxes else { return Err(TrySendError::Disconnected(())) };
        match consistency {
            Consistency::Local => {
                let Err(read) = self.home.look_now(read) else { return Ok(()) };
                let sent = send(&inboxes.local_reads, read, wait);
                return sent.inspect_err(|_| self.home.waits_no_more());
            }
            Consistency::Linearizable => send(&inboxes.reads, read, wait)?,
            Consistency::ReadYourWrites => send(&inboxes.in_order, InOrder::Read(read), wait)?,
        }
        self.shared.wake();
        Ok(())
    }
}

/// What a thread needs to report its own panic.
struct Watch {
    feedback: Sender<Feedback>,
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
    /// Stops in order and waits for the threads.
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

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}

/// Answers callers whose commands took effect unseen (rule N10).
fn forgo<O>(callers: Vec<Caller<O>>) {
    for caller in callers {
        // Whoever dropped its `Pending` does not want to know.
        let _ = caller.send(Err(ProposeError::OutputLost));
    }
}

/// Answers callers whose commands will not be answered from the log.
fn fail<O>(callers: Vec<Caller<O>>, may_take_effect: bool, status: &Status) {
    for caller in callers {
        let error = match &status.stopped {
            _ if may_take_effect => ProposeError::OutcomeUnknown,
            Some(reason) => ProposeError::Stopped(reason.clone()),
            None => ProposeError::Withdrawn(status.waits_for()),
        };
        // Whoever dropped its `Pending` does not want to know.
        let _ = caller.send(Err(error));
    }
}
