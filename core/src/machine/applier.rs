//! Applies log entries to a state machine.

use crate::wire::codec;
use crate::wire::entry::{BatchKind, Commands, Entry, EntryPayload};
use crate::{Context, StateMachine, Timestamp};
use std::io;

/// A state machine, and the code that applies log entries to it. Replicas and simulations share
/// this code.
pub(crate) struct Applier<M> {
    machine: M,
}

impl<M: StateMachine> Applier<M> {
    pub(crate) fn new(machine: M) -> Self {
        Self { machine }
    }

    pub(crate) fn machine(&self) -> &M {
        &self.machine
    }

    /// Applies the next committed entry. Calls `answer` with the output of each command, in order.
    ///
    /// # Errors
    ///
    /// Fails if a command does not decode: another version of the application proposed it.
    pub(crate) fn apply(
        &mut self,
        entry: &Entry,
        mut answer: impl FnMut(M::Output),
    ) -> Result<(), String> {
        let context = Context::new(entry.position.index, entry.time);
        if self.machine.wake_at().is_some_and(|at| self.is_due(at, entry.time)) {
            self.machine.wake(&context);
        }
        let batch = match &entry.payload {
            EntryPayload::Batch(batch) if batch.kind == BatchKind::Application => batch,
            EntryPayload::Notice(change) => {
                self.machine.members_changed(&context, change);
                return Ok(());
            }
            EntryPayload::Batch(_) | EntryPayload::EpochStart(_) | EntryPayload::Time => {
                return Ok(());
            }
        };
        let context = context.proposed_by(batch.origin.incarnation());
        for command in Commands(&batch.commands) {
            let command = codec::decode(command).map_err(|error| {
                format!(
                    "a command in entry {} does not decode ({error}): run the same version of the \
                     application at all replicas",
                    context.index
                )
            })?;
            answer(self.machine.apply(&context, command));
        }
        Ok(())
    }

    /// Returns true if a wake-up requested for `at` is due before an entry stamped `time` (rule
    /// N11d).
    fn is_due(&self, at: Timestamp, time: Timestamp) -> bool {
        at <= time
    }

    /// Replaces the state by a snapshot.
    pub(crate) fn restore(&mut self, from: &mut dyn io::Read) -> io::Result<()> {
        self.machine.restore(from)
    }
}
