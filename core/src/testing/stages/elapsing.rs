use std::time::Duration;

use crate::testing::Workload;
use crate::testing::checker::{Checked, check};
use crate::testing::host::Death;
use crate::testing::simulation::Simulation;
use crate::wire::types::Voter;

/// Longest time that the group is idle before and between takeovers.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// Allowed lag of log time: the duration of a ballot in a calm network.
const LATE_MS: u64 = 1000;

/// Largest jump of log time in each epoch.
const JUMP_MS: u64 = 1005;

impl<W: Workload> Simulation<W> {
    /// Checks rule N11 from outside: while some voter stays alive, log time advances at the speed
    /// of real time, although all wall clocks are wrong, nothing is ordered for seconds, and
    /// sequencers die before they have ordered anything.
    pub(in crate::testing) fn let_time_pass(&mut self) -> Checked {
        if !self.keeps_store() || !self.world.random.chance(500) {
            return Ok(());
        }
        let Some(first) = self.sequencer() else { return Ok(()) };
        let began = self.world.now();
        let (known, epochs) = (self.known_time(first), self.world.checker.epochs());
        for host in &mut self.hosts {
            host.clock.jump(&mut self.world.random);
        }
        self.world.note(|| format!("TIME passes: at least {known} ms are known"));
        self.idle()?;
        if self.bears_loss_of(first, None) {
            self.stop_for_now(first)?;
            let second = self.next_sequencer()?;
            let also = self.bears_loss_of(second, Some(first));
            if also {
                self.stop_for_now(second)?;
            }
            self.hosts[first].restart_at = Some(self.world.now());
            if also {
                // Both may form a majority that has counted no time, until an entry with the time
                // that the others have counted is committed.
                self.wait_until("no takeover commits", |simulation| {
                    simulation.sequencer().is_some_and(|at| {
                        let process = simulation.hosts[at].process.as_ref();
                        process.is_some_and(|process| process.engine.has_committed_in_epoch())
                    })
                })?;
                self.hosts[second].restart_at = Some(self.world.now());
            }
        }
        self.idle()?;
        self.wait_until("replicas do not agree", Self::has_converged)?;
        let last = self.next_sequencer()?;
        let elapsed_ms = (self.world.now() - began).as_secs_f64() * 1000.0;
        let time = self.hosts[last].process.as_ref().map_or(0, |p| p.engine.log_time().0);
        let least = known + (elapsed_ms * 0.998) as u64;
        check(time + LATE_MS >= least, || {
            format!("N11: after {elapsed_ms:.0} ms the log's time is {time}, {least} is required")
        })?;
        let jumps = (self.world.checker.epochs() - epochs + 1) as u64 * JUMP_MS;
        let most = known + (elapsed_ms * 1.002) as u64 + jumps + LATE_MS;
        check(time <= most, || {
            format!(
                "N11: after {elapsed_ms:.0} ms the log's time is {time}, at most {most} is possible"
            )
        })
    }

    /// Returns the lowest log time possible now, given the entries in this replica's log.
    fn known_time(&self, at: usize) -> u64 {
        let now = self.world.now();
        self.hosts[at].process.as_ref().map_or(0, |process| process.known_time.least(now))
    }

    fn sequencer(&self) -> Option<usize> {
        self.hosts.iter().position(|host| {
            self.world.is_newest(host.cluster())
                && host.process.as_ref().is_some_and(|process| process.engine.is_sequencer())
        })
    }

    fn idle(&mut self) -> Checked {
        let until = self.world.now() + self.world.random.up_to(IDLE_MAX);
        while self.world.now() < until {
            self.step()?;
        }
        Ok(())
    }

    fn stop_for_now(&mut self, at: usize) -> Checked {
        self.hosts[at].die(&mut self.world, Death::Kill)?;
        self.hosts[at].restart_at = None;
        Ok(())
    }

    /// Waits for a sequencer and returns it.
    fn next_sequencer(&mut self) -> Checked<usize> {
        self.wait_until("no replica takes over", |simulation| simulation.sequencer().is_some())?;
        Ok(self.sequencer().unwrap_or_default())
    }

    fn wait_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Checked {
        let p = &self.world.parameters;
        let faults = &p.network;
        let until = self.world.now()
            + p.election_timeout * 40
            + faults.detection_max * 10
            + faults.sync_max * 10
            + Duration::from_secs(20);
        while !holds(self) {
            self.step()?;
            check(self.world.now() < until, || {
                format!("liveness: {what}\n{}", self.who_is_where())
            })?;
        }
        Ok(())
    }

    /// Returns true if a majority of the voters is alive without the replica at `at`, once
    /// `returns` is alive again.
    fn bears_loss_of(&self, at: usize, returns: Option<usize>) -> bool {
        let Some(open) = self.world.checker.last_open() else { return false };
        let lives = |voter: &&Voter| {
            let host = voter.replica.0 as usize - 1;
            let has_store =
                self.world.stores.get(&voter.replica).is_some_and(|store| store.id == voter.store);
            let is_here = self.hosts[host].process.as_ref().is_some_and(|p| !p.stopped);
            has_store && host != at && (is_here || returns == Some(host))
        };
        let enough = |set: &Vec<Voter>| set.iter().filter(lives).count() * 2 > set.len();
        enough(&open.voters.now) && enough(&open.voters.previous)
    }
}
