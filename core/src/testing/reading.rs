//! Requests of clients to a process: proposals, and reads of every consistency.

use std::fmt;

use bytes::Bytes;

use super::Workload;
use super::checker::{Checked, ProposalId};
use super::clock::Clock;
use super::process::Process;
use super::world::World;
use crate::engine::Input;
use crate::{Consistency, StateMachine};

impl<M: StateMachine<Output: Clone + PartialEq + fmt::Debug>> Process<M> {
    pub(super) fn propose<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
        clock: &Clock,
        id: ProposalId,
        command: Bytes,
    ) -> Checked {
        self.proposed.insert(id);
        let now = clock.now(world.now()).monotonic;
        // Once the faults have ended, clients wait without a limit.
        let timeout = world.parameters.proposal_timeout.filter(|_| !world.is_calm);
        let deadline = timeout.map(|timeout| now + timeout);
        self.input(world, clock, Input::Propose { ticket: id, command, deadline })
    }

    pub(super) fn read<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
        clock: &Clock,
        id: ProposalId,
        consistency: Consistency,
    ) -> Checked {
        world.note(|| format!("read {id} at {}: {consistency:?}", self.incarnation.replica));
        world.checker.read_began(id, consistency);
        match consistency {
            Consistency::Local => self.local_reads.push(id),
            Consistency::Linearizable => self.reads.gather(id, false),
            Consistency::ReadYourWrites => self.reads.gather(id, true),
        }
        while let Some((ticket, after_proposals)) = self.reads.next_ticket() {
            self.input(world, clock, Input::Read { ticket, after_proposals })?;
        }
        Ok(())
    }

    /// Executes a read, between two entries.
    pub(super) fn look<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
        id: ProposalId,
    ) -> Checked {
        world.checker.read_answered(id, self.applied, &self.proposed)?;
        world.show(id, Some(self.machine()));
        Ok(())
    }

    /// Executes the waiting local reads, which need no order.
    pub(super) fn read_locally<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
    ) -> Checked {
        for id in std::mem::take(&mut self.local_reads) {
            self.look(world, id)?;
        }
        Ok(())
    }
}
