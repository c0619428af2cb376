//! What the log means to a state machine.

use crate::wire::codec;
use crate::wire::entry::{BatchKind, Commands, Entry, EntryPayload};
use crate::{Context, StateMachine, Timestamp};
use std::io;

/// Gives a state machine what stands in the log, entry by entry: the one way in which replicas
/// do that, and simulations of them.
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

    /// Applies the next committed entry; the outputs of its commands are told in their order.
    ///
    /// # Errors
    ///
    /// When a command is none of this version of the application.
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
                    "a command in entry {} does not decode ({error}): do all replicas run the \
                     same version of the application?",
                    context.index
                )
            })?;
            answer(self.machine.apply(&context, command));
        }
        Ok(())
    }

    /// Rule N11: whether who wants to be woken then is woken before an entry of that time.
    fn is_due(&self, at: Timestamp, time: Timestamp) -> bool {
        at <= time
    }

    /// Goes on from a snapshot.
    pub(crate) fn restore(&mut self, from: &mut dyn io::Read) -> io::Result<()> {
        self.machine.restore(from)
    }
}
