use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, never, select};

use super::home::Home;
use super::shelf::{self, ToShelf};
use super::{Feedback, Shared, ToApply, panic_text};
use crate::StateMachine;
use crate::engine::{Committed, SnapshotHead};
use crate::pending::Caller;
use crate::read::Read;

/// Changes the state machine: applies committed commands in order, each once, and answers
/// who proposed them here.
pub(crate) struct ApplyThread<M: StateMachine> {
    home: Arc<Home<M>>,
    inbox: Receiver<ToApply<M>>,
    local_reads: Receiver<Read<M>>,
    views: Sender<(Box<SnapshotHead>, M::Snapshot)>,
    shelf: ToShelf,
    feedback: Sender<Feedback>,
    shared: Arc<Shared>,
}

impl<M: StateMachine> Drop for ApplyThread<M> {
    fn drop(&mut self) {
        self.home.leave();
    }
}

impl<M: StateMachine> ApplyThread<M> {
    pub(crate) fn new(
        home: Arc<Home<M>>,
        inbox: Receiver<ToApply<M>>,
        local_reads: Receiver<Read<M>>,
        views: Sender<(Box<SnapshotHead>, M::Snapshot)>,
        shelf: ToShelf,
        feedback: Sender<Feedback>,
        shared: Arc<Shared>,
    ) -> Self {
        Self { home, inbox, local_reads, views, shelf, feedback, shared }
    }

    pub(crate) fn run(mut self) {
        let (inbox, local_reads) = (self.inbox.clone(), self.local_reads.clone());
        let mut goes_on = true;
        while goes_on {
            goes_on = select! {
                recv(self.inbox) -> work => match work {
                    Ok(work) => self.take(work),
                    Err(_) => false,
                },
                recv(self.local_reads) -> read => {
                    match read {
                        Ok(read) => {
                            self.home.look(|machine| read(Ok(machine)));
                            self.home.waits_no_more();
                        }
                        // The handle is gone; what is committed is applied none the less.
                        Err(_) => self.local_reads = never(),
                    }
                    true
                }
            };
        }
        self.home.leave();
        self.refuse(inbox, local_reads);
    }

    /// Drops what still comes, and with it the way to answer: whoever waits hears that at once. A
    /// queue would keep it until all who may fill it are gone.
    fn refuse(&self, mut inbox: Receiver<ToApply<M>>, mut local_reads: Receiver<Read<M>>) {
        let mut open = 2;
        while open > 0 {
            select! {
                recv(inbox) -> work => if work.is_err() {
                    inbox = never();
                    open -= 1;
                },
                recv(local_reads) -> read => if read.is_ok() {
                    self.home.waits_no_more();
                } else {
                    local_reads = never();
                    open -= 1;
                },
            }
        }
    }

    /// Whether this thread goes on.
    fn take(&mut self, work: ToApply<M>) -> bool {
        // A panic of the application stops this replica, not the process. The state
        // machine is not used again, so what it left half done harms nobody.
        let done = catch_unwind(AssertUnwindSafe(|| self.carry_out(work)));
        let feedback = match done {
            Ok(Ok(Some(feedback))) => feedback,
            Ok(Ok(None)) => return true,
            Ok(Err(failure)) => failure,
            Err(panic) => Feedback::ApplyPanicked(panic_text(&*panic)),
        };
        let goes_on = matches!(feedback, Feedback::Applied { .. } | Feedback::Read);
        let told = self.feedback.send(feedback).is_ok();
        self.shared.wake();
        goes_on && told
    }

    /// What there is to tell when it is done.
    fn carry_out(&mut self, work: ToApply<M>) -> Result<Option<Feedback>, Feedback> {
        let index = match work {
            ToApply::Entries(entries) => {
                let last = entries.last().map(|committed| committed.entry.position.index);
                let applied = entries.into_iter().try_for_each(|committed| self.apply(committed));
                applied.map_err(Feedback::ApplyPanicked)?;
                last
            }
            ToApply::Reads(reads) => {
                self.home.look(|machine| reads.into_iter().for_each(|read| read(Ok(machine))));
                return Ok(Some(Feedback::Read));
            }
            ToApply::Capture(head) => {
                let view = self.home.look(M::snapshot);
                // The writer is gone when the replica stops, or when it has failed, which it has
                // told.
                self.views.send((head, view)).map_err(|_| {
                    Feedback::SnapshotFailed("the thread that writes snapshots has ended".into())
                })?;
                None
            }
            ToApply::Restore(name) => {
                let state = shelf::open(name, &self.shelf);
                let restored = state
                    .and_then(|mut state| self.home.change(|applier| applier.restore(&mut state)));
                restored.map_err(|error| {
                    Feedback::SnapshotFailed(format!("{name} cannot be restored: {error}"))
                })?;
                Some(name.index())
            }
        };
        let wake_at = self.home.look(M::wake_at);
        Ok(index.map(|index| Feedback::Applied { index, wake_at }))
    }

    fn apply(&mut self, committed: Committed<Caller<M::Output>>) -> Result<(), String> {
        let mut callers = committed.callers.into_iter();
        let answer = |output| {
            if let Some(caller) = callers.next() {
                // Whoever dropped its `Pending` does not want to know.
                let _ = caller.send(Ok(output));
            }
        };
        self.home.change(|applier| applier.apply(&committed.entry, answer))
    }
}
