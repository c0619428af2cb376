use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, never, select};

use super::shared_machine::SharedMachine;
use super::snapshot::{self, SnapshotClient};
use super::{Shared, ThreadEvent};
use crate::engine::{Committed, SnapshotHead};
use crate::panics::panic_text;
use crate::pending::Caller;
use crate::read::Read;
use crate::snapshot::SnapshotName;
use crate::wire::types::Index;
use crate::{StateMachine, Timestamp};

/// A command of the group thread for the apply thread. Commands run in order.
pub(crate) enum ApplyCommand<M: StateMachine> {
    /// Applies committed entries; answered by [`ApplyEvent::Applied`].
    Entries(Vec<Committed<Caller<M::Output>>>),
    /// Runs reads; answered by [`ApplyEvent::ReadsDone`].
    Reads(Vec<Read<M>>),
    /// Takes a view of the state and passes it to the writer thread.
    Capture(Box<SnapshotHead>),
    /// Replaces the state by a snapshot; answered by [`ApplyEvent::Applied`].
    Restore(SnapshotName),
}

/// A report of the apply thread to the group thread.
pub(crate) enum ApplyEvent {
    /// All entries up to `index` are applied.
    Applied { index: Index, wake_at: Option<Timestamp> },
    /// The oldest unreported batch of reads has run.
    ReadsDone,
    /// The state machine panicked, or a command could not be decoded.
    Failed(String),
    /// A snapshot could not be taken or restored.
    SnapshotFailed(String),
}

/// The thread that changes the state machine: applies committed commands in order, each once, and
/// answers the callers at this replica.
pub(crate) struct ApplyThread<M: StateMachine> {
    machine: Arc<SharedMachine<M>>,
    commands: Receiver<ApplyCommand<M>>,
    local_reads: Receiver<Read<M>>,
    views: Sender<(Box<SnapshotHead>, M::Snapshot)>,
    snapshots: SnapshotClient,
    events: Sender<ThreadEvent>,
    shared: Arc<Shared>,
}

impl<M: StateMachine> Drop for ApplyThread<M> {
    fn drop(&mut self) {
        self.machine.clear();
    }
}

impl<M: StateMachine> ApplyThread<M> {
    pub(crate) fn new(
        machine: Arc<SharedMachine<M>>,
        commands: Receiver<ApplyCommand<M>>,
        local_reads: Receiver<Read<M>>,
        views: Sender<(Box<SnapshotHead>, M::Snapshot)>,
        snapshots: SnapshotClient,
        events: Sender<ThreadEvent>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { machine, commands, local_reads, views, snapshots, events, shared }
    }

    pub(crate) fn run(mut self) {
        let (commands, local_reads) = (self.commands.clone(), self.local_reads.clone());
        let mut continues = true;
        while continues {
            continues = select! {
                recv(self.commands) -> command => match command {
                    Ok(command) => self.take(command),
                    Err(_) => false,
                },
                recv(self.local_reads) -> read => {
                    match read {
                        Ok(read) => {
                            self.machine.read(|machine| read(Ok(machine)));
                            self.machine.read_finished();
                        }
                        // The handle has been dropped. Committed commands are still applied.
                        Err(_) => self.local_reads = never(),
                    }
                    true
                }
            };
        }
        self.machine.clear();
        self.refuse(commands, local_reads);
    }

    /// Drops all further commands and reads until their senders are gone. Dropping them closes
    /// their answer channels, so that the callers fail at once; left in a queue, they would wait
    /// until all senders are gone.
    fn refuse(&self, mut commands: Receiver<ApplyCommand<M>>, mut local_reads: Receiver<Read<M>>) {
        let mut open = 2;
        while open > 0 {
            select! {
                recv(commands) -> command => if command.is_err() {
                    commands = never();
                    open -= 1;
                },
                recv(local_reads) -> read => if read.is_ok() {
                    self.machine.read_finished();
                } else {
                    local_reads = never();
                    open -= 1;
                },
            }
        }
    }

    /// Carries out a command and reports the result. Returns false if this thread must end.
    fn take(&mut self, command: ApplyCommand<M>) -> bool {
        // A panic of the application stops this replica, not the process. The state machine is not
        // used again, so an incomplete change does no harm.
        let done = catch_unwind(AssertUnwindSafe(|| self.carry_out(command)));
        let event = match done {
            Ok(Ok(Some(event))) => event,
            Ok(Ok(None)) => return true,
            Ok(Err(failure)) => failure,
            Err(panic) => ApplyEvent::Failed(panic_text(&*panic)),
        };
        let continues = matches!(event, ApplyEvent::Applied { .. } | ApplyEvent::ReadsDone);
        let reported = self.events.send(ThreadEvent::Apply(event)).is_ok();
        self.shared.wake();
        continues && reported
    }

    /// Carries out a command. Returns the event to report.
    fn carry_out(&mut self, command: ApplyCommand<M>) -> Result<Option<ApplyEvent>, ApplyEvent> {
        let index = match command {
            ApplyCommand::Entries(entries) => {
                let last = entries.last().map(|committed| committed.entry.position.index);
                let applied = entries.into_iter().try_for_each(|committed| self.apply(committed));
                applied.map_err(ApplyEvent::Failed)?;
                last
            }
            ApplyCommand::Reads(reads) => {
                self.machine.read(|machine| reads.into_iter().for_each(|read| read(Ok(machine))));
                return Ok(Some(ApplyEvent::ReadsDone));
            }
            ApplyCommand::Capture(head) => {
                let view = self.machine.read(M::snapshot);
                // The writer has ended if the replica stops, or if it has failed, which it has
                // reported.
                self.views.send((head, view)).map_err(|_| {
                    ApplyEvent::SnapshotFailed("the thread that writes snapshots has ended".into())
                })?;
                None
            }
            ApplyCommand::Restore(name) => {
                let state = snapshot::open(name, &self.snapshots);
                let restored = state.and_then(|mut state| {
                    self.machine.write(|applier| applier.restore(&mut state))
                });
                restored.map_err(|error| {
                    ApplyEvent::SnapshotFailed(format!("{name} cannot be restored: {error}"))
                })?;
                Some(name.index())
            }
        };
        let wake_at = self.machine.read(M::wake_at);
        Ok(index.map(|index| ApplyEvent::Applied { index, wake_at }))
    }

    fn apply(&mut self, committed: Committed<Caller<M::Output>>) -> Result<(), String> {
        let mut callers = committed.callers.into_iter();
        let answer = |output| {
            if let Some(caller) = callers.next() {
                // Fails if the caller has dropped its `Pending`.
                let _ = caller.send(Ok(output));
            }
        };
        self.machine.write(|applier| applier.apply(&committed.entry, answer))
    }
}
