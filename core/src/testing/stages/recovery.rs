//! Recovery after the faults: all replicas must agree within a bounded time.

use std::time::Duration;

use crate::testing::checker::{Checked, check};
use crate::testing::host::{Death, Host};
use crate::testing::simulation::Simulation;
use crate::testing::{Theme, Workload};
use crate::wire::types::Index;

/// A replica within this distance of the commit index has caught up.
const NEAR_ENTRIES: u64 = 20;

/// Longest time that a chunk takes while clients write as fast as they can, as a fraction of an
/// election timeout.
const SLOW_CHUNK: f64 = 0.6;

impl<W: Workload> Simulation<W> {
    /// Ends the faults, waits until new commands commit and all replicas agree, and returns the
    /// time that this took.
    pub(in crate::testing) fn recover(&mut self) -> Checked<Duration> {
        let began = self.world.now();
        self.world.note(|| "CALM: the faults end".into());
        self.heals_at = None;
        self.world.network.calm();
        self.world.is_calm = true;
        if self.world.parameters.some_stay_dead && self.world.checker.committed() > Index(0) {
            self.leave_some_dead()?;
        }
        let Self { hosts, world, .. } = self;
        hosts.iter_mut().for_each(|host| host.calm(world));
        let p = &self.world.parameters;
        let faults = &p.network;
        let bound = p.election_timeout * 40
            + faults.detection_max * 10
            + faults.sync_max * 10
            + Duration::from_secs(20);
        let acknowledged = self.world.acknowledged;
        while self.world.acknowledged < acknowledged + self.hosts.len() as u64 {
            self.step()?;
            check(self.world.now() < began + bound, || {
                format!("liveness: nothing new is committed\n{}", self.who_is_where())
            })?;
        }
        if self.world.parameters.theme == Theme::Transfers {
            self.take_in_beside_writers(bound)?;
        }
        let began_to_settle = self.world.now();
        self.world.is_busy = false;
        let mut converged_at = None;
        let settles = self.world.parameters.election_timeout * 6;
        loop {
            self.step()?;
            let now = self.world.now();
            if self.has_converged() {
                let since = *converged_at.get_or_insert(now);
                if now - since > settles {
                    return Ok(since - began);
                }
            } else if !self.world.checker.ends_in_time() {
                // A `Time` entry does not count: it has yet to reach all replicas.
                converged_at = None;
            }
            check(now < began_to_settle + bound, || {
                format!("liveness: replicas do not agree\n{}", self.who_is_where())
            })?;
        }
    }

    /// Checks rule L7: a replica with an empty store catches up while clients write as fast as they
    /// can.
    pub(in crate::testing) fn take_in_beside_writers(&mut self, bound: Duration) -> Checked {
        let is_here = |host: &Host<W>| {
            host.process.as_ref().is_some_and(|process| !process.stopped)
                && self.world.is_newest(host.cluster())
        };
        let at = (0..self.hosts.len()).rev().find(|at| is_here(&self.hosts[*at]));
        let Some(at) = at.filter(|at| self.can_lose(*at)) else { return Ok(()) };
        self.hosts[at].die(&mut self.world, Death::Wipe)?;
        self.hosts[at].restart_at = Some(self.world.now());
        let p = &mut self.world.parameters;
        let usual = (p.think_max, p.chunk_max, p.capture_max);
        (p.think_max, p.chunk_max) = (Duration::ZERO, p.election_timeout.mul_f64(SLOW_CHUNK));
        p.capture_max = p.chunk_max * 5;
        let began = self.world.now();
        let is_near = |simulation: &Self| {
            let committed = simulation.world.checker.committed();
            let process = simulation.hosts[at].process.as_ref();
            process.is_some_and(|p| p.engine.last().0 + NEAR_ENTRIES >= committed.0)
        };
        while !is_near(self) {
            self.step()?;
            check(self.world.now() < began + bound, || {
                format!(
                    "L7: {} does not catch up with the writers\n{}",
                    self.hosts[at].replica,
                    self.who_is_where()
                )
            })?;
        }
        let p = &mut self.world.parameters;
        (p.think_max, p.chunk_max, p.capture_max) = usual;
        Ok(())
    }

    pub(in crate::testing) fn leave_some_dead(&mut self) -> Checked {
        let count = self.hosts.len();
        let first = self.world.random.below(count as u64) as usize;
        for at in (0..count).map(|offset| (first + offset) % count) {
            if self.world.random.chance(500) && !self.is_changing && self.can_lose(at) {
                self.hosts[at].die(&mut self.world, Death::Kill)?;
                self.hosts[at].restart_at = None;
            }
        }
        Ok(())
    }
}
