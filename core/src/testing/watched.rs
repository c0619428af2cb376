use std::io;

use super::checker::ProposalId;
use crate::wire::entry::MembersChanged;
use crate::{Context, StateMachine, Timestamp};

/// Wraps the state machine of a workload: each command carries its proposal id, so that the checker
/// recognizes a proposal that is applied twice, and wake-ups are counted.
pub(super) struct Watched<M> {
    pub(super) machine: M,
    /// Number of wake-ups in this process.
    pub(super) woken: u64,
}

impl<M> Watched<M> {
    pub(super) fn new(machine: M) -> Self {
        Self { machine, woken: 0 }
    }
}

impl<M: StateMachine> StateMachine for Watched<M> {
    type Command = (ProposalId, M::Command);
    type Output = M::Output;
    type Snapshot = M::Snapshot;

    fn application() -> String {
        M::application()
    }

    fn apply(&mut self, context: &Context, (_, command): Self::Command) -> M::Output {
        self.machine.apply(context, command)
    }

    fn snapshot(&self) -> M::Snapshot {
        self.machine.snapshot()
    }

    fn restore(&mut self, from: &mut dyn io::Read) -> io::Result<()> {
        self.machine.restore(from)
    }

    fn check_snapshot(from: &mut dyn io::Read) -> io::Result<()> {
        M::check_snapshot(from)
    }

    fn members_changed(&mut self, context: &Context, change: &MembersChanged) {
        self.machine.members_changed(context, change);
    }

    fn wake_at(&self) -> Option<Timestamp> {
        self.machine.wake_at()
    }

    fn wake(&mut self, context: &Context) {
        self.woken += 1;
        self.machine.wake(context);
    }
}
