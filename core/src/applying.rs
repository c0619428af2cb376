//! What the log means to a state machine.

use std::io;

use crate::engine::Canary;
use crate::entry::{BatchKind, Commands, Content, Entry};
use crate::{Context, StateMachine, Timestamp, codec};

/// Gives a state machine what stands in the log, entry by entry: the one way in which replicas
/// do that, and simulations of them.
pub(crate) struct Applier<M> {
    machine: M,
    /// A rule to break, to see whether tests notice.
    canary: Option<Canary>,
    /// Has gone on from a snapshot, and was given no command since; for a canary.
    is_fresh: bool,
}

impl<M: StateMachine> Applier<M> {
    pub(crate) fn new(machine: M) -> Self {
        Self { machine, canary: None, is_fresh: false }
    }

    /// Breaks a rule.
    #[cfg(feature = "canaries")]
    pub(crate) fn breaks(self, canary: Option<Canary>) -> Self {
        Self { canary, ..self }
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
        let batch = match &entry.content {
            Content::Batch(batch) if batch.kind == BatchKind::Application => batch,
            Content::Notice(change) => {
                self.machine.members_changed(&context, change);
                return Ok(());
            }
            Content::Batch(_) | Content::EpochStart(_) | Content::Time => return Ok(()),
        };
        self.is_fresh = false;
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
        match self.canary {
            Some(Canary::WakeEarly) => at.0 <= time.0.saturating_add(100),
            Some(Canary::WakeLostOnRestore) => at <= time && !self.is_fresh,
            _ => at <= time,
        }
    }

    /// Goes on from a snapshot.
    pub(crate) fn restore(&mut self, from: &mut dyn io::Read) -> io::Result<()> {
        self.is_fresh = true;
        self.machine.restore(from)
    }
}
