//! Rest: an idle group must be quiet.

use crate::StateMachine;
use crate::engine::Role;
use crate::snapshot::Snapshot;
use crate::testing::Workload;
use crate::testing::checker::{Checked, Violation, check};
use crate::testing::host::Host;
use crate::testing::simulation::Simulation;
use crate::wire::types::ReplicaId;

/// Longest delay of a wake-up in an idle group, in log time: some ticks, and one message through
/// the group.
const LATE_MS: u64 = 2000;

impl<W: Workload> Simulation<W> {
    /// Checks that an idle group commits nothing and sends only heartbeats.
    pub(in crate::testing) fn rest(&mut self) -> Checked {
        let timeouts = 10;
        let until = self.world.now() + self.world.parameters.election_timeout * timeouts;
        let (messages, commits) = (self.world.messages, self.world.checker.committed());
        let (epochs, times) = (self.world.checker.epochs(), self.world.checker.times());
        let requests = self.world.requests.len();
        let heard: Vec<u64> = self.hosts.iter().map(Host::sent).collect();
        while self.world.now() < until {
            self.step()?;
            self.check_wake_ups()?;
        }
        for (host, before) in self.hosts.iter().zip(heard) {
            let here = host.process.is_some() && self.world.is_newest(host.cluster());
            check(!here || host.sent() >= before + u64::from(timeouts) / 2, || {
                format!("N7: {} is silent, it does not even send heartbeats", host.replica)
            })?;
        }
        let times = self.world.checker.times() - times;
        // A pending request of an operator may be executed at any time.
        if requests > 0 {
            return Ok(());
        }
        let alive = self.alive().count() as u64;
        let has_foreign = self.hosts.iter().any(|host| !self.world.is_newest(host.cluster()));
        let sent = self.world.messages - messages;
        // The sequencer sends four messages per election timeout, the others one.
        let most = u64::from(timeouts) * (alive + 3) * 2 + 10 * alive + times * (alive + 1) * 2;
        check(sent <= most || has_foreign, || {
            format!("idle: {alive} replicas sent {sent} messages, at most {most} are allowed")
        })?;
        let commits = self.world.checker.committed().0 - commits.0;
        check(commits == times, || {
            format!("idle: {commits} entries were committed, only {times} of them are times")
        })?;
        check(self.world.checker.epochs() == epochs, || "idle: an epoch was opened".into())?;
        check(self.alive().all(|(_, engine)| engine.knows_members()), || {
            format!(
                "N9: the members in the log are not the members of the group\n{}",
                self.who_is_where()
            )
        })?;
        let sequencers =
            self.alive().filter(|(_, engine)| engine.status().role == Role::Sequencer).count();
        check(sequencers == 1, || format!("idle: {sequencers} sequencers instead of one"))?;
        check(self.alive().all(|(_, engine)| engine.votes() || !engine.is_sequencer()), || {
            format!("B7: a sequencer does not vote\n{}", self.who_is_where())
        })
    }

    /// Checks rule N11: an idle group wakes its state machine in time.
    pub(in crate::testing) fn check_wake_ups(&self) -> Checked {
        let here = self.hosts.iter().filter(|host| self.world.is_newest(host.cluster()));
        let mut processes = here.filter_map(|host| host.process.as_ref());
        let sequencer = processes.find(|process| process.engine.is_sequencer());
        let Some(process) = sequencer else { return Ok(()) };
        let asked = process.machine().wake_at();
        let log_time = process.engine.log_time();
        check(asked.is_none_or(|at| at.0.saturating_add(LATE_MS) > log_time.0), || {
            format!(
                "N11: at {log_time} an idle group has not sent the wake-up asked for at {asked:?}"
            )
        })
    }

    /// Checks that all replicas have the same state, and that the workload accepts it.
    pub(in crate::testing) fn compare_states(&mut self) -> Checked {
        let until = self.world.now() + self.world.parameters.election_timeout * 10;
        while !self.has_converged() {
            self.step()?;
            check(self.world.now() < until, || {
                format!("liveness: replicas no longer agree\n{}", self.who_is_where())
            })?;
        }
        let mut known: Option<(ReplicaId, Vec<u8>)> = None;
        for host in &self.hosts {
            let here = host.process.as_ref().filter(|_| self.world.is_newest(host.cluster()));
            let Some(process) = here else { continue };
            let (replica, machine) = (host.replica, process.machine());
            let mut state = Vec::new();
            let written = machine.snapshot().write(&mut state);
            written.map_err(|e| Violation(format!("a snapshot cannot be written: {e}")))?;
            match &known {
                Some((other, as_there)) => check(state == *as_there, || {
                    format!("determinism: {replica} and {other} end in different states")
                })?,
                None => {
                    let payload =
                        self.world.workload.at_rest(machine, self.world.checker.members());
                    payload
                        .map_err(|what| Violation(format!("the state at rest is wrong: {what}")))?;
                    known = Some((replica, state));
                }
            }
        }
        Ok(())
    }
}
