//! The threads of a process: log, apply, writer and snapshot.

use std::fmt;
use std::io;
use std::time::Duration;

use super::super::checker::{Checked, ProposalId, Violation};
use super::super::clock::Clock;
use super::super::world::{World, proposal_of};
use super::super::{Answer, Workload};
use super::{Process, Work};
use crate::StateMachine;
use crate::engine::{Committed, EntryPayload, Input};
use crate::snapshot::{SnapshotEvent, SnapshotName, SnapshotReader, SnapshotWriter};
use crate::wire::entry::{BatchKind, Commands};

impl<M: StateMachine<Output: Clone + PartialEq + fmt::Debug>> Process<M> {
    /// Advances the log thread. All waiting writes share one sync.
    pub(super) fn log_thread<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
        clock: &Clock,
    ) -> Checked<bool> {
        let now = world.now();
        let Some(store) = world.stores.get_mut(&self.incarnation.replica) else {
            return Ok(false);
        };
        if let Some((first, bytes_max)) = self.to_read.pop_front() {
            let entries = store.read(first, bytes_max)?;
            self.input(world, clock, Input::LogRead { entries })?;
            return Ok(true);
        }
        if let Some((ticket, until)) = self.syncing {
            if now < until {
                return Ok(false);
            }
            (self.syncing, self.in_sync) = (None, 0);
            if now < store.full_until {
                let reason = "no space left on a simulated disk".into();
                self.input(world, clock, Input::WriteFailed { reason })?;
                return Ok(true);
            }
            store.sync()?;
            self.input(world, clock, Input::Written { ticket })?;
            return Ok(true);
        }
        let Some((ticket, _)) = self.writes.back() else { return Ok(false) };
        let ticket = *ticket;
        self.in_sync = self.writes.len();
        for (_, ops) in self.writes.drain(..) {
            store.submit(ops)?;
        }
        let slow = !world.is_calm && world.random.chance(world.parameters.slow_syncs);
        let takes = world.random.up_to(world.parameters.sync_max) * if slow { 100 } else { 1 };
        self.syncing = Some((ticket, (now + takes).max(world.disks_stand_until)));
        Ok(false)
    }

    pub(super) fn apply_thread<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
        clock: &Clock,
    ) -> Checked<bool> {
        let now = world.now();
        match self.applying_until {
            Some(until) if now >= until => {}
            Some(_) => return Ok(false),
            None if self.to_apply.is_empty() => return self.read_locally(world).map(|()| false),
            None => {
                let takes = world.random.up_to(world.parameters.apply_max);
                self.applying_until = Some(now + takes);
                return Ok(false);
            }
        }
        self.applying_until = None;
        self.read_locally(world)?;
        match self.to_apply.pop_front() {
            None => return Ok(false),
            Some(Work::Apply(entries)) => {
                for committed in entries {
                    self.apply(world, committed)?;
                }
            }
            Some(Work::Reads(reads)) => {
                for id in reads {
                    self.look(world, id)?;
                }
                self.reads.done();
                return Ok(true);
            }
            Some(Work::Capture(head)) => {
                let takes = world.random.up_to(world.parameters.capture_max);
                self.capturing = Some((head, self.machine().snapshot(), now + takes));
                return Ok(false);
            }
            Some(Work::Restore(name)) => self.restore(world, name)?,
        }
        let wake_at = self.machine().wake_at();
        self.input(world, clock, Input::Applied { index: self.applied, wake_at })?;
        Ok(true)
    }

    /// Stalls the state machine until then.
    pub(in crate::testing) fn stall_machine(&mut self, until: Duration) {
        self.applying_until = Some(until.max(self.applying_until.unwrap_or_default()));
    }

    /// Ends a stall of the state machine by then.
    pub(in crate::testing) fn resume_machine(&mut self, by: Duration) {
        self.applying_until = self.applying_until.map(|until| until.min(by));
    }

    /// Advances the writer thread, which writes a snapshot of the state while the state machine
    /// continues.
    pub(super) fn writer_thread<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
        clock: &Clock,
    ) -> Checked<bool> {
        let now = world.now();
        let Some((head, view, _)) = self.capturing.take_if(|(_, _, until)| now >= *until) else {
            return Ok(false);
        };
        let Some(store) = world.stores.get_mut(&self.incarnation.replica) else {
            return Ok(false);
        };
        let manager = &mut store.manager;
        let sink = |chunk| manager.take(chunk).map_err(io::Error::other);
        let name = SnapshotWriter::write_chunks(&head, view, sink)
            .map_err(|error| Violation(format!("a snapshot cannot be written: {error}")))?;
        let source = |chunk| manager.read_taken(name, chunk).map_err(io::Error::other);
        SnapshotReader::open(name, source)
            .and_then(|(_, mut state)| M::check_snapshot(&mut state))
            .map_err(|error| Violation(format!("a snapshot could not be restored: {error}")))?;
        let news = manager
            .taken(name)
            .map_err(|error| Violation(format!("a snapshot cannot be kept: {error}")))?;
        self.input(world, clock, Input::Snapshot(news))?;
        Ok(true)
    }

    /// Advances the snapshot thread, which executes commands one at a time, in order.
    pub(super) fn snapshot_thread<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
        clock: &Clock,
    ) -> Checked<bool> {
        let now = world.now();
        match self.shelving_until {
            Some(until) if now >= until => {}
            Some(_) => return Ok(false),
            None if self.snapshot_commands.is_empty() => return Ok(false),
            None => {
                let takes = world.random.up_to(world.parameters.chunk_max);
                self.shelving_until = Some(now + takes);
                if !takes.is_zero() {
                    return Ok(false);
                }
            }
        }
        self.shelving_until = None;
        let Some(op) = self.snapshot_commands.pop_front() else { return Ok(false) };
        let Some(store) = world.stores.get_mut(&self.incarnation.replica) else {
            return Ok(false);
        };
        let news = match store.manager.carry_out(op) {
            Err(error) if store.damage.is_some() => {
                self.fail(world, error.to_string())?;
                return Ok(true);
            }
            news => news.map_err(|error| {
                Violation(format!("the snapshot manager returned an error: {error}"))
            })?,
        };
        if let Some(SnapshotEvent::Refused { name, reason }) = &news {
            return Err(Violation(format!("L5: {name} was received damaged: {reason}")));
        }
        if let Some(news) = news {
            self.input(world, clock, Input::Snapshot(news))?;
        }
        Ok(true)
    }

    fn restore<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
        name: SnapshotName,
    ) -> Checked {
        let Some(store) = world.stores.get_mut(&self.incarnation.replica) else { return Ok(()) };
        let manager = &mut store.manager;
        let read = |chunk| manager.read(name, chunk).map_err(io::Error::other);
        let restored = SnapshotReader::open(name, read)
            .and_then(|(_, mut rest)| self.applier.restore(&mut rest));
        match restored {
            Err(error) if store.damage.is_some() => return self.fail(world, error.to_string()),
            restored => {
                restored
                    .map_err(|error| Violation(format!("{name} cannot be restored: {error}")))?;
            }
        }
        self.applied = name.index();
        world.restored += 1;
        Ok(())
    }

    fn apply<W: Workload<Machine = M>>(
        &mut self,
        world: &mut World<W>,
        committed: Committed<ProposalId>,
    ) -> Checked {
        let entry = &committed.entry;
        let index = entry.position.index;
        let asked = self.machine().wake_at();
        let woken = self.applier.machine().woken;
        let mut outputs = Vec::new();
        self.applier.apply(entry, |output| outputs.push(output)).map_err(Violation)?;
        self.applied = index;
        let woken = self.applier.machine().woken > woken;
        world.checker.woken(entry, asked, woken)?;
        let replica = self.incarnation.replica;
        let checked = if world.is_newest(self.engine.cluster()) {
            world.workload.applied(replica, index, self.machine())
        } else {
            Ok(())
        };
        checked.map_err(|what| Violation(format!("{replica} after entry {index}: {what}")))?;
        let EntryPayload::Batch(batch) = &entry.payload else { return Ok(()) };
        if batch.kind != BatchKind::Application {
            return Ok(());
        }
        world.checker.applied(index, outputs.clone())?;
        if committed.callers.is_empty() {
            return Ok(());
        }
        let answers = Commands(&batch.commands).map(proposal_of).zip(outputs);
        self.proposed.retain(|id| !committed.callers.contains(id));
        for (offset, (id, output)) in answers.enumerate() {
            world.checker.acknowledged(id, index, offset)?;
            if world.answer(id, Answer::Output(output)).is_some() {
                world.acknowledged += 1;
            }
        }
        Ok(())
    }
}
